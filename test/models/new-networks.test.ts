/** What the networks of Stable Diffusion XL and 3 and their previews take and refuse, beside their reference vectors (settings.test.ts). */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { ArgumentError, CheckpointError, ConfigError } from "../../src/errors.ts";
import type { Architecture, Geometry } from "../../src/models/architecture.ts";
import { autoencoderTiny, scaleLatents, unscaleLatents } from "../../src/models/autoencoder-tiny.ts";
import { clipText, clipTextWithProjection } from "../../src/models/clip-text.ts";
import { checkCounts } from "../../src/models/counts.ts";
import { architectureOf, networksOf } from "../../src/models/registry.ts";
import { sd3 } from "../../src/models/sd3.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { unet2DCondition } from "../../src/models/unet-2d-condition.ts";
import { checkpointWeights, weightLocations } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { flowOf } from "../../src/streamlined/grouping.ts";
import { StreamlinedSession } from "../../src/streamlined/session.ts";
import { floatTensor, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { seededRandom } from "../../training/random.ts";
import { drawWeights } from "../support/drawn.ts";
import { fixture, tensors } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { randomPlan } from "../support/plans.ts";

/** A fixture's configuration, the weights that both sides draw, and its reference. */
async function drawnCase(name: string) {
  const folder = fixture(`models-0.42/${name}`);
  const raw = (await folder.json("config.json")) as RawConfig;
  const path = await temporaryFolder();
  await writeFile(join(path, "config.json"), JSON.stringify(raw));
  await writeSafetensors(join(path, "model.safetensors"), drawWeights(raw));
  return { raw, files: await openWeights(new NodeFolder(path, name)), io: await tensors(folder) };
}

describe("CLIP's text tower", () => {
  const outputs = async (name: string, geometry: Partial<Geometry>) => {
    const { raw, files, io } = await drawnCase(name);
    const architecture = architectureOf(raw);
    const whole = { batch: 2, tokens: 6, ...geometry };
    const model = await loadModel(nodeRuntime, architecture, architecture.parseConfig(raw), files, whole);
    const found = await model.run({ inputIds: io.get("input.input_ids")! });
    await model.release();
    return { found, io, files };
  };

  /** Over the last axis, with the tower's final norm, as diffusers does it to a state that CLIP skip takes. */
  function normalised(state: Tensor, scale: Tensor, shift: Tensor): Float32Array {
    const width = state.shape.at(-1)!;
    const data = Float64Array.from(state.data as Float32Array);
    for (let start = 0; start < data.length; start += width) {
      const row = data.slice(start, start + width);
      const mean = row.reduce((a, b) => a + b, 0) / width;
      const variance = row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / width;
      for (let i = 0; i < width; i++) {
        data[start + i] =
          ((row[i]! - mean) / Math.sqrt(variance + 1e-5)) * Number(scale.data[i]) + Number(shift.data[i]);
      }
    }
    return Float32Array.from(data);
  }

  it.each([1, 2])("with %i layers skipped gives the final norm of the state before them", async (skippedLayers) => {
    const { found, io, files } = await outputs("clip-states", { skippedLayers });
    const [scale, shift] = await Promise.all(
      ["weight", "bias"].map((name) => files.read(`text_model.final_layer_norm.${name}`)),
    );
    const expected = normalised(io.get(`output.hidden_states.${3 - skippedLayers}`)!, scale!, shift!);
    expect(compare("state", found["lastHiddenState"]!.data, expected).relative).toBeLessThan(1e-5);
  });

  it("gives the states that are asked for, and no others", async () => {
    const { found, io } = await outputs("clip-projection-states", { hiddenStates: [2] });
    expect(Object.keys(found)).toEqual(["textEmbeds", "lastHiddenState", "hiddenStates.2"]);
    const expected = io.get("output.hidden_states.2")!.data as Float32Array;
    expect(compare("state", found["hiddenStates.2"]!.data, expected).relative).toBeLessThan(1e-5);
  });

  it.each([
    [{ hiddenStates: [4] }, "there is no state after layer 4; 3 layers are run."],
    [{ hiddenStates: [-1] }, "there is no state after layer -1"],
    [{ hiddenStates: [3], skippedLayers: 1 }, "there is no state after layer 3; 2 layers are run."],
    [{ skippedLayers: 3 }, "3 layers to skip; it has 3, of which at least one is needed."],
    [{ skippedLayers: -1 }, "-1 layers to skip"],
    [{ skippedLayers: 0.5 }, "0.5 layers to skip"],
  ])("refuses %j", (geometry, message) => {
    for (const architecture of [clipText, clipTextWithProjection]) {
      const config = architecture.parseConfig({ num_hidden_layers: 3 });
      const model = () => architecture.model(config, { batch: 1, tokens: 7, ...geometry });
      expect(model).toThrow(ArgumentError);
      expect(model).toThrow(message);
    }
  });
});

describe("AutoencoderTiny's latents as pictures", () => {
  // diffusers: x.div(2 * latent_magnitude).add(latent_shift).clamp(0, 1) and x.sub(latent_shift).mul(2 * latent_magnitude)
  it("are [0, 1] for -3 to 3, and go back", () => {
    const config = autoencoderTiny.decoder.parseConfig({});
    expect([-4, -3, 0, 1.5, 3, 7].map((x) => scaleLatents(x, config))).toEqual([0, 0, 0.5, 0.75, 1, 1]);
    for (const x of [-2.5, 0, 1, 3]) expect(unscaleLatents(scaleLatents(x, config), config)).toBeCloseTo(x, 12);
  });
});

describe("what the networks refuse", () => {
  const xl = {
    addition_embed_type: "text_time",
    addition_time_embed_dim: 256,
    projection_class_embeddings_input_dim: 2816,
  };
  it.each<[RawConfig, Architecture<unknown>, string]>([
    [{ caption_projection_dim: 1000 }, sd3, 'config "caption_projection_dim" is 1000; supported is 1152.'],
    [{ qk_norm: "layer_norm" }, sd3, 'config "qk_norm" is "layer_norm"; supported is one of "rms_norm".'],
    [{ pos_embed_max_size: null }, sd3, 'config "pos_embed_max_size" is null'],
    [{ pos_embed_max_size: 1e9 }, sd3, "a whole number from 1 to 1024"],
    [{ num_attention_heads: 2 ** 16 }, sd3, "make a width of 4194304; at most 131072 is supported."],
    [{ dual_attention_layers: [-1] }, sd3, 'config "dual_attention_layers" is [-1]'],
    [{ use_rotary: true }, sd3, '"use_rotary" (true), which this version does not know'],
    [{ upsample_fn: "bilinear" }, autoencoderTiny.decoder, 'config "upsample_fn" is "bilinear"'],
    [{ act_fn: "mish" }, autoencoderTiny.decoder, 'config "act_fn" is "mish"'],
    [{ num_decoder_blocks: [3, 1] }, autoencoderTiny.decoder, "has 4 resolutions"],
    [
      { encoder_block_out_channels: [64, 64, 64, 32] },
      autoencoderTiny.encoder,
      "supported is the same number for all.",
    ],
    [{ ...xl, addition_time_embed_dim: 255 }, unet2DCondition, 'config "addition_time_embed_dim" is 255'],
    [{ resnet_time_scale_shift: "spatial" }, unet2DCondition, 'config "resnet_time_scale_shift" is "spatial"'],
    // diffusers: "Must provide 'reverse_transformer_layers_per_block` if using asymmetrical UNet."
    [
      { transformer_layers_per_block: [1, [1, 1], 1, 1] },
      unet2DCondition,
      '"transformer_layers_per_block" is [1,[1,1],1,1]',
    ],
    [
      { reverse_transformer_layers_per_block: [1, [1, 1], 1, 1] },
      unet2DCondition,
      "or a list of 4 of them or of lists for each layer",
    ],
    [{ dual_cross_attention: true }, unet2DCondition, 'config "dual_cross_attention" is true'],
  ])("%j", (raw, architecture, message) => {
    expect(() => architecture.parseConfig(raw)).toThrow(ConfigError);
    expect(() => architecture.parseConfig(raw)).toThrow(message);
  });

  it("sizes that they cannot have", () => {
    const config = sd3.parseConfig({});
    const latent = (height: number, width: number) => () => sd3.model(config, { batch: 1, tokens: 3, height, width });
    for (const make of [latent(7, 8), latent(8, 194), latent(0, 8)]) {
      expect(make).toThrow(ArgumentError);
      expect(make).toThrow('its sides are multiples of patch_size 2, up to 192 (config "pos_embed_max_size").');
    }
    const unet = unet2DCondition.parseConfig(xl);
    for (const timeIds of [11, 0, 1.5]) {
      expect(() => unet2DCondition.model(unet, { batch: 1, tokens: 3, height: 8, width: 8, timeIds })).toThrow(
        ArgumentError,
      );
    }
  });

  it.each([
    ["sd3-5-medium", { num_layers: 4000 }, '"num_layers" says 4000 for "transformer_blocks", but the weights have 3'],
    ["sd3-5-medium", { in_channels: 2 ** 17 }, '"in_channels" says 131072'],
    ["vae-tiny", { num_decoder_blocks: [4000, 4000, 4000] }, '"num_decoder_blocks" says 12007 for "decoder.layers"'],
    [
      "unet-xl",
      { projection_class_embeddings_input_dim: 100_000 },
      '"projection_class_embeddings_input_dim" says 100000',
    ],
    ["unet-time-cond", { time_cond_proj_dim: 100_000 }, '"time_cond_proj_dim" says 100000'],
    ["unet-ssd", { transformer_layers_per_block: [1, [2, 4000]] }, '"transformer_layers_per_block" says 4000'],
  ])("of %s %j, which the weights do not bear out, before anything is built", async (name, change, message) => {
    const { raw, files } = await drawnCase(name);
    const check = () => {
      for (const architecture of Object.values(networksOf(raw))) {
        checkCounts(architecture.counts!(architecture.parseConfig({ ...raw, ...change })), files);
      }
    };
    expect(check).toThrow(CheckpointError);
    expect(check).toThrow(message);
  });
});

describe("plans", () => {
  it("of a UNet of Stable Diffusion XL give what diffusers gives", async () => {
    const { raw, files, io } = await drawnCase("unet-xl");
    const config = unet2DCondition.parseConfig(raw);
    const model = unet2DCondition.model(config, { batch: 2, height: 8, width: 12, tokens: 5 });
    const input = (name: string) => io.get(`input.${name}`)!;
    const feeds = {
      sample: input("sample"),
      timestep: floatTensor([2], Float32Array.from(input("timestep").data as BigInt64Array, Number)),
      encoderHiddenStates: input("encoder_hidden_states"),
      textEmbeds: input("added_cond_kwargs.text_embeds"),
      timeIds: input("added_cond_kwargs.time_ids"),
    };
    const random = seededRandom(9);
    for (let i = 0; i < 4; i++) {
      const plan = randomPlan(flowOf(model), 2, random);
      const source = checkpointWeights(files, "unet-xl");
      const locations = weightLocations(files);
      const session = await StreamlinedSession.compile(nodeRuntime, model, source, locations, plan, { threads: 1 });
      const { sample } = await session.run(feeds);
      await session.release();
      const expected = io.get("output.sample")!.data as Float32Array;
      expect(compare("sample", sample!.data, expected).relative, JSON.stringify(plan)).toBeLessThan(1e-4);
    }
  });
});

describe("the table of positions", () => {
  it("is taken from its middle, as diffusers crops it, from halves too", async () => {
    const { raw, files, io } = await drawnCase("sd3-medium");
    const config = sd3.parseConfig(raw);
    const path = await temporaryFolder();
    const read = await Promise.all(
      [...files.entries.keys()].map(async (name) => [name, await files.read(name)] as const),
    );
    const weights = new Map(read.map(([name, { shape, data }]) => [name, floatTensor(shape, data as Float32Array)]));
    await writeSafetensors(join(path, "model.safetensors"), weights, { dtype: "F16" });
    const model = await loadModel(nodeRuntime, sd3, config, await openWeights(new NodeFolder(path, "halves")), {
      ...{ batch: 2, tokens: 5, height: 8, width: 6 },
    });
    const { sample } = await model.run({
      hiddenStates: io.get("input.hidden_states")!,
      timestep: io.get("input.timestep")!,
      encoderHiddenStates: io.get("input.encoder_hidden_states")!,
      pooledProjections: io.get("input.pooled_projections")!,
    });
    await model.release();
    // Weights that were rounded to halves; the wrong part of the table would be off by its size.
    const expected = io.get("output.sample")!.data as Float32Array;
    expect(compare("sample", sample!.data, expected).relative).toBeLessThan(0.01);
  });
});
