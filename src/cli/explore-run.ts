import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { SingleBar } from "cli-progress";
import { Command, InvalidArgumentError, Option } from "commander";
import { ArgumentError, HalfstepError } from "../errors.ts";
import { type AlgorithmName, algorithmNames } from "../exploration/algorithms.ts";
import { type Counts, writeCounts } from "../exploration/counts.ts";
import type { MdpFile } from "../exploration/environments/file.ts";
import {
  type AlgorithmSummary,
  type Experiment,
  type ExperimentSettings,
  environment,
  environmentNames,
  setUp,
  summarise,
  type TrialJson,
} from "../exploration/experiment.ts";
import type { Sizes } from "../exploration/mdp.ts";
import { readEpisodes } from "../exploration/vi-lcb.ts";
import { writePlots } from "./explore-plots.ts";
import { runTask, type Task } from "./explore-worker.ts";
import { numberBetween } from "./numbers.ts";
import { readJson } from "./read-json.ts";

interface RunOptions extends Omit<ExperimentSettings, "env" | "baseline" | "allowUnsafeBaseline" | "offline"> {
  env: string;
  baseline?: string;
  offline?: string;
  algorithms: AlgorithmName[];
  seeds: number;
  workers: number;
  allowUnsafeBaseline?: boolean;
  out?: string;
  json?: boolean;
}

const whole = (least: number) => numberBetween(least, Number.MAX_SAFE_INTEGER, { whole: true });

export function runCommand(): Command {
  return new Command("run")
    .description("an experiment: algorithms against each other in a known environment")
    .requiredOption("--env <name|file>", `${environmentNames.join(", ")} (options as name:states=4,horizon=8), or JSON`)
    .option("--algorithms <list>", `of ${algorithmNames.join(",")}`, algorithmList, ["stepmix", "epsmix", "bpi-ucbvi"])
    .requiredOption("--episodes <k>", "episodes of each trial", whole(1))
    .option("--seeds <n>", "trials of each algorithm, seeds 0 to n-1", whole(1), 10)
    .option("--threshold <value>", "a number, or a share of the baseline's value", "0.95xBASELINE")
    .option("--baseline <spec>", "softmax:NUMBER of the optimal action values, uniform, or a JSON file (softmax:5)")
    .addOption(
      new Option(
        "--offline <file>",
        "JSONL of episodes: the baseline is learned from them, the counts start with them",
      ).conflicts("baseline"),
    )
    .option("--delta <p>", "how often a bound may fail", numberBetween(0, 1), 0.05)
    .option("--bonus-scale <c>", "multiplies the bonuses; the theorems need 1", numberBetween(0, 1e6), 1)
    .addOption(new Option("--bounds <name>", "confidence bounds").choices(["paper", "tight"]).default("paper"))
    .addOption(
      new Option("--fallback <what>", "what stepmix and epsmix mix with (certified with tight bounds)").choices([
        "baseline",
        "certified",
      ]),
    )
    .addOption(new Option("--rewards <how>", "rewards").choices(["known", "estimated"]).default("known"))
    .option("--batch <n>", "episodes under one policy", whole(1), 1)
    .option("--lp-batch <n>", "the same for the algorithms that solve linear programs", whole(1), 100)
    .option("--workers <n>", "threads; 0 runs in this one", whole(0), availableParallelism())
    .option("--allow-unsafe-baseline", "go on with a baseline below the threshold")
    .option(
      "--out <folder>",
      "where checkpoints, episodes.jsonl, summary.json and plots go; a killed run goes on there",
    )
    .option("--json", "print summary.json")
    .action(run);
}

function algorithmList(text: string): AlgorithmName[] {
  const names = text.split(",").map((name) => name.trim());
  for (const name of names) {
    if (!algorithmNames.includes(name as AlgorithmName)) {
      throw new InvalidArgumentError(`"${name}" is none of ${algorithmNames.join(", ")}.`);
    }
  }
  return names as AlgorithmName[];
}

async function run({ algorithms, seeds, workers, out, json, ...options }: RunOptions): Promise<void> {
  const env = existsSync(options.env) ? ((await readJson(options.env)) as MdpFile) : options.env;
  const { offline, baseline = "softmax:5" } = options;
  const settings: ExperimentSettings = {
    env,
    threshold: options.threshold,
    baseline: existsSync(baseline) ? ((await readJson(baseline)) as number[][][]) : baseline,
    delta: options.delta,
    bonusScale: options.bonusScale,
    bounds: options.bounds,
    fallback: options.fallback ?? (options.bounds === "tight" ? "certified" : "baseline"),
    rewards: options.rewards,
    episodes: options.episodes,
    batch: options.batch,
    lpBatch: options.lpBatch,
    allowUnsafeBaseline: options.allowUnsafeBaseline ?? false,
    offline: offline === undefined ? null : writeCounts(await readDataSet(offline, environment(env))),
  };
  const experiment = setUp(settings);
  const folder = out ?? (await mkdtemp(join(tmpdir(), "halfstep-explore-")));
  const trials = join(folder, "trials");
  await mkdir(trials, { recursive: true });
  await checkSettings(join(folder, "settings.json"), settings);

  const tasks: Task[] = [];
  for (let seed = 0; seed < seeds; seed++) {
    for (const algorithm of algorithms) {
      const file = join(trials, `${algorithm}-${seed}.json`);
      const saved = existsSync(file) ? checkTrial(await readJson(file), algorithm, seed, file) : undefined;
      tasks.push({ algorithm, seed, file, ...(saved ? { saved } : {}) });
    }
  }
  await runTasks(experiment, tasks, workers);

  const results: TrialJson[] = [];
  for (const { file } of tasks) results.push((await readJson(file)) as TrialJson);
  const { problem, baselineValue, optimalValue } = experiment;
  const summary = {
    env: options.env,
    threshold: problem.threshold,
    baselineValue,
    optimalValue,
    delta: settings.delta,
    bonusScale: settings.bonusScale,
    bounds: settings.bounds,
    fallback: settings.fallback,
    rewards: settings.rewards,
    batch: settings.batch,
    lpBatch: settings.lpBatch,
    ...(experiment.vouchedFor === undefined ? {} : { offline, vouchedFor: experiment.vouchedFor }),
    algorithms: summarise(results, experiment),
  };
  if (out) {
    await writeFile(join(folder, "summary.json"), `${JSON.stringify(summary, null, 2)}\n`);
    await writeFile(join(folder, "episodes.jsonl"), episodeLines(results));
    await writePlots(results, experiment, folder);
  } else await rm(folder, { recursive: true });
  if (json) console.log(JSON.stringify(summary));
  else printTable(summary.algorithms, experiment);
}

async function readDataSet(file: string, sizes: Sizes): Promise<Counts> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    throw new ArgumentError(`${file}: ${(error as Error).message}`);
  }
  try {
    return readEpisodes(text, sizes);
  } catch (error) {
    if (error instanceof ArgumentError) throw new ArgumentError(`${file}: ${error.message}`);
    throw error;
  }
}

/** One line for consecutive episodes with the same policy value: {algorithm, seed, episode, count, value, kind, baselineShare}. */
function episodeLines(trials: readonly TrialJson[]): string {
  return trials
    .flatMap(({ algorithm, seed, stretches }) =>
      stretches.map((stretch) => `${JSON.stringify({ algorithm, seed, ...stretch })}\n`),
    )
    .join("");
}

/** A checkpoint that was damaged or put there from elsewhere. */
function checkTrial(saved: unknown, algorithm: AlgorithmName, seed: number, file: string): TrialJson {
  const trial = (saved ?? {}) as Partial<TrialJson>;
  if (trial.algorithm !== algorithm || trial.seed !== seed || !trial.learner || !Array.isArray(trial.stretches)) {
    throw new ArgumentError(
      `${file} is not a checkpoint of ${algorithm} with seed ${seed}: delete it to start that anew.`,
    );
  }
  return trial as TrialJson;
}

/** A folder belongs to one setting: results of two would be mixed up silently. */
async function checkSettings(file: string, settings: ExperimentSettings): Promise<void> {
  if (!existsSync(file)) {
    await writeFile(file, `${JSON.stringify(settings, null, 2)}\n`);
    return;
  }
  const saved = (await readJson(file)) as ExperimentSettings;
  for (const key of Object.keys(settings) as (keyof ExperimentSettings)[]) {
    const [before, now] = [saved, settings].map((of) => JSON.stringify(of[key] ?? null));
    if (before !== now) {
      throw new ArgumentError(
        `${file} is of a run with ${key} ${before}, not ${now}: choose another --out to start anew.`,
      );
    }
  }
}

async function runTasks(experiment: Experiment, tasks: readonly Task[], workers: number): Promise<void> {
  const { episodes } = experiment.settings;
  const progress = tasks.map(({ saved }) => saved?.learner.episodes ?? 0);
  const bar = new SingleBar({
    format: "{bar} {percentage}% of episodes, {eta_formatted} left",
    stream: process.stderr,
    noTTYOutput: false,
  });
  bar.start(tasks.length * episodes, 0);
  const tick = (i: number, done: number) => {
    progress[i] = done;
    bar.update(progress.reduce((a, b) => a + b, 0));
  };
  const queue = tasks.flatMap((_, i) => (progress[i]! < episodes ? [i] : []));
  try {
    if (workers === 0) {
      for (const i of queue) await runTask(experiment, tasks[i]!, { tick: (done) => tick(i, done) });
    } else {
      const count = Math.min(workers, queue.length);
      await Promise.all(Array.from({ length: count }, () => work(experiment, tasks, queue, tick)));
    }
  } finally {
    bar.stop();
  }
}

/** One thread takes tasks from the queue until it is empty. */
async function work(
  { settings }: Experiment,
  tasks: readonly Task[],
  queue: number[],
  tick: (i: number, done: number) => void,
): Promise<void> {
  const worker = startWorker({ exploreSettings: settings });
  try {
    for (let i = queue.shift(); i !== undefined; i = queue.shift()) {
      const index = i;
      await new Promise<void>((resolve, reject) => {
        worker.removeAllListeners();
        worker.on("error", reject);
        worker.on("message", (message: { episodes?: number; done?: boolean; failed?: string }) => {
          if (message.episodes !== undefined) tick(index, message.episodes);
          if (message.done) resolve();
          if (message.failed) reject(new HalfstepError(message.failed));
        });
        worker.postMessage(tasks[index]);
      });
    }
  } finally {
    await worker.terminate();
  }
}

/** The built command has a file of its own for threads; from source, a thread first needs TypeScript's loader. */
function startWorker(workerData: object): Worker {
  if (!import.meta.url.endsWith(".ts")) {
    return new Worker(new URL("./explore-worker.js", import.meta.url), { workerData });
  }
  const file = JSON.stringify(new URL("./explore-worker.ts", import.meta.url).href);
  const load = `import("tsx/esm/api").then(({ register }) => (register(), import(${file})))`;
  return new Worker(load, { eval: true, workerData });
}

function printTable(
  rows: readonly AlgorithmSummary[],
  { problem, baselineValue, optimalValue, vouchedFor }: Experiment,
): void {
  const { threshold, delta, bonusScale, bounds } = problem;
  console.log(
    `threshold ${threshold.toFixed(4)}, baseline ${baselineValue.toFixed(4)}, optimum ${optimalValue.toFixed(4)}`,
  );
  if (vouchedFor !== undefined) console.log(`the data vouch for a baseline of at least ${vouchedFor.toFixed(4)}`);
  console.log(`delta ${delta}, bonus scale ${bonusScale}, bounds ${bounds}\n`);
  console.log("algorithm              regret (std)  violations (seeds)  first improved  final value  ms/episode");
  for (const row of rows) {
    const regret = `${row.regretMean.toFixed(1)} (${row.regretStd.toFixed(1)})`;
    const violations = `${row.violations} (${row.violatingSeeds})`;
    console.log(
      row.algorithm.padEnd(18) +
        regret.padStart(17) +
        violations.padStart(20) +
        (row.firstImprovedEpisode?.toFixed(0) ?? "not yet").padStart(16) +
        row.finalValueMean.toFixed(4).padStart(13) +
        (1000 * row.secondsPerEpisode).toFixed(3).padStart(12),
    );
  }
}
