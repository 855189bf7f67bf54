/** Distillation: against a feedback known in closed form, a loss worked out by hand, and finite differences. */
import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { type FeedbackConfig, feedbackCuts } from "../../src/ilf/config.ts";
import { feedbackModel } from "../../src/ilf/feedback-module.ts";
import { allOf } from "../../src/ilf/stream-names.ts";
import { FeedbackTrainer, type FeedbackTrainerOptions, rowsOf } from "../../src/ilf/training/feedback-trainer.ts";
import { RecordBuffer, RecordingDenoiser, type StepRecord } from "../../src/ilf/training/records.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { scheduled } from "../../src/sampling/step-policy.ts";
import { floatTensor, type Tensor } from "../../src/tensor.ts";
import { warmupCosine } from "../../src/training/adamw.ts";
import { seededRandom } from "../../training/random.ts";
import { type Additions, moduleWith } from "../support/feedback.ts";
import { expectGradients } from "../support/gradients-of-trainer.ts";
import { type Kind, kinds, tinyTransformer, trajectory } from "../support/tiny-transformer.ts";
import { compileParts, times, toyModel, toyTensor, toyWeights, toyWidth, writeToy } from "../support/toy-model.ts";

const configOf = (feedBlock: number, resumeBlock: number, additions: Additions = {}): FeedbackConfig => ({
  ...{ feedBlock, resumeBlock, module: moduleWith({ embeddingChange: true, trend: false, ...additions }) },
  ...{ schedule: { every: 2 }, backbone: "" },
});

/** The toy's blocks before this one together: at time t its features are x * embed + t * sum. */
const sumOf = (blocks: number, channel: number) =>
  toyWeights.blocks.slice(0, blocks).reduce((sum, a) => sum + a[channel]!, 0);

async function distillToy(config: FeedbackConfig, options: Partial<FeedbackTrainerOptions> = {}, out = toyWeights.out) {
  const { batch = 8, guidanceScale = 1 } = options;
  const weights = await writeToy({ ...toyWeights, out });
  return FeedbackTrainer.create(nodeRuntime, toyModel(2, rowsOf(batch, guidanceScale)), weights, {
    ...{ config, anyBatch: toyModel(2), batch, guidanceScale, loss: "square", session: { threads: 1 } },
    ...options,
  });
}

/** Inner steps of the toy whose time is half that of the step before, all from its formula. */
function toyRecord(
  { feedBlock, resumeBlock }: FeedbackConfig,
  rows: number,
  random: () => number,
  out = toyWeights.out,
) {
  const { embed } = toyWeights;
  const t = Array.from({ length: rows }, () => 0.4 + 1.2 * random());
  const draw = () => {
    const x = toyTensor(rows, () => 2 * random() - 1);
    return toyTensor(rows, (row, patch, i) => x.data[(row * 3 + patch) * toyWidth + i]! * embed[i]!);
  };
  const [before, now] = [draw(), draw()];
  const plus = (from: typeof now, time: (row: number) => number, blocks: number, scale = (_: number) => 1) =>
    toyTensor(rows, (row, patch, i) => {
      const value = from.data[(row * 3 + patch) * toyWidth + i]!;
      return (value + time(row) * sumOf(blocks, i)) * scale(i);
    });
  const half = (row: number) => t[row]! / 2;
  const record: StepRecord = {
    feeds: {
      "carried.hiddenStates": plus(before, (row) => t[row]!, feedBlock),
      "carriedEmbedding.hiddenStates": before,
      "embedding.hiddenStates": now,
      timestep: times(...t.map((value) => value / 2)),
    },
    target: plus(now, half, 2, (i) => out[i]!),
    targetFeatures: { hiddenStates: plus(now, half, resumeBlock) },
  };
  return { record, t };
}

async function train(distillation: FeedbackTrainer, steps: number, next: () => StepRecord): Promise<number> {
  let loss = Number.NaN;
  for (let step = 0; step < steps; step++) {
    ({ loss } = await distillation.step(next(), warmupCosine(step, steps, 0.05, 10, 1e-4)));
  }
  return loss;
}

/** What the module's update is multiplied by the time with: scale * the block's vector. */
function learned(distillation: FeedbackTrainer): number[] {
  const { parameters } = distillation.trainer;
  const { "feedback/scale": scale, "feedback/block.weight": block } = parameters.tensors();
  return Array.from(scale!.data, (value, i) => value * block!.data[i]!);
}

describe("a toy whose ideal feedback is known", () => {
  // From x * embed + t * (a1 + .. + af) to x' * embed + t / 2 * (a1 + .. + ar): scale * w = sum of r - 2 * sum of f.
  it.each([
    [1, 1],
    [1, 2],
    [2, 1],
    [2, 2],
  ])("is found when fed from block %i into what comes after %i", async (feedBlock, resumeBlock) => {
    const config = configOf(feedBlock, resumeBlock);
    const distillation = await distillToy(config);
    const random = seededRandom(3);
    const loss = await train(distillation, 500, () => toyRecord(config, 8, random).record);
    for (const [i, value] of learned(distillation).entries()) {
      expect(value, `channel ${i}`).toBeCloseTo(sumOf(resumeBlock, i) - 2 * sumOf(feedBlock, i), 3);
    }
    expect(loss).toBeLessThan(1e-6);
    // What is saved is the average over training, which has come as far.
    const saved = distillation.weights();
    for (const [i, value] of learned(distillation).entries()) {
      expect(saved.get("scale")!.data[i]! * saved.get("block.weight")!.data[i]!).toBeCloseTo(value, 2);
    }
    await distillation.release();
  });

  it("is found from the features where the output does not show them", async () => {
    const config = configOf(1, 1);
    const blind = [1, 0, -2, 0.25];
    const random = seededRandom(3);
    const next = () => toyRecord(config, 8, random, blind).record;
    const without = await distillToy(config, {}, blind);
    await train(without, 60, next);
    expect(learned(without)[1]).toBeCloseTo(0, 12);
    const withFeatures = await distillToy(config, { featureLoss: 0.5 }, blind);
    expect(await train(withFeatures, 500, next)).toBeLessThan(1e-6);
    for (const [i, value] of learned(withFeatures).entries()) expect(value).toBeCloseTo(-toyWeights.blocks[0]![i]!, 3);
    await Promise.all([without.release(), withFeatures.release()]);
  });

  it("uses the trend where that is all that is known", async () => {
    // Features that move evenly: the next is the last plus the trend, so trendScale is 1 and the block has no say.
    const config = configOf(2, 2, { embeddingChange: false, trend: true });
    const distillation = await distillToy(config);
    const random = seededRandom(4);
    const next = (): StepRecord => {
      const [carried, trend] = [0, 0].map(() => toyTensor(8, () => 2 * random() - 1));
      const features = floatTensor(
        carried!.shape,
        carried!.data.map((value, i) => value + trend!.data[i]!),
      );
      const target = toyTensor(
        8,
        (row, patch, i) => features.data[(row * 3 + patch) * toyWidth + i]! * toyWeights.out[i]!,
      );
      const timestep = times(...Array.from({ length: 8 }, random));
      const feeds = { "carried.hiddenStates": carried!, "trend.hiddenStates": trend!, timestep };
      return { feeds, target, targetFeatures: { hiddenStates: features } };
    };
    expect(await train(distillation, 400, next)).toBeLessThan(1e-6);
    for (const value of distillation.trainer.parameters.tensors()["feedback/trend_scale"]!.data) {
      expect(value).toBeCloseTo(1, 3);
    }
    for (const value of learned(distillation)) expect(value).toBeCloseTo(0, 3);
    await distillation.release();
  });
});

describe("the loss before training, worked out by hand", () => {
  // At scale zero the error of a row is t / 2 * (2 * sum of f - sum of r) * out.
  const errorOf = (t: number, i: number) => (t / 2) * (2 * sumOf(1, i) - sumOf(1, i)) * toyWeights.out[i]!;
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const channels = Array.from({ length: toyWidth }, (_, i) => i);

  it("is the mean squared error without guidance", async () => {
    const config = configOf(1, 1);
    const distillation = await distillToy(config, { batch: 4 });
    const { record, t } = toyRecord(config, 4, seededRandom(1));
    const { loss } = await distillation.step(record, 0);
    expect(loss).toBeCloseTo(mean(t.flatMap((time) => channels.map((i) => errorOf(time, i) ** 2))), 6);
    await distillation.release();
  });

  it("weighs the rows' and the guided error, the half without the condition first", async () => {
    const guidanceScale = 3;
    const config = configOf(1, 1);
    const distillation = await distillToy(config, { batch: 2, guidanceScale });
    const { record, t } = toyRecord(config, 4, seededRandom(2));
    const rows = mean(t.flatMap((time) => channels.map((i) => errorOf(time, i) ** 2)));
    const guided = mean(
      [0, 1].flatMap((picture) =>
        channels.map((i) => {
          const [without, withCondition] = [errorOf(t[picture]!, i), errorOf(t[picture + 2]!, i)];
          return (without + guidanceScale * (withCondition - without)) ** 2;
        }),
      ),
    );
    const { loss } = await distillation.step(record, 0);
    expect(loss).toBeCloseTo(rows / 4 + guided / guidanceScale ** 2, 6);
    await distillation.release();
  });

  it("is the mean of each picture's root, where that is asked for", async () => {
    const guidanceScale = 3;
    const config = configOf(1, 1);
    const distillation = await distillToy(config, { batch: 2, guidanceScale, loss: "root" });
    const { record, t } = toyRecord(config, 4, seededRandom(2));
    const roots = [0, 1].map((picture) => {
      const squares = channels.map((i) => {
        const [without, withCondition] = [errorOf(t[picture]!, i), errorOf(t[picture + 2]!, i)];
        const guided = without + guidanceScale * (withCondition - without);
        return (without ** 2 + withCondition ** 2) / 8 + guided ** 2 / guidanceScale ** 2;
      });
      return Math.sqrt(mean(squares));
    });
    const { loss } = await distillation.step(record, 0);
    expect(loss).toBeCloseTo(mean(roots), 6);
    await distillation.release();
  });

  it("refuses a batch of other rows", async () => {
    const config = configOf(1, 1);
    const distillation = await distillToy(config, { batch: 2, guidanceScale: 3 });
    const { record } = toyRecord(config, 2, seededRandom(2));
    expect(() => distillation.step(record, 0)).toThrow(ArgumentError);
    expect(() => distillation.step(record, 0)).toThrow("2 rows are not a batch of 4");
    await distillation.release();
  });
});

/** A module for a tiny transformer, and a batch of inner steps of plain caching on it. */
async function tinyDistillation(kind: Kind, config: FeedbackConfig) {
  const { model, weights } = await tinyTransformer(kind);
  const { cuts, ...places } = feedbackCuts(model(), config);
  const distillation = await FeedbackTrainer.create(nodeRuntime, model({ batch: 4 }), weights, {
    ...{ config, anyBatch: model(), batch: 2, guidanceScale: 3, featureLoss: 0.1 },
    ...{ optimizer: { clipNorm: 1e9 }, session: { threads: 1 } },
  });
  const parts = await compileParts(model(), weights, cuts);
  const sessions = {
    parts,
    ...places,
    feedback: async (feeds: Readonly<Record<string, Tensor>>) => allOf("carried", feeds),
  };
  const recorder = new RecordingDenoiser(sessions, scheduled(config.schedule), () => false);
  for (const { feeds, step } of trajectory(kind, 6, 4)) await recorder.run(feeds, step);
  const buffer = new RecordBuffer(1e9, distillation.reads);
  buffer.add(recorder.records);
  return { distillation, buffer, model, weights };
}

describe.each(kinds)("a module for a tiny %s", (kind) => {
  it.each([
    [2, 2, {}],
    [1, 3, {}],
    [3, 1, {}],
    [2, 2, { mixing: true, ownBlocks: true }],
    [1, 3, { mixing: true, embeddingChange: false }],
    [3, 1, { ownBlocks: true }],
  ])(
    "has gradients like finite differences through the frozen blocks, fed from %i into what comes after %i, %j",
    async (feedBlock, resumeBlock, extra) => {
      const config = configOf(feedBlock, resumeBlock, { trend: true, ...extra });
      const { distillation, buffer, model } = await tinyDistillation(kind, config);
      const random = seededRandom(7);
      const checked = await expectGradients(distillation, buffer.draw(2, true, random), random);
      expect(checked).toBe(weightShapes(feedbackModel(model(), config)).size);
      await distillation.release();
    },
  );

  it("starts as a copy of the backbone's block that changes nothing, and is all that training changes", async () => {
    const config = configOf(2, 2, { trend: true });
    const { distillation, buffer, model, weights } = await tinyDistillation(kind, config);
    const names = [...weightShapes(feedbackModel(model(), config)).keys()];
    const start = distillation.weights();
    expect([...start.keys()]).toEqual(names);
    expect([...distillation.trainer.parameters.slots.keys()]).toEqual(names.map((name) => `feedback/${name}`));
    for (const [name, { data }] of start) {
      if (name.endsWith("scale")) expect(data).toEqual(new Float32Array(data.length));
      else expect(data).toEqual((await weights.read(name.replace("block.", "transformer_blocks.1."))).data);
    }
    const [file] = [...weights.files.values()];
    const path = file!.source.nativePath!;
    const before = await readFile(path);
    const values = distillation.trainer.parameters.values.slice();
    const random = seededRandom(1);
    for (let i = 0; i < 3; i++) await distillation.step(buffer.draw(2, true, random), 0.01);
    expect(distillation.trainer.parameters.values).not.toEqual(values);
    expect(await readFile(path)).toEqual(before);
    await distillation.release();
  });
});
