/** Times full and inner steps of a network of published size, with random weights. */
import { mapStreams } from "../../caching/streams.ts";
import { readConfig } from "../../checkpoints/diffusers-folder.ts";
import { openWeights } from "../../checkpoints/weights.ts";
import { constant, type Value } from "../../graph/value.ts";
import { type FeedbackConfig, feedbackCuts, moduleOf } from "../../ilf/config.ts";
import { copiedWeight, feedbackModel } from "../../ilf/feedback-module.ts";
import { StepsInParts } from "../../ilf/steps.ts";
import { allOf, named } from "../../ilf/stream-names.ts";
import { FeedbackTrainer, rowsOf } from "../../ilf/training/feedback-trainer.ts";
import { buildModel, describeModel, type StagedModel } from "../../models/architecture.ts";
import { architectureOf } from "../../models/registry.ts";
import { blocksOf, splitModel } from "../../models/split-model.ts";
import { StagedSession } from "../../models/staged-session.ts";
import { checkpointWeights, parameterWeights, weightLocations } from "../../models/weights.ts";
import { nodeRuntime } from "../../runtime/node.ts";
import { releaseAll } from "../../runtime/open-all.ts";
import { defaultSchedule, parseSchedule, stretched } from "../../sampling/step-policy.ts";
import { multiplyAddsOfModel } from "../../streamlined/multiply-adds.ts";
import { type FloatTensor, floatTensor, sizeOf } from "../../tensor.ts";
import { multiplicationsPerSecond, tellEstimate } from "../estimate.ts";
import { printResult } from "../json.ts";
import { machine } from "../machine.ts";
import { print } from "../terminal.ts";
import { median } from "./averages.ts";
import { randomFeeds, randomNetwork } from "./random-network.ts";

interface Geometry {
  /** Of the network. */
  readonly preset: string;
  /** Of a prompt: what PixArt-alpha is usually given at most, and 77 of CLIP with 256 of T5. */
  readonly tokens?: number;
}

const networks: Readonly<Record<string, Geometry>> = {
  "dit-xl-2": { preset: "dit-xl-2" },
  "pixart-xl-2-512": { preset: "pixart-xl-2", tokens: 120 },
  "sd3.5-medium": { preset: "sd3.5-medium", tokens: 77 + 256 },
};
export const geometries = Object.keys(networks);
/** Blocks of the backbone after the point where inner steps come back in. */
const BLOCKS_AFTER = 2;
/** One image with guidance. */
const ROWS = 2;

export interface GeometryOptions {
  steps: number;
  schedule?: string;
  rounds: number;
  seed: number;
  threads?: number;
  json?: boolean;
}

/** Measures one update of a feedback module of this size: its time, and the process's peak memory until then. */
export async function benchTraining(name: string, { rounds, seed, threads, json }: GeometryOptions): Promise<void> {
  const batch = 1;
  const guidanceScale = 4;
  const { model, weights, config, anyBatch } = await openNetwork(name, seed, rowsOf(batch, guidanceScale));
  const trainer = await FeedbackTrainer.create(nodeRuntime, model, weights, {
    ...{ config, anyBatch, batch, guidanceScale },
    session: { spin: false, threads },
  });
  const { cuts, after } = feedbackCuts(model, config);
  const parts = [feedbackModel(model, config), ...splitModel(model, cuts).slice(after)];
  const known = Object.assign({}, ...parts.map((part) => part.inputs)) as StagedModel["inputs"];
  const reads = Object.fromEntries(trainer.reads.map((feature) => [feature, known[feature]!]));
  const carried = allOf("carried", known);
  const inputs = { ...reads, ...named("targetFeatures", carried), sample: outputOf(model) };
  const { sample: target, ...feeds } = randomFeeds({ ...model, inputs }, seed) as Record<string, FloatTensor>;
  const targetFeatures = allOf("targetFeatures", feeds);
  const times: number[] = [];
  // The last two blocks forth and back, with gradients of states and weights.
  const share = (4 * (1 + BLOCKS_AFTER)) / model.stages.length;
  const each = (share * multiplyAddsOfModel(model)) / (await multiplicationsPerSecond(threads));
  tellEstimate((rounds + 1) * each, `${rounds} updates, and one to warm up`);
  for (let round = -1; round < rounds; round++) {
    const start = performance.now();
    await trainer.step({ feeds, target: target!, targetFeatures }, 1e-6);
    if (round >= 0) times.push(performance.now() - start);
  }
  const parameters = trainer.trainer.parameters.size;
  const result = { geometry: name, parameters, milliseconds: median(times), peakMemory: nodeRuntime.peakMemory() };
  await trainer.release();
  if (json) await printResult("bench ilf", { machine: machine(), seed, ...result });
  else {
    await print(
      `${name}: one update on one picture with guidance takes ${(result.milliseconds / 1000).toFixed(2)} s (median of ` +
        `${rounds}); ${(parameters / 1e6).toFixed(1)} M parameters learn; most memory so far ` +
        `${((result.peakMemory ?? 0) / 2 ** 30).toFixed(1)} GiB.`,
    );
  }
}

const outputOf = (model: StagedModel): Value => buildModel(model, parameterWeights().source)["sample"]!;

/** A network with random weights, and a feedback module for it that replaces all but its last two blocks. */
async function openNetwork(name: string, seed: number, batch: number, schedule = defaultSchedule) {
  const { preset, tokens } = networks[name]!;
  const folder = await randomNetwork(preset, seed);
  const raw = await readConfig(folder);
  const architecture = architectureOf(raw);
  const parsed = architecture.parseConfig(raw);
  const model = architecture.model(parsed, { batch, tokens });
  const { first, end } = blocksOf(model);
  const resumeBlock = end - first - BLOCKS_AFTER;
  const config: FeedbackConfig = {
    ...{ feedBlock: resumeBlock, resumeBlock },
    module: moduleOf({ embeddingChange: true, trend: true, mixing: true, ownBlocks: true }),
    ...{ schedule: parseSchedule(schedule), backbone: "" },
  };
  return {
    model,
    anyBatch: architecture.model(parsed, { batch: "batch", tokens }),
    weights: await openWeights(folder),
    config,
  };
}

export async function benchGeometry(name: string, options: GeometryOptions): Promise<void> {
  const { steps, rounds, seed, threads, json } = options;
  const { model, weights, config } = await openNetwork(name, seed, ROWS, options.schedule);
  const { cuts, ...places } = feedbackCuts(model, config);
  const session = threads ? { threads } : {};
  const compile = (part: StagedModel, source = checkpointWeights(weights, describeModel(part))) =>
    StagedSession.compile(nodeRuntime, part, source, weightLocations(weights), { takesTurns: true, ...session });
  const whole = await compile(model);
  const parts: StagedSession[] = [];
  for (const part of splitModel(model, cuts)) parts.push(await compile(part));
  // The module before training: the backbone's own blocks, all else zero.
  const module = feedbackModel(model, config);
  const own = checkpointWeights(weights, describeModel(module));
  const zeros = (shape: readonly number[]) => constant(new Float32Array(sizeOf(shape)), shape, "float32");
  const feedback = await compile(module, (tensor, shape) => {
    const copied = copiedWeight(model, config, tensor);
    return copied === null ? zeros(shape) : own(copied, shape);
  });
  const inParts = new StepsInParts({
    parts,
    ...places,
    feedback: (features) => feedback.run(features),
  });

  // The whole network, the same in parts, and an inner step, which is about a tenth of it.
  const each = (2.1 * multiplyAddsOfModel(model)) / (await multiplicationsPerSecond(threads));
  tellEstimate((rounds + 1) * each, `${rounds} rounds of each kind of step, and one to warm up`);
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
    const { features, embedding } = await inParts.full(feeds);
    record("full", start);
    const carried = { features, embedding, trend: mapStreams(features, ({ shape }) => floatTensor(shape)) };
    start = performance.now();
    await inParts.inner(feeds, carried, () => true);
    record("inner", start);
  }
  await releaseAll([whole, feedback, ...parts]);

  const policy = stretched(config.schedule);
  const fullSteps = Array.from({ length: steps }, (_, index) => policy({ index, steps, timestep: 0 })).filter(
    (action) => action === "full",
  ).length;
  const [wholeMs, fullMs, innerMs] = [times.whole, times.full, times.inner].map(median) as [number, number, number];
  const speedup = (steps * wholeMs) / (fullSteps * fullMs + (steps - fullSteps) * innerMs);
  const result = { geometry: name, steps, fullSteps, wholeMs, fullMs, innerMs, speedup, rounds };
  if (json) await printResult("bench ilf", { machine: machine(), seed, ...result });
  else {
    await print(
      `${name}, one picture with guidance: a step of the whole network ${wholeMs.toFixed(0)} ms, a full step in`,
    );
    await print(`parts ${fullMs.toFixed(0)} ms, an inner step ${innerMs.toFixed(0)} ms (medians of ${rounds}).`);
    await print(`${steps} steps, ${fullSteps} of them full: ${speedup.toFixed(2)}x`);
  }
}
