/**
 * Motion adapters: AnimateDiff's motion modules in a folder of their own (diffusers' MotionAdapter), for any UNet of the
 * base model that they were trained on.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { classNameOf, readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { openWeights, WeightFiles } from "../checkpoints/weights.ts";
import { CheckpointError, ConfigError } from "../errors.ts";
import { ConfigReader } from "./config.ts";
import { unet2DCondition } from "./unet-2d-condition.ts";
import { unetMotion } from "./unet-motion.ts";

/** A model's configuration and weights, as its folder has them. */
export interface StoredModel {
  readonly config: RawConfig;
  readonly weights: WeightFiles;
}

export const motionAdapterClass = "MotionAdapter";

/** Opens a UNet's and a motion adapter's folder and merges them; throws what `withMotionAdapter` and the folders do. */
export async function openWithMotionAdapter(unet: Folder, adapter: Folder, variant?: string): Promise<StoredModel> {
  const open = async (folder: Folder): Promise<StoredModel> => ({
    config: await readConfig(folder),
    weights: await openWeights(folder, variant),
  });
  return withMotionAdapter(await open(unet), await open(adapter));
}

/**
 * A UNet2DConditionModel and a MotionAdapter as one UNetMotionModel; the weights stay where they are. Throws ConfigError for
 * other classes, for an adapter of another base model and for what is not supported, CheckpointError for one without
 * motion modules.
 */
export function withMotionAdapter(unet: StoredModel, adapter: StoredModel): StoredModel {
  return { config: mergedConfig(unet.config, adapter.config), weights: mergedWeights(unet.weights, adapter.weights) };
}

function expectClass(config: RawConfig, wanted: string): void {
  const found = classNameOf(config);
  if (found === wanted) return;
  throw new ConfigError(
    `A ${unetMotion.className} is merged from a ${wanted}, not from ${found ?? "a nameless class"}.`,
  );
}

function mergedConfig(unet: RawConfig, adapter: RawConfig): RawConfig {
  expectClass(unet, unet2DCondition.className);
  expectClass(adapter, motionAdapterClass);
  const base = unet2DCondition.parseConfig(unet);
  const read = new ConfigReader(adapter, motionAdapterClass);
  // PIA's adapters replace the first convolution.
  read.require("conv_in_channels", null);
  read.require("motion_mid_block_layers_per_block", 1);

  const channels = read.integers("block_out_channels", [320, 640, 1280, 1280]);
  const layers = read.integerPerBlock("motion_layers_per_block", channels.length, 2);
  const made = { blocks: channels, layers, groups: read.integer("motion_norm_num_groups", 32) };
  const found = {
    blocks: base.levels.map((level) => level.channels),
    layers: base.levels.map((level) => level.layers),
    groups: base.normNumGroups,
  };
  if (JSON.stringify(made) !== JSON.stringify(found)) {
    const describe = ({ blocks, layers, groups }: typeof made) =>
      `blocks of [${blocks.join(", ")}] channels with [${layers.join(", ")}] layers, normalised in ${groups} groups`;
    throw new ConfigError(
      `${motionAdapterClass}: made for another base model: it is for ${describe(made)}, but this ` +
        `${unet2DCondition.className} has ${describe(found)}. Take an adapter for this model, or this adapter's model.`,
    );
  }

  const types = (key: string) => {
    const names = unet[key] as readonly string[] | undefined;
    return names && { [key]: names.map((name) => name.replace(/2D$/, "Motion")) };
  };
  return {
    ...unet,
    ...types("down_block_types"),
    ...types("up_block_types"),
    _class_name: unetMotion.className,
    num_attention_heads: base.levels.map((level) => level.heads),
    motion_num_attention_heads: adapter["motion_num_attention_heads"],
    motion_max_seq_length: adapter["motion_max_seq_length"],
    use_motion_mid_block: adapter["use_motion_mid_block"],
    temporal_transformer_layers_per_block: adapter["motion_transformer_layers_per_block"],
    temporal_transformer_layers_per_mid_block: adapter["motion_transformer_layers_per_mid_block"],
  };
}

/** Both files' tensors; of the adapter's those of motion modules, under the names that they have in the whole model. */
function mergedWeights(unet: WeightFiles, adapter: WeightFiles): WeightFiles {
  const renamed = adapter.renamed(unetMotion.rename!);
  const modules = [...renamed.entries].filter(([name]) => name.includes(".motion_modules."));
  if (modules.length === 0) {
    throw new CheckpointError(
      `${adapter.name}: has no tensor of a motion module ("down_blocks.0.motion_modules.0...").`,
    );
  }
  return unet.joined(new WeightFiles(new Map(modules), adapter.files), motionAdapterClass);
}
