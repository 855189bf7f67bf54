/**
 * Step Rehash and its rivals on images: Stable Diffusion 1.5's UNet with random weights, one image with guidance. What a step in part
 * takes of a full one, and a whole run. Of images' quality random weights say nothing.
 */
import { availableParallelism } from "node:os";
import { type Acceleration, openDenoiser } from "../src/acceleration/acceleration.ts";
import { median } from "../src/cli/bench/averages.ts";
import { randomFeeds, randomNetwork } from "../src/cli/bench/random-network.ts";
import { timed } from "../src/cli/bench/turns.ts";
import { multiplicationsPerSecond, tellEstimate } from "../src/cli/estimate.ts";
import { numberBetween } from "../src/cli/numbers.ts";
import { Component } from "../src/components/components.ts";
import { expected } from "../src/components/expected-class.ts";
import { splitOnce } from "../src/graph/once.ts";
import { toOnnx } from "../src/graph/onnx.ts";
import { buildModel, describeModel } from "../src/models/architecture.ts";
import { unet2DCondition } from "../src/models/unet-2d-condition.ts";
import { checkpointWeights, weightLocations } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import type { Denoiser } from "../src/sampling/denoiser.ts";
import { TorchGenerator } from "../src/sampling/noise.ts";
import type { Action } from "../src/sampling/step-policy.ts";
import { multiplyAddsOfModel } from "../src/streamlined/multiply-adds.ts";
import type { Tensor } from "../src/tensor.ts";
import type { Bench } from "./bench.ts";
import { type Column, formatted, numbers, words } from "./table.ts";

interface Options {
  seed: number;
  pixels: number;
  steps: number;
  threads: number;
  only?: string[];
}

interface Mode {
  readonly id: string;
  readonly acceleration: Acceleration;
  /** About what its steps in part take of a full one, for the estimate. */
  readonly part: number;
}

const modes: readonly Mode[] = [
  { id: "plain", acceleration: { method: "none" }, part: 1 },
  { id: "rehash", acceleration: { method: "rehash" }, part: 0.1 },
  { id: "rehash-all", acceleration: { method: "rehash", guidanceSteps: "all" }, part: 0.2 },
  ...[2, 3, 5, 10].map((interval) => ({
    id: `deepcache-${interval}`,
    acceleration: { method: "deepcache", interval } as const,
    part: 0.1,
  })),
  { id: "tgate", acceleration: { method: "tgate" }, part: 0.45 },
];

/** Full steps of a run, nearly: the methods' own defaults. */
const fullSteps = ({ id, acceleration }: Mode, steps: number): number => {
  if (id === "plain") return steps;
  if (acceleration.method === "deepcache") return Math.ceil(steps / acceleration.interval!);
  return Math.ceil(steps * (id === "tgate" ? 0.4 : 0.52));
};

/** Seconds to compile the UNet. */
const COMPILING = 8;

const whole = (least: number, most: number) => numberBetween(least, most, { whole: true });

const names: Readonly<Record<string, string>> = {
  plain: "every step in full",
  rehash: "**Step Rehash** (the default)",
  "rehash-all": "Step Rehash, guidance at every step",
  "deepcache-2": "DeepCache, N = 2",
  "deepcache-3": "DeepCache, N = 3",
  "deepcache-5": "DeepCache, N = 5, as published",
  "deepcache-10": "DeepCache, N = 10",
  tgate: "T-GATE, gate after two fifths of the steps",
};

const share: Column = ["a step in part, of a full one", ({ share }) => (share === null ? "–" : formatted(share, "1%"))];

export const rehashStills: Bench<Options> = {
  name: "rehash-stills",
  summary: "Step Rehash, DeepCache and T-GATE on images: Stable Diffusion 1.5's size, random weights",
  time: "9 min",
  options: (command) =>
    command
      .option("--pixels <n>", "height and width of the image, a multiple of 64", whole(64, 2048), 512)
      .option("--steps <n>", "steps of a run", whole(2, 1000), 20)
      .option("--threads <n>", "threads", whole(1, 256), Math.min(2, availableParallelism()))
      .option("--only <modes...>", `some of ${modes.map(({ id }) => id).join(", ")}`),
  async *run(options) {
    const { seed, pixels, steps, threads } = options;
    const folder = await randomNetwork("sd-1.5", seed);
    const unet = await Component.open(folder, expected(unet2DCondition), nodeRuntime, { threads });
    const geometry = { batch: "batch", height: pixels / 8, width: pixels / 8, tokens: 77 } as const;
    const chosen = modes.filter(({ id }) => options.only?.includes(id) ?? true);
    const step = multiplyAddsOfModel(unet.model({ ...geometry, batch: 2 })) / (await multiplicationsPerSecond(threads));
    const work = chosen.reduce((sum, mode) => {
      const full = fullSteps(mode, steps);
      return sum + full + mode.part * (steps - full);
    }, 0);
    tellEstimate(work * step + chosen.length * COMPILING, `${chosen.length} runs of ${steps} steps`);
    let plain: number | null = null;
    for (const { id, acceleration } of chosen) {
      const row = await measure(await openDenoiser(unet, geometry, acceleration, null), unet, geometry, options);
      if (id === "plain") plain = row.seconds;
      console.error(`${id}: ${row.seconds.toFixed(1)} s`);
      const textSeconds = id === "plain" ? await textOnce(unet, geometry, options) : null;
      yield {
        ...{ id, mode: id, ...row, speedup: plain && plain / row.seconds },
        ...{ textSeconds, textShare: textSeconds && textSeconds / row.fullSeconds },
      };
    }
    await unet.release();
  },
  tables: {
    all: {
      columns: [
        words("", "mode", names),
        numbers("full steps", "fullSteps", "0"),
        numbers("a full step, s", "fullSeconds", "2"),
        share,
        numbers("all steps, s", "seconds", "1"),
        numbers("speed-up", "speedup", "2", "x"),
      ],
    },
  },
};

type StillGeometry = { batch: "batch"; height: number; width: number; tokens: number };

/** One run after a step to warm up. Latents are noise at every step, since what random weights predict leads nowhere. */
async function measure(
  denoiser: Denoiser,
  unet: Component<unknown>,
  geometry: StillGeometry,
  { steps, seed }: Options,
) {
  const feeds = randomFeeds(unet.model({ ...geometry, batch: 2 }), seed) as Record<string, Tensor>;
  const random = new TorchGenerator(seed + 1);
  const { shape } = feeds["sample"]!;
  const first = { index: 0, steps, timestep: 999, guided: true };
  await denoiser.run(feeds, first);
  const times: { action: Action; milliseconds: number }[] = [];
  for (let index = 0; index < steps; index++) {
    const given = { ...feeds, sample: random.randn(shape) };
    const timestep = 999 - Math.floor((1000 * index) / steps);
    const milliseconds = await timed(() => denoiser.run(given, { index, steps, timestep, guided: true }));
    times.push({ action: denoiser.actions.at(-1)!, milliseconds });
  }
  const of = (full: boolean) =>
    times.filter(({ action }) => (action === "full") === full).map(({ milliseconds }) => milliseconds);
  const [full, part] = [of(true), of(false)];
  return {
    fullSteps: full.length,
    fullSeconds: median(full) / 1000,
    share: part.length > 0 ? median(part) / median(full) : null,
    seconds: times.reduce((sum, { milliseconds }) => sum + milliseconds, 0) / 1000,
  };
}

/** Seconds that a step would take more if the text's keys and values were computed at each, instead of once a run. */
async function textOnce(
  unet: Component<unknown>,
  geometry: StillGeometry,
  { threads, seed }: Options,
): Promise<number> {
  const model = unet.model({ ...geometry, batch: 2 });
  const outputs = buildModel(model, checkpointWeights(unet.weights, describeModel(model)));
  const { once } = splitOnce(outputs, new Set(model.conditions))!;
  const session = await nodeRuntime.compile(toOnnx(once), weightLocations(unet.weights), { threads });
  const feeds = randomFeeds(model, seed);
  await session.run(feeds);
  const times: number[] = [];
  for (let i = 0; i < 20; i++) times.push(await timed(() => session.run(feeds)));
  await session.release();
  return median(times) / 1000;
}
