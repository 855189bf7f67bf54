import { describe, expect, it } from "vitest";
import { EpsMix } from "../../src/exploration/learners/epsmix.ts";
import type { Learner, LearnerJson } from "../../src/exploration/learners/learner.ts";
import { StepMix } from "../../src/exploration/learners/stepmix.ts";
import { randomMdp } from "../../src/exploration/mdp/environments/synthetic.ts";
import { optimalPlan, policyValue } from "../../src/exploration/mdp/planning.ts";
import { always, softmaxPolicy, uniformPolicy } from "../../src/exploration/mdp/policy.ts";
import type { Problem } from "../../src/exploration/mdp/problem.ts";
import { Random } from "../../src/exploration/mdp/random.ts";
import { playEpisode } from "../../src/exploration/simulate.ts";

const mdp = randomMdp({ states: 3, actions: 3, horizon: 3, seed: 7 });
const baseline = softmaxPolicy(optimalPlan(mdp).actionValues, 20, mdp);
const baselineValue = policyValue(mdp, always(baseline, mdp));
const { horizon, states, actions, rewards, initial } = mdp;
const problem: Problem = {
  horizon,
  states,
  actions,
  rewards,
  initial,
  baseline,
  threshold: 0.9 * baselineValue,
  delta: 0.05,
  bonusScale: 0.002,
};

const learners: [string, (seed: number, batch: number) => Learner, (json: LearnerJson) => Learner][] = [
  ["StepMix", (seed, batch) => new StepMix(problem, { seed, batch }), StepMix.fromJSON],
  ["EpsMix", (seed, batch) => new EpsMix(problem, { seed, batch }), EpsMix.fromJSON],
];

describe.each(learners)("%s", (_, create, fromJSON) => {
  it("goes from the baseline to the optimum without a policy below the threshold", () => {
    const learner = create(1, 1);
    const random = Random.seeded(1);
    const kinds: string[] = [];
    for (let k = 0; k < 6000; k++) {
      expect(policyValue(mdp, learner.policy())).toBeGreaterThanOrEqual(problem.threshold - 1e-9);
      kinds.push(learner.policy().kind);
      playEpisode(mdp, learner, random);
    }
    expect(kinds[0]).toBe("baseline");
    expect(kinds.at(-1)).toBe("optimistic");
    expect(kinds).toContain("mixture");
    expect(policyValue(mdp, learner.policy())).toBeGreaterThan(0.99 * optimalPlan(mdp).value);
  });

  it.each([1, 4])("goes on from JSON to the last bit, stopped in the middle of an episode (batch %i)", (batch) => {
    const whole = create(3, batch);
    const random = Random.seeded(4);
    for (let k = 0; k < 1502; k++) playEpisode(mdp, whole, random);
    // Half an episode, then stopped.
    whole.observe(0, 0, whole.act(0, 0), rewards[0]!, 1);
    const resumed = fromJSON(JSON.parse(JSON.stringify(whole)));
    for (const learner of [whole, resumed]) {
      const rest = Random.seeded(5);
      for (let h = 1, s = 1; h < horizon; h++, s = 2) learner.observe(h, s, learner.act(h, s), 0.5, 2);
      learner.endEpisode();
      for (let k = 0; k < 500; k++) playEpisode(mdp, learner, rest);
    }
    expect(JSON.stringify(resumed)).toBe(JSON.stringify(whole));
    expect(whole.episodes).toBe(2003);
  });

  it("keeps one policy for a batch, and learns the same from episodes played elsewhere", () => {
    const here = create(1, 3);
    const there = create(2, 3);
    const random = Random.seeded(6);
    const policy = here.policy();
    for (let k = 0; k < 3; k++) {
      expect(here.policy()).toBe(policy);
      playEpisode(mdp, here, random);
      if (k < 2) there.record(here.toJSON().pending[k]!);
    }
    expect(here.policy()).not.toBe(policy);
    expect(here.toJSON().counts.length).toBeGreaterThan(0);
    expect(there.toJSON().pending.length).toBe(2);
  });
});

describe("what was drawn stays drawn", () => {
  it("act answers the same until the step was observed", () => {
    const learner = new StepMix({ ...problem, baseline: uniformPolicy(mdp) }, { seed: 1 });
    for (let h = 0; h < horizon; h++) {
      const answers = Array.from({ length: 50 }, () => learner.act(h, 0));
      expect(new Set(answers).size).toBe(1);
      learner.observe(h, 0, answers[0]!, 0.5, 0);
    }
    learner.endEpisode();
    expect(learner.episodes).toBe(1);
  });

  it("an action that another chose is not observed, nor one in another place", () => {
    const learner = new StepMix({ ...problem, baseline: uniformPolicy(mdp) }, { seed: 1 });
    const action = learner.act(0, 0);
    expect(() => learner.observe(0, 0, (action + 1) % actions, 0.5, 1)).toThrow(/not what act\(\) gave/);
    expect(() => learner.act(1, 1)).toThrow("step 0 of the episode comes next");
    expect(() => learner.act(0, 1)).toThrow("no episode starts there");
    learner.observe(0, 0, action, 0.5, 1);
    expect(() => learner.act(1, 2)).toThrow("the step before led to state 1");
  });

  it("an episode from elsewhere neither ends the policy of one under way, nor comes from another policy", () => {
    const learner = new StepMix(problem, { seed: 1 });
    const steps = [0, 1, 2].map((h) => [0, 0, 0.5, h === 2 ? 1 : 0] as const);
    learner.act(0, 0);
    expect(() => learner.record({ baselineSteps: horizon, steps })).toThrow("under way");
    const other = new StepMix(problem, { seed: 1 });
    expect(() => other.record({ baselineSteps: 1, steps })).toThrow("not played under the present policy");
    other.record({ baselineSteps: horizon, steps });
    expect(other.episodes).toBe(1);
  });
});

describe("a learner refuses", () => {
  it("what does not fit its MDP or its episode", () => {
    const learner = new StepMix(problem);
    expect(() => learner.observe(1, 0, 0, 0.5, 0)).toThrow("step 0 of the episode comes next");
    expect(() => learner.observe(0, 9, 0, 0.5, 0)).toThrow("state 9");
    expect(() => learner.observe(0, 0, 0, 1.5, 0)).toThrow("reward 1.5");
    expect(() => learner.endEpisode()).toThrow("0 steps");
    expect(() => new StepMix({ ...problem, delta: 0 })).toThrow("delta is 0");
    expect(() => new StepMix({ ...problem, threshold: Number.NaN })).toThrow("threshold must be a number, not NaN");
    expect(() => EpsMix.fromJSON(learner.toJSON())).toThrow("the state of stepmix, not of epsmix");
  });
});
