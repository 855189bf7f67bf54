/** Distillation of whole pipelines with tiny networks: what it learns from, that it helps, and that it goes on. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { NodeFolder } from "../../src/checkpoints/node.ts";
import { pickScheduler } from "../../src/components/solver.ts";
import { ArgumentError, CheckpointError } from "../../src/errors.ts";
import { FeedbackCheckpoint } from "../../src/ilf/checkpoint.ts";
import { ClassToImagePipeline } from "../../src/pipelines/class-to-image.ts";
import { Distiller, type DistillSettings } from "../../src/pipelines/distill.ts";
import { type SampleLatentsOptions, TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Denoiser, Feeds } from "../../src/sampling/denoiser.ts";
import type { GuidanceInterval } from "../../src/sampling/guidance.ts";
import type { Action } from "../../src/sampling/step-policy.ts";
import type { FloatTensor, Tensor } from "../../src/tensor.ts";
import { resumeTraining, saveTraining } from "../../src/training/checkpoint-node.ts";
import { compare } from "../../src/verify/compare.ts";
import { moduleWith, randomFeedback, writeFeedback } from "../support/feedback.ts";
import { temporaryFolder } from "../support/models.ts";
import { tinyTokens, writeTinyPipeline } from "../support/tiny-pipeline.ts";
import { type Kind, kinds } from "../support/tiny-transformer.ts";

const captions = ["a red cat", "a blue dog", "the happy house"];
const blocks = { feedBlock: 2, resumeBlock: 2 };
const schedule: Action[] = ["full", "inner", "full", "inner", "inner"];

const settings: DistillSettings = {
  config: {
    ...blocks,
    module: moduleWith({ embeddingChange: true, trend: true, mixing: true, ownBlocks: true }),
    schedule,
  },
  steps: 120,
  learningRate: 5e-3,
  batch: 4,
  samplingSteps: schedule.length,
  guidanceInterval: [0, 1],
  guidanceScale: 3,
  featureLoss: 0,
  pictures: 2,
  reuse: 4,
  loss: "root",
  memory: 1e6,
  lookAhead: 0,
  seed: 5,
};

type Pipeline = TextToImagePipeline | ClassToImagePipeline;

const make = async (kind: Kind) => writeTinyPipeline(await temporaryFolder(), kind, { layers: 3 });
const open = (kind: Kind, folder: NodeFolder): Promise<Pipeline> =>
  (kind === "pixart" ? TextToImagePipeline : ClassToImagePipeline).fromFolder(folder, nodeRuntime, { threads: 1 });

/** A pipeline that tells what it is asked to sample. */
function watched(pipe: Pipeline): { pipe: Pipeline; calls: SampleLatentsOptions[] } {
  const calls: SampleLatentsOptions[] = [];
  const get = (target: Pipeline, key: string | symbol) => {
    const value: unknown = Reflect.get(target, key);
    if (key !== "sampleLatents") return value;
    return (options: SampleLatentsOptions) => {
      calls.push(options);
      return (value as (options: SampleLatentsOptions) => unknown)(options);
    };
  };
  return { pipe: new Proxy(pipe, { get }), calls };
}

const openDenoiser = (pipe: Pipeline, accelerate: Parameters<TextToImagePipeline["openDenoiser"]>[1]) =>
  pipe.openDenoiser({ height: 8, width: 8, tokens: tinyTokens }, accelerate);

describe.each(kinds)("distilling a tiny %s", (kind) => {
  // Guidance that ends before the last two steps: the first of these is full, and the last has the condition's rows alone.
  it.each<[GuidanceInterval, recorded: number]>([
    [[0, 1], 3],
    [[0, 0.6], 2],
  ])("begins at plain caching's error, along the backbone's own trajectory, guided in %j", async (interval, inner) => {
    const folder = await make(kind);
    const { pipe, calls } = watched(await open(kind, folder));
    // One picture, and no more kept than one inner step: the last.
    const config = { ...settings.config, module: moduleWith({ mixing: true, ownBlocks: true }) };
    const one = { batch: 1, pictures: 1, memory: 1, loss: "square" } as const;
    const distiller = await Distiller.create(pipe, captions, {
      ...settings,
      config,
      ...one,
      guidanceInterval: interval,
    });
    const { loss, recorded } = await distiller.step();
    expect(recorded).toBe(inner);

    // The same run again, in full, with what caching would have given at each step.
    const plain = await openDenoiser(await open(kind, folder), { method: "none" });
    const cache = await openDenoiser(await open(kind, folder), { method: "cache", schedule, ...blocks });
    const steps: { feeds: Feeds; full: FloatTensor; cached: FloatTensor }[] = [];
    const both: Denoiser = {
      actions: [],
      async run(feeds, step) {
        const [full, cached] = [await plain.run(feeds, step), await cache.run(feeds, step)];
        steps.push({ feeds, full, cached });
        return full;
      },
    };
    const again = await open(kind, folder);
    await again.sampleLatents({
      ...(calls[0] as Parameters<ClassToImagePipeline["sampleLatents"]>[0] & SampleLatentsOptions),
      scheduler: pickScheduler(again.schedulerConfig),
      denoiser: both,
    });
    const { feeds, full, cached } = steps.at(-1)!;
    // Errors of the latent's four channels (the variance after them is dropped), without and with the condition.
    const halves = (full.shape[0] === 2 ? [0, 1] : [0, 0]).map((row) =>
      Array.from({ length: 4 * 64 }, (_, i) => cached.data[row * 8 * 64 + i]! - full.data[row * 8 * 64 + i]!),
    );
    const [without, withCondition] = isEmpty(feeds, 0) ? halves : halves.toReversed();
    const guided = without!.map((error, i) => error + settings.guidanceScale * (withCondition![i]! - error));
    const meanSquare = (values: readonly number[]) => values.reduce((sum, x) => sum + x * x, 0) / values.length;
    const expected = meanSquare(halves.flat()) / 4 + meanSquare(guided) / settings.guidanceScale ** 2;
    expect(Math.abs(loss / expected - 1)).toBeLessThan(1e-4);
    await distiller.release();
  });

  it("comes closer to the full run than plain caching", async () => {
    const folder = await make(kind);
    const distiller = await Distiller.create(await open(kind, folder), captions, settings);
    for (let step = 0; step < settings.steps; step++) await distiller.step();
    await writeFeedback(folder, distiller.config, distiller.feedbackTrainer.weights());
    await distiller.release();
    const pipe = await open(kind, folder);
    // Seeds that training did not see.
    const latents = async (accelerate: "none" | "cache" | "ilf", seed: number) => {
      let last: FloatTensor | undefined;
      const options = {
        ...{ accelerate, seed, steps: schedule.length, guidanceScale: settings.guidanceScale },
        onStep: (step: { latents: FloatTensor }) => {
          last = step.latents;
        },
      };
      if (pipe instanceof TextToImagePipeline) await pipe.generate("a blue cat", options);
      else await pipe.generate([3], options);
      return last!.data;
    };
    let [ilf, cache] = [0, 0];
    for (const seed of [1, 2, 3]) {
      const full = await latents("none", seed);
      ilf += compare("latents", await latents("ilf", seed), full).relative;
      cache += compare("latents", await latents("cache", seed), full).relative;
    }
    expect(ilf).toBeLessThan(0.8 * cache);
  });

  it("aims at a run of twice as many full steps from the same noise", async () => {
    const { pipe, calls } = watched(await open(kind, await make(kind)));
    const plain = await Distiller.create(pipe, captions, settings);
    const { loss } = await plain.step();
    const aiming = await Distiller.create(pipe, captions, { ...settings, lookAhead: 0.5 });
    expect((await aiming.step()).loss).not.toBeCloseTo(loss, 4);
    expect(calls.map(({ steps }) => steps)).toEqual([5, 5, 5, 10]);
    for (const { noise } of calls) expect(noise).toEqual(calls[0]!.noise);
    for (const { denoiser } of calls.slice(2)) expect(new Set(denoiser!.actions)).toEqual(new Set(["full"]));
    await Promise.all([plain.release(), aiming.release()]);
  });

  it("goes on from a checkpoint to the last bit where each update has a trajectory of its own", async () => {
    const folder = await make(kind);
    const own = { ...settings, steps: 8, reuse: 0.01, memory: 1 };
    const start = async () => Distiller.create(await open(kind, folder), captions, own);
    const losses = async (distiller: Distiller, steps: number) => {
      const result: number[] = [];
      while (result.length < steps) result.push((await distiller.step()).loss);
      return result;
    };
    const whole = await start();
    const expected = await losses(whole, 8);
    expect(new Set(expected).size).toBe(8);
    const first = await start();
    expect(await losses(first, 5)).toEqual(expected.slice(0, 5));
    const path = join(await temporaryFolder(), "state.safetensors");
    await saveTraining(path, first.feedbackTrainer.trainer);
    const second = await start();
    await resumeTraining(path, second.feedbackTrainer.trainer);
    expect(await losses(second, 3)).toEqual(expected.slice(5));
    expect(second.feedbackTrainer.weights()).toEqual(whole.feedbackTrainer.weights());
    await Promise.all([whole, first, second].map((each) => each.release()));
  });

  it("starts from a module's weights, and refuses one of another backbone", async () => {
    const folder = await make(kind);
    const { config, weights } = await randomFeedback(folder, settings.config, 0.3);
    await writeFeedback(folder, config, weights);
    const start = (await FeedbackCheckpoint.open(folder.sub("ilf")))!;
    const distiller = await Distiller.create(await open(kind, folder), captions, { ...settings, start });
    expect(distiller.feedbackTrainer.weights()).toEqual(weights);
    await distiller.step();
    expect(distiller.feedbackTrainer.weights()).not.toEqual(weights);
    await distiller.release();
    const other = await writeTinyPipeline(await temporaryFolder(), kind, { layers: 4 });
    const failed = Distiller.create(await open(kind, other), captions, { ...settings, start });
    await expect(failed).rejects.toThrow(CheckpointError);
    await expect(failed).rejects.toThrow("was trained for a backbone with the fingerprint");
  });

  it("draws other captions and classes for every trajectory", async () => {
    const { pipe, calls } = watched(await open(kind, await make(kind)));
    const distiller = await Distiller.create(pipe, captions, { ...settings, reuse: 0.01, pictures: 4 });
    for (let step = 0; step < 12; step++) await distiller.step();
    const conditions = calls.map((call) => {
      const { prompt, classes } = call as SampleLatentsOptions & { classes?: readonly number[] };
      if (classes) return classes.map(String);
      const { shape, data } = prompt.encoderHiddenStates;
      const each = data.length / shape[0]!;
      return Array.from({ length: 4 }, (_, i) => data.subarray(i * each, (i + 1) * each).join());
    });
    expect(conditions).toHaveLength(12);
    // Each place in a trajectory sees every caption (of three), or hardly a class (of a thousand) twice.
    for (const place of [0, 1, 2, 3]) {
      const seen = new Set(conditions.map((row) => row[place]!)).size;
      if (kind === "pixart") expect(seen).toBe(captions.length);
      else expect(seen).toBeGreaterThan(10);
    }
    expect(new Set(calls.map(({ noise }) => noise.data[0])).size).toBe(12);
    await distiller.release();
  });

  it("has nothing to learn from a schedule without inner steps", async () => {
    const config = { ...settings.config, schedule: { every: 1 } };
    const distiller = await Distiller.create(await open(kind, await make(kind)), captions, { ...settings, config });
    await expect(distiller.step()).rejects.toThrow(ArgumentError);
    await expect(distiller.step()).rejects.toThrow("There is no inner step to learn from");
    await distiller.release();
  });

  it("refuses blocks that the network does not have", async () => {
    const config = { ...settings.config, feedBlock: 4 };
    const failed = Distiller.create(await open(kind, await make(kind)), captions, { ...settings, config });
    await expect(failed).rejects.toThrow(ArgumentError);
    await expect(failed).rejects.toThrow("feedBlock must be a whole number from 1 to 3, the model's blocks, not 4.");
  });
});

/** Whether a row has no condition: DiT's null class, or the empty prompt, whose only token that counts is its end. */
function isEmpty(feeds: Readonly<Record<string, Tensor>>, row: number): boolean {
  const { classLabels, encoderAttentionMask } = feeds;
  if (classLabels) return Number(classLabels.data[row]) === 1000;
  const mask = encoderAttentionMask as FloatTensor;
  return mask.data.slice(row * tinyTokens, (row + 1) * tinyTokens).reduce((a, b) => a + b) === 1;
}
