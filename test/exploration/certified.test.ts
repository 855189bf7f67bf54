import { beforeAll, describe, expect, it } from "vitest";
import { TightBounds } from "../../src/exploration/bounds/tight-bounds.ts";
import { type Candidate, certifiedMixture } from "../../src/exploration/learners/certified.ts";
import { EpsMix } from "../../src/exploration/learners/epsmix.ts";
import { type Highs, LinearProgram, loadSolver } from "../../src/exploration/learners/linear-program.ts";
import { StepMix } from "../../src/exploration/learners/stepmix.ts";
import { gridworld, randomMdp, riverSwim } from "../../src/exploration/mdp/environments/synthetic.ts";
import type { Mdp } from "../../src/exploration/mdp/mdp.ts";
import { optimalPlan, policyValue } from "../../src/exploration/mdp/planning.ts";
import { always, softmaxPolicy } from "../../src/exploration/mdp/policy.ts";
import { type Problem, problemFromJson, problemToJson } from "../../src/exploration/mdp/problem.ts";
import { Random } from "../../src/exploration/mdp/random.ts";
import { playEpisode } from "../../src/exploration/simulate.ts";

let solver: Highs;
beforeAll(async () => {
  solver = await loadSolver();
});

function problemOf(mdp: Mdp, share: number): Problem {
  const { horizon, states, actions, rewards, initial } = mdp;
  const baseline = softmaxPolicy(optimalPlan(mdp).actionValues, 5, mdp);
  const threshold = share * policyValue(mdp, always(baseline, mdp));
  const sizes = { horizon, states, actions, rewards, initial, baseline };
  return { ...sizes, threshold, delta: 0.05, bonusScale: 1, bounds: "tight" };
}

const environments: [string, Mdp, number][] = [
  ["random", randomMdp({ seed: 0 }), 0.95],
  ["riverswim", riverSwim({ states: 3, horizon: 4 }), 0.95],
  ["gridworld", gridworld({ horizon: 8 }), 0.8],
];

/** The regret of a thousand episodes, summed over four seeds, of which none may be below the threshold. */
function play(algorithm: typeof StepMix | typeof EpsMix, problem: Problem, mdp: Mdp): number {
  const best = optimalPlan(mdp).value;
  let regret = 0;
  for (let seed = 0; seed < 4; seed++) {
    const learner = new algorithm(problem, { seed });
    const random = Random.seeded(100 + seed);
    for (let k = 0; k < 1000; k++) {
      const value = policyValue(mdp, learner.policy());
      expect(value).toBeGreaterThanOrEqual(problem.threshold - 1e-9);
      regret += best - value;
      playEpisode(mdp, learner, random);
    }
  }
  return regret;
}

describe("the certified mixture", () => {
  it.each(environments)("is what a linear program over all mixtures of candidates finds: %s", (_, mdp, share) => {
    const problem = problemOf(mdp, share);
    const learner = new StepMix(problem, { seed: 1 });
    const bounds = learner.bounds as TightBounds;
    const random = Random.seeded(2);
    const starts = Array.from({ length: problem.horizon + 1 }, (_, h0) => h0);
    let mixed = 0;
    for (let k = 0; k < 400; k++) {
      playEpisode(mdp, learner, random);
      if (k % 20 !== 19) continue;
      bounds.plan();
      const promise = ({ h0, rest }: Candidate) => bounds.promise(h0, rest);
      const found = certifiedMixture(bounds, problem, starts);
      const program = new LinearProgram();
      const candidates = starts.flatMap((h0) =>
        (["optimistic", "pessimistic"] as const).map((rest) => ({
          variable: program.variable(bounds.promise(h0, rest)),
          lower: bounds.lower(h0, rest),
        })),
      );
      // No candidate promises more than the best policy may be worth, and pure optimism promises that.
      expect(Math.max(...program.costs)).toBeLessThanOrEqual(bounds.upper + 1e-12);
      expect(program.costs[0]).toBeCloseTo(bounds.upper, 12);
      program.row(candidates.map(({ variable }) => [variable, 1] as const), 1, 1); // biome-ignore format: one line
      program.row(candidates.map(({ variable, lower }) => [variable, lower] as const), problem.threshold, Infinity); // biome-ignore format: one line
      const best = program.solve(solver);
      expect(found === undefined).toBe(best === undefined);
      if (!found || !best) continue;
      mixed += Number(found.rho > 0);
      const { safe, bold, rho } = found;
      const value = (1 - rho) * promise(safe) + (bold ? rho * promise(bold) : 0);
      expect(value).toBeCloseTo(best.reduce((sum, x, i) => sum + x * program.costs[i]!, 0), 5); // biome-ignore format: one line
      expect((1 - rho) * safe.lower + (bold ? rho * bold.lower : 0)).toBeGreaterThanOrEqual(problem.threshold - 1e-12);
    }
    expect(mixed).toBeGreaterThan(0);
  });

  it.each(environments)("is never below the threshold: %s", (_, mdp, share) => {
    for (const algorithm of [StepMix, EpsMix]) play(algorithm, problemOf(mdp, share), mdp);
  });

  it("costs less than falling back on the baseline", () => {
    const [, mdp, share] = environments[0]!;
    for (const algorithm of [StepMix, EpsMix]) {
      const [certified, baseline] = (["certified", "baseline"] as const).map((fallback) =>
        play(algorithm, { ...problemOf(mdp, share), fallback }, mdp),
      );
      expect(certified).toBeLessThan(0.95 * baseline!);
    }
  });

  it("is left out where only the baseline may be fallen back on", () => {
    const [, mdp, share] = environments[0]!;
    for (const algorithm of [StepMix, EpsMix]) {
      const learner = new algorithm({ ...problemOf(mdp, share), fallback: "baseline" }, { seed: 1 });
      const random = Random.seeded(2);
      for (let k = 0; k < 100; k++) playEpisode(mdp, learner, random);
      const { kind, certified } = learner.decision();
      expect([kind, certified]).toEqual(["mixture", undefined]);
    }
  });

  it("goes on from JSON as it was set", () => {
    const [, mdp, share] = environments[0]!;
    for (const fallback of ["certified", "baseline"] as const) {
      const problem: Problem = { ...problemOf(mdp, share), fallback };
      expect(problemFromJson(JSON.parse(JSON.stringify(problemToJson(problem)))).fallback).toBe(fallback);
    }
    const json = problemToJson(problemOf(mdp, share));
    expect(() => problemFromJson({ ...json, fallback: "best" as "baseline" })).toThrow("fallback is best; it must be");
    expect(() => problemFromJson({ ...json, bounds: "paper", fallback: "certified" })).toThrow(
      /needs the bounds "tight"/,
    );
  });
});

describe("the pessimistic policy", () => {
  it("has the largest lower bound of all that begin with one action and go on as it does", () => {
    const [, mdp, share] = environments[0]!;
    const problem = problemOf(mdp, share);
    const learner = new StepMix(problem, { seed: 1 });
    const random = Random.seeded(2);
    for (let k = 0; k < 300; k++) playEpisode(mdp, learner, random);
    const bounds = new TightBounds(problem, learner.counts);
    const { policy, lower } = bounds.pessimistic();
    expect(lower).toBe(bounds.lower(0, "pessimistic"));
    expect([...policy]).toEqual([...bounds.actionsOf("pessimistic")]);
    expect(lower).toBeGreaterThanOrEqual(bounds.lower(0, "optimistic"));
    expect(policyValue(mdp, { first: problem.baseline, switchAt: 0, rest: policy })).toBeGreaterThanOrEqual(lower);
  });
});
