import { existsSync } from "node:fs";
import { access, constants, mkdir, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { ArgumentError } from "../../errors.ts";
import { type Counts, writeCounts } from "../../exploration/bounds/counts.ts";
import { type Experiment, type ExperimentSettings, setUp } from "../../exploration/experiment.ts";
import { type AlgorithmName, algorithmNames, checkAlgorithms } from "../../exploration/learners/algorithms.ts";
import { readEpisodes } from "../../exploration/learners/vi-lcb.ts";
import type { MdpFile } from "../../exploration/mdp/environments/file.ts";
import { environment, environmentNames } from "../../exploration/mdp/environments/named.ts";
import { type Mdp, toOwnUnits } from "../../exploration/mdp/mdp.ts";
import { checkObject } from "../../exploration/mdp/reading.ts";
import { type AlgorithmSummary, summarise } from "../../exploration/summary.ts";
import type { TrialResult } from "../../exploration/trial.ts";
import { FolderLock } from "../folder-lock.ts";
import { printResult } from "../json.ts";
import { countBetween, numberBetween } from "../numbers.ts";
import { addOptions, outputOptions } from "../options.ts";
import { loadPlots } from "../plot.ts";
import { ofFile, readJson } from "../read-json.ts";
import { interruptible, print, showStatus } from "../terminal.ts";
import { unfinished, writeWhole } from "../whole-file.ts";
import { writePlots } from "./plots.ts";
import { runTasks } from "./tasks.ts";
import { readTrial } from "./trials.ts";
import type { Task } from "./worker.ts";

interface RunOptions
  extends Omit<ExperimentSettings, "env" | "threshold" | "baseline" | "allowUnsafeBaseline" | "offline"> {
  env: string;
  threshold?: string;
  baseline?: string;
  offline?: string;
  algorithms: AlgorithmName[];
  seeds: number;
  workers: number;
  allowUnsafeBaseline?: boolean;
  out?: string;
  json?: boolean;
}

/** A batch's episodes are kept until it is full; threads and trials take memory each. */
const most = { episodes: 100_000_000, seeds: 10_000, batch: 1_000_000, workers: 256 };

export function runCommand(): Command {
  const command = new Command("run")
    .description("an experiment: algorithms against each other in a known environment")
    .requiredOption("--env <name|file>", `${environmentNames.join(", ")} (options as name:states=4,horizon=8), or JSON`)
    .option("--algorithms <list>", `of ${algorithmNames.join(",")}`, algorithmList, ["stepmix", "epsmix", "bpi-ucbvi"])
    .requiredOption("--episodes <k>", "episodes of each trial", countBetween(1, most.episodes))
    .option("--seeds <n>", "trials of each algorithm, seeds 0 to n-1", countBetween(1, most.seeds), 10)
    .option(
      "--threshold <value>",
      "a return in the environment's own units, a share of the baseline's above the least, or vouched: the most that " +
        "offline data vouch for (0.95xBASELINE; with --offline, vouched)",
    )
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
    .option("--batch <n>", "episodes under one policy", countBetween(1, most.batch), 1)
    .option(
      "--lp-batch <n>",
      "the same for the algorithms that solve linear programs",
      countBetween(1, most.batch),
      100,
    )
    .option(
      "--workers <n>",
      "threads; 0 runs in this one",
      countBetween(0, most.workers),
      Math.min(most.workers, availableParallelism()),
    )
    .option("--allow-unsafe-baseline", "go on with a baseline below the threshold")
    .option(
      "--out <folder>",
      "where checkpoints, episodes.jsonl, summary.json and plots go; a killed run goes on there",
    );
  return addOptions(command, outputOptions("summary.json, on one line,", { force: false })).action(run);
}

function algorithmList(text: string): AlgorithmName[] {
  const names = text.split(",").map((name) => name.trim());
  for (const [i, name] of names.entries()) {
    if (!algorithmNames.includes(name as AlgorithmName)) {
      throw new InvalidArgumentError(`"${name}" is none of ${algorithmNames.join(", ")}.`);
    }
    // Two trials of one algorithm and seed would be one file.
    if (names.indexOf(name) !== i) throw new InvalidArgumentError(`"${name}" is there twice.`);
  }
  return names as AlgorithmName[];
}

async function run(options: RunOptions): Promise<void> {
  if (options.out !== undefined) {
    await checkFolder(options.out);
    await loadPlots();
  }
  showStatus("setting up the experiment ...");
  const settings = await settingsOf(options);
  const experiment = await (existsSync(options.env) ? ofFile(options.env, () => setUp(settings)) : setUp(settings));
  await checkAlgorithms(options.algorithms, experiment.problem);
  const summary = await runSomewhere(options, experiment);
  // Last of all: a stdout that cannot be written to ends the process.
  if (options.json) await printResult("explore run", summary);
  else await print(tableOf(summary.algorithms, experiment));
}

async function runSomewhere(options: RunOptions, experiment: Experiment): Promise<Summary> {
  if (options.out !== undefined) {
    await mkdir(options.out, { recursive: true });
    return runIn(options.out, options, experiment);
  }
  const folder = await mkdtemp(join(tmpdir(), "halfstep-explore-"));
  try {
    return await runIn(folder, options, experiment);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function settingsOf(options: RunOptions): Promise<ExperimentSettings> {
  const { offline, baseline = "softmax:5" } = options;
  const env = existsSync(options.env) ? ((await readJson(options.env)) as MdpFile) : options.env;
  const table = existsSync(baseline) ? ((await readJson(baseline)) as number[][][]) : baseline;
  const named = <T>(work: () => T) => (env === options.env ? work() : ofFile(options.env, work));
  const data =
    offline === undefined ? null : writeCounts(await readDataSet(offline, await named(() => environment(env))));
  return {
    env,
    threshold: options.threshold ?? (data ? "vouched" : "0.95xBASELINE"),
    baseline: table,
    delta: options.delta,
    bonusScale: options.bonusScale,
    bounds: options.bounds,
    fallback: options.fallback ?? (options.bounds === "tight" ? "certified" : "baseline"),
    rewards: options.rewards,
    episodes: options.episodes,
    batch: options.batch,
    lpBatch: options.lpBatch,
    allowUnsafeBaseline: options.allowUnsafeBaseline ?? false,
    offline: data,
  };
}

/** Checked before anything is computed: the folder exists, or can be made. */
async function checkFolder(out: string): Promise<void> {
  let place = resolve(out);
  if (out.trim() === "") throw new ArgumentError("--out is empty; it is the folder that results go to.");
  for (;;) {
    const found = await stat(place).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw new ArgumentError(`--out ${out} cannot be a folder: ${error.message}`);
    });
    if (found?.isDirectory() === false) throw new ArgumentError(`--out ${out} cannot be a folder: ${place} is a file.`);
    if (found) break;
    place = dirname(place);
  }
  await access(place, constants.W_OK | constants.X_OK).catch((error: Error) => {
    throw new ArgumentError(`--out ${out} cannot be written to: ${error.message}`);
  });
}

/** The experiment in its folder, which is this process's alone until it ends. */
async function runIn(folder: string, options: RunOptions, experiment: Experiment): Promise<Summary> {
  const lock = await FolderLock.take(folder);
  try {
    const trials = join(folder, "trials");
    await mkdir(trials, { recursive: true });
    await removeUnfinished(folder, trials);
    await checkSettings(join(folder, "settings.json"), experiment.settings);
    const tasks = await tasksOf(trials, options, experiment);
    const left = options.out === undefined ? "Stopped." : "Stopped; the same command goes on from here.";
    await interruptible(left, (signal) => runTasks(experiment, lock, tasks, options.workers, signal));
    const results: TrialResult[] = [];
    showStatus("summing up ...");
    for (const { file, algorithm, seed } of tasks) {
      // Without the learner, which takes a gigabyte where problems are large.
      const { stretches, seconds } = await readTrial(file, experiment, algorithm, seed);
      results.push({ algorithm, seed, stretches, seconds });
    }
    const summary = summaryOf(options, experiment, results);
    if (options.out !== undefined) {
      showStatus("drawing plots ...");
      await lock.check();
      await writeWhole(join(folder, "summary.json"), `${JSON.stringify(summary, null, 2)}\n`);
      await writeWhole(join(folder, "episodes.jsonl"), episodeLines(results, experiment.mdp));
      await writePlots(results, experiment, folder);
    }
    return summary;
  } finally {
    await lock.release();
  }
}

/** Removes unfinished files of a run that was killed. */
async function removeUnfinished(...folders: string[]): Promise<void> {
  for (const folder of folders) {
    for (const name of await readdir(folder)) {
      if (name.endsWith(unfinished)) await rm(join(folder, name), { force: true });
    }
  }
}

async function tasksOf(folder: string, { algorithms, seeds }: RunOptions, experiment: Experiment): Promise<Task[]> {
  const tasks: Task[] = [];
  for (let seed = 0; seed < seeds; seed++) {
    for (const algorithm of algorithms) {
      const file = join(folder, `${algorithm}-${seed}.json`);
      const saved = existsSync(file) ? await readTrial(file, experiment, algorithm, seed) : undefined;
      const played = saved?.learner.episodes ?? 0;
      const left = played < experiment.settings.episodes;
      tasks.push({ algorithm, seed, file, played, ...(saved && left && { saved }) });
    }
  }
  return tasks;
}

type Summary = ReturnType<typeof summaryOf>;

/** Values are in the environment's own units. */
function summaryOf({ env, offline }: RunOptions, experiment: Experiment, results: readonly TrialResult[]) {
  const { settings, own } = experiment;
  return {
    env,
    threshold: own.threshold,
    baselineValue: own.baseline,
    optimalValue: own.optimum,
    delta: settings.delta,
    bonusScale: settings.bonusScale,
    bounds: settings.bounds,
    fallback: settings.fallback,
    rewards: settings.rewards,
    batch: settings.batch,
    lpBatch: settings.lpBatch,
    ...(own.vouchedFor !== undefined && { offline, vouchedFor: own.vouchedFor }),
    algorithms: summarise(results, experiment),
  };
}

async function readDataSet(file: string, mdp: Mdp): Promise<Counts> {
  const text = await readFile(file, "utf8").catch((error: Error) => {
    throw new ArgumentError(`${file}: ${error.message}`);
  });
  return ofFile(file, () => readEpisodes(text, mdp));
}

/** One line for consecutive episodes with the same policy value: {algorithm, seed, episode, count, value, kind, baselineShare}. */
function episodeLines(trials: readonly TrialResult[], mdp: Mdp): string {
  return trials
    .flatMap(({ algorithm, seed, stretches }) =>
      stretches.map((stretch) => {
        const own = { ...stretch, value: toOwnUnits(mdp, stretch.value) };
        return `${JSON.stringify({ algorithm, seed, ...own })}\n`;
      }),
    )
    .join("");
}

/** A folder belongs to one experiment; otherwise results of two would be mixed up silently. */
async function checkSettings(file: string, settings: ExperimentSettings): Promise<void> {
  if (!existsSync(file)) {
    await writeWhole(file, `${JSON.stringify(settings, null, 2)}\n`);
    return;
  }
  const saved = checkObject(await readJson(file, { own: true }), file);
  for (const key of Object.keys(settings) as (keyof ExperimentSettings)[]) {
    const [before, now] = [saved[key], settings[key]].map((value) => JSON.stringify(value ?? null));
    if (before === now) continue;
    throw new ArgumentError(
      `${file} is of a run with ${key} ${short(before!)}, not ${short(now!)}: choose another --out to start anew.`,
    );
  }
}

/** Environments and data sets are long. */
const short = (text: string) => (text.length > 200 ? `${text.slice(0, 200)}...` : text);

function tableOf(rows: readonly AlgorithmSummary[], { problem, own, mdp }: Experiment): string {
  const { delta, bonusScale, bounds } = problem;
  const lines = [
    `threshold ${own.threshold.toFixed(4)}, baseline ${own.baseline.toFixed(4)}, optimum ${own.optimum.toFixed(4)}`,
  ];
  const [lowest, highest] = [toOwnUnits(mdp, 0), toOwnUnits(mdp, mdp.horizon)];
  if (lowest !== 0 || highest !== mdp.horizon) {
    lines.push(`(of returns from ${lowest} to ${highest}, as the environment has them)`);
  }
  if (own.vouchedFor !== undefined) {
    lines.push(`the data vouch for a baseline of at least ${own.vouchedFor.toFixed(4)}`);
    if (!(own.threshold > lowest)) {
      lines.push(
        "no policy can fall below this threshold: more data (or --bounds tight) vouch for one that says something",
      );
    }
  }
  lines.push(
    `delta ${delta}, bonus scale ${bonusScale}, bounds ${bounds}\n`,
    "algorithm              regret (std)  violations (seeds)  first improved  final value  ms/episode",
  );
  for (const row of rows) {
    const regret = `${row.regretMean.toFixed(1)} (${row.regretStd.toFixed(1)})`;
    const violations = `${row.violations} (${row.violatingSeeds})`;
    lines.push(
      row.algorithm.padEnd(18) +
        regret.padStart(17) +
        violations.padStart(20) +
        (row.firstImprovedEpisode?.toFixed(0) ?? "not yet").padStart(16) +
        row.finalValueMean.toFixed(4).padStart(13) +
        (1000 * row.secondsPerEpisode).toFixed(3).padStart(12),
    );
  }
  return lines.join("\n");
}
