/** Time alone: full and inner steps of a published network's size, with random weights. */
import { readConfig } from "../checkpoints/diffusers-folder.ts";
import { openWeights } from "../checkpoints/weights.ts";
import { constant } from "../graph/value.ts";
import { type FeedbackConfig, feedbackCuts } from "../ilf/config.ts";
import { type Carried, feedbackFeeds } from "../ilf/denoiser.ts";
import { copiedBlock, feedbackModel } from "../ilf/feedback.ts";
import { describeModel, type StagedModel } from "../models/architecture.ts";
import { architectureOf } from "../models/registry.ts";
import { segmentModel } from "../models/segments.ts";
import { StagedSession } from "../models/staged.ts";
import { checkpointWeights, weightLocations } from "../models/weights.ts";
import { nodeRuntime } from "../runtime/node.ts";
import { runSegments } from "../sampling/denoiser.ts";
import { parseSchedule, scheduled } from "../sampling/step-policy.ts";
import { type FloatTensor, floatTensor, sizeOf } from "../tensor.ts";
import { randomFeeds, randomNetwork } from "./random-network.ts";

/** Name of the geometry -> preset of its network. */
const networks: Readonly<Record<string, string>> = { "dit-xl-2": "dit-xl-2", "pixart-xl-2-512": "pixart-xl-2" };
export const geometries = Object.keys(networks);

/** Tokens of a caption that both PixArt models are usually given at most. */
const TOKENS = 120;
/** One picture with guidance. */
const ROWS = 2;

export interface GeometryOptions {
  steps: number;
  schedule?: string;
  rounds: number;
  seed: number;
  threads?: number;
  json?: boolean;
}

export async function benchGeometry(name: string, options: GeometryOptions): Promise<void> {
  const { steps, rounds, seed, threads, json } = options;
  const folder = await randomNetwork(networks[name]!, seed);
  const raw = await readConfig(folder);
  const architecture = architectureOf(raw);
  const model = architecture.model(architecture.parseConfig(raw), { batch: ROWS, tokens: TOKENS });
  const weights = await openWeights(folder);
  const blocks = raw["num_layers"] as number;
  const config: FeedbackConfig = {
    ...{ feedBlock: blocks - 2, resumeBlock: blocks - 2, embeddingChange: true, trend: true },
    ...{ schedule: parseSchedule(options.schedule ?? "2"), backbone: "" },
  };
  const { cuts, feed, resume } = feedbackCuts(model, config);
  const session = threads ? { threads } : {};
  const compile = (part: StagedModel, source = checkpointWeights(weights, describeModel(part))) =>
    StagedSession.compile(nodeRuntime, part, source, weightLocations(weights), { takesTurns: true, ...session });
  const whole = await compile(model);
  const parts: StagedSession[] = [];
  for (const part of segmentModel(model, cuts)) parts.push(await compile(part));
  // The module before training: the backbone's own block, scales of zero.
  const module = feedbackModel(model, config);
  const own = checkpointWeights(weights, describeModel(module));
  const zeros = (shape: readonly number[]) => constant(new Float32Array(sizeOf(shape)), shape, "float32");
  const block = copiedBlock(model, config).name;
  const feedback = await compile(module, (tensor, shape) =>
    tensor.startsWith("block.") ? own(tensor.replace("block", block), shape) : zeros(shape),
  );

  const feeds = randomFeeds(model, seed);
  const times = { whole: [] as number[], full: [] as number[], inner: [] as number[] };
  for (let round = -1; round < rounds; round++) {
    const record = (kind: keyof typeof times, start: number) => {
      if (round >= 0) times[kind].push(performance.now() - start);
    };
    let start = performance.now();
    await whole.run(feeds);
    record("whole", start);
    start = performance.now();
    const entered = await runSegments(parts.slice(0, 1), feeds);
    const before = await runSegments(parts.slice(1, feed + 1), entered);
    await runSegments(parts.slice(feed + 1), before);
    record("full", start);
    const features = before["hiddenStates"] as FloatTensor;
    const embedding = entered["hiddenStates"] as FloatTensor;
    const carried: Carried = { features, embedding, trend: floatTensor(features.shape) };
    start = performance.now();
    const again = await runSegments(parts.slice(0, 1), feeds);
    const { hiddenStates } = await feedback.run(feedbackFeeds(again, carried));
    await runSegments(parts.slice(resume), { ...again, hiddenStates: hiddenStates! });
    record("inner", start);
  }
  await Promise.all([whole, feedback, ...parts].map((each) => each.release()));

  const policy = scheduled(config.schedule);
  const fullSteps = Array.from({ length: steps }, (_, index) => policy({ index, steps, timestep: 0 })).filter(
    (action) => action === "full",
  ).length;
  const [wholeMs, fullMs, innerMs] = [times.whole, times.full, times.inner].map(median) as [number, number, number];
  const speedup = (steps * wholeMs) / (fullSteps * fullMs + (steps - fullSteps) * innerMs);
  const result = { geometry: name, steps, fullSteps, wholeMs, fullMs, innerMs, speedup, rounds };
  if (json) console.log(JSON.stringify(result));
  else {
    console.log(
      `${name}, one picture with guidance: a step of the whole network ${wholeMs.toFixed(0)} ms, a full step in`,
    );
    console.log(`parts ${fullMs.toFixed(0)} ms, an inner step ${innerMs.toFixed(0)} ms (medians of ${rounds}).`);
    console.log(`${steps} steps, ${fullSteps} of them full: ${speedup.toFixed(2)}x`);
  }
}

const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;
