import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { MemoryFolder } from "../../src/checkpoints/files.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { CheckpointError, ConfigError } from "../../src/errors.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { unetMotion } from "../../src/models/unet-motion.ts";
import { openWithMotionAdapter, withMotionAdapter } from "../../src/models/unet-motion-adapter.ts";
import { weightLocations } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { unetCase } from "../support/unets.ts";

const name = "unet-motion-adapter";
const file = "diffusion_pytorch_model.safetensors";
const { weights, feeds, expected, geometry, raw: merged } = await unetCase(name);
const configs = {
  unet: (await fixture(name).json("unet.json")) as RawConfig,
  adapter: (await fixture(name).json("motion_adapter.json")) as RawConfig,
};
const isMotion = (key: string) => key.includes("motion_modules");
const parts = {
  unet: new Map([...weights].filter(([key]) => !isMotion(key))),
  adapter: new Map([...weights].filter(([key]) => isMotion(key))),
};

/** A UNet's folder and an adapter's, with the same names of files. */
async function folders(adapter: Map<string, FloatTensor> = parts.adapter, subfolder = "adapter") {
  const path = await temporaryFolder();
  const write = async (folder: string, config: RawConfig, tensors: Map<string, FloatTensor>) => {
    await mkdir(join(path, folder), { recursive: true });
    await writeFile(join(path, folder, "config.json"), JSON.stringify(config));
    await writeSafetensors(join(path, folder, file), tensors);
    return new NodeFolder(join(path, folder));
  };
  return [await write("sd/unet", configs.unet, parts.unet), await write(subfolder, configs.adapter, adapter)] as const;
}

async function errorOf(stored: Awaited<ReturnType<typeof openWithMotionAdapter>>) {
  const config = unetMotion.parseConfig(stored.config);
  const model = await loadModel(nodeRuntime, unetMotion, config, stored.weights, geometry);
  const { sample } = await model.run(feeds);
  await model.release();
  return compare(name, sample!.data, expected.data).relative;
}

// The configurations, the merged one and its output are diffusers': UNetMotionModel.from_unet2d.
describe("a UNet and a motion adapter", () => {
  it("are one UNetMotionModel, wherever the two folders are", async () => {
    for (const subfolder of ["adapter", "sd/unet/adapter"]) {
      const stored = await openWithMotionAdapter(...(await folders(parts.adapter, subfolder)));
      expect(unetMotion.parseConfig(stored.config)).toEqual(unetMotion.parseConfig(merged));
      expect(await errorOf(stored)).toBeLessThan(3e-5);
    }
  });

  it("also when the adapter has AnimateDiff's own names", async () => {
    const older = new Map<string, FloatTensor>();
    for (const [key, tensor] of parts.adapter) {
      const own = key
        .replace(/(motion_modules\.\d+)\./, "$1.temporal_transformer.")
        .replace(".attn1.", ".attention_blocks.0.")
        .replace(".attn2.", ".attention_blocks.1.")
        .replace(".norm1.", ".norms.0.")
        .replace(".norm2.", ".norms.1.")
        .replace(".norm3.", ".ff_norm.");
      if (!own.endsWith(".pos_embed.pe")) older.set(own, tensor);
      else for (const i of [0, 1]) older.set(own.replace("pos_embed", `attention_blocks.${i}.pos_encoder`), tensor);
    }
    expect(await errorOf(await openWithMotionAdapter(...(await folders(older))))).toBeLessThan(3e-5);
  });

  it("keep their files apart where both have the same name and none is on disk", async () => {
    const inMemory = async (folder: NodeFolder) => {
      const source = await folder.source(file);
      const bytes = await source.read(0, source.size);
      return openWeights(new MemoryFolder("memory", new Map([[file, bytes]])));
    };
    const [unet, adapter] = await folders();
    const stored = withMotionAdapter(
      { config: configs.unet, weights: await inMemory(unet) },
      { config: configs.adapter, weights: await inMemory(adapter) },
    );
    expect([...weightLocations(stored.weights).keys()]).toEqual([file, `MotionAdapter/${file}`]);
    for (const key of ["conv_in.weight", "up_blocks.0.motion_modules.0.norm.bias"]) {
      expect((await stored.weights.read(key)).data).toEqual(weights.get(key)!.data);
    }
  });
});

describe("an adapter that does not fit", () => {
  const merge = async (unet: RawConfig, adapter: RawConfig) => {
    const [unetFolder, adapterFolder] = await folders();
    return withMotionAdapter(
      { config: { ...configs.unet, ...unet }, weights: await openWeights(unetFolder) },
      { config: { ...configs.adapter, ...adapter }, weights: await openWeights(adapterFolder) },
    );
  };

  it.each<[string, RawConfig, RawConfig, string]>([
    [
      "another number of blocks, as Stable Diffusion XL's",
      {},
      { block_out_channels: [8, 12, 16], motion_layers_per_block: 2 },
      "MotionAdapter: made for another base model: it is for blocks of [8, 12, 16] channels with [2, 2, 2] layers, " +
        "normalised in 4 groups, but this UNet2DConditionModel has blocks of [8, 12] channels with [1, 2] layers, " +
        "normalised in 4 groups. Take an adapter for this model, or this adapter's model.",
    ],
    ["other channels", {}, { block_out_channels: [8, 16] }, "made for another base model"],
    ["other layers", {}, { motion_layers_per_block: 2 }, "made for another base model"],
    ["other groups", {}, { motion_norm_num_groups: 2 }, "made for another base model"],
    ["a first convolution of its own", {}, { conv_in_channels: 9 }, 'config "conv_in_channels" is 9'],
    ["more than one module in the middle", {}, { motion_mid_block_layers_per_block: 2 }, "supported is 1"],
    ["no adapter", {}, { _class_name: "AutoencoderKL" }, "is merged from a MotionAdapter, not from AutoencoderKL"],
    ["no class", {}, { _class_name: undefined }, "not from a nameless class"],
    [
      "no UNet",
      { _class_name: "UNetMotionModel" },
      {},
      "is merged from a UNet2DConditionModel, not from UNetMotionModel",
    ],
    ["a UNet that is not supported", { class_embed_type: "table" }, {}, 'config "class_embed_type" is "table"'],
    [
      "a UNet that no UNet of videos can take over",
      { class_embed_type: "timestep" },
      {},
      'config has "num_class_embeds" or "class_embed_type", which a UNetMotionModel cannot have',
    ],
    ["sines before cosines", { flip_sin_to_cos: false }, {}, 'config has "flip_sin_to_cos" false'],
    ["no middle", { mid_block_type: null }, {}, 'config has "mid_block_type" other than'],
    ["an adapter's key that nobody knows", {}, { motion_style: "smooth" }, 'config has "motion_style" ("smooth")'],
  ])("%s", async (_, unet, adapter, message) => {
    await expect(merge(unet, adapter)).rejects.toThrow(ConfigError);
    await expect(merge(unet, adapter)).rejects.toThrow(message);
  });

  it("has no motion modules", async () => {
    const opened = folders(new Map([["conv_in.weight", parts.unet.get("conv_in.weight")!]]));
    await expect(opened.then((both) => openWithMotionAdapter(...both))).rejects.toThrow(CheckpointError);
  });
});
