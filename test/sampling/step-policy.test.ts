/** Schedules against their definition, step by step. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import {
  type Action,
  checkSchedule,
  parseSchedule,
  policyOf,
  type Schedule,
  scheduled,
  stretched,
} from "../../src/sampling/step-policy.ts";

const run = (schedule: Schedule, steps: number): Action[] => {
  const policy = scheduled(schedule);
  return Array.from({ length: steps }, (_, index) => policy({ index, steps, timestep: 1000 - index }));
};

const fullSteps = (schedule: Schedule, steps: number) =>
  run(schedule, steps).flatMap((action, index) => (action === "full" ? [index] : []));

describe("a periodic schedule", () => {
  it.each<[Schedule, number, number[]]>([
    [{ every: 2 }, 8, [0, 2, 4, 6]],
    [{ every: 2, warmUp: 1, final: 1 }, 8, [0, 2, 4, 6, 7]],
    [{ every: 3, warmUp: 2 }, 9, [0, 1, 4, 7]],
    // TaylorSeer's for DiT: two full steps, then every fourth.
    [{ every: 4, warmUp: 2 }, 12, [0, 1, 5, 9]],
    [{ every: 1 }, 4, [0, 1, 2, 3]],
    [{ every: 100, warmUp: 3, final: 2 }, 7, [0, 1, 2, 5, 6]],
  ])("%j in %i steps", (schedule, steps, expected) => {
    expect(fullSteps(schedule, steps)).toEqual(expected);
  });

  it("is full in its warm-up, at its end, and where the period since the last of the warm-up has gone by", () => {
    const small = (least: number) => fc.integer({ min: least, max: 6 });
    fc.assert(
      fc.property(small(1), small(1), small(0), fc.integer({ min: 1, max: 30 }), (every, warmUp, final, steps) => {
        const expected = new Set<number>();
        for (let i = 0; i < Math.min(warmUp, steps); i++) expected.add(i);
        for (let i = Math.max(0, steps - final); i < steps; i++) expected.add(i);
        for (let i = warmUp - 1; i < steps; i += every) expected.add(i);
        expect(fullSteps({ every, warmUp, final }, steps)).toEqual([...expected].sort((a, b) => a - b));
      }),
    );
  });

  it("calls its other steps as it is told", () => {
    const policy = scheduled({ every: 2 }, "rehash");
    expect([0, 1, 2].map((index) => policy({ index, steps: 3, timestep: 0 }))).toEqual(["full", "rehash", "full"]);
  });
});

describe("a list of actions", () => {
  it("is followed", () => {
    const list: Action[] = ["full", "inner", "inner", "full"];
    expect(run(list, 4)).toEqual(list);
  });

  it("is refused by a run of another length, from its first step", () => {
    const policy = scheduled(["full", "inner"]);
    expect(() => policy({ index: 0, steps: 3, timestep: 0 })).toThrow(ArgumentError);
    expect(() => policy({ index: 0, steps: 3, timestep: 0 })).toThrow(
      "The schedule has 2 actions, but the run has 3 steps.",
    );
  });
});

describe("a list for any number of steps", () => {
  const list: Action[] = ["full", "inner", "inner", "full", "inner"];
  const inSteps = (schedule: Schedule, steps: number) =>
    Array.from({ length: steps }, (_, index) => stretched(schedule)({ index, steps, timestep: 0 }));

  it("is itself in a run of its own length, and a period stays what it is", () => {
    expect(inSteps(list, 5)).toEqual(list);
    for (const steps of [3, 8])
      expect(inSteps({ every: 3, final: 1 }, steps)).toEqual(run({ every: 3, final: 1 }, steps));
  });

  const actions = fc.array(fc.constantFrom<Action>("full", "inner"), { maxLength: 25 });

  it("has the list's share of full steps up to every point of another run, and is full at first", () => {
    fc.assert(
      fc.property(actions, fc.integer({ min: 1, max: 60 }), (rest, steps) => {
        const schedule: Action[] = ["full", ...rest];
        const made = inSteps(schedule, steps);
        expect(made[0]).toBe("full");
        for (let n = 0; n <= steps; n++) {
          const after = made.slice(0, n).filter((action) => action === "full").length;
          // The list up to there, its last action in part.
          const point = (n / steps) * schedule.length;
          const full = schedule.reduce(
            (sum, action, i) => sum + (action === "full" ? Math.min(1, Math.max(0, point - i)) : 0),
            0,
          );
          const share = (full * steps) / schedule.length;
          expect(after).toBeGreaterThan(share - 1e-9);
          expect(after).toBeLessThan(share + 1 + 1e-9);
        }
      }),
    );
  });

  it("has every action as often as there are times as many steps", () => {
    fc.assert(
      fc.property(actions, fc.integer({ min: 2, max: 5 }), (rest, times) => {
        const schedule: Action[] = ["full", ...rest];
        const expected = schedule.flatMap((action) => new Array<Action>(times).fill(action));
        expect(inSteps(schedule, times * schedule.length)).toEqual(expected);
      }),
    );
  });

  it("is refused when it starts with an inner step", () => {
    expect(() => stretched(["inner", "full"])).toThrow(ArgumentError);
  });
});

describe("a schedule that nobody can follow", () => {
  it.each<[Schedule, string]>([
    [["inner", "full"], 'A schedule starts with a full step, not "inner"'],
    [[], 'A schedule starts with a full step, not "nothing"'],
    [["full", "skip" as Action], 'not "skip"'],
    [{ every: 0 }, '"every":0'],
    [{ every: 2.5 }, '"every":2.5'],
    [{ every: Number.NaN }, '"every":null'],
    [{ every: 2, warmUp: 0 }, '"warmUp":0'],
    [{ every: 2, final: -1 }, '"final":-1'],
  ])("%j is refused", (schedule, message) => {
    expect(() => checkSchedule(schedule)).toThrow(ArgumentError);
    expect(() => scheduled(schedule)).toThrow(message);
  });
});

describe("a policy of the caller's own", () => {
  const step = (index: number, timestep = 0) => ({ index, steps: 5, timestep });

  it("is asked at every step, and done in part as the method does it", () => {
    const seen: number[] = [];
    const policy = policyOf(({ timestep }) => {
      seen.push(timestep);
      return timestep >= 500 ? "full" : "inner";
    }, "rehash");
    const timesteps = [900, 700, 500, 300, 100];
    const actions = timesteps.map((timestep, index) => policy(step(index, timestep)));
    expect(actions).toEqual(["full", "full", "full", "rehash", "rehash"]);
    expect(seen).toEqual(timesteps);
  });

  it.each(["none", undefined, Promise.resolve("full")])("that gives %o is refused at that step", (wrong) => {
    const policy = policyOf(({ index }) => (index === 0 ? "full" : (wrong as Action)));
    expect(policy(step(0))).toBe("full");
    expect(() => policy(step(1))).toThrow(ArgumentError);
    expect(() => policy(step(1))).toThrow("for step 1; it has to give one of full, inner, rehash.");
  });
});

describe("parseSchedule", () => {
  it.each<[string, Schedule]>([
    ["2", { every: 2, warmUp: 1, final: 0 }],
    ["3:2", { every: 3, warmUp: 2, final: 0 }],
    ["2:3:1", { every: 2, warmUp: 3, final: 1 }],
    ["fif", ["full", "inner", "full"]],
    ["FI", ["full", "inner"]],
    ["full, inner,Full", ["full", "inner", "full"]],
    ["f,i", ["full", "inner"]],
  ])('reads "%s"', (text, schedule) => {
    expect(parseSchedule(text)).toEqual(schedule);
  });

  it.each([
    ["", '"" is not a schedule'],
    ["every second", '"every second" is not a schedule'],
    ["2:3:1:4", '"2:3:1:4" is not a schedule'],
    ["2:", '"2:" is not a schedule'],
    ["-2", '"-2" is not a schedule'],
    ["full,", '"full," is not a schedule'],
    ["full,constructor", '"full,constructor" is not a schedule'],
    ["if", 'not "inner"'],
    ["inner,full", 'not "inner"'],
    ["0", '"every":0'],
  ])('refuses "%s"', (text, message) => {
    expect(() => parseSchedule(text)).toThrow(ArgumentError);
    expect(() => parseSchedule(text)).toThrow(message);
  });
});
