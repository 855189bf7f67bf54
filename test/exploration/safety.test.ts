/** What must hold whatever the counts and the confidence: nothing but numbers vouches for a policy. */
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError, NumericError } from "../../src/errors.ts";
import { Counts } from "../../src/exploration/bounds/counts.ts";
import { PaperBounds } from "../../src/exploration/bounds/paper-bounds.ts";
import type { TightBounds } from "../../src/exploration/bounds/tight-bounds.ts";
import { certifiedMixture } from "../../src/exploration/learners/certified.ts";
import { EpsMix } from "../../src/exploration/learners/epsmix.ts";
import { StepMix } from "../../src/exploration/learners/stepmix.ts";
import { checkMixture } from "../../src/exploration/mdp/policy.ts";
import type { Problem } from "../../src/exploration/mdp/problem.ts";
import { explore } from "../support/explore.ts";

const folder = fileURLToPath(new URL("../fixtures/exploration/states/", import.meta.url));

const decide = (...args: string[]) => explore("decide", ...args);

describe("a hostile state", () => {
  it.each(readdirSync(folder))("%s is answered, or refused in one line", async (name) => {
    for (const algorithm of ["stepmix", "epsmix"]) {
      const args = ["--state", `${folder}${name}`, "--algorithm", algorithm, "--json"];
      const answer = await decide(...args).catch((error: unknown) => error as Error);
      if (typeof answer === "string") expect(JSON.parse(answer).kind).toBe("baseline");
      else {
        expect(answer).toBeInstanceOf(ArgumentError);
        expect(answer.message).toContain(name);
        expect(answer.message).not.toContain("\n");
      }
    }
  });

  it.each(["delta1e-320.json", "bonus1e308.json"])("%s leaves the baseline", async (name) => {
    expect(JSON.parse(await decide("--state", `${folder}${name}`, "--json")).kind).toBe("baseline");
  });
});

const deltas = [5e-324, 1e-320, 1e-308, 1e-300, 1e-16, 0.05, 0.5, 1 - 2 ** -53];
const scales = [0, 5e-324, 1e-300, 1e-3, 1, 1e3, 1e300, Number.MAX_VALUE];
const times = [1, 2, 7, 1000, 1e9, 2 ** 50];

/** Small problems with any counts, the confidence anywhere. */
const states = fc
  .record({
    horizon: fc.integer({ min: 1, max: 5 }),
    states: fc.integer({ min: 1, max: 3 }),
    actions: fc.integer({ min: 1, max: 2 }),
    known: fc.boolean(),
    delta: fc.constantFrom(...deltas),
    bonusScale: fc.constantFrom(...scales),
    share: fc.constantFrom(0, 1e-9, 0.3, 0.7, 1),
    tight: fc.boolean(),
    fallback: fc.boolean(),
    unit: fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
    times: fc.infiniteStream(fc.oneof(fc.constant(0), fc.constantFrom(...times))),
  })
  .map(({ horizon, states, actions, known, share, tight, fallback, unit, times: drawn, ...rest }) => {
    const [u, n] = [unit[Symbol.iterator](), drawn[Symbol.iterator]()];
    const next = <T>(of: Iterator<T>): T => of.next().value;
    const rows = horizon * states * actions;
    const sizes = { horizon, states, actions };
    const counts = new Counts(sizes);
    for (let h = 0; h < horizon; h++) {
      for (let s = 0; s < states; s++) {
        for (let a = 0; a < actions; a++) {
          for (let to = 0; to < states; to++) {
            const count = next(n);
            if (count === 0) continue;
            const row = counts.add(h, s, a, to, count);
            counts.rewardSum[row]! += count * next(u);
            // As if all rewards of a row had been 0 or 1.
            counts.rewardSquares[row] = counts.rewardSum[row]!;
          }
        }
      }
    }
    const initial = new Float64Array(states);
    initial[0] = 1;
    const problem: Problem = {
      ...sizes,
      ...(known ? { rewards: Float64Array.from({ length: rows }, () => next(u)) } : {}),
      initial,
      baseline: new Float64Array(rows).fill(1 / actions),
      threshold: share * horizon,
      bounds: tight ? "tight" : "paper",
      fallback: tight && fallback ? "certified" : "baseline",
      ...rest,
    };
    return { problem, counts };
  });

describe("whatever the counts and the confidence", () => {
  it("StepMix and EpsMix mix by numbers, and down to the threshold at most", () => {
    fc.assert(
      fc.property(states, ({ problem, counts }) => {
        const { horizon, threshold } = problem;
        for (const learner of [new StepMix(problem, { counts }), new EpsMix(problem, { counts })]) {
          const decision = learner.decision();
          const { certified } = decision;
          const bounds = "h0" in decision ? decision.lowerBounds : Object.values(decision.lowerBounds);
          // Where rewards alone show that no policy reaches the threshold, the premise that the baseline does is false.
          const most = learner.bounds.upperOf(horizon) >= threshold ? horizon : 2 * horizon;
          for (const bound of bounds) expect(bound >= -1e-9 && bound <= most + 1e-9).toBe(true);
          // What is mixed, as [probability, lower bound].
          let parts: [number, number][];
          if (certified) {
            const { safe, bold, rho } = certified;
            parts = [[1 - rho, safe.lower], [rho, bold?.lower ?? 0]]; // biome-ignore format: one row
          } else if ("h0" in decision) {
            const { h0, rho, lowerBounds } = decision;
            parts = [[1 - rho, lowerBounds[h0]!], [rho, lowerBounds[h0 - 1] ?? 0]]; // biome-ignore format: one row
          } else {
            const { epsilon, lowerBounds } = decision;
            parts = [[epsilon, lowerBounds.baseline], [1 - epsilon, lowerBounds.optimistic]]; // biome-ignore format: one row
          }
          for (const [weight, lower] of parts) {
            expect(weight >= 0 && weight <= 1).toBe(true);
            expect(Number.isFinite(lower)).toBe(true);
          }
          const vouched = parts.reduce((sum, [weight, lower]) => sum + weight * lower, 0);
          if (decision.kind !== "baseline") expect(vouched).toBeGreaterThanOrEqual(threshold - 1e-9);
          expect(learner.policy().components.every(({ weight }) => weight >= 0 && weight <= 1)).toBe(true);
          expect(learner.bounds.upper >= -1e-9 && learner.bounds.upper <= horizon + 1e-9).toBe(true);
          expect(learner.bounds.upperOf(horizon) >= -1e-9).toBe(true);
        }
      }),
      { numRuns: 1500 },
    );
  });

  it("the paper's bounds know nothing where the bonus of every row is the whole horizon", () => {
    fc.assert(
      fc.property(states, ({ problem, counts }) => {
        const { horizon, states: S, actions, bonusScale } = problem;
        // 14 H^2 beta / n >= H, in logarithms, for the smallest beta that there is.
        const beta = Math.log(3 * S * actions * horizon) - Math.log(problem.delta);
        const large = (n: number) => Math.log(bonusScale) + Math.log(14 * horizon * beta) >= Math.log(n);
        const nothing = counts.visits.every((n) => n === 0 || large(n));
        fc.pre(nothing && problem.threshold > 0);
        const learner = new StepMix({ ...problem, bounds: "paper", fallback: "baseline" }, { counts });
        expect(learner.decision().kind).toBe("baseline");
        expect(learner.decision().lowerBounds.every((lower) => lower === 0)).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it("the kernel and the plain form give the same bits", () => {
    fc.assert(
      fc.property(states, ({ problem, counts }) => {
        const [kernel, plain] = [new PaperBounds(problem, counts), new PaperBounds(problem, counts, { kernel: false })];
        kernel.plan();
        plain.plan();
        expect(kernel.upper).toBe(plain.upper);
        expect(kernel.optimistic).toEqual(plain.optimistic);
        for (let h0 = 0; h0 <= problem.horizon; h0++) expect(kernel.lower(h0)).toBe(plain.lower(h0));
      }),
      { numRuns: 500 },
    );
  });

  it("tight bounds with balls of everything are the worst that transitions could do", () => {
    fc.assert(
      fc.property(states, ({ problem, counts }) => {
        // delta's shares are zero in float64: no row's transitions are known at all, and no reward that is estimated.
        const { horizon, states: S, actions, rewards, baseline, threshold } = problem;
        const hard: Problem = { ...problem, delta: 5e-324, bonusScale: 1, bounds: "tight", fallback: "baseline" };
        const learner = new StepMix(hard, { counts });
        const { lowerBounds } = learner.decision();
        const mean = (at: number, h0: number, h: number) => {
          if (!rewards) return 0;
          const of = rewards.subarray(at * actions, (at + 1) * actions);
          if (h >= h0) return of[learner.bounds.optimistic[at]!]!;
          return of.reduce((sum, r, a) => sum + r * baseline[at * actions + a]!, 0);
        };
        lowerBounds.forEach((lower, h0) => {
          let worst = 0;
          for (let h = horizon - 1; h >= 0; h--) {
            const here = Array.from({ length: S }, (_, s) => mean(h * S + s, h0, h));
            worst += h === 0 ? here[0]! : Math.min(...here);
          }
          // The premise: the best last actions instead of the baseline's, on top of the threshold.
          let premise = 0;
          if (rewards && h0 === horizon - 1 && h0 > 0) {
            const gains = Array.from({ length: S }, (_, s) => {
              const at = h0 * S + s;
              const of = rewards.subarray(at * actions, (at + 1) * actions);
              return Math.max(...of) - mean(at, horizon, h0);
            });
            premise = threshold + Math.min(...gains);
          }
          // With known rewards the best actions are certain as well, which can only be more.
          const certain = rewards ? certainValue(hard, h0) : 0;
          expect(lower).toBeLessThanOrEqual(Math.max(worst, premise, certain) + 1e-9);
        });
      }),
      { numRuns: 500 },
    );
  });
});

/** The baseline for h0 steps, then the best action in each state, where transitions are against it. */
function certainValue({ horizon, states: S, actions, rewards, baseline }: Problem, h0: number): number {
  let worst = 0;
  for (let h = horizon - 1; h >= 0; h--) {
    const here = Array.from({ length: S }, (_, s) => {
      const at = (h * S + s) * actions;
      const of = rewards!.subarray(at, at + actions);
      return h >= h0 ? Math.max(...of) : of.reduce((sum, r, a) => sum + r * baseline[at + a]!, 0);
    });
    worst += h === 0 ? here[0]! : Math.min(...here);
  }
  return worst;
}

describe("what is no number", () => {
  const strange = fc.oneof(
    fc.double({ min: 0, max: 3 }),
    fc.constantFrom(Number.NaN, -Infinity, 0, 1.5, 1.5 - 2 ** -52, 3),
  );

  it("is certified by no mixture", () => {
    fc.assert(
      fc.property(fc.array(strange, { minLength: 16, maxLength: 16 }), (values) => {
        const at = (h0: number, rest: string) => 2 * h0 + Number(rest === "optimistic");
        const bounds = {
          planPessimistic() {},
          lower: (h0: number, rest: string) => values[at(h0, rest)]!,
          promise: (h0: number, rest: string) => values[8 + at(h0, rest)]!,
        } as unknown as TightBounds;
        const found = certifiedMixture(bounds, { threshold: 1.5 } as Problem, [0, 1, 2, 3]);
        if (!found) return;
        const { safe, bold, rho } = found;
        expect(safe.lower).toBeGreaterThanOrEqual(1.5);
        expect(rho >= 0 && rho < 1).toBe(true);
        if (bold) expect(rho * bold.lower + (1 - rho) * safe.lower).toBeGreaterThanOrEqual(1.5 - 1e-12);
        else expect(rho).toBe(0);
      }),
    );
  });

  it("is no probability of a component", () => {
    const policy = { first: new Float64Array(2), switchAt: 1, rest: new Int32Array(1) };
    const sizes = { horizon: 1, states: 1, actions: 2 };
    for (const weights of [[Number.NaN, 0.5], [0.5, 0.4], [1.5, -0.5], [Infinity], []]) {
      const components = weights.map((weight) => ({ weight, policy }));
      expect(() => checkMixture({ kind: "mixture", components }, sizes)).toThrow(NumericError);
    }
  });

  it("is no threshold, delta, scale, reward or probability of a problem, also to callers without types", () => {
    const problem: Problem = {
      horizon: 1,
      states: 1,
      actions: 1,
      rewards: Float64Array.of(0.5),
      initial: Float64Array.of(1),
      baseline: Float64Array.of(1),
      threshold: 0.5,
      delta: 0.05,
      bonusScale: 1,
    };
    expect(new StepMix(problem).decision().kind).toBe("baseline");
    for (const key of ["threshold", "delta", "bonusScale", "baselineValue", "rewards", "initial", "baseline"]) {
      for (const value of [null, "", "0.5", true, [0.5], Number.NaN, Infinity, -1, Float64Array.of(Number.NaN)]) {
        expect(() => new StepMix({ ...problem, [key]: value } as Problem), `${key} ${value}`).toThrow(ArgumentError);
      }
    }
  });

  it("is no reward of a step", () => {
    const sizes = { horizon: 1, states: 1, actions: 1, initial: Float64Array.of(1), baseline: Float64Array.of(1) };
    for (const reward of [null, "", "0.5", true, [0.5], Number.NaN, -0.1, 1.1, undefined, { valueOf: () => 0.5 }]) {
      const learner = new StepMix({ ...sizes, threshold: 0, delta: 0.05, bonusScale: 1 });
      expect(() => learner.observe(0, 0, learner.act(0, 0), reward as number, 0)).toThrow(ArgumentError);
    }
  });
});
