/**
 * Inner Loop Feedback on networks through whose blocks image and text both run: one whose blocks are of two kinds, and Stable
 * Diffusion 3's.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openDenoiser } from "../../src/acceleration/acceleration.ts";
import { openFeedback } from "../../src/acceleration/feedback-component.ts";
import { blockCuts } from "../../src/caching/block-cuts.ts";
import { PlainCache } from "../../src/caching/plain-cache.ts";
import { fileSource, NodeFolder } from "../../src/checkpoints/node.ts";
import { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { WeightFiles } from "../../src/checkpoints/weights.ts";
import { fingerprint } from "../../src/ilf/checkpoint.ts";
import { type FeedbackConfig, feedbackCuts, rawFeedbackConfig } from "../../src/ilf/config.ts";
import { IlfDenoiser } from "../../src/ilf/denoiser.ts";
import { feedbackModel } from "../../src/ilf/feedback-module.ts";
import { type IlfSteps, StepsInParts, WholeSteps, wholeSteps } from "../../src/ilf/steps.ts";
import { allOf } from "../../src/ilf/stream-names.ts";
import { FeedbackTrainer } from "../../src/ilf/training/feedback-trainer.ts";
import { RecordBuffer, RecordingDenoiser } from "../../src/ilf/training/records.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { blocksOf, splitModel } from "../../src/models/split-model.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Denoiser, Feeds } from "../../src/sampling/denoiser.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type Action, scheduled } from "../../src/sampling/step-policy.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { seededRandom } from "../../training/random.ts";
import { type Additions, moduleWith } from "../support/feedback.ts";
import { expectGradients } from "../support/gradients-of-trainer.ts";
import { temporaryFolder } from "../support/models.ts";
import { compileModel, compileParts } from "../support/toy-model.ts";
import { jointCases } from "../support/two-row-case.ts";

const config = (feedBlock: number, resumeBlock: number, additions: Additions = {}): FeedbackConfig => ({
  ...{ feedBlock, resumeBlock, module: moduleWith({ embeddingChange: true, trend: true, ...additions }) },
  ...{ schedule: { every: 2 }, backbone: "" },
});

const schedule: Action[] = ["full", "full", "inner", "inner", "full", "inner"];

let net: Awaited<ReturnType<(typeof jointCases)[string]>>;

/** Weights that make every part of a module felt; its scales are all `scale` where that is given. */
async function moduleWeights(settings: FeedbackConfig, scale?: number): Promise<WeightFiles> {
  const generator = new TorchGenerator(5);
  const tensors = [...weightShapes(feedbackModel(net.model(), settings))].map(([name, shape]) => {
    const tensor = generator.randn(shape);
    const isScale = /(^|\.)scale(\.|$)/.test(name);
    const value = (x: number) => (isScale ? (scale ?? 0.3 * x) : 0.4 * x);
    return [name, floatTensor(shape, tensor.data.map(value))] as const;
  });
  return written(new Map(tensors));
}

async function written(tensors: ReadonlyMap<string, FloatTensor>): Promise<WeightFiles> {
  const path = join(await temporaryFolder(), "feedback.safetensors");
  await writeSafetensors(path, tensors);
  return WeightFiles.of(await SafetensorsFile.open(await fileSource(path)));
}

async function inParts(settings: FeedbackConfig, own: WeightFiles): Promise<IlfSteps> {
  const { cuts, ...places } = feedbackCuts(net.model(), settings);
  const module = await compileModel(feedbackModel(net.model(), settings), own);
  const parts = await compileParts(net.model(), net.weights, cuts);
  return new StepsInParts({ parts, ...places, feedback: (feeds) => module.run(feeds) });
}

async function asOneCall(settings: FeedbackConfig, own: WeightFiles): Promise<IlfSteps> {
  const { full, inner } = wholeSteps(net.model(), settings);
  const all = net.weights.joined(
    own.renamed((name) => `feedback.${name}`),
    "module",
  );
  return new WholeSteps(await compileModel(full, net.weights), await compileModel(inner, all));
}

const run = (steps: IlfSteps) => runAll(new IlfDenoiser(steps, scheduled(schedule)));

async function runAll(denoiser: Denoiser): Promise<FloatTensor[]> {
  const outputs: FloatTensor[] = [];
  for (const { feeds, step } of net.trajectory(schedule.length)) outputs.push(await denoiser.run(feeds, step));
  expect(denoiser.actions).toEqual(schedule);
  return outputs;
}

function expectClose(actual: Tensor, expected: Tensor, what: string) {
  expect(compare(what, actual.data, expected.data).relative, what).toBeLessThan(2e-5);
}

/** Within a row, from row to row either way, and at the end, where the text is no longer read. */
const places = [
  [1, 1],
  [2, 2],
  [1, 3],
  [3, 1],
  [2, 3],
  [4, 4],
  [4, 2],
] as const;

describe.each(Object.keys(jointCases))("%s", (className) => {
  beforeAll(async () => {
    net = await jointCases[className]!();
  });

  // What depends on the place is tried on the smaller network.
  describe.each(className === "TwoRowNetwork" ? places : places.slice(2, 4))(
    "fed from block %i into what comes after %i",
    (feedBlock, resumeBlock) => {
      it("is plain caching at scale zero where nothing is added, to the last bit", async () => {
        const settings = config(feedBlock, resumeBlock, { embeddingChange: false, trend: false });
        const zero = await run(await inParts(settings, await moduleWeights(settings, 0)));
        const { cuts, ...places } = blockCuts(net.model(), settings);
        const parts = await compileParts(net.model(), net.weights, cuts);
        const cached = await runAll(new PlainCache(parts, places, scheduled(schedule)));
        for (const [i, { data }] of zero.entries()) expect(data).toEqual(cached[i]!.data);
      });

      it("goes on from h + embedding change + trendScale * trend + scale * (F(h) - h) of image and text", async () => {
        const settings = config(feedBlock, resumeBlock);
        const own = await moduleWeights(settings);
        const outputs = await run(await inParts(settings, own));
        const model = net.model();
        const { first } = blocksOf(model);
        // F is the block before the features are taken, with the module's weights.
        const block = model.stages[first + feedBlock - 1]!;
        const f = await compileModel(
          splitModel(model, [first + feedBlock - 1, first + feedBlock])[1]!,
          own.renamed((name) => name.replace(/^block\./, `${block.name}.`)),
        );
        const [enter, toFeed] = await compileParts(model, net.weights, [first, first + feedBlock]);
        const tail = await compileModel(splitModel(model, [first + resumeBlock])[1]!, net.weights);
        const weight = async (name: string) => (await own.read(name)) as FloatTensor;
        type Pair = Record<string, Tensor>;
        const each = (f: (name: string, i: number) => number, like: Pair): Pair =>
          Object.fromEntries(
            net.names.streams.map((name) => [
              name,
              floatTensor(
                like[name]!.shape,
                floatTensor(like[name]!.shape).data.map((_, i) => f(name, i)),
              ),
            ]),
          );
        const at = (values: Pair, name: string, i: number) => Number(values[name]!.data[i]);
        const full: { index: number; features: Pair }[] = [];
        let [carried, embedding]: [Pair, Pair] = [{}, {}];
        const { image, text } = net.names;
        const scales: Record<string, Record<string, FloatTensor>> = { [image]: {}, [text]: {} };
        for (const name of own.entries.keys()) {
          const [what = "", stream = image] = name.split(".").toReversed();
          if (/^(trend_)?scale$/.test(what)) scales[stream]![what] = await weight(name);
        }
        for (const { feeds, step } of net.trajectory(schedule.length)) {
          const entered = await enter!.run(feeds);
          if (schedule[step.index] === "full") {
            carried = { ...entered, ...(await toFeed!.run({ ...feeds, ...entered })) };
            full.push({ index: step.index, features: carried });
          } else {
            const [before, now] = full.slice(-2) as [(typeof full)[0], (typeof full)[0]];
            const g = each((name, i) => {
              const trend = (at(now.features, name, i) - at(before.features, name, i)) / (now.index - before.index);
              const trendScale = Number(scales[name]!["trend_scale"]!.data[i % 8]);
              return at(carried, name, i) + at(entered, name, i) - at(embedding, name, i) + trendScale * trend;
            }, carried);
            const made = await f.run({ ...entered, ...g });
            carried = each((name, i) => {
              const { scale } = scales[name]!;
              return at(g, name, i) + (scale ? scale.data[i % 8]! * (at(made, name, i) - at(g, name, i)) : 0);
            }, g);
            const { sample } = await tail.run({ ...feeds, ...entered, ...carried });
            expectClose(outputs[step.index]!, sample!, `step ${step.index}`);
          }
          embedding = entered;
        }
        // A block that writes no text predicts none; nor does one whose text nobody reads.
        const predictsText = feedBlock < 4 && resumeBlock < 4;
        expect(scales[text]!["scale"] !== undefined).toBe(predictsText);
      });

      it.each([
        {},
        { trend: false },
        { mixing: true },
        { mixing: true, ownBlocks: true },
        { ownBlocks: true, trend: false },
      ])("gives the same in parts and as one call: %j", async (extra) => {
        const settings = config(feedBlock, resumeBlock, extra);
        const own = await moduleWeights(settings);
        const [expected, actual] = [await run(await inParts(settings, own)), await run(await asOneCall(settings, own))];
        for (const [i, sample] of actual.entries()) expectClose(sample, expected[i]!, `step ${i}`);
      });
    },
  );

  describe("distillation", () => {
    async function distillation(settings: FeedbackConfig) {
      const { cuts, ...places } = feedbackCuts(net.model(), settings);
      const distilled = await FeedbackTrainer.create(nodeRuntime, net.model({ batch: 4 }), net.weights, {
        ...{ config: settings, anyBatch: net.model(), batch: 2, guidanceScale: 3, featureLoss: 0.1 },
        ...{ optimizer: { clipNorm: 1e9 }, session: { threads: 1 } },
      });
      const parts = await compileParts(net.model(), net.weights, cuts);
      const feedback = async (feeds: Feeds) => allOf("carried", feeds);
      const recorder = new RecordingDenoiser({ parts, ...places, feedback }, scheduled(schedule), () => false);
      for (const { feeds, step } of net.trajectory(schedule.length, 4)) await recorder.run(feeds, step);
      const buffer = new RecordBuffer(1e9, distilled.reads);
      buffer.add(recorder.records);
      return { distilled, buffer };
    }

    it.each([
      [2, 2, {}],
      [1, 3, {}],
      [3, 1, { ownBlocks: true }],
      [2, 3, { mixing: true, ownBlocks: true }],
      [4, 4, { mixing: true }],
    ] as const)(
      "has gradients like finite differences, fed from %i into what comes after %i, %j",
      async (feed, resume, extra) => {
        const settings = config(feed, resume, extra);
        const { distilled, buffer } = await distillation(settings);
        const random = seededRandom(7);
        const checked = await expectGradients(distilled, buffer.draw(2, true, random), random);
        expect(checked).toBe(weightShapes(feedbackModel(net.model(), settings)).size);
        await distilled.release();
      },
    );

    it("learns to predict image and text, and pipelines run what it saved", async () => {
      const untrained = { ...config(1, 2), backbone: await fingerprint(net.model(), net.weights) };
      const { distilled, buffer } = await distillation(untrained);
      const random = seededRandom(7);
      const losses: number[] = [];
      for (let i = 0; i < 60; i++) losses.push((await distilled.step(buffer.draw(2, true, random), 0.02)).loss);
      const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
      expect(mean(losses.slice(-10))).toBeLessThan(0.7 * mean(losses.slice(0, 10)));
      const path = await temporaryFolder();
      const folder = new NodeFolder(path, "model");
      await mkdir(join(path, "ilf"));
      await writeFile(join(path, "ilf", "config.json"), JSON.stringify(rawFeedbackConfig(untrained)));
      const trained = distilled.weights();
      await writeSafetensors(join(path, "ilf", "feedback.safetensors"), trained);
      const expected = await run(await inParts(untrained, await written(trained)));
      for (const mostTwice of [0, 1e9]) {
        const component = net.component() as Parameters<typeof openFeedback>[1];
        const feedback = await openFeedback(folder, component, mostTwice);
        const denoiser = await openDenoiser(component, net.geometry, { method: "ilf", schedule }, feedback);
        for (const { feeds, step } of net.trajectory(schedule.length)) {
          expectClose(await denoiser.run(feeds, step), expected[step.index]!, `step ${step.index}`);
        }
        await Promise.all([feedback!.release(), component.release()]);
      }
      await distilled.release();
    });
  });
});
