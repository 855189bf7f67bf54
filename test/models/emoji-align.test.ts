import { beforeAll, describe, expect, it } from "vitest";
import { ConfigError } from "../../src/errors.ts";
import { gradients } from "../../src/graph/gradient.ts";
import { constant, input } from "../../src/graph/value.ts";
import { buildModel, type StagedModel } from "../../src/models/architecture.ts";
import { emojiAlign } from "../../src/models/emoji-align.ts";
import { StagedSession } from "../../src/models/staged-session.ts";
import { parameterWeights, type WeightSource } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type FloatTensor, floatTensor, int64Tensor, type Tensor } from "../../src/tensor.ts";
import { contrastiveLoss, notNegatives } from "../../src/training/contrastive.ts";
import { evaluate } from "../support/gradient-error.ts";
import { tinyAlignConfig, tinyAlignWeights } from "../support/tiny-judge.ts";

const config = emojiAlign.image.parseConfig(tinyAlignConfig);
const weights = tinyAlignWeights();
const fixed: WeightSource = (name, shape) => constant(weights.get(name)!.data, shape as number[], "float32");

const pictures = (count: number) => new TorchGenerator(1).randn([count, 3, 16, 16]);
const captions = (rows: number[][]) => {
  const shape = [rows.length, config.maxTokens];
  const mask = rows.map((ids) => Array.from({ length: config.maxTokens }, (_, i) => (i < ids.length ? 1 : 0)));
  return {
    inputIds: int64Tensor(
      shape,
      rows.flatMap((ids) => Array.from({ length: config.maxTokens }, (_, i) => ids[i] ?? 0)),
    ),
    attentionMask: floatTensor(shape, Float32Array.from(mask.flat())),
  };
};

async function run(model: StagedModel, feeds: Record<string, Tensor>, groups?: number[]) {
  const options = { threads: 1, ...(groups ? { groups } : {}) };
  const session = await StagedSession.compile(nodeRuntime, model, fixed, new Map(), options);
  const outputs = await session.run(feeds);
  await session.release();
  return Object.values(outputs).at(-1) as FloatTensor;
}

const lengths = ({ shape, data }: FloatTensor) =>
  Array.from({ length: shape[0]! }, (_, i) => Math.hypot(...data.subarray(i * shape[1]!, (i + 1) * shape[1]!)));

describe("the picture tower", () => {
  const model = emojiAlign.image.model(config, { batch: "batch" });

  it("gives a direction a picture, that of the picture alone", async () => {
    const all = await run(model, { pixelValues: pictures(3) });
    expect(all.shape).toEqual([3, 5]);
    for (const length of lengths(all)) expect(length).toBeCloseTo(1, 5);
    const first = await run(model, { pixelValues: pictures(1) });
    first.data.forEach((value, i) => {
      expect(value).toBeCloseTo(all.data[i]!, 5);
    });
  });

  it("is the same in any grouping of its stages", async () => {
    const whole = await run(model, { pixelValues: pictures(2) });
    const parts = await run(model, { pixelValues: pictures(2) }, [1, 2, 2]);
    parts.data.forEach((value, i) => {
      expect(value).toBeCloseTo(whole.data[i]!, 5);
    });
  });
});

describe("the caption tower", () => {
  const model = emojiAlign.text.model(config, { batch: "batch" });

  it("does not see what is written at padding", async () => {
    const feeds = captions([
      [5, 6, 7, 1],
      [8, 1],
    ]);
    const before = await run(model, feeds);
    for (const length of lengths(before)) expect(length).toBeCloseTo(1, 5);
    feeds.inputIds.data[4] = 9n;
    feeds.inputIds.data[6 + 3] = 9n;
    const after = await run(model, feeds);
    after.data.forEach((value, i) => {
      expect(value).toBeCloseTo(before.data[i]!, 5);
    });
  });

  it("sees the words and their order", async () => {
    const embedded = await run(
      model,
      captions([
        [5, 6, 1],
        [6, 5, 1],
        [5, 7, 1],
      ]),
    );
    const row = (i: number) => embedded.data.subarray(5 * i, 5 * (i + 1));
    const far = (i: number) => Math.hypot(...row(i).map((value, j) => value - row(0)[j]!));
    expect(far(1)).toBeGreaterThan(0.01);
    expect(far(2)).toBeGreaterThan(0.01);
  });
});

it("refuses sizes that do not fit together", () => {
  for (const wrong of [{ blocks: [1] }, { norm_num_groups: 3 }, { image_size: 20 }, { text_heads: 3 }]) {
    expect(() => emojiAlign.image.parseConfig({ ...tinyAlignConfig, ...wrong })).toThrow(ConfigError);
  }
});

describe("the contrastive loss", () => {
  const loss = async (
    text: FloatTensor,
    image: FloatTensor,
    shared: [number, number][] = [],
    logScale = Math.log(10),
  ) => {
    const [pairs] = text.shape as [number];
    const built = contrastiveLoss(input("text", text.shape), input("image", image.shape), input("logScale", []));
    const exempt = floatTensor([pairs, pairs]);
    notNegatives(exempt, (a, b) => shared.some(([x, y]) => x === a && y === b));
    const { loss: value, accuracy } = await evaluate(
      { loss: built.loss, accuracy: built.accuracy },
      { text, image, exempt, logScale: floatTensor([], Float32Array.of(logScale)) },
    );
    return { loss: value.data[0] as number, accuracy: accuracy.data[0] as number };
  };
  const axes = floatTensor([3, 3], Float32Array.of(1, 0, 0, 0, 1, 0, 0, 0, 1));
  const equal = floatTensor([3, 3], Float32Array.of(1, 0, 0, 1, 0, 0, 1, 0, 0));

  it("is log n where everything is alike, and log(1 + (n - 1) / e^scale) where pairs alone are", async () => {
    expect((await loss(equal, equal)).loss).toBeCloseTo(Math.log(3), 5);
    expect(await loss(axes, axes)).toEqual({ loss: expect.closeTo(Math.log(1 + 2 * Math.exp(-10)), 6), accuracy: 1 });
  });

  it("leaves out pairs whose caption belongs to the other picture too, in both directions", async () => {
    // Caption 0 and picture 1: two candidates are left in row 0 and in column 1, three in the others.
    const expected = (Math.log(2) + 2 * Math.log(3)) / 3;
    expect((await loss(equal, equal, [[0, 1]])).loss).toBeCloseTo(expected, 5);
  });

  it("stays a number at scales that training may drive it to", async () => {
    const away = floatTensor(
      [3, 3],
      axes.data.map((value) => -value),
    );
    // Every pair is opposite and the others at right angles: 40 + log 2 for a scale that is held at 40.
    expect((await loss(axes, away, [], 9)).loss).toBeCloseTo(40 + Math.log(2), 3);
  });
});

describe("the gradient of the whole", () => {
  let table: { name: string; analytic: number; numeric: number }[];
  beforeAll(async () => {
    const { source, parameters } = parameterWeights();
    const image = buildModel(emojiAlign.image.model(config, { batch: 3 }), source)["imageEmbeds"]!;
    const text = buildModel(emojiAlign.text.model(config, { batch: 3 }), source)["textEmbeds"]!;
    const { loss } = contrastiveLoss(text, image, source("log_scale", []));
    const names = [...parameters.keys()];
    const derivatives = gradients(
      loss,
      names.map((name) => parameters.get(name)!),
    );
    const values: Record<string, FloatTensor> = {
      ...Object.fromEntries(weights),
      log_scale: floatTensor([], Float32Array.of(Math.log(5))),
    };
    const feeds = {
      ...values,
      ...captions([
        [5, 6, 7, 1],
        [8, 1],
        [9, 5, 1],
      ]),
      pixelValues: pictures(3),
      exempt: floatTensor([3, 3]),
    };
    const outputs = Object.fromEntries(names.map((name, i) => [`gradient:${name}`, derivatives[i]!]));
    const analytic = await evaluate(outputs, feeds);
    const at = async () => Number((await evaluate({ loss }, feeds))["loss"].data[0]);
    table = [];
    // Along the gradient itself, one tensor at a time: the slope must be the gradient's length.
    for (const name of [
      "image.conv_in.weight",
      "image.stages.1.downsample.weight",
      "image.stages.0.blocks.0.conv1.weight",
      "image.projection.weight",
      "text.tokens.weight",
      "text.positions.weight",
      "text.blocks.0.attn.to_q.weight",
      "text.projection.weight",
      "log_scale",
    ]) {
      const gradient = analytic[`gradient:${name}`]!.data as Float32Array;
      const length = Math.hypot(...gradient);
      const { data } = values[name]!;
      const original = data.slice();
      const step = 0.02;
      const moved = async (by: number) => {
        data.set(original.map((value, i) => value + (by * gradient[i]!) / length));
        return at();
      };
      const numeric = ((await moved(step)) - (await moved(-step))) / (2 * step);
      data.set(original);
      table.push({ name, analytic: length, numeric });
    }
  });

  it("is the slope of the loss along it, by finite differences, in every kind of layer", () => {
    for (const { name, analytic, numeric } of table) {
      expect(analytic, name).toBeGreaterThan(1e-4);
      expect(Math.abs(numeric / analytic - 1), name).toBeLessThan(0.02);
    }
  });
});
