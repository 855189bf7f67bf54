/** How much the features at each cut change from step to step, and the schedule that follows from it. */

import { ArgumentError } from "../errors.ts";
import type { Action } from "../sampling/step-policy.ts";
import type { CachedFeatures } from "./session.ts";

/** How much the features at one cut changed at one step, compared with the step before. */
export interface Change {
  readonly step: number;
  readonly cut: string;
  readonly cosine: number;
  /** Norm of the difference divided by the norm of the features. */
  readonly change: number;
}

/** Measures runs in which every step is full, and averages over them. */
export class RehashProfile {
  readonly #sums = new Map<string, { step: number; cut: string; cosine: number; change: number; count: number }>();
  #before = new Map<string, Float32Array>();

  /** Pass it as `onFeatures`. Step 0 starts a new run. */
  readonly record = ({ index: step }: { index: number }, cached: CachedFeatures): void => {
    if (step === 0) this.#before = new Map();
    for (const cut of cached[0]?.keys() ?? []) {
      const now = cached.map((pass) => pass.get(cut)!);
      const [key, size] = [`${step} ${cut}`, now.reduce((sum, { length }) => sum + length, 0)];
      let before = this.#before.get(cut);
      if (!before) {
        before = new Float32Array(size);
        this.#before.set(cut, before);
      } else {
        const { cosine, change } = compareFeatures(now, before);
        const sum = this.#sums.get(key) ?? { step, cut, cosine: 0, change: 0, count: 0 };
        this.#sums.set(key, { ...sum, cosine: sum.cosine + cosine, change: sum.change + change, count: sum.count + 1 });
      }
      let at = 0;
      for (const values of now) {
        before.set(values, at);
        at += values.length;
      }
    }
  };

  get changes(): Change[] {
    return [...this.#sums.values()].map(({ step, cut, cosine, change, count }) => {
      return { step, cut, cosine: cosine / count, change: change / count };
    });
  }
}

/** Computed in double precision; `before` has the parts of `now` one after the other. */
export function compareFeatures(now: readonly Float32Array[], before: Float32Array) {
  let [product, squares, squaresBefore, difference, at] = [0, 0, 0, 0, 0];
  for (const values of now) {
    for (const a of values) {
      const b = before[at++]!;
      product += a * b;
      squares += a * a;
      squaresBefore += b * b;
      difference += (a - b) ** 2;
    }
  }
  const both = Math.sqrt(squares * squaresBefore);
  return { cosine: both > 0 ? product / both : 1, change: squares > 0 ? Math.sqrt(difference / squares) : 0 };
}

export interface Proposal {
  readonly cut: string;
  readonly schedule: readonly Action[];
  /** An upper bound on how far all rehash steps together deviate from full steps: the sum of the changes in between. */
  readonly cost: number;
}

/**
 * The schedule with `full` full steps, including the first, whose rehash steps are closest to the features that they start from.
 * `changes[t]` is the change from step t - 1 to t; that of step 0 is ignored. Exact, by dynamic programming.
 */
export function bestSchedule(changes: readonly number[], full: number): Omit<Proposal, "cut"> {
  const steps = changes.length;
  if (!Number.isInteger(full) || full < 1 || full > steps) {
    throw new ArgumentError(`A schedule of ${steps} steps has 1 to ${steps} full ones, not ${full}.`);
  }
  /** The cost of the rehash steps between a full step at `from` and the next one at `to`. */
  const between = (from: number, to: number) => {
    let [far, sum] = [0, 0];
    for (let t = from + 1; t < to; t++) {
      far += changes[t]!;
      sum += far;
    }
    return sum;
  };
  const intervals = Array.from({ length: steps }, (_, from) =>
    Array.from({ length: steps + 1 }, (_, to) => (to > from ? between(from, to) : Number.POSITIVE_INFINITY)),
  );
  // least[t]: the least cost of the steps before t, if t is full (or the end) and there are k full steps before it.
  let least = Array.from({ length: steps + 1 }, (_, t) => (t === 0 ? 0 : Number.POSITIVE_INFINITY));
  const cameFrom: number[][] = [];
  for (let k = 1; k <= full; k++) {
    const from = least.map((_, to) => {
      let best = -1;
      for (let t = 0; t < to; t++) {
        if (
          least[t]! < Number.POSITIVE_INFINITY &&
          (best < 0 || least[t]! + intervals[t]![to]! < least[best]! + intervals[best]![to]!)
        ) {
          best = t;
        }
      }
      return best;
    });
    least = least.map((_, to) =>
      from[to]! < 0 ? Number.POSITIVE_INFINITY : least[from[to]!]! + intervals[from[to]!]![to]!,
    );
    cameFrom.push(from);
  }
  const schedule = new Array<Action>(steps).fill("rehash");
  for (let k = full - 1, at = steps; k >= 0; k--) {
    at = cameFrom[k]![at]!;
    schedule[at] = "full";
  }
  return { schedule, cost: least[steps]! };
}

/** How many times faster a schedule is than full steps alone, in multiply-adds. */
export const speedup = (schedule: readonly Action[], share: number) =>
  schedule.length / schedule.reduce((sum, action) => sum + (action === "full" ? 1 : share), 0);

/**
 * The cut whose features change least, among those with which a run with `full` full steps is at least `faster` times as fast as
 * one with full steps alone; the fastest cut if there is none. `shares` has the cost of a rehash step at each cut, relative to a
 * full step.
 */
export function propose(
  changes: readonly Change[],
  shares: ReadonlyMap<string, number>,
  full: number,
  faster: number,
): Proposal & { speedup: number } {
  const steps = Math.max(...changes.map(({ step }) => step)) + 1;
  const proposals = [...shares].map(([cut, share]) => {
    const own = new Array<number>(steps).fill(0);
    for (const change of changes) if (change.cut === cut) own[change.step] = change.change;
    const best = bestSchedule(own, full);
    return { cut, ...best, speedup: speedup(best.schedule, share) };
  });
  const fast = proposals.filter((proposal) => proposal.speedup >= faster);
  if (fast.length > 0) return fast.reduce((a, b) => (b.cost < a.cost ? b : a));
  return proposals.reduce((a, b) => (b.speedup > a.speedup ? b : a));
}
