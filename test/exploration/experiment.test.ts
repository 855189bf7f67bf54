import { mkdtemp, readdir, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { sample } from "../../src/cli/explore/plots.ts";
import { writeTrial } from "../../src/cli/explore/trials.ts";
import { FolderLock } from "../../src/cli/folder-lock.ts";
import { type ExperimentSettings, setUp } from "../../src/exploration/experiment.ts";
import { episodesToLeave } from "../../src/exploration/leaving-baseline.ts";
import { environment } from "../../src/exploration/mdp/environments/named.ts";
import { summarise } from "../../src/exploration/summary.ts";
import { Trial } from "../../src/exploration/trial.ts";
import { uniformEpisodes } from "../support/episodes.ts";
import { explore as exploreCommand } from "../support/explore.ts";

const settings: ExperimentSettings = {
  env: "random:states=3,actions=3,seed=7",
  threshold: "0.95xBASELINE",
  baseline: "softmax:5",
  delta: 0.05,
  bonusScale: 0.002,
  bounds: "paper",
  fallback: "baseline",
  rewards: "known",
  episodes: 800,
  batch: 1,
  lpBatch: 100,
  allowUnsafeBaseline: false,
};

/** All but the time that it took. */
const outcome = (trial: Trial) => JSON.stringify({ ...trial.toJSON(), seconds: 0 });

describe("a trial", () => {
  it.each(["stepmix", "conservative-ucbvi", "dope"] as const)(
    "that was stopped is the same as one that was not: %s",
    async (name) => {
      const experiment = setUp({ ...settings, episodes: 200 });
      const whole = await Trial.start(experiment, name, 3);
      whole.run(1e9);
      let part = await Trial.start(experiment, name, 3);
      while (!part.done) {
        part.run(0);
        part = await Trial.resume(experiment, JSON.parse(JSON.stringify(part)));
      }
      expect(outcome(part)).toBe(outcome(whole));
    },
  );

  it("is summed up as its episodes are", async () => {
    const experiment = setUp(settings);
    const trial = await Trial.start(experiment, "bpi-ucbvi", 1);
    trial.run(1e9);
    const values = trial.stretches.flatMap(({ value, count }) => new Array<number>(count).fill(value));
    expect(values.length).toBe(800);
    const [summary] = summarise([trial.toJSON()], experiment);
    const regret = values.reduce((sum, value) => sum + experiment.optimalValue - value, 0);
    expect(summary!.regretMean).toBeCloseTo(regret, 8);
    expect(summary!.violations).toBe(values.filter((v) => v < experiment.problem.threshold - 1e-9).length);
    expect(summary!.violatingSeeds).toBe(1);
    expect(summary!.firstImprovedEpisode).toBe(values.findIndex((v) => v > experiment.baselineValue + 1e-9) + 1);
    const [half] = sample(trial.stretches, [400], "regret", experiment.optimalValue);
    expect(half).toBeCloseTo(
      values.slice(0, 400).reduce((sum, value) => sum + experiment.optimalValue - value, 0),
      8,
    );
  });

  it.each([
    [{ env: "mars" }, 'no environment "mars"'],
    [{ env: "random:states" }, '"states" is no option'],
    [{ env: "random:stats=4" }, 'random has no option "stats"; it has states'],
    [{ threshold: "high" }, 'threshold "high"'],
    [{ threshold: "2xBASELINE" }, /below the threshold/],
    [{ baseline: "best" }, 'baseline "best"'],
  ])("refuses %j", (wrong, message) => {
    expect(() => setUp({ ...settings, ...wrong })).toThrow(message);
  });
});

/** What `halfstep explore run` prints. */
const explore = (...args: string[]) => exploreCommand("run", ...args);

describe("halfstep explore run", () => {
  const common = [
    "--env",
    "random:states=3,actions=3,seed=7",
    "--bonus-scale",
    "0.002",
    "--seeds",
    "2",
    "--workers",
    "0",
  ];

  it("writes what it promises, goes on where it stopped, and refuses other settings", async () => {
    const out = await mkdtemp(join(tmpdir(), "halfstep-"));
    const args = [...common, "--episodes", "300", "--algorithms", "stepmix,bpi-ucbvi", "--out", out, "--json"];
    const summary = JSON.parse(await explore(...args));
    expect(summary.algorithms.map(({ algorithm }: { algorithm: string }) => algorithm)).toEqual([
      "stepmix",
      "bpi-ucbvi",
    ]);
    expect(Object.keys(summary.algorithms[0])).toEqual([
      "algorithm",
      "episodes",
      "seeds",
      "regretMean",
      "regretStd",
      "violations",
      "violatingSeeds",
      "firstImprovedEpisode",
      "finalValueMean",
      "secondsPerEpisode",
    ]);
    expect((await readdir(out)).sort()).toEqual(
      [
        ...["regret", "share", "value"].flatMap((name) => [`${name}.png`, `${name}.svg`]),
        "episodes.jsonl",
        "settings.json",
        "summary.json",
        "trials",
      ].sort(),
    );
    const lines = (await readFile(join(out, "episodes.jsonl"), "utf8")).trim().split("\n");
    const episodes = lines.map((line) => JSON.parse(line)).reduce((sum, { count }) => sum + count, 0);
    expect(episodes).toBe(2 * 2 * 300);

    // As if it had been killed: one trial is half done.
    const file = join(out, "trials", "stepmix-1.json");
    const before = JSON.parse(await readFile(file, "utf8"));
    const lock = await FolderLock.take(out);
    await writeTrial(file, await halfOf(before.seed), lock);
    await lock.release();
    expect({ ...JSON.parse(await explore(...args)), algorithms: 0 }).toEqual({ ...summary, algorithms: 0 });
    const after = JSON.parse(await readFile(file, "utf8"));
    expect({ ...after, seconds: 0, checksum: "" }).toEqual({ ...before, seconds: 0, checksum: "" });
    await expect(explore(...args, "--delta", "0.1")).rejects.toThrow(/delta 0.05, not 0.1/);
    await writeFile(file, JSON.stringify({ ...before, seed: 7 }));
    await expect(explore(...args)).rejects.toThrow(/stepmix-1.json is not a checkpoint of stepmix with seed 1/);
  });

  async function halfOf(seed: number) {
    const experiment = setUp({ ...settings, episodes: 300 });
    const trial = await Trial.start(experiment, "stepmix", seed);
    trial.run(0);
    expect(trial.done).toBe(false);
    return trial;
  }

  it("prints a table", async () => {
    expect(await explore(...common, "--episodes", "50", "--algorithms", "epsmix")).toMatch(/epsmix .* not yet/);
  });
});

describe("halfstep explore run --offline", () => {
  const env = "random:states=3,actions=3,seed=7";
  const common = ["--env", env, "--bounds", "tight", "--seeds", "2", "--workers", "0", "--episodes", "400"];

  /** A file of episodes in which every action was drawn uniformly, with draws of the rewards. */
  async function dataSet(episodes: number): Promise<string> {
    const lines = uniformEpisodes({ ...environment(env), rewardDraws: "bernoulli" }, episodes);
    const file = join(await mkdtemp(join(tmpdir(), "halfstep-")), "episodes.jsonl");
    await writeFile(file, `${lines.join("\n")}\n`);
    return file;
  }

  it.each(["known", "estimated"])(
    "learns the baseline from data, and starts with their counts (%s)",
    async (rewards) => {
      const file = await dataSet(20000);
      const out = await mkdtemp(join(tmpdir(), "halfstep-"));
      const args = [
        ...common,
        "--offline",
        file,
        "--rewards",
        rewards,
        "--threshold",
        "1.6",
        "--algorithms",
        "stepmix,epsmix",
      ];
      const summary = JSON.parse(await explore(...args, "--out", out, "--json"));
      expect(summary.offline).toBe(file);
      expect(summary.vouchedFor).toBeGreaterThanOrEqual(1.6);
      expect(summary.vouchedFor).toBeLessThanOrEqual(summary.baselineValue);
      for (const { violations } of summary.algorithms) expect(violations).toBe(0);
      const trial = JSON.parse(await readFile(join(out, "trials", "stepmix-1.json"), "utf8"));
      const seen = trial.learner.counts.reduce((sum: number, [h, , , , n]: number[]) => sum + (h === 0 ? n! : 0), 0);
      expect(seen).toBe(20000 + 400);
      // The same folder with other data is another run.
      const other = await dataSet(19000);
      await expect(explore(...args, "--offline", other, "--out", out)).rejects.toThrow(/offline/);
    },
  );

  it("asks for no more than the data vouch for, unless a threshold is given", async () => {
    const file = await dataSet(20000);
    const run = async (...more: string[]) =>
      JSON.parse(await explore(...common, "--offline", file, "--algorithms", "stepmix", ...more, "--json"));
    const summary = await run();
    expect(summary.threshold).toBe(summary.vouchedFor);
    expect(summary.threshold).toBeGreaterThan(1.6);
    expect(summary.algorithms[0].violations).toBe(0);
    // A little more than that is refused, the same number given is not.
    await expect(run("--threshold", `${summary.vouchedFor + 1e-6}`)).rejects.toThrow(/cannot support the threshold/);
    expect((await run("--threshold", `${summary.vouchedFor}`)).algorithms[0].violations).toBe(0);
    await expect(explore(...common, "--threshold", "vouched")).rejects.toThrow(/there are none/);
    const few = ["--offline", await dataSet(2), "--bounds", "paper", "--algorithms", "stepmix"];
    expect(await explore(...common, ...few)).toContain("no policy can fall below this threshold");
  });

  it("says so if the data cannot support the threshold, are not there, or are not episodes", async () => {
    const few = await dataSet(50);
    await expect(explore(...common, "--offline", few, "--threshold", "1xBASELINE")).rejects.toThrow(
      /cannot support the threshold/,
    );
    await expect(explore(...common, "--offline", "nowhere.jsonl")).rejects.toThrow(/nowhere.jsonl: ENOENT/);
    await writeFile(few, '{"states":[0,1,9,0],"actions":[0,0,0],"rewards":[0,0,0]}');
    await expect(explore(...common, "--offline", few)).rejects.toThrow(/episodes.jsonl: line 1: states\[2\] is 9/);
  });
});

describe("episodesToLeave", () => {
  it("is about when StepMix does leave the baseline", async () => {
    const experiment = setUp({ ...settings, episodes: 6000 });
    const trial = await Trial.start(experiment, "stepmix", 1);
    trial.run(1e9);
    const left = trial.stretches.find(({ kind }) => kind !== "baseline")!.episode;
    expect(episodesToLeave(experiment) / left).toBeGreaterThan(0.7);
    expect(episodesToLeave(experiment) / left).toBeLessThan(1.4);
  });
});
