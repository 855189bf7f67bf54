import { describe, expect, it } from "vitest";
import { Counts } from "../../src/exploration/bounds/counts.ts";
import { BpiUcbvi } from "../../src/exploration/learners/bpi-ucbvi.ts";
import { ConservativeUcbvi } from "../../src/exploration/learners/conservative-ucbvi.ts";
import { readEpisodes, safeBaseline, viLcb } from "../../src/exploration/learners/vi-lcb.ts";
import { randomMdp } from "../../src/exploration/mdp/environments/synthetic.ts";
import { optimalPlan, policyValue } from "../../src/exploration/mdp/planning.ts";
import { always, softmaxPolicy } from "../../src/exploration/mdp/policy.ts";
import type { Problem } from "../../src/exploration/mdp/problem.ts";
import { Random } from "../../src/exploration/mdp/random.ts";
import { playEpisode } from "../../src/exploration/simulate.ts";
import { uniformEpisodes } from "../support/episodes.ts";

const mdp = randomMdp({ states: 3, actions: 3, horizon: 3, seed: 7 });
const { horizon, states, actions, rewards, initial } = mdp;
const plan = optimalPlan(mdp);
const baseline = softmaxPolicy(plan.actionValues, 5, mdp);
const baselineValue = policyValue(mdp, always(baseline, mdp));
const problem: Problem = {
  horizon,
  states,
  actions,
  rewards,
  initial,
  baseline,
  threshold: 0.95 * baselineValue,
  delta: 0.05,
  bonusScale: 0.002,
  baselineValue,
};

describe("BPI-UCBVI", () => {
  it("finds the optimum, and falls below the threshold on its way", () => {
    const learner = new BpiUcbvi(problem, { seed: 1 });
    const random = Random.seeded(2);
    let below = 0;
    for (let k = 0; k < 4000; k++) {
      if (policyValue(mdp, learner.policy()) < problem.threshold - 1e-9) below++;
      playEpisode(mdp, learner, random);
    }
    expect(below).toBeGreaterThan(0);
    expect(policyValue(mdp, learner.policy())).toBeGreaterThan(0.99 * plan.value);
  });
});

describe("ConservativeUcbvi", () => {
  it("keeps the sum of values above the threshold's at every episode, but not each one", () => {
    const learner = new ConservativeUcbvi(problem, { seed: 1 });
    const random = Random.seeded(2);
    let [sum, below] = [0, 0];
    const kinds = new Set<string>();
    for (let k = 1; k <= 4000; k++) {
      const value = policyValue(mdp, learner.policy());
      kinds.add(learner.policy().kind);
      sum += value;
      if (value < problem.threshold - 1e-9) below++;
      expect(sum).toBeGreaterThanOrEqual(k * problem.threshold - 1e-9);
      playEpisode(mdp, learner, random);
    }
    expect(kinds).toEqual(new Set(["baseline", "optimistic"]));
    expect(below).toBeGreaterThan(0);
  });

  it("goes on from JSON to the last bit", () => {
    const whole = new ConservativeUcbvi(problem, { seed: 1 });
    const random = Random.seeded(2);
    for (let k = 0; k < 900; k++) playEpisode(mdp, whole, random);
    const resumed = ConservativeUcbvi.fromJSON(JSON.parse(JSON.stringify(whole)));
    for (const learner of [whole, resumed]) {
      const rest = Random.seeded(3);
      for (let k = 0; k < 300; k++) playEpisode(mdp, learner, rest);
    }
    expect(JSON.stringify(resumed)).toBe(JSON.stringify(whole));
  });
});

describe("offline", () => {
  const dataset = (episodes: number) => uniformEpisodes(mdp, episodes).join("\n");

  it("learns a good policy from enough data, with a bound below its true value", () => {
    const counts = readEpisodes(dataset(20000), mdp);
    const { baseline: learned, lower } = viLcb({ ...problem, bounds: "tight", bonusScale: 1 }, counts);
    const value = policyValue(mdp, always(learned, mdp));
    expect(value).toBeGreaterThan(0.95 * plan.value);
    expect(lower).toBeLessThanOrEqual(value);
    expect(lower).toBeGreaterThan(0.7 * plan.value);
    expect(safeBaseline({ ...problem, bounds: "tight", bonusScale: 1, threshold: lower }, counts).lower).toBe(lower);
  });

  it("starts the online phase from the data's counts", () => {
    const counts = readEpisodes(dataset(200), mdp);
    const learner = new BpiUcbvi(problem, { counts });
    expect(learner.counts.stateVisits[0]).toBe(200);
  });

  it("says so if the data cannot support the threshold", () => {
    const counts = readEpisodes(dataset(50), mdp);
    expect(() => safeBaseline({ ...problem, bonusScale: 1 }, counts)).toThrow(/data cannot support the threshold/);
    expect(() => safeBaseline(problem, new Counts(mdp))).toThrow(/at least 0 /);
  });

  it.each([
    ['{"states":[0,1,9,0],"actions":[0,0,0],"rewards":[0,0,0]}', "line 1: states[2] is 9"],
    ['\n{"states":[0,1,0,0],"actions":[0,0],"rewards":[0,0,0]}', 'line 2: "actions" must be a list of 3'],
    ['{"states":[0,1,0,0],"actions":[0,0,0],"rewards":[0,2,0]}', "line 1: rewards[1] is 2"],
    ["nonsense", "line 1 is not JSON"],
  ])("names the line that is wrong: %s", (text, message) => {
    expect(() => readEpisodes(text, mdp)).toThrow(message);
  });
});
