/** How much of a training step of the embedded model is matrix products: what is left is the trainer's to save. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { median } from "../src/cli/bench/averages.ts";
import { timed } from "../src/cli/bench/turns.ts";
import { numberBetween } from "../src/cli/numbers.ts";
import { mul, sub } from "../src/graph/operators.ts";
import { input } from "../src/graph/value.ts";
import { meanAll } from "../src/graph/vjp.ts";
import { buildModel, weightShapes } from "../src/models/architecture.ts";
import { pixart } from "../src/models/pixart.ts";
import { parameterWeights } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import type { SessionOptions } from "../src/runtime/runtime.ts";
import { TorchGenerator } from "../src/sampling/noise.ts";
import { floatTensor, type Tensor } from "../src/tensor.ts";
import { Parameters } from "../src/training/parameters.ts";
import { Trainer } from "../src/training/trainer.ts";
import { startValues } from "../training/initial-values.ts";
import { transformerConfig } from "../training/model.ts";
import type { Bench } from "./bench.ts";
import { spread } from "./measure.ts";
import { type Figure, figure } from "./report.ts";
import { numbers, words } from "./table.ts";

interface Options {
  seed: number;
  rounds: number;
  batch: number[];
  tokens: number;
  threads: number;
}

/** What one batch size needs. */
type Sized = Omit<Options, "batch"> & { batch: number };

/** Operators that are products; everything else (norms, GELU, sums, the update of the weights) is overhead here. */
const products = new Set(["Gemm", "MatMul", "FusedMatMul", "Conv", "MultiHeadAttention"]);

const whole = (least: number, most: number) => numberBetween(least, most, { whole: true });
const batchSize = whole(1, 4096);

export const trainer: Bench<Options> = {
  name: "trainer",
  summary: "a training step of the embedded transformer beside its matrix products alone",
  time: "2 min",
  options: (command) =>
    command
      .option("--rounds <n>", "steps that are timed", whole(1, 10000), 12)
      .option("--batch <sizes...>", "images in a step", (text: string, before?: number[]) => [
        ...(before ?? []),
        batchSize(text),
      ])
      .option("--tokens <n>", "text tokens", whole(1, 4096), 10)
      .option("--threads <n>", "threads", whole(1, 256), Math.min(2, availableParallelism())),
  async *run({ batch: sizes = [64, 128], ...options }) {
    for (const batch of sizes) yield* figures({ ...options, batch });
  },
  tables: {
    all: {
      columns: [
        numbers("batch", "batch", "0"),
        numbers("a step", "milliseconds", "0", " ms"),
        numbers("matrix products", "productMilliseconds", "0", " ms"),
        numbers("share (bar: 0.6)", "value", "2"),
        numbers("images a second", "picturesPerSecond", "0"),
        words("then", "others"),
      ],
    },
  },
};

async function* figures(options: Sized): AsyncGenerator<Figure> {
  const { batch, rounds } = options;
  const { trainer, feeds } = await createTrainer(options, {});
  const steps: number[] = [];
  for (let i = -2; i < rounds; i++) {
    const milliseconds = await timed(() => trainer.step(feeds, 1e-6));
    if (i >= 0) steps.push(milliseconds);
  }
  await trainer.release();
  const kernels = await kernelTimes(options);
  const inProducts = [...kernels].reduce((sum, [name, ms]) => sum + (products.has(name) ? ms : 0), 0);
  const others = [...kernels]
    .filter(([name]) => !products.has(name))
    .sort(([, a], [, b]) => b - a)
    .slice(0, 5)
    .map(([name, ms]) => `${name} ${ms.toFixed(0)} ms`)
    .join(", ");
  const milliseconds = median(steps);
  yield figure(
    {
      id: `batch-${batch}`,
      name: `products in a step of ${batch} images`,
      value: inProducts / milliseconds,
      bar: { atLeast: 0.6 },
      detail: `step ${spread(steps)}; products ${inProducts.toFixed(0)} ms; then ${others}`,
    },
    { batch, milliseconds, productMilliseconds: inProducts, picturesPerSecond: (1000 * batch) / milliseconds, others },
  );
}

async function createTrainer({ batch, tokens, threads, seed }: Sized, session: SessionOptions) {
  const model = pixart.model(pixart.parseConfig(transformerConfig), { batch, tokens, height: 8, width: 8 });
  const weights = parameterWeights("transformer/");
  const { sample } = buildModel(model, weights.source);
  const error = sub(sample!, input("target", sample!.shape));
  const shapes = [...weightShapes(model)].map(([name, shape]) => [`transformer/${name}`, shape] as const);
  const parameters = new Parameters(new Map(shapes));
  startValues(parameters, seed);
  const trainer = await Trainer.create(nodeRuntime, meanAll(mul(error, error)), weights.parameters, parameters, {
    emaDecay: 0.999,
    weightDecay: 0.01,
    session: { threads, spin: false, ...session },
  });
  const generator = new TorchGenerator(seed);
  const feeds: Record<string, Tensor> = { target: generator.randn(sample!.shape as number[]) };
  for (const [name, { shape }] of Object.entries(model.inputs)) {
    const sizes = shape as number[];
    const fixed = { timestep: 500, encoderAttentionMask: 1 }[name];
    const count = sizes.reduce((a, b) => a * b, 1);
    feeds[name] =
      fixed === undefined ? generator.randn(sizes) : floatTensor(sizes, new Float32Array(count).fill(fixed));
  }
  return { trainer, feeds };
}

/** Milliseconds a step of each kind of operator, from ONNX Runtime's own trace. */
async function kernelTimes(options: Sized): Promise<Map<string, number>> {
  const scratch = await mkdtemp(join(tmpdir(), "halfstep-trainer-"));
  try {
    const { trainer, feeds } = await createTrainer(options, { profile: join(scratch, "trace") });
    const runs = 4;
    for (let i = 0; i < runs; i++) await trainer.step(feeds, 1e-6);
    await trainer.release();
    const [file] = await readdir(scratch);
    const events = JSON.parse(await readFile(join(scratch, file!), "utf8")) as TraceEvent[];
    const times = new Map<string, number>();
    for (const { cat, name, dur = 0, args } of events) {
      if (cat !== "Node" || !name.endsWith("_kernel_time") || !args?.op_name) continue;
      times.set(args.op_name, (times.get(args.op_name) ?? 0) + dur / 1000 / runs);
    }
    return times;
  } finally {
    await rm(scratch, { recursive: true });
  }
}

interface TraceEvent {
  cat?: string;
  name: string;
  /** Microseconds. */
  dur?: number;
  args?: { op_name?: string };
}
