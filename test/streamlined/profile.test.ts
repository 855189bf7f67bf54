import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { bestSchedule, compareFeatures, propose, RehashProfile, speedup } from "../../src/streamlined/profile.ts";

/** How far rehash steps are from what they go on from, for a schedule: added up step by step. */
function costOf(changes: readonly number[], fullAt: ReadonlySet<number>): number {
  let [far, sum] = [0, 0];
  for (const [t, change] of changes.entries()) {
    far = fullAt.has(t) ? 0 : far + change;
    sum += far;
  }
  return sum;
}

/** All sets of `count` numbers below `length` with 0 among them. */
function choices(length: number, count: number): Set<number>[] {
  const rest = (from: number, left: number): number[][] => {
    if (left === 0) return [[]];
    return Array.from({ length: Math.max(0, length - from) }, (_, i) => from + i).flatMap((at) =>
      rest(at + 1, left - 1).map((more) => [at, ...more]),
    );
  };
  return rest(1, count - 1).map((more) => new Set([0, ...more]));
}

describe("the proposed schedule", () => {
  it("is the best of all, by trying them", () => {
    const cases = fc.record({
      changes: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1, maxLength: 9 }),
      part: fc.double({ min: 0, max: 0.999, noNaN: true }),
    });
    const property = fc.property(cases, ({ changes, part }) => {
      const full = 1 + Math.floor(part * changes.length);
      const { schedule, cost } = bestSchedule(changes, full);
      const fullAt = new Set(schedule.flatMap((action, t) => (action === "full" ? [t] : [])));
      expect(fullAt.size).toBe(full);
      expect(schedule[0]).toBe("full");
      expect(cost).toBeCloseTo(costOf(changes, fullAt), 10);
      expect(cost).toBeCloseTo(Math.min(...choices(changes.length, full).map((set) => costOf(changes, set))), 10);
    });
    fc.assert(property, { numRuns: 100, seed: 4 });
  });

  it("puts full steps where features change, at a cut that is fast enough", () => {
    const changes = ["early", "late"].flatMap((cut) =>
      [1, 2, 3, 4, 5].map((step) => ({ step, cut, cosine: 1, change: step === 3 ? 1 : cut === "early" ? 0.01 : 0.02 })),
    );
    const shares = new Map([
      ["early", 0.6],
      ["late", 0.1],
    ]);
    const slow = propose(changes, shares, 2, 1);
    expect(slow).toMatchObject({ cut: "early", schedule: ["full", "rehash", "rehash", "full", "rehash", "rehash"] });
    const fast = propose(changes, shares, 2, 2);
    expect(fast.cut).toBe("late");
    expect(fast.speedup).toBeCloseTo(6 / (2 + 4 * 0.1), 10);
    expect(speedup(fast.schedule, 0.1)).toBe(fast.speedup);
    expect(propose(changes, shares, 2, 99).cut).toBe("late");
    expect(() => bestSchedule([0, 1], 3)).toThrow(ArgumentError);
  });
});

describe("similarity of features", () => {
  it("is the cosine of the angle, and the change a share of the length", () => {
    const parts = [Float32Array.of(3, 0), Float32Array.of(0, 4)];
    expect(compareFeatures(parts, Float32Array.of(3, 0, 0, 4))).toEqual({ cosine: 1, change: 0 });
    expect(compareFeatures(parts, Float32Array.of(0, 3, 4, 0))).toEqual({ cosine: 0, change: Math.SQRT2 });
    const { cosine, change } = compareFeatures(parts, Float32Array.of(6, 0, 0, 8));
    expect([cosine, change]).toEqual([1, 1]);
  });

  it("is a mean over runs, each of which begins anew", () => {
    const profile = new RehashProfile();
    const kept = (...values: number[]) => [new Map([["cut", Float32Array.from(values)]])];
    for (const [index, values] of [
      [0, [1, 0]],
      [1, [1, 0]],
      [0, [0, 1]],
      [1, [1, 0]],
    ] as const) {
      profile.record({ index }, kept(...values));
    }
    expect(profile.changes).toEqual([{ step: 1, cut: "cut", cosine: 0.5, change: Math.SQRT2 / 2 }]);
  });
});
