/** The engine's four figures: how well it uses the processor, memory, PyTorch as a peer, and the cold start. */
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { median } from "../src/cli/bench/averages.ts";
import { takeTurns, timed } from "../src/cli/bench/turns.ts";
import { numberBetween } from "../src/cli/numbers.ts";
import { toOnnx } from "../src/graph/onnx.ts";
import { matmul, slice } from "../src/graph/operators.ts";
import { constant, input } from "../src/graph/value.ts";
import type { StagedOptions } from "../src/models/staged-session.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { TorchGenerator } from "../src/sampling/noise.ts";
import type { Bench, Context } from "./bench.ts";
import { run } from "./child.ts";
import { benchFolder, blockFlops, ditFeeds, ditFolder, loadBlocks, loadDiT, openDiT } from "./dit.ts";
import { spread } from "./measure.ts";
import { findPython, peerInputs, TorchPeer } from "./peers/torch.ts";
import { barText, type Figure, figure } from "./report.ts";
import { formatted, words } from "./table.ts";

interface Options {
  seed: number;
  rounds: number;
  blocks: number;
  threads: number;
  only?: string[];
  session: StagedOptions;
  compile: boolean;
  model?: string;
  python: string;
}

const whole = (least: number, most: number) => numberBetween(least, most, { whole: true });

const figures = { efficiency, memory, pytorch, cold: coldStart };

/** How the documentation words them. */
const names = {
  efficiency: "DiT-XL/2 blocks: GFLOP/s, over those of one large matrix product (512x1152x4608)",
  memory: "DiT-XL/2 in float32: peak memory, over the size of the weights",
  pytorch: "DiT-XL/2 forward pass: speed, over PyTorch's on the same cores",
  compiled: "the same, over `torch.compile`'s",
  "first-step": "`halfstep generate`, embedded model: from the start of the process to the end of the first step",
  picture: "the same, 20 steps with guidance: to the finished image",
};

export const engine: Bench<Options> = {
  name: "engine",
  summary: "how well the processor is used, peak memory, speed beside PyTorch, cold start",
  time: "15 min",
  options: (command) =>
    command
      .option("--only <figures...>", `some of ${Object.keys(figures).join(", ")}`)
      .option("--rounds <n>", "turns that each side gets", whole(1, 10000), 20)
      .option("--blocks <n>", "blocks of the stack whose efficiency is measured", whole(1, 28), 4)
      .option("--threads <n>", "threads of both sides", whole(1, 256), Math.min(2, availableParallelism()))
      .option(
        "--session <json>",
        "session options other than the defaults, such as groups",
        (text: string) => JSON.parse(text) as StagedOptions,
        {},
      )
      .option("--no-compile", "leave out torch.compile, which takes minutes to compile")
      .option("--python <folder>", "Python environment with PyTorch (bench/peers/setup.sh)", join(benchFolder, "venv"))
      .option("--model <folder>", "for the cold start, another model than the embedded one"),
  async *run(options, context) {
    for (const [name, measure] of Object.entries(figures)) {
      if (!options.only || options.only.includes(name)) yield* [await measure(options, context)].flat();
    }
  },
  tables: {
    bars: {
      columns: [
        words("", "name", names),
        ["bar", (row) => barText(row as Figure)],
        ["measured", ({ value, unit }) => (value === null ? "–" : `${formatted(value, "2")}${unit}`)],
      ],
    },
  },
};

const sessionOptions = ({ threads, session }: Options): StagedOptions => ({ threads, ...session });

// ---------------------------------------------------------------- efficiency

/** Rows, inner size and columns of the bare product: a block's first feed-forward layer. */
const BARE = [512, 1152, 4608] as const;
/** Bare products in a row that count as one turn, so that both sides' turns take about as long. */
const BARE_RUNS = 8;

async function efficiency(options: Options): Promise<Figure> {
  const opened = await openDiT(await ditFolder(options.seed));
  const stack = await loadBlocks(opened, options.blocks, sessionOptions(options));
  const feeds = ditFeeds(stack, options.seed);
  const { hiddenStates } = await stack.run(feeds);
  const bare = await bareProduct(options);
  const times = await takeTurns(
    { stack: () => timed(() => stack.run(feeds, { hiddenStates: hiddenStates! })), bare: () => timed(bare.turn) },
    { rounds: options.rounds },
  );
  await Promise.all([stack.release(), bare.release()]);
  const speed = (flops: number, ms: readonly number[]) => flops / median(ms) / 1e6;
  const stackSpeed = speed(options.blocks * blockFlops(opened.config), times.stack);
  const bareSpeed = speed(BARE_RUNS * 2 * BARE[0] * BARE[1] * BARE[2], times.bare);
  return figure({
    id: "efficiency",
    name: "efficiency, blocks / MatMul",
    value: stackSpeed / bareSpeed,
    bar: { atLeast: 0.75 },
    detail:
      `${options.blocks} blocks of DiT-XL/2 (width 1152, 256 tokens, batch 2; all 28 are alike): ` +
      `${stackSpeed.toFixed(0)} GFLOP/s, ${spread(times.stack)}\n` +
      `${BARE.join("x")} MatMul, weights packed: ${bareSpeed.toFixed(0)} GFLOP/s, ` +
      `${BARE_RUNS} products in ${spread(times.bare)}; ${options.threads} threads`,
  });
}

/**
 * The product alone, with constant weights that ONNX Runtime packs. All products of a turn are in one run, each with
 * rows of its own, and of each result one row is read: what it costs to start a run, and to write megabytes into
 * JavaScript's memory, is the stack's loss and not to be the product's.
 */
async function bareProduct({ threads, seed }: Options) {
  const [rows, inner, columns] = BARE;
  const random = new TorchGenerator(seed);
  const weights = constant(random.randn([inner, columns]).data, [inner, columns], "float32");
  const names = Array.from({ length: BARE_RUNS }, (_, i) => `x${i}`);
  const products = names.map((name) => [`y${name}`, slice(matmul(input(name, [rows, inner]), weights), 0, 0, 1)]);
  const session = await nodeRuntime.compile(toOnnx(Object.fromEntries(products)), new Map(), { threads });
  const feeds = Object.fromEntries(names.map((name) => [name, random.randn([rows, inner])]));
  return { turn: () => session.run(feeds), release: () => session.release() };
}

// ---------------------------------------------------------------- memory

async function memory(options: Options): Promise<Figure> {
  const folder = await ditFolder(options.seed);
  const script = fileURLToPath(new URL("engine-memory.ts", import.meta.url));
  const { stdout } = await run(process.execPath, [
    ...["--import", "tsx", script],
    ...[folder, JSON.stringify(sessionOptions(options))],
  ]);
  const { before, loaded, peak, weights, loadMs, runMs } = JSON.parse(stdout) as Record<string, number>;
  const gigabytes = (bytes: number | undefined) => `${(bytes! / 1e9).toFixed(2)} GB`;
  return figure({
    id: "memory",
    name: "peak memory / weights",
    value: peak! / weights!,
    bar: { atMost: 1.3 },
    detail:
      `DiT-XL/2, ${gigabytes(weights)} of fp32 weights on disk, loaded and run twice in a process of its own\n` +
      `peak resident ${gigabytes(peak)}, ${gigabytes(loaded)} of it while loading, ${gigabytes(before)} before; ` +
      `loaded in ${(loadMs! / 1000).toFixed(1)} s, second run ${(runMs! / 1000).toFixed(2)} s`,
  });
}

// ---------------------------------------------------------------- PyTorch

async function pytorch(options: Options, context: Context): Promise<Figure[]> {
  const part = { id: "pytorch", name: "speed / PyTorch's", bar: { atLeast: 1 } };
  const python = findPython(options.python);
  if (!python) {
    const detail = `There is no Python environment at ${options.python}: bench/peers/setup.sh makes it.`;
    return [figure({ ...part, value: null, detail })];
  }
  const folder = await ditFolder(options.seed);
  const scratch = await mkdtemp(join(tmpdir(), "halfstep-peers-"));
  const peers: Partial<Record<"eager" | "compiled", TorchPeer>> = {};
  const notes: string[] = [];
  try {
    const model = await loadDiT(await openDiT(folder), sessionOptions(options));
    const feeds = ditFeeds(model, options.seed);
    const inputs = join(scratch, "inputs.json");
    await writeFile(inputs, peerInputs(feeds));
    const peer = { folder, inputs, threads: options.threads };
    peers.eager = await TorchPeer.start(python, "dit", peer);
    if (options.compile) {
      try {
        peers.compiled = await TorchPeer.start(python, "dit", { ...peer, options: ["--compile"] });
      } catch (error) {
        notes.push(`torch.compile does not work here: ${(error as Error).message}`);
      }
    }
    notes.push(await peers.eager.agrees(await model.run(feeds), join(scratch, "output")));
    const contestants: Record<string, () => Promise<number>> = { halfstep: () => timed(() => model.run(feeds)) };
    for (const [side, peer] of Object.entries(peers)) contestants[side] = () => peer.run();
    console.error(`taking turns with PyTorch, ${options.rounds} rounds ...`);
    const times = await takeTurns(contestants, { rounds: options.rounds });
    await model.release();
    for (const [side, ms] of Object.entries(times)) notes.push(`${side.padEnd(8)} ${spread(ms)}`);
    const ours = median(times["halfstep"]!);
    context.peer("pytorch", peers.eager.version);
    const what = `DiT-XL/2 forward pass, batch 2, fp32, ${options.threads} threads, same weights; `;
    const detail = [`${what}PyTorch ${peers.eager.version}, eager`, ...notes].join("\n");
    const compiled = times["compiled"] ? median(times["compiled"]) / ours : null;
    return [
      figure({ ...part, value: median(times["eager"]!) / ours, detail }),
      figure({ id: "compiled", name: "speed / torch.compile's", value: compiled, detail: what.slice(0, -2) }),
    ];
  } catch (error) {
    return [figure({ ...part, value: null, detail: (error as Error).message })];
  } finally {
    for (const peer of Object.values(peers)) peer.stop();
    await rm(scratch, { recursive: true });
  }
}

// ---------------------------------------------------------------- cold start

/** Seconds from the start of the process to the first step, and to the end of 20 steps with guidance. */
async function coldStart({ rounds, model }: Options): Promise<Figure[]> {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const cli = join(root, "dist", "cli.js");
  const figures = (first: number | null, whole: number | null, detail: string): Figure[] => [
    figure({
      id: "first-step",
      name: "cold start to the first step",
      value: first,
      unit: " s",
      bar: { atMost: 3 },
      detail,
    }),
    figure({
      id: "picture",
      name: "cold start, 20 steps, to the end",
      value: whole,
      unit: " s",
      bar: { atMost: 4 },
      detail,
    }),
  ];
  if (!existsSync(cli)) return figures(null, null, "there is no build: npm run build");
  if (!model && !existsSync(join(root, "checkpoints", "fluent-emoji", "model_index.json"))) {
    return figures(null, null, "the embedded model is not there");
  }
  const scratch = await mkdtemp(join(tmpdir(), "halfstep-cold-"));
  const [first, whole]: [number[], number[]] = [[], []];
  try {
    const settings = ["--steps", "20", "--guidance", "4.5", "--seed", "7", "--json", ...(model ? ["-m", model] : [])];
    const args = [cli, "generate", "a smiling cat", "--out", join(scratch, "cat.png"), ...settings];
    for (let i = 0; i < Math.min(rounds, 7); i++) {
      const start = performance.now();
      const { stdout } = await run(process.execPath, args);
      const total = (performance.now() - start) / 1000;
      const { seconds, toFirstStep } = JSON.parse(stdout) as { seconds: number; toFirstStep: number };
      // What the command did not time itself, Node's start above all, is counted as before the first step.
      first.push(total - seconds + toFirstStep);
      whole.push(total);
    }
  } finally {
    await rm(scratch, { recursive: true });
  }
  const detail = `halfstep generate with ${model ?? "the embedded model"}, guidance 4.5, median of ${first.length} processes`;
  return figures(median(first), median(whole), detail);
}
