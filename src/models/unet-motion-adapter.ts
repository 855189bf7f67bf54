/**
 * Motion adapters: AnimateDiff's motion modules in a folder of their own (diffusers' MotionAdapter), usable with any UNet of
 * the base model that they were trained on.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { classNameOf, readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { isOfMotion, motionName } from "../checkpoints/motion-names.ts";
import { openWeights, WeightFiles } from "../checkpoints/weights.ts";
import { CheckpointError, ConfigError } from "../errors.ts";
import { ConfigReader, MOST_LAYERS, MOST_WIDTH } from "./config.ts";
import { type UNet2DConditionConfig, unet2DCondition } from "./unet-2d-condition.ts";
import { unetMotion } from "./unet-motion.ts";

/** A model's configuration and weights as stored in its folder. */
export interface StoredModel {
  readonly config: RawConfig;
  readonly weights: WeightFiles;
}

export const motionAdapterClass = "MotionAdapter";

/**
 * Opens the folders of a UNet and a motion adapter and merges them; LoRAs of the UNet's folder may change motion modules too.
 * Throws the errors of `withMotionAdapter` and the folders.
 */
export async function openWithMotionAdapter(unet: Folder, adapter: Folder, variant?: string): Promise<StoredModel> {
  const config = mergedConfig(await readConfig(unet), await readConfig(adapter));
  const modules = await openWeights(adapter, variant);
  return { config, weights: await openWeights(unet, variant, (own) => mergedWeights(own, modules)) };
}

/**
 * Merges a UNet2DConditionModel and a MotionAdapter into one UNetMotionModel without copying weights. Throws ConfigError for
 * other classes, for an adapter of another base model and for unsupported settings, CheckpointError for an adapter without
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
  expectVideoSettings(base);
  const read = new ConfigReader(adapter, motionAdapterClass);
  // PIA's adapters replace the first convolution.
  read.require("conv_in_channels", null);
  read.require("motion_mid_block_layers_per_block", 1);

  const channels = read.integers("block_out_channels", [320, 640, 1280, 1280], { most: MOST_WIDTH });
  const layers = read.integerPerBlock("motion_layers_per_block", channels.length, 2, MOST_LAYERS);
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

  const added = Object.fromEntries(
    Object.entries(adapterKeys).map(([key, name]) => [name, read.has(key) ? adapter[key] : undefined]),
  );
  read.finish([]);
  const types = (key: string) => {
    const names = unet[key] as readonly string[] | undefined;
    return names && { [key]: names.map((name) => name.replace(/2D$/, "Motion")) };
  };
  return {
    ...Object.fromEntries(spatialKeys.map((key) => [key, unet[key]])),
    ...types("down_block_types"),
    ...types("up_block_types"),
    _class_name: unetMotion.className,
    num_attention_heads: base.levels.map((level) => level.heads),
    ...added,
  };
}

/** The keys of a UNet's configuration that diffusers' UNetMotionModel keeps, without those that are renamed. */
const spatialKeys = [
  "act_fn",
  "addition_embed_type",
  "addition_time_embed_dim",
  "block_out_channels",
  "cross_attention_dim",
  "downsample_padding",
  "in_channels",
  "layers_per_block",
  "mid_block_scale_factor",
  "norm_eps",
  "norm_num_groups",
  "out_channels",
  "projection_class_embeddings_input_dim",
  "reverse_transformer_layers_per_block",
  "sample_size",
  "time_cond_proj_dim",
  "transformer_layers_per_block",
  "use_linear_projection",
];

/** An adapter's settings and their names in the merged model. */
const adapterKeys = {
  motion_num_attention_heads: "motion_num_attention_heads",
  motion_max_seq_length: "motion_max_seq_length",
  use_motion_mid_block: "use_motion_mid_block",
  motion_transformer_layers_per_block: "temporal_transformer_layers_per_block",
  motion_transformer_layers_per_mid_block: "temporal_transformer_layers_per_mid_block",
};

/** Throws ConfigError for settings that a UNetMotionModel cannot have. diffusers drops them, which changes the images. */
function expectVideoSettings(base: UNet2DConditionConfig): void {
  const { levels, middle, sinusoids, centerInputSample, classEmbedding, scaleShift } = base;
  const blocks = levels.flatMap(({ down, up }) => [down, up]);
  const problems: readonly [boolean, string][] = [
    [blocks.includes("simple"), '"down_block_types" or "up_block_types" with simple blocks'],
    [middle?.kind !== "transformer", '"mid_block_type" other than UNetMidBlock2DCrossAttn'],
    [levels.some(({ onlyCross }) => onlyCross), '"only_cross_attention"'],
    [sinusoids.sinesFirst === true, '"flip_sin_to_cos" false'],
    [sinusoids.shift !== 0, `"freq_shift" ${sinusoids.shift}`],
    [centerInputSample, '"center_input_sample"'],
    [scaleShift, '"resnet_time_scale_shift"'],
    [classEmbedding !== null, '"num_class_embeds" or "class_embed_type"'],
  ];
  const found = problems.find(([there]) => there);
  if (!found) return;
  throw new ConfigError(
    `${unet2DCondition.className}: config has ${found[1]}, which a ${unetMotion.className} cannot have; this UNet cannot ` +
      "be made one of videos.",
  );
}

/** The UNet's tensors, and those of the adapter's motion modules under their names in the merged model. */
function mergedWeights(unet: WeightFiles, adapter: WeightFiles): WeightFiles {
  const renamed = adapter.renamed(motionName);
  const modules = [...renamed.entries].filter(([name]) => isOfMotion(name));
  if (modules.length === 0) {
    throw new CheckpointError(
      `${adapter.name}: has no tensor of a motion module ("down_blocks.0.motion_modules.0...").`,
    );
  }
  return unet.joined(new WeightFiles(new Map(modules), adapter.files), motionAdapterClass);
}
