import { describe, expect, it } from "vitest";
import { writeCounts } from "../../src/exploration/bounds/counts.ts";
import { type Experiment, type ExperimentSettings, setUp } from "../../src/exploration/experiment.ts";
import { algorithmNames } from "../../src/exploration/learners/algorithms.ts";
import { readEpisodes } from "../../src/exploration/learners/vi-lcb.ts";
import { environment } from "../../src/exploration/mdp/environments/named.ts";
import { Random } from "../../src/exploration/mdp/random.ts";
import { Trial, type TrialJson } from "../../src/exploration/trial.ts";
import { uniformEpisodes } from "../support/episodes.ts";

const base: ExperimentSettings = {
  env: "random:states=3,actions=2,seed=7",
  threshold: "0.95xBASELINE",
  baseline: "softmax:5",
  delta: 0.05,
  bonusScale: 0.002,
  bounds: "paper",
  fallback: "baseline",
  rewards: "known",
  episodes: 200,
  batch: 1,
  lpBatch: 30,
  allowUnsafeBaseline: false,
  offline: null,
};

const gymnasium = {
  P: { "0": { "0": [[1, 1, -1, false]], "1": [[0.5, 2, 20, true], [0.5, 0, -10, false]] }, "1": { "0": [[1, 2, 4, true]], "1": [[1, 0, -1, false]] }, "2": { "0": [[1, 2, 0, true]], "1": [[1, 2, 0, true]] } }, // biome-ignore format: a table
  initial: [0.5, 0.5, 0],
  horizon: 4,
} as unknown as ExperimentSettings["env"];

const tight = { bounds: "tight", bonusScale: 1 } as const;
const certified = { ...tight, fallback: "certified" } as const;
const estimated = { rewards: "estimated" } as const;

const environments: [string, ExperimentSettings["env"]][] = [
  ["random", base.env],
  ["river", "riverswim:states=3,horizon=4"],
  ["gridworld", "gridworld:horizon=5"],
  ["chain", "chain:states=3,horizon=5"],
  ["inventory", "inventory:horizon=3"],
  ["streaming", "streaming:horizon=4,levels=3"],
  ["frozen-lake", "frozen-lake:horizon=4"],
  ["a Gymnasium table", gymnasium],
];

/** The whole record but the time that it took. */
const record = (trial: Trial) => JSON.stringify({ ...trial.toJSON(), seconds: 0 });

/** Played at once, and stopped and gone on with at random episodes: batches and episodes of a policy under way among them. */
async function compare(experiment: Experiment, algorithm: TrialJson["algorithm"], seed: number): Promise<void> {
  const whole = await Trial.start(experiment, algorithm, seed);
  whole.run(1e9);
  const random = Random.seeded(seed + 100);
  let part = await Trial.start(experiment, algorithm, seed);
  while (!part.done) {
    part.step(1 + Math.floor(40 * random.uniform()));
    const saved = JSON.stringify(part);
    part = await Trial.resume(experiment, JSON.parse(saved));
    // Nor does reading it change anything.
    expect(JSON.stringify(part)).toBe(saved);
  }
  expect(record(part)).toBe(record(whole));
}

describe("a trial that was stopped anywhere has the record of one that was not", () => {
  for (const algorithm of algorithmNames) {
    const solves = algorithm === "dope" || algorithm === "optpess-lp";
    const variants: [string, Partial<ExperimentSettings>][] = [
      ["paper", {}],
      ["tight", tight],
      ["certified", certified],
      ["in batches of 7", { ...certified, batch: 7, lpBatch: 7 }],
      ...(solves ? [] : [["with estimated rewards", { ...tight, ...estimated, batch: 3 }] as [string, object]]),
    ];
    it.each(variants)(`${algorithm}, %s`, async (_, more) => {
      await compare(setUp({ ...base, ...more }), algorithm, 3);
    });

    // Linear programs of the larger ones take seconds each.
    const known = solves ? environments.filter(([name]) => /random|river|streaming/.test(name)) : environments;
    it.each(known)(`${algorithm} in %s`, async (_, env) => {
      const threshold = "0.9xBASELINE";
      await compare(setUp({ ...base, ...certified, env, threshold, lpBatch: 60, episodes: 150 }), algorithm, 1);
    });
  }

  it.each([
    ["stepmix", "known"],
    ["epsmix", "estimated"],
    ["conservative-ucbvi", "known"],
    ["bpi-ucbvi", "estimated"],
    ["dope", "known"],
  ] as const)("%s from offline data, rewards %s", async (algorithm, rewards) => {
    const mdp = { ...environment(base.env), rewardDraws: "bernoulli" as const };
    const offline = writeCounts(readEpisodes(uniformEpisodes(mdp, 4000).join("\n"), mdp));
    await compare(setUp({ ...base, ...certified, rewards, offline, threshold: "0.7", batch: 4 }), algorithm, 2);
  });
});

describe("a saved trial is refused", () => {
  const experiment = setUp({ ...base, ...certified });
  async function saved(): Promise<TrialJson> {
    const trial = await Trial.start(experiment, "stepmix", 1);
    trial.step(50);
    return JSON.parse(JSON.stringify(trial));
  }

  it.each<[string, (trial: never) => unknown]>([
    ["another threshold", (trial: { learner: { threshold: number } }) => (trial.learner.threshold = 0.1)],
    ["another delta", (trial: { learner: { delta: number } }) => (trial.learner.delta = 0.5)],
    ["another scale", (trial: { learner: { bonusScale: number } }) => (trial.learner.bonusScale = 0.1)],
    ["other rewards", (trial: { learner: { rewards: number[][][] } }) => (trial.learner.rewards[0]![0]![0] = 1)],
    ["rewards left out", (trial: { learner: { rewards: unknown } }) => (trial.learner.rewards = null)],
    ["another batch", (trial: { learner: { batch: number } }) => (trial.learner.batch = 2)],
    ["another algorithm's state", (trial: { algorithm: string }) => (trial.algorithm = "epsmix")],
    ["an algorithm that is not there", (trial: { algorithm: string }) => (trial.algorithm = "toString")],
    ["episodes that were not played", (trial: { learner: { episodes: number } }) => trial.learner.episodes++],
    ["more episodes than asked for", (trial: { learner: { episodes: number } }) => (trial.learner.episodes = 1e6)],
    ["a stretch left out", (trial: { stretches: unknown[] }) => trial.stretches.pop()],
    ["a value that no policy has", (trial: { stretches: { value: number }[] }) => (trial.stretches[0]!.value = 99)],
    ["a value that is no number", (trial: { stretches: { value: unknown }[] }) => (trial.stretches[0]!.value = null)],
    [
      "a share above one",
      (trial: { stretches: { baselineShare: number }[] }) => (trial.stretches[0]!.baselineShare = 2),
    ],
    ["a strange generator", (trial: { random: number[] }) => (trial.random = [0, 0, 0, 0])],
    ["earnings that were not seen", (trial: Own) => (trial.learner.own.earned[0]![0] = 500)],
    ["a capital that was not won", (trial: Own) => (trial.learner.own.earned[0]![1]! += 5)],
    ["arrivals that were not seen", (trial: Own) => (trial.learner.own.arrived[0]![4]! += 5)],
    ["no memory of tight bounds", (trial: { learner: { own: unknown } }) => (trial.learner.own = undefined)],
    ["a negative time", (trial: { seconds: number }) => (trial.seconds = -1)],
  ])("with %s", async (_, change) => {
    const trial = await saved();
    await Trial.resume(experiment, trial);
    change(trial as never);
    await expect(Trial.resume(experiment, trial)).rejects.toThrow(expect.objectContaining({ name: "ArgumentError" }));
  });
});

interface Own {
  learner: { own: { earned: number[][]; arrived: number[][] } };
}
