import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { ArgumentError, ConfigError } from "../../src/errors.ts";
import { gradients } from "../../src/graph/gradient.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { constant } from "../../src/graph/value.ts";
import { initModel } from "../../src/init/init-node.ts";
import { presets } from "../../src/init/presets.ts";
import {
  type Architecture,
  buildModel,
  type Geometry,
  type Stage,
  weightShapes,
} from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { positionTable } from "../../src/models/temporal-layers.ts";
import { unet2DCondition } from "../../src/models/unet-2d-condition.ts";
import { unetMotion } from "../../src/models/unet-motion.ts";
import { unetSpatioTemporal } from "../../src/models/unet-spatio-temporal.ts";
import { parameterWeights } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type FloatTensor, floatTensor, sizeOf, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { random, randomTensor } from "../support/gradient-error.ts";
import { temporaryFolder } from "../support/models.ts";
import { type Cutter, runInSlices } from "../support/slices.ts";
import { unetCase, unets } from "../support/unets.ts";

describe("UNets against diffusers", () => {
  it.each(unets)("%s", async (name) => {
    const { folder } = await unetCase(name);
    const { outputs, pass } = await verifyFolder(folder, nodeRuntime);
    expect(outputs.map((output) => output.name)).toEqual(["output.sample"]);
    expect(outputs[0]!.relative).toBeLessThan(3e-5);
    expect(pass).toBe(true);
  });

  it.each(unets)("%s with a batch that stays open, also a smaller one", async (name) => {
    const { architecture, config, geometry, feeds, folder, expected } = await unetCase(name);
    const files = await openWeights(folder);
    const model = await loadModel(nodeRuntime, architecture, config, files, { ...geometry, batch: "batch" });
    const whole = (await model.run(feeds))["sample"]!;
    expect(compare(name, whole.data, expected.data).relative).toBeLessThan(3e-5);
    const rows = Object.fromEntries(Object.entries(feeds).map(([key, tensor]) => [key, row(tensor)]));
    const first = (await model.run(rows))["sample"]!;
    expect(compare(name, first.data, row(expected).data).relative).toBeLessThan(3e-5);
    await model.release();
  });

  it.each(unets)("%s in other groups of stages", async (name) => {
    const { architecture, config, geometry, feeds, folder, expected } = await unetCase(name);
    const files = await openWeights(folder);
    const { length } = architecture.model(config, geometry).stages;
    for (const groups of [new Array<number>(length).fill(1), [3, 10, length - 13]]) {
      const model = await loadModel(nodeRuntime, architecture, config, files, geometry, { groups, threads: 1 });
      const { sample } = await model.run(feeds);
      await model.release();
      expect(compare(name, sample!.data, expected.data).relative).toBeLessThan(3e-5);
    }
  });
});

describe("UNets with weights in halves", () => {
  it("are those with the same numbers in floats", async () => {
    const { architecture, config, geometry, feeds, weights } = await unetCase("unet-motion");
    const run = async (tensors: ReadonlyMap<string, Tensor>, dtype: "F16" | "F32") => {
      const path = await temporaryFolder();
      await writeSafetensors(join(path, "model.safetensors"), tensors, { dtype });
      const files = await openWeights(new NodeFolder(path));
      const model = await loadModel(nodeRuntime, architecture, config, files, geometry);
      const { sample } = await model.run(feeds);
      await model.release();
      const widened = await Promise.all([...weights.keys()].map(async (key) => [key, await files.read(key)] as const));
      return { sample: sample!.data, widened: new Map(widened) };
    };
    const halves = await run(weights, "F16");
    const floats = await run(halves.widened, "F32");
    expect(compare("sample", halves.sample, floats.sample).relative).toBeLessThan(2e-6);
  });
});

/** Of the weights, for differences: errors of fourth order are below those of single precision. */
const STEP = 0.004;

/** The first of a batch. */
const row = ({ shape, data }: FloatTensor): FloatTensor =>
  floatTensor([1, ...shape.slice(1)], data.slice(0, data.length / shape[0]!));

/** Parts of random lengths of the dimension that a stage can be cut along, or of the batch. */
function randomCuts(stage: Stage, length: (dimension: string) => number, random: () => number) {
  const dimension = stage.axis === "whole" || random() < 0.2 ? "batch" : stage.axis;
  const parts: number[] = [];
  for (let rest = length(dimension); rest > 0; rest -= parts.at(-1)!) parts.push(1 + Math.floor(random() * rest));
  return { dimension, parts };
}

describe("stages of UNets", () => {
  it.each(unets)("%s: in slices of any lengths they give the same numbers", async (name) => {
    const { architecture, config, geometry, feeds, folder, expected } = await unetCase(name);
    const files = await openWeights(folder);
    const model = architecture.model(config, geometry);
    const property = fc.asyncProperty(fc.infiniteStream(fc.nat(999)), async (stream) => {
      const random = () => (stream.next().value as number) / 1000;
      const cutter: Cutter = (stage, length) => randomCuts(stage, length, random);
      const { data } = (await runInSlices(model, files, feeds, cutter)).get("sample")!;
      expect(compare(name, data, expected.data).relative).toBeLessThan(3e-5);
    });
    await fc.assert(property, { numRuns: 3, seed: 5 });
  });

  it.each(unets)("%s: nothing large has to be whole, and every feature is written once", async (name) => {
    const { architecture, config, geometry } = await unetCase(name);
    const { stages, inputs } = architecture.model(config, geometry);
    const written = new Set(Object.keys(inputs).filter((feature) => feature !== "sample"));
    for (const stage of stages) {
      expect(Object.keys(stage.layouts!).sort()).toEqual([...new Set([...stage.reads, ...stage.writes])].sort());
      for (const feature of stage.writes) {
        expect(written, `${stage.name} writes ${feature}`).not.toContain(feature);
        written.add(feature);
        const pictures = stage.axis === "frame" && architecture.framesAxis === undefined;
        if (stage.axis === "whole" || pictures) continue;
        expect(Object.keys(stage.layouts![feature]!), feature).toContain(stage.axis);
      }
      if (stage.axis !== "whole") continue;
      for (const [feature, layout] of Object.entries(stage.layouts!)) {
        expect("position" in layout && "frame" in layout, `${stage.name} has ${feature}`).toBe(false);
      }
    }
  });

  it.each(unets)("%s: layouts say what the values' shapes are", async (name) => {
    const { architecture, config, geometry, feeds, folder } = await unetCase(name);
    const files = await openWeights(folder);
    const model = architecture.model(config, geometry);
    for (const [feature, { shape }] of Object.entries(feeds)) {
      const layout = model.stages.map(({ layouts }) => layouts![feature]).find(Boolean)!;
      expect(Object.values(layout)).toEqual(shape);
    }
    const features = await runInSlices(model, files, feeds, () => null);
    for (const { layouts, writes } of model.stages) {
      for (const feature of writes) expect(features.get(feature)!.shape).toEqual(Object.values(layouts![feature]!));
    }
  });
});

describe("gradients of UNets", () => {
  it.each(["unet-2d", "unet-motion", "unet-svd"])(
    "%s: the slope of the loss along them is their length",
    async (name) => {
      const { architecture, config, geometry, feeds, expected, weights } = await unetCase(name);
      const { source, parameters } = parameterWeights();
      const output = buildModel(architecture.model(config, geometry), source)["sample"]!;
      const dy = randomTensor(expected.shape, random(3));
      const values = gradients(
        null,
        [...parameters.values()],
        [[output, constant(dy.data, dy.shape as number[], "float32")]],
      );
      const backward = await nodeRuntime.compile(
        toOnnx(Object.fromEntries(values.map((value, i) => [`d${i}`, value]))),
      );
      const found = await backward.run({ ...feeds, ...Object.fromEntries(weights) });
      const forward = await nodeRuntime.compile(toOnnx({ output }));
      const along = new Map([...parameters.keys()].map((key, i) => [key, found[`d${i}`]!.data as Float32Array]));
      const norm = Math.hypot(...[...along.values()].map((gradient) => Math.hypot(...gradient)));
      const loss = async (step: number) => {
        const moved = [...weights].map(([key, { shape, data }]) => {
          const gradient = along.get(key)!;
          return [
            key,
            floatTensor(
              shape,
              data.map((value, i) => value + (step * gradient[i]!) / norm),
            ),
          ] as const;
        });
        const result = (await forward.run({ ...feeds, ...Object.fromEntries(moved) }))["output"]!.data as Float32Array;
        return result.reduce((sum, value, i) => sum + value * dy.data[i]!, 0);
      };
      const slope = async (h: number) => ((await loss(h)) - (await loss(-h))) / (2 * h);
      const measured = (4 * (await slope(STEP)) - (await slope(2 * STEP))) / 3;
      expect(Math.abs(measured - norm) / norm).toBeLessThan(5e-3);
      await Promise.all([backward.release(), forward.release()]);
    },
  );
});

describe("the published UNets", () => {
  // Numbers of elements in diffusers 0.30.3's state_dict; of Stable Diffusion 1.5 and SVD the well-known ones.
  it.each([
    ["sd-1.5", 859_520_964, 686],
    ["animatediff", 1_313_334_404, 1253],
    ["svd", 1_524_623_082, 1428],
  ])("%s", (preset, elements, tensors) => {
    const raw = presets.get(preset)!;
    const architecture = architectureOf(raw);
    const shapes = weightShapes(architecture.model(architecture.parseConfig(raw), { batch: 1, tokens: 1 }));
    expect([...shapes.values()].reduce((sum, shape) => sum + sizeOf(shape), 0)).toBe(elements);
    expect(shapes.size).toBe(tensors);
  });

  it.each<[string, Architecture<unknown>]>([
    ["sd-1.5", unet2DCondition],
    ["animatediff", unetMotion],
  ])("%s is what a configuration without keys says", (preset, architecture) => {
    expect(architecture.parseConfig({ cross_attention_dim: 768, sample_size: 64 })).toEqual(
      architecture.parseConfig(presets.get(preset)!),
    );
  });

  it.each(["unet-2d", "unet-motion", "unet-svd"])(
    "%s with random weights keeps the size of what goes through",
    async (name) => {
      const { raw, architecture, config, geometry, feeds } = await unetCase(name);
      const folder = join(await temporaryFolder(), "made");
      await initModel(folder, raw, { seed: 1 });
      const files = await openWeights(new NodeFolder(folder));
      const model = await loadModel(nodeRuntime, architecture, config, files, geometry);
      const data = (await model.run(feeds))["sample"]!.data as Float32Array;
      await model.release();
      const deviation = Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
      expect(deviation).toBeGreaterThan(0.1);
      expect(deviation).toBeLessThan(10);
    },
  );

  it("the table of frames' positions is PyTorch's", () => {
    // Row 1 of a table of 12 channels in a reference checkpoint.
    const row = [0.84147096, 0.54030234, 0.21378067, 0.97688168, 0.04639922, 0.99892294, 0.00999983, 0.99994999];
    const table = positionTable(3, 12);
    for (const [i, value] of row.entries()) expect(table[12 + i]).toBeCloseTo(value, 6);
    expect([...table.subarray(0, 4)]).toEqual([0, 1, 0, 1]);
  });
});

describe("what a UNet refuses", () => {
  it.each<[Record<string, unknown>, Architecture<unknown>, string]>([
    [
      { down_block_types: ["AttnDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"] },
      unet2DCondition,
      'config "down_block_types" has "AttnDownBlock2D"; supported are CrossAttnDownBlock2D, DownBlock2D and SimpleCrossAttnDownBlock2D.',
    ],
    [
      { up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"] },
      unet2DCondition,
      'config "up_block_types" has 2 blocks, but block_out_channels has 4.',
    ],
    [
      { mid_block_type: "UNetMidBlockFlat" },
      unet2DCondition,
      'config "mid_block_type" is "UNetMidBlockFlat"; supported is',
    ],
    [
      { addition_embed_type: "image" },
      unet2DCondition,
      'config "addition_embed_type" is "image"; supported is one of "text_time".',
    ],
    [{ addition_embed_type: "text_time" }, unet2DCondition, 'config has no "addition_time_embed_dim"'],
    [
      {
        addition_embed_type: "text_time",
        addition_time_embed_dim: 256,
        projection_class_embeddings_input_dim: 256,
      },
      unet2DCondition,
      'config "addition_time_embed_dim" is 256 and "projection_class_embeddings_input_dim" 256; supported is an even',
    ],
    [{ only_cross_attention: [true] }, unet2DCondition, 'config "only_cross_attention" is [true]'],
    [
      { block_out_channels: [320, 640, 1280, 1300] },
      unet2DCondition,
      "1300 channels cannot be normalised in 32 groups.",
    ],
    [{ attention_head_dim: 7 }, unet2DCondition, '320 channels are not 7 equal heads (config "attention_head_dim").'],
    [{ attention_head_dim: [5, 10] }, unet2DCondition, "from 1 to 131072, or a list of 4 of them."],
    [{ transformer_layers_per_block: [[1, 2]] }, unet2DCondition, 'config "transformer_layers_per_block" is [[1,2]]'],
    [{ layers_per_block: 0 }, unet2DCondition, 'config "layers_per_block" is 0; supported is a whole number from 1'],
    [
      { downsample_padding: 2 },
      unet2DCondition,
      'config "downsample_padding" is 2; supported is a whole number from 0 to 1.',
    ],
    [
      { block_out_channels: [3, 6, 6, 6], norm_num_groups: 3, attention_head_dim: 3 },
      unet2DCondition,
      'config "block_out_channels" begins with 3, an odd number.',
    ],
    [{ down_block_types: ["DownBlock2D"] }, unetMotion, "supported are CrossAttnDownBlockMotion and DownBlockMotion."],
    [{ motion_num_attention_heads: 7 }, unetMotion, '(config "motion_num_attention_heads").'],
    [{ reverse_transformer_layers_per_block: [1] }, unetMotion, 'config "reverse_transformer_layers_per_block" is [1]'],
    [{ motion_max_seq_length: "32" }, unetMotion, 'config "motion_max_seq_length" is "32"'],
    [
      { projection_class_embeddings_input_dim: 700 },
      unetSpatioTemporal,
      'config "projection_class_embeddings_input_dim" is 700; supported is a multiple of "addition_time_embed_dim"',
    ],
    [
      { block_out_channels: [320, 640, 1280, 48] },
      unetSpatioTemporal,
      "48 channels cannot be normalised in 32 groups.",
    ],
  ])("%j", (config, architecture, message) => {
    expect(() => architecture.parseConfig(config)).toThrow(ConfigError);
    expect(() => architecture.parseConfig(config)).toThrow(`${architecture.className}: `);
    expect(() => architecture.parseConfig(config)).toThrow(message);
  });

  it.each<[string, Geometry, string]>([
    ["unet-2d", { batch: 1, height: 0, width: 8, tokens: 5 }, "a latent of 0 x 8"],
    ["unet-2d", { batch: 1, height: 8.5, width: 8, tokens: 5 }, "a latent of 8.5 x 8"],
    ["unet-2d", { batch: 1 }, "how many tokens has the text?"],
    [
      "unet-motion",
      { batch: 1, tokens: 5, frames: 8 },
      "a video of 8 frames; its motion modules have positions for 1 to 7",
    ],
    ["unet-motion", { batch: 1, tokens: 5, frames: 0 }, "a video of 0 frames"],
    ["unet-motion", { batch: 1, tokens: 5, frames: 1.5 }, "a video of 1.5 frames"],
    ["unet-svd", { batch: 1, tokens: 2, frames: 0 }, "a video of 0 frames; at least 1 is needed."],
  ])("%s of %j", async (name, geometry, message) => {
    const { architecture, config } = await unetCase(name);
    expect(() => architecture.model(config, geometry)).toThrow(ArgumentError);
    expect(() => architecture.model(config, geometry)).toThrow(message);
  });

  it("a size that neither the caller nor the configuration gives", () => {
    const config = unet2DCondition.parseConfig({});
    expect(() => unet2DCondition.model(config, { batch: 1, tokens: 5 })).toThrow(
      "UNet2DConditionModel: height and width are needed; its configuration has no sample_size.",
    );
  });
});
