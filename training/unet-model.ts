/**
 * Configurations of the embedded video model: a small UNet in Stable Diffusion's form, and motion modules in AnimateDiff's.
 * It shares the autoencoder, text encoder and tokenizer of the image model.
 */
import type { RawConfig } from "../src/checkpoints/diffusers-folder.ts";
import type { TensorEntry } from "../src/checkpoints/safetensors.ts";
import { WeightFiles } from "../src/checkpoints/weights.ts";
import { constant, type Value } from "../src/graph/value.ts";
import { weightShapes } from "../src/models/architecture.ts";
import { positionTable } from "../src/models/temporal-layers.ts";
import { unet2DCondition } from "../src/models/unet-2d-condition.ts";
import { unetMotion } from "../src/models/unet-motion.ts";
import { withMotionAdapter } from "../src/models/unet-motion-adapter.ts";
import { parameterWeights, type WeightSource } from "../src/models/weights.ts";
import { type FloatTensor, floatTensor, sizeOf } from "../src/tensor.ts";
import { frameCount } from "./animations.ts";
import { schedulerConfig, textEncoderConfig } from "./model.ts";

/** What is worth choosing. */
export interface UNetShape {
  /** Channels at 8 x 8, and if there is a second level at 4 x 4. */
  channels: readonly number[];
  /** Resnets on the way down of each level; one more on the way up. */
  layers: number;
  /** Channels of each head. */
  headWidth: number;
  /** Levels that attend within the frame and to the text; the middle does anyway. */
  attends: readonly boolean[];
  motionMidBlock: boolean;
}

/** What `checkpoints/fluent-emoji-motion` has; docs/training.md says what it was chosen from. */
export const videoShape: UNetShape = {
  channels: [80, 96],
  layers: 1,
  headWidth: 16,
  attends: [false, true],
  motionMidBlock: true,
};

const normGroups = 8;

export function unetConfig({ channels, layers, headWidth, attends }: UNetShape) {
  return {
    _class_name: "UNet2DConditionModel",
    act_fn: "silu",
    attention_head_dim: channels.map((width) => width / headWidth),
    block_out_channels: [...channels],
    center_input_sample: false,
    cross_attention_dim: textEncoderConfig.d_model,
    down_block_types: attends.map((attending) => (attending ? "CrossAttnDownBlock2D" : "DownBlock2D")),
    downsample_padding: 1,
    flip_sin_to_cos: true,
    freq_shift: 0,
    in_channels: 16,
    layers_per_block: layers,
    mid_block_scale_factor: 1,
    norm_eps: 1e-5,
    norm_num_groups: normGroups,
    out_channels: 16,
    sample_size: 8,
    up_block_types: attends.toReversed().map((attending) => (attending ? "CrossAttnUpBlock2D" : "UpBlock2D")),
  };
}

/** Heads as wide as the UNet's; positions for as many frames as it is trained on. */
export function motionAdapterConfig({ channels, layers, headWidth, motionMidBlock }: UNetShape) {
  return {
    _class_name: "MotionAdapter",
    block_out_channels: [...channels],
    conv_in_channels: null,
    motion_layers_per_block: layers,
    motion_max_seq_length: frameCount,
    motion_mid_block_layers_per_block: 1,
    motion_norm_num_groups: normGroups,
    motion_num_attention_heads: channels.map((width) => width / headWidth),
    motion_transformer_layers_per_block: 1,
    motion_transformer_layers_per_mid_block: 1,
    use_motion_mid_block: motionMidBlock,
  };
}

/** Evenly growing noise would drown an 8 x 8 latent, with motion modules as without: the image model's schedule. */
export const videoSchedulerConfig = schedulerConfig;

export const isMotion = (name: string) => name.includes(".motion_modules.");

/** The two as one UNetMotionModel, as `withMotionAdapter` merges them. */
export function motionUNetConfig(shape: UNetShape): RawConfig {
  const weights = new WeightFiles(new Map(), new Map());
  const stored = (config: RawConfig, name: string) => ({
    config,
    weights: new WeightFiles(new Map(name ? [[name, {} as TensorEntry]] : []), weights.files),
  });
  return withMotionAdapter(
    stored(unetConfig(shape), ""),
    stored(motionAdapterConfig(shape), "mid_block.motion_modules.0.norm.weight"),
  ).config;
}

/** The tables of sinusoids, which checkpoints have and nobody trains. */
const isTable = (name: string) => name.endsWith(".pos_embed.pe");

/** A source for motion modules in training: tables as they always are, all else as parameters. */
export function motionParameterSource(): { source: WeightSource; parameters: Map<string, Value> } {
  const { source, parameters } = parameterWeights();
  return {
    source: (name, shape) => (isTable(name) ? constant(tableOf(shape), shape, "float32") : source(name, shape)),
    parameters,
  };
}

const tableOf = ([, length, width]: readonly number[]) => positionTable(length!, width!);

/** The tables of a model, which go into its file beside the parameters. */
export function positionTables(config: RawConfig): Map<string, FloatTensor> {
  const tables = [...unetShapes(config)].filter(([name]) => isTable(name));
  return new Map(tables.map(([name, shape]) => [name, floatTensor(shape, tableOf(shape))]));
}

/** Names and shapes of all tensors of a UNet2DConditionModel, or of the two merged. */
export function unetShapes(config: RawConfig): Map<string, readonly number[]> {
  const geometry = { batch: 1, height: 8, width: 8, tokens: 1, frames: 2 };
  return weightShapes(
    config["_class_name"] === unetMotion.className
      ? unetMotion.model(unetMotion.parseConfig(config), geometry)
      : unet2DCondition.model(unet2DCondition.parseConfig(config), geometry),
  );
}

/** Those of what is trained. */
export function parameterShapes(config: RawConfig, which: (name: string) => boolean): Map<string, readonly number[]> {
  return new Map([...unetShapes(config)].filter(([name]) => which(name) && !isTable(name)));
}

export function countParameters(shapes: ReadonlyMap<string, readonly number[]>): number {
  return [...shapes.values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
}
