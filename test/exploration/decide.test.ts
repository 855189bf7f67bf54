import { readFileSync, writeFileSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { Candidate, CertifiedMixture } from "../../src/exploration/learners/certified.ts";
import { StepMix } from "../../src/exploration/learners/stepmix.ts";
import { randomMdp } from "../../src/exploration/mdp/environments/synthetic.ts";
import { optimalPlan, policyValue } from "../../src/exploration/mdp/planning.ts";
import { always, softmaxPolicy, uniformPolicy } from "../../src/exploration/mdp/policy.ts";
import { Random } from "../../src/exploration/mdp/random.ts";
import { playEpisode } from "../../src/exploration/simulate.ts";
import { explore } from "../support/explore.ts";

const fixture = (path: string) => fileURLToPath(new URL(`../fixtures/stepmix/${path}`, import.meta.url));
const run = (...args: string[]) => explore("decide", ...args);

/** What all commands print with --json. */
const common = ["command", "event", "versions"];

describe("halfstep explore decide", () => {
  it("prints the fields of the decision, in the order that is documented", async () => {
    const stepmix = JSON.parse(await run("--state", fixture("mixture/state.json"), "--json"));
    expect(Object.keys(stepmix)).toEqual([...common, "kind", "h0", "rho", "lowerBounds", "optimisticPolicy"]);
    const epsmix = JSON.parse(await run("--state", fixture("mixture/state.json"), "--algorithm", "epsmix", "--json"));
    expect(Object.keys(epsmix)).toEqual([...common, "kind", "epsilon", "lowerBounds"]);
  });

  it("says it in words", async () => {
    expect(await run("--state", fixture("mixture-late/state.json"))).toContain("mixture: 2 of 4 steps by the baseline");
  });

  it("takes the state of a saved learner, and decides as it does", async () => {
    const mdp = randomMdp({ states: 3, actions: 2, horizon: 3, seed: 1 });
    const { horizon, states, actions, initial } = mdp;
    const sizes = { horizon, states, actions, initial, baseline: uniformPolicy(mdp) };
    const learner = new StepMix({ ...sizes, threshold: 0.5, delta: 0.05, bonusScale: 1, bounds: "tight" });
    const random = Random.seeded(1);
    for (let k = 0; k < 300; k++) playEpisode({ ...mdp, rewardDraws: "bernoulli" }, learner, random);
    const file = join(await mkdtemp(join(tmpdir(), "halfstep-")), "state.json");
    writeFileSync(file, JSON.stringify(learner));
    expect(JSON.parse(await run("--state", file, "--json"))).toMatchObject({ ...learner.decision() });
  });

  it("says what is mixed where more than the baseline may be fallen back on", async () => {
    const mdp = randomMdp({ seed: 0 });
    const { horizon, states, actions, initial, rewards } = mdp;
    const baseline = softmaxPolicy(optimalPlan(mdp).actionValues, 5, mdp);
    const threshold = 0.95 * policyValue(mdp, always(baseline, mdp));
    const sizes = { horizon, states, actions, initial, rewards, baseline };
    const learner = new StepMix({ ...sizes, threshold, delta: 0.05, bonusScale: 1, bounds: "tight" }, { seed: 1 });
    const random = Random.seeded(2);
    for (let k = 0; k < 150; k++) playEpisode(mdp, learner, random);
    const file = join(await mkdtemp(join(tmpdir(), "halfstep-")), "state.json");
    writeFileSync(file, JSON.stringify(learner));
    const words = await run("--state", file);
    const { certified, ...decision } = JSON.parse(await run("--state", file, "--json"));
    expect(Object.keys(decision)).toEqual([
      ...common,
      "kind",
      "h0",
      "rho",
      "lowerBounds",
      "optimisticPolicy",
      "pessimisticPolicy",
    ]);
    // What it says can be played as it stands: the mixture's true value is above the threshold, and is the learner's.
    const { safe, bold, rho } = certified as CertifiedMixture;
    const value = ({ h0, rest }: Candidate) =>
      policyValue(mdp, { first: baseline, switchAt: h0, rest: Int32Array.from(decision[`${rest}Policy`].flat()) });
    expect(rho * value(bold!) + (1 - rho) * value(safe)).toBeCloseTo(policyValue(mdp, learner.policy()), 12);
    expect(policyValue(mdp, learner.policy())).toBeGreaterThan(threshold);
    expect(words).toContain(`with probability ${rho} ${bold!.h0} steps by the baseline, then the ${bold!.rest} policy`);
  });

  it("refuses a baseline that the counts show to be unsafe, and says by how much", async () => {
    const state = JSON.parse(readFileSync(fixture("optimistic/state.json"), "utf8"));
    const file = join(await mkdtemp(join(tmpdir(), "halfstep-")), "state.json");
    writeFileSync(file, JSON.stringify({ ...state, threshold: 2.9 }));
    await expect(run("--state", file, "--json")).rejects.toThrow(/below the threshold 2.9/);
    expect(JSON.parse(await run("--state", file, "--json", "--allow-unsafe-baseline")).kind).toBe("baseline");
  });

  it.each<[string, string, number[], unknown]>([
    ["rewards[1][0][1] is 2", "rewards", [1, 0, 1], 2],
    ["baseline[0][1] sums to", "baseline", [0, 1, 0], 0.1],
    ["counts[2] says -4", "counts", [2, 4], -4],
    ["initial[0] must be a number, not null", "initial", [0], null],
    ['threshold must be a number, not the string "1.5"', "threshold", [], "1.5"],
    ["delta must be a number, not null", "delta", [], null],
    ["rewardSums[0] ([row, sum, sum of squares]) must be a list of 3, not a list of 1", "rewardSums", [], [[3]]],
    ["rewardSums[0]: sums 1000000000 and 0 of row 0 do not fit", "rewardSums", [], [[0, 1e9, 0]]],
    ["own (earned, arrived and before of tight bounds) must be an object, not 5", "own", [], 5],
    [
      "own.earned[0] must be a list of 274, not a list of 1",
      "own",
      [],
      { earned: [[1], [1], [1]], arrived: [], before: 0 },
    ],
  ])("names the index: %s", async (message, table, path, value) => {
    const state = JSON.parse(readFileSync(fixture("optimistic/state.json"), "utf8"));
    if (table === "own") state.bounds = "tight";
    const whole = [table, ...path];
    let list = state;
    for (const i of whole.slice(0, -1)) list = list[i];
    list[whole.at(-1)!] = value;
    const file = join(await mkdtemp(join(tmpdir(), "halfstep-")), "state.json");
    writeFileSync(file, JSON.stringify(state));
    await expect(run("--state", file)).rejects.toThrow(message);
  });
});
