/** What one decision of StepMix costs, beside the same arithmetic in NumPy; and what an episode costs. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { median } from "../src/cli/bench/averages.ts";
import { takeTurns } from "../src/cli/bench/turns.ts";
import { numberBetween } from "../src/cli/numbers.ts";
import { type CountEntry, Counts } from "../src/exploration/bounds/counts.ts";
import { setUp } from "../src/exploration/experiment.ts";
import { StepMix } from "../src/exploration/learners/stepmix.ts";
import { type ProblemJson, problemFromJson } from "../src/exploration/mdp/problem.ts";
import { Random } from "../src/exploration/mdp/random.ts";
import { Trial } from "../src/exploration/trial.ts";
import type { Bench, Context } from "./bench.ts";
import { benchFolder } from "./dit.ts";
import { spread } from "./measure.ts";
import { findPython } from "./peers/torch.ts";
import { barText, type Figure, figure } from "./report.ts";
import { formatted, words } from "./table.ts";

interface Options {
  python: string;
  rounds: number;
  seed: number;
}

export const exploration: Bench<Options> = {
  name: "exploration",
  summary: "one decision of StepMix beside NumPy, and 20,000 episodes",
  time: "1 min",
  options: (command) =>
    command
      .option("--python <folder>", "Python environment with NumPy (bench/peers/setup.sh)", join(benchFolder, "venv"))
      .option("--rounds <n>", "decisions of each side", numberBetween(1, 10000, { whole: true }), 11),
  run: (options, context) => figures(options, context),
  tables: {
    all: {
      columns: [
        words("", "name"),
        ["bar", (row) => barText(row as Figure)],
        ["measured", ({ value, unit }) => (value === null ? "–" : `${formatted(value, "2")}${unit}`)],
      ],
    },
  },
};

/** Counts with 20 successors seen for each of 100 x 10 pairs at 20 steps; no candidate reaches the threshold. */
function largeState(seed: number): ProblemJson & { counts: CountEntry[] } {
  const [horizon, states, actions, successors] = [20, 100, 10, 20];
  const random = Random.seeded(seed);
  const table = (value: () => number[]) =>
    Array.from({ length: horizon }, () => Array.from({ length: states }, () => value()));
  const counts: CountEntry[] = [];
  for (let h = 0; h < horizon; h++) {
    for (let s = 0; s < states; s++) {
      for (let a = 0; a < actions; a++) {
        const seen = new Set<number>();
        while (seen.size < successors) seen.add(Math.floor(random.uniform() * states));
        for (const next of seen) counts.push([h, s, a, next, 1 + Math.floor(random.uniform() * 1000)]);
      }
    }
  }
  return {
    horizon,
    states,
    actions,
    rewards: table(() => Array.from({ length: actions }, () => random.uniform())),
    initial: Array.from({ length: states }, () => 1 / states),
    baseline: table(() => {
      const weights = Array.from({ length: actions }, () => random.uniform());
      const sum = weights.reduce((a, b) => a + b);
      return weights.map((weight) => weight / sum);
    }),
    threshold: horizon,
    delta: 0.05,
    bonusScale: 1e-4,
    counts,
  };
}

async function* figures({ python, rounds, seed }: Options, context: Context): AsyncGenerator<Figure> {
  const state = largeState(seed);
  const problem = problemFromJson(state);
  const learner = new StepMix(problem, { counts: Counts.fromJSON(state.counts, problem) });
  const { lowerBounds } = learner.decision();
  const ours = async () => {
    const start = performance.now();
    learner.decision();
    return performance.now() - start;
  };
  const size = "S=100, A=10, H=20, 20 successors a pair, all 21 candidates, a baseline that plays every action";
  const decision = { id: "decision", name: "decision, times as fast as NumPy", unit: "x", bar: { atLeast: 5 } };
  const interpreter = findPython(python);
  if (interpreter) {
    const peer = await NumpyPeer.start(interpreter, state);
    const theirs = (await peer.run("run")).lowerBounds;
    const error = Math.max(...theirs.map((bound, i) => Math.abs(bound - lowerBounds[i]!)));
    const times = await takeTurns(
      {
        halfstep: ours,
        numpy: async () => (await peer.run("run")).ms,
        batched: async () => (await peer.run("run batched")).ms,
        matrices: async () => (await peer.run("run matrices")).ms,
      },
      { rounds, warmUps: 2 },
    );
    peer.stop();
    context.peer("numpy", peer.version);
    const gathered = Math.min(median(times.numpy), median(times.batched));
    yield figure(
      {
        ...decision,
        value: gathered / median(times.halfstep),
        detail:
          `${size}; sums over the 20 successors on both sides\nhalfstep ${spread(times.halfstep)}; NumPy ${peer.version} candidate by candidate ` +
          `${spread(times.numpy)}, all candidates at once ${spread(times.batched)}; lower bounds differ by ${error.toExponential(1)}`,
      },
      { milliseconds: median(times.halfstep), numpyMilliseconds: gathered },
    );
    yield figure(
      {
        id: "dense",
        name: "the same, NumPy with dense matrices",
        value: median(times.matrices) / median(times.halfstep),
        unit: "x",
        detail: `sums over all 100 states instead, as products with matrices of 80% zeros; NumPy ${spread(times.matrices)}, one thread`,
      },
      { numpyMilliseconds: median(times.matrices) },
    );
  } else {
    const { halfstep } = await takeTurns({ halfstep: ours }, { rounds, warmUps: 2 });
    yield figure(
      {
        ...decision,
        value: null,
        detail: `${size}\nThere is no Python environment at ${python}: bench/peers/setup.sh makes it. halfstep ${spread(halfstep)}`,
      },
      { milliseconds: median(halfstep), numpyMilliseconds: null },
    );
  }

  for (const bounds of ["paper", "tight"] as const) {
    const experiment = setUp({
      env: "random",
      threshold: "0.95xBASELINE",
      baseline: "softmax:5",
      delta: 0.05,
      bonusScale: bounds === "paper" ? 0.003 : 1,
      bounds,
      fallback: bounds === "paper" ? "baseline" : "certified",
      rewards: "known",
      episodes: 20000,
      batch: 1,
      lpBatch: 1,
      allowUnsafeBaseline: false,
    });
    const trial = await Trial.start(experiment, "stepmix", seed);
    trial.run(Infinity);
    yield figure({
      id: `episodes-${bounds}`,
      name: `20,000 episodes, bounds ${bounds}`,
      value: trial.seconds,
      unit: " s",
      bar: { atMost: 5 },
      detail: `StepMix, S=5, A=5, H=3, bonus scale ${experiment.problem.bonusScale}, true values of all policies included`,
    });
  }
}

class NumpyPeer {
  readonly version: string;
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(process: ChildProcess, lines: AsyncIterator<string>, version: string) {
    this.#process = process;
    this.#lines = lines;
    this.version = version;
  }

  static async start(python: string, state: unknown): Promise<NumpyPeer> {
    const folder = await mkdtemp(join(tmpdir(), "halfstep-bench-"));
    const file = join(folder, "state.json");
    await writeFile(file, JSON.stringify(state));
    const script = fileURLToPath(new URL("peers/stepmix.py", import.meta.url));
    // One thread on both sides; BLAS's second one would wait for the first by spinning.
    const child = spawn(python, [script, file], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, OPENBLAS_NUM_THREADS: "1" },
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const first = await lines.next();
    await rm(folder, { recursive: true });
    if (first.done) throw new Error(`${python} ended before it answered`);
    return new NumpyPeer(child, lines, (JSON.parse(first.value) as { version: string }).version);
  }

  async run(command: "run" | "run batched" | "run matrices"): Promise<{ ms: number; lowerBounds: number[] }> {
    this.#process.stdin!.write(`${command}\n`);
    const answer = await this.#lines.next();
    if (answer.done) throw new Error("NumPy's process has ended");
    return JSON.parse(answer.value) as { ms: number; lowerBounds: number[] };
  }

  stop(): void {
    this.#process.kill();
  }
}
