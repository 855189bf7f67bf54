import { describe, expect, it } from "vitest";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { ConfigError } from "../../src/errors.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { dit } from "../../src/models/dit.ts";
import { positionTable } from "../../src/models/patch-transformer.ts";
import { pixart } from "../../src/models/pixart.ts";
import { architectureOf, networksOf, supportedClasses } from "../../src/models/registry.ts";
import { positionBuckets, t5 } from "../../src/models/t5.ts";

describe("the class of a configuration", () => {
  it.each<[RawConfig, string]>([
    [{ _class_name: "DiTTransformer2DModel" }, "DiTTransformer2DModel"],
    [{ _class_name: "Transformer2DModel", norm_type: "ada_norm_zero" }, "DiTTransformer2DModel"],
    [{ _class_name: "PixArtTransformer2DModel" }, "PixArtTransformer2DModel"],
    [{ _class_name: "Transformer2DModel", norm_type: "ada_norm_single" }, "PixArtTransformer2DModel"],
    [{ architectures: ["T5EncoderModel"] }, "T5EncoderModel"],
    [{ architectures: ["T5ForConditionalGeneration"], model_type: "t5" }, "T5EncoderModel"],
    [{ model_type: "t5" }, "T5EncoderModel"],
  ])("%j is %s", (config, name) => expect(architectureOf(config).className).toBe(name));

  it("has two networks for an autoencoder", () => {
    const config = { _class_name: "AutoencoderKL" };
    expect(Object.keys(networksOf(config))).toEqual(["encoder", "decoder"]);
    expect(() => architectureOf(config)).toThrow("AutoencoderKL has several networks: encoder, decoder.");
  });

  it.each<[RawConfig, string]>([
    [
      { _class_name: "FluxTransformer2DModel" },
      "FluxTransformer2DModel is not supported; supported are AutoencoderKL, ",
    ],
    [{ _class_name: "constructor" }, "constructor is not supported"],
    [{ model_type: "umt5" }, 'model_type "umt5" is not supported'],
    [{}, "The configuration names no class"],
    [{ _class_name: "Transformer2DModel" }, 'config "norm_type" is undefined; supported is one of ada_norm_zero, '],
    [{ _class_name: "Transformer2DModel", norm_type: "layer_norm" }, 'config "norm_type" is "layer_norm"'],
  ])("%j is refused", (config, message) => {
    expect(() => networksOf(config)).toThrow(ConfigError);
    expect(() => networksOf(config)).toThrow(message);
  });

  it("lists what is supported", () => expect(supportedClasses).toContain("PixArtTransformer2DModel"));
});

// Defaults of diffusers 0.30.3's and transformers' constructors, where checkpoints leave keys out.
describe("configurations", () => {
  it("of DiT-XL/2", () => {
    const config = dit.parseConfig({ _class_name: "DiTTransformer2DModel", out_channels: 8 });
    expect(config).toMatchObject({
      width: 1152,
      heads: 16,
      numLayers: 28,
      sampleSize: 32,
      normEps: 1e-5,
      numClasses: 1000,
    });
    const shapes = [...weightShapes(dit.model(config, { batch: "batch" })).values()];
    const parameters = shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
    // 675 M in the paper, which has one timestep and label embedding for all blocks.
    expect(parameters).toBeCloseTo(749.8e6, -6);
  });

  it("of PixArt: scale and size conditions follow from the sample size", () => {
    const base = { caption_channels: 4096 };
    expect(pixart.parseConfig(base)).toMatchObject({
      useAdditionalConditions: true,
      interpolationScale: 2,
      outChannels: 8,
    });
    expect(pixart.parseConfig({ ...base, sample_size: 64 })).toMatchObject({
      useAdditionalConditions: false,
      interpolationScale: 1,
    });
    expect(pixart.parseConfig({ ...base, interpolation_scale: 4, use_additional_conditions: false })).toMatchObject({
      useAdditionalConditions: false,
      interpolationScale: 4,
    });
  });

  it("of T5: what the class has where the file is silent", () => {
    expect(t5.parseConfig({})).toMatchObject({
      width: 512,
      heads: 8,
      headWidth: 64,
      numLayers: 6,
      activation: "relu",
      gated: false,
    });
  });

  it.each([
    [
      dit,
      { activation_fn: "geglu" },
      'DiTTransformer2DModel: config "activation_fn" is "geglu"; supported is "gelu-approximate".',
    ],
    [dit, { norm_elementwise_affine: true }, 'config "norm_elementwise_affine" is true; supported is false.'],
    [dit, { num_layers: 0 }, 'config "num_layers" is 0; supported is a whole number from 1 to 4096.'],
    [dit, { num_attention_heads: "16" }, 'config "num_attention_heads" is "16"'],
    [dit, { norm_type: "ada_norm" }, 'config "norm_type" is "ada_norm"; supported is "ada_norm_zero".'],
    [pixart, { caption_channels: "8" }, 'PixArtTransformer2DModel: config "caption_channels" is "8"'],
    [
      pixart,
      { caption_channels: 8, cross_attention_dim: 768 },
      'config "cross_attention_dim" is 768; supported is 1152.',
    ],
    [
      pixart,
      { caption_channels: 8, attention_type: "gated" },
      'config "attention_type" is "gated"; supported is "default".',
    ],
    [pixart, { caption_channels: 8, _class_name: "Transformer2DModel" }, 'config "norm_type" is "layer_norm"'],
    [
      t5,
      { feed_forward_proj: "gated-mish" },
      'T5EncoderModel: config "feed_forward_proj" is "gated-mish"; supported is one of "gelu", "gated-gelu"',
    ],
    [t5, { relative_attention_num_buckets: 30 }, 'config "relative_attention_num_buckets" is 30'],
    [t5, { model_type: "umt5" }, 'config "model_type" is "umt5"; supported is "t5".'],
  ])("$0.className refuses %j", (architecture, config: RawConfig, message) => {
    expect(() => architecture.parseConfig(config)).toThrow(ConfigError);
    expect(() => architecture.parseConfig(config)).toThrow(message);
  });
});

describe("T5's feed-forward", () => {
  it.each(["relu", "gelu"])("has one matrix less with %s", (kind) => {
    const config = t5.parseConfig({
      feed_forward_proj: kind,
      num_layers: 1,
      d_model: 8,
      d_ff: 16,
      num_heads: 2,
      d_kv: 4,
    });
    const names = [...weightShapes(t5.model(config, { batch: 1, tokens: 3 })).keys()];
    expect(names.filter((name) => name.includes("DenseReluDense"))).toEqual([
      "encoder.block.0.layer.1.DenseReluDense.wi.weight",
      "encoder.block.0.layer.1.DenseReluDense.wo.weight",
    ]);
  });
});

describe("T5's buckets of distances", () => {
  // 8 + floor(8 log(distance / 8) / log(16)): an edge lies at 8 * 16^(k/8), so at 16, 32 and 64 too.
  it("widen with the distance, up to the largest", () => {
    const tokens = 200;
    const buckets = positionBuckets(tokens, { numBuckets: 32, maxDistance: 128 });
    const of = (query: number, key: number) => Number(buckets[query * tokens + key]);
    const before = [0, 1, 7, 8, 11, 12, 15, 16, 31, 32, 63, 64, 90, 91, 127, 128, 199].map((distance) =>
      of(199, 199 - distance),
    );
    expect(before).toEqual([0, 1, 7, 8, 8, 9, 9, 10, 11, 12, 13, 14, 14, 15, 15, 15, 15]);
    expect([1, 7, 8, 16, 64, 199].map((distance) => of(0, distance))).toEqual([17, 23, 24, 26, 30, 31]);
  });
});

describe("the position of patches", () => {
  const config = dit.parseConfig({ num_attention_heads: 1, attention_head_dim: 8, sample_size: 8 });

  it("has the column in its first half and the row in its second", () => {
    const table = positionTable(4, 4, config);
    const at = (row: number, column: number) => [...table.subarray((row * 4 + column) * 8, (row * 4 + column + 1) * 8)];
    const axis = (place: number) => [Math.sin(place), Math.sin(place / 100), Math.cos(place), Math.cos(place / 100)];
    expect(at(1, 3)).toEqual([...axis(3), ...axis(1)].map(Math.fround));
  });

  it("is stretched over another grid than the model's own", () => {
    const table = positionTable(8, 4, { ...config, interpolationScale: 2 });
    const [place] = [(6 / 2 / 2) as number];
    expect(table[6 * 4 * 8 + 4]).toBe(Math.fround(Math.sin(place)));
  });
});
