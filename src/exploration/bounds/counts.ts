/**
 * Observed transitions n_h(s, a, s'), stored sparsely: memory and time grow with what was observed, not with the number
 * of states.
 */
import { shown } from "../../checks.ts";
import { ArgumentError } from "../../errors.ts";
import { checkSizes, type Sizes } from "../mdp/mdp.ts";
import { checkCount, checkList, checkNumber } from "../mdp/reading.ts";

/** [step, state, action, next state, times] */
export type CountEntry = readonly [step: number, state: number, action: number, next: number, times: number];

/** Counts with the sums of observed rewards. */
export interface CountsJson {
  readonly counts: readonly CountEntry[];
  /** [row, sum, sum of squares] of observed rewards. */
  readonly rewardSums: readonly (readonly [row: number, sum: number, squares: number])[];
}

/** Counts as JSON; `readCounts` reads them. */
export function writeCounts(counts: Counts): CountsJson {
  const rewardSums: [number, number, number][] = [];
  counts.visits.forEach((n, row) => {
    if (n > 0) rewardSums.push([row, counts.rewardSum[row]!, counts.rewardSquares[row]!]);
  });
  return { counts: counts.toJSON(), rewardSums };
}

/**
 * Reads counts from outside. An error names the wrong entry. With `sumsNeeded` (rewards are estimated) every observed row must
 * have reward sums, since a row without them would look as if all its rewards were zero.
 */
export function readCounts(
  { counts: entries, rewardSums }: CountsJson,
  sizes: Sizes,
  { sumsNeeded = false } = {},
): Counts {
  const counts = Counts.fromJSON(entries, sizes);
  const rows = counts.visits.length;
  const seen = new Set<number>();
  for (const [i, entry] of checkList(rewardSums, "rewardSums").entries()) {
    const name = `rewardSums[${i}]`;
    const [first, ...sums] = checkList(entry, `${name} ([row, sum, sum of squares])`, 3);
    const row = checkCount(first, `${name}[0]`, 0, rows - 1);
    const [sum, squares] = sums.map((value, k) => checkNumber(value, `${name}[${k + 1}]`)) as [number, number];
    const n = counts.visits[row]!;
    // Rewards lie in [0, 1], so their squares sum to at most their sum, and to at least what they would if all were equal.
    const slack = 1e-9 * n;
    if (!(sum >= 0 && sum <= n + slack && squares <= sum + slack && squares >= (n && (sum * sum) / n) - slack)) {
      throw new ArgumentError(`${name}: sums ${sum} and ${squares} of row ${row} do not fit its ${n} observations.`);
    }
    if (seen.has(row)) throw new ArgumentError(`${name} has row ${row} a second time.`);
    seen.add(row);
    counts.rewardSum[row] = sum;
    counts.rewardSquares[row] = squares;
  }
  if (sumsNeeded) {
    const missing = counts.visits.findIndex((n, row) => n > 0 && !seen.has(row));
    if (missing >= 0) {
      throw new ArgumentError(`rewardSums lacks row ${missing}, which was observed: its rewards cannot be estimated.`);
    }
  }
  return counts;
}

/**
 * Row r = (h, s, a) has its successors at `start[r] .. start[r] + size[r]` of `next` and `times`, sorted by state, so that
 * sums over them do not depend on the order of observation: a resumed run is the same to the last bit.
 */
export class Counts implements Sizes {
  readonly horizon: number;
  readonly states: number;
  readonly actions: number;
  /** n_h(s,a) by row. */
  readonly visits: Float64Array;
  /** n_h(s): how often step h was in state s. */
  readonly stateVisits: Float64Array;
  readonly start: Int32Array;
  readonly size: Int32Array;
  next: Int32Array;
  times: Float64Array;
  /** Sum and sum of squares of observed rewards by row. */
  readonly rewardSum: Float64Array;
  readonly rewardSquares: Float64Array;
  readonly #room: Int32Array;
  #used = 0;

  constructor(sizes: Sizes) {
    checkSizes(sizes);
    ({ horizon: this.horizon, states: this.states, actions: this.actions } = sizes);
    const rows = this.horizon * this.states * this.actions;
    this.visits = new Float64Array(rows);
    this.stateVisits = new Float64Array(this.horizon * this.states);
    this.start = new Int32Array(rows);
    this.size = new Int32Array(rows);
    this.rewardSum = new Float64Array(rows);
    this.rewardSquares = new Float64Array(rows);
    this.#room = new Int32Array(rows);
    this.next = new Int32Array(rows);
    this.times = new Float64Array(rows);
  }

  /** The index of the row of a step, state and action. */
  row(step: number, state: number, action: number): number {
    return (step * this.states + state) * this.actions + action;
  }

  /** Adds observations of one transition, and returns its row. Rewards are added with `addReward`. */
  add(step: number, state: number, action: number, next: number, times = 1): number {
    const row = this.row(step, state, action);
    const from = this.start[row]!;
    const size = this.size[row]!;
    let at = from;
    while (at < from + size && this.next[at]! < next) at++;
    if (at < from + size && this.next[at] === next) {
      this.times[at]! += times;
    } else {
      const offset = at - from;
      if (size === this.#room[row]) this.#grow(row);
      at = this.start[row]! + offset;
      const end = this.start[row]! + size;
      this.next.copyWithin(at + 1, at, end);
      this.times.copyWithin(at + 1, at, end);
      this.next[at] = next;
      this.times[at] = times;
      this.size[row] = size + 1;
    }
    this.visits[row]! += times;
    this.stateVisits[step * this.states + state]! += times;
    return row;
  }

  /** Adds the reward of one visit to a row. */
  addReward(row: number, reward: number): void {
    this.rewardSum[row]! += reward;
    this.rewardSquares[row]! += reward * reward;
  }

  /** How often step h led to each state. */
  arrivals(h: number): Float64Array {
    const found = new Float64Array(this.states);
    const perStep = this.states * this.actions;
    for (let row = h * perStep; row < (h + 1) * perStep; row++) {
      const from = this.start[row]!;
      for (let i = from; i < from + this.size[row]!; i++) found[this.next[i]!]! += this.times[i]!;
    }
    return found;
  }

  /** A copy with its own tables. */
  copy(): Counts {
    const copied = new Counts(this);
    for (const key of ["visits", "stateVisits", "start", "size", "rewardSum", "rewardSquares"] as const) {
      copied[key].set(this[key]);
    }
    copied.#room.set(this.#room);
    copied.next = this.next.slice();
    copied.times = this.times.slice();
    copied.#used = this.#used;
    return copied;
  }

  /** Moves a full row to the end of the pool, with twice the capacity. */
  #grow(row: number): void {
    const room = Math.min(this.states, Math.max(2, 2 * this.#room[row]!));
    if (this.#used + room > this.next.length) {
      const length = Math.max(2 * this.next.length, this.#used + room);
      const [next, times] = [new Int32Array(length), new Float64Array(length)];
      next.set(this.next);
      times.set(this.times);
      this.next = next;
      this.times = times;
    }
    const [from, to] = [this.start[row]!, this.#used];
    this.next.copyWithin(to, from, from + this.size[row]!);
    this.times.copyWithin(to, from, from + this.size[row]!);
    this.start[row] = to;
    this.#room[row] = room;
    this.#used += room;
  }

  /** The entries that `readCounts` reads. */
  toJSON(): CountEntry[] {
    const entries: CountEntry[] = [];
    for (let row = 0; row < this.visits.length; row++) {
      const [s, a] = [Math.floor(row / this.actions) % this.states, row % this.actions];
      const h = Math.floor(row / this.actions / this.states);
      const from = this.start[row]!;
      for (let i = from; i < from + this.size[row]!; i++) entries.push([h, s, a, this.next[i]!, this.times[i]!]);
    }
    return entries;
  }

  /** Reads entries from outside. An error names the wrong entry. */
  static fromJSON(entries: readonly CountEntry[], sizes: Sizes): Counts {
    const counts = new Counts(sizes);
    const { horizon, states, actions } = counts;
    const bounds = [horizon, states, actions, states];
    const names = ["step", "state", "action", "next state"];
    const seen = new Set<string>();
    checkList(entries, "counts").forEach((entry, i) => {
      if (!Array.isArray(entry) || entry.length !== 5) {
        throw new ArgumentError(`counts[${i}] is not [step, state, action, next state, times].`);
      }
      bounds.forEach((limit, k) => {
        const value: unknown = entry[k];
        if (!Number.isInteger(value) || (value as number) < 0 || (value as number) >= limit) {
          throw new ArgumentError(`counts[${i}] has ${names[k]} ${shown(value)}; there are 0 to ${limit - 1}.`);
        }
      });
      const [h, s, a, next, times] = entry as unknown as CountEntry;
      if (!Number.isSafeInteger(times) || times < 0) {
        throw new ArgumentError(
          `counts[${i}] says ${shown(times)} times; that must be a whole number from 0 to ${Number.MAX_SAFE_INTEGER}.`,
        );
      }
      const key = `${h},${s},${a},${next}`;
      if (seen.has(key)) throw new ArgumentError(`counts[${i}] counts (${key}) a second time.`);
      seen.add(key);
      if (times === 0) return;
      const n = counts.visits[counts.add(h, s, a, next, times)]!;
      if (n > Number.MAX_SAFE_INTEGER) {
        throw new ArgumentError(
          `counts[${i}] makes ${n} observations of (${h},${s},${a}); ${Number.MAX_SAFE_INTEGER} are the limit.`,
        );
      }
    });
    return counts;
  }
}
