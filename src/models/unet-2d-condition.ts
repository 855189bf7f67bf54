/**
 * Stable Diffusion's UNet (Rombach et al. 2022, arXiv 2112.10752): residual blocks with attention within the image and to
 * the text. Versions 1, 2 and XL, models distilled from them (Turbo, LCM, SSD-1B), and inpainting. Names and configuration
 * keys are those of diffusers' UNet2DConditionModel.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Dim } from "../graph/value.ts";
import type { Architecture, Geometry, StagedModel } from "./architecture.ts";
import { ConfigReader, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import type { SinusoidOptions } from "./layers.ts";
import { type ClassEmbedding, classEmbedding, classLabels, parseClassEmbedding } from "./unet/class-embedding.ts";
import {
  type BlockKind,
  type BlockTypes,
  parseLevels,
  parseSizes,
  type UNetConfig,
  type UNetLevel,
  unetCounts,
} from "./unet/config.ts";
import { resnet, transformer2d } from "./unet/layers.ts";
import { resizingResnet, simpleAttention } from "./unet/simple.ts";
import type { StageList } from "./unet/stages.ts";
import {
  parseTextTime,
  type TextTime,
  textTimeCounts,
  textTimeEmbedding,
  textTimeInputs,
  textTimeWidths,
} from "./unet/text-time.ts";
import { parseTimestepCond, type TimestepCond, timestepCondCounts } from "./unet/timestep-cond.ts";
import { type UNetParts, unet } from "./unet/unet.ts";

/** Settings of the layers that work on each image, or each frame of a video, separately. */
export interface SpatialConfig {
  normNumGroups: number;
  normEps: number;
  /** Whether the transformers' projections are stored as linear layers (Stable Diffusion 2). */
  useLinearProjection: boolean;
  downsamplePadding: 0 | 1;
  /** How the time embedding enters resnets: see `ResnetOptions`. */
  scaleShift: boolean;
}

/** The values of a Stable Diffusion UNet's `config.json` that its graph depends on. */
export interface UNet2DConditionConfig extends UNetConfig, SpatialConfig, TimestepCond {
  sinusoids: SinusoidOptions;
  centerInputSample: boolean;
  classEmbedding: ClassEmbedding | null;
  textTime: TextTime | null;
}

/** The UNet of Stable Diffusion: `UNet2DConditionModel`. */
export const unet2DCondition: Architecture<UNet2DConditionConfig> = {
  className: "UNet2DConditionModel",
  parseConfig,
  model,
  counts,
  picture: "sample",
  text: "encoderHiddenStates",
};

/** Settings of the class that would change the result, with the only value that is supported. */
const fixed: Readonly<Record<string, string | number | boolean | null>> = {
  attention_type: "default",
  class_embeddings_concat: false,
  conv_in_kernel: 3,
  conv_out_kernel: 3,
  cross_attention_norm: null,
  dual_cross_attention: false,
  encoder_hid_dim: null,
  encoder_hid_dim_type: null,
  mid_block_scale_factor: 1,
  num_attention_heads: null,
  resnet_out_scale_factor: 1,
  resnet_skip_time_act: false,
  time_embedding_act_fn: null,
  time_embedding_dim: null,
  time_embedding_type: "positional",
  timestep_post_act: null,
};

/** Settings without effect here: for training, for precisions below float32, and of parts that are refused or absent. */
const harmless = [
  "addition_embed_type_num_heads",
  "addition_time_embed_dim",
  "dropout",
  "projection_class_embeddings_input_dim",
  "upcast_attention",
];

const blocks: BlockTypes = {
  down: { CrossAttnDownBlock2D: "transformer", DownBlock2D: "plain", SimpleCrossAttnDownBlock2D: "simple" },
  up: { CrossAttnUpBlock2D: "transformer", UpBlock2D: "plain", SimpleCrossAttnUpBlock2D: "simple" },
};

const middles = {
  UNetMidBlock2DCrossAttn: "transformer",
  UNetMidBlock2DSimpleCrossAttn: "simple",
  UNetMidBlock2D: "plain",
} as const satisfies Record<string, BlockKind>;

function parseConfig(raw: RawConfig): UNet2DConditionConfig {
  const { className } = unet2DCondition;
  const read = new ConfigReader(raw, className);
  for (const [key, only] of Object.entries(fixed)) read.require(key, only);
  const spatial = parseSpatial(read);
  // A list has a value for each level; a single value is for all levels and, in simple blocks, also for the middle.
  const onlyCross = [false, true, null].includes(raw["only_cross_attention"] as boolean | null);
  const count = Array.isArray(raw["block_out_channels"]) ? raw["block_out_channels"].length : 4;
  const crossPerLevel = read.booleanPerBlock("only_cross_attention", count, false);
  const levels = parseLevels(read, className, {
    blocks,
    // diffusers' misleading name for the number of heads, kept since published checkpoints have it.
    heads: ["attention_head_dim", 8],
    groups: spatial.normNumGroups,
    onlyCross: crossPerLevel,
  });
  const middleCross = read.has("mid_block_only_cross_attention")
    ? read.boolean("mid_block_only_cross_attention")
    : onlyCross && crossPerLevel[0]!;
  const names = Object.keys(middles) as (keyof typeof middles)[];
  const middle = read.choiceOrNull("mid_block_type", names, "UNetMidBlock2DCrossAttn");
  const config = {
    ...spatial,
    ...parseSizes(read, className, levels.length),
    scaleShift: read.choice("resnet_time_scale_shift", ["default", "scale_shift"], "default") === "scale_shift",
    levels,
    middle: middle && middleLevel(levels.at(-1)!, middles[middle], middleCross),
    sinusoids: { shift: read.number("freq_shift", 0), sinesFirst: !read.boolean("flip_sin_to_cos", true) },
    centerInputSample: read.boolean("center_input_sample", false),
    classEmbedding: parseClassEmbedding(read, className),
    textTime: parseTextTime(read, className),
    ...parseTimestepCond(read),
  };
  read.finish(harmless);
  return config;
}

function counts(config: UNet2DConditionConfig): Count[] {
  const { textTime } = config;
  return [...unetCounts(config), ...(textTime ? textTimeCounts(textTime) : []), ...timestepCondCounts(config)];
}

/** A transformer in the middle always has self-attention, since diffusers does not pass only_cross_attention to it. */
function middleLevel(deepest: UNetLevel, kind: BlockKind, onlyCross: boolean): UNetLevel & { kind: BlockKind } {
  const layers = kind === "plain" ? 0 : 1;
  const transformerLayers = deepest.transformerLayers.slice(0, layers);
  return { ...deepest, kind, layers, transformerLayers, onlyCross: kind === "simple" && onlyCross };
}

export function parseSpatial(read: ConfigReader): SpatialConfig {
  read.choice("act_fn", ["silu", "swish"], "silu");
  const downsamplePadding = read.integer("downsample_padding", 1, 0, 1);
  return {
    normNumGroups: read.integer("norm_num_groups", 32, 1, MOST_WIDTH),
    normEps: read.epsilon("norm_eps", 1e-5),
    useLinearProjection: read.boolean("use_linear_projection", false),
    downsamplePadding: downsamplePadding as 0 | 1,
    scaleShift: false,
  };
}

/**
 * Inputs: `sample` [batch, inChannels, height, width] latent, `timestep` [batch] in 0..1000, `encoderHiddenStates` [batch,
 * tokens, crossAttentionDim]; in a model with a class embedding `classLabels` (see there); in one with `textTime` (XL)
 * `textEmbeds` [batch, width], the text's pooled state, and `timeIds` [batch, 6], in pixels; in one with `timeCondProjDim`
 * (LCM) `timestepCond` [batch, timeCondProjDim], the guidance scale's embedding. All are float32 except class numbers. An
 * inpainting model's nine channels are the latent, the mask and the masked image's latent. Output: `sample` [batch,
 * outChannels, height, width].
 */
function model(config: UNet2DConditionConfig, geometry: Geometry): StagedModel {
  const { classEmbedding: kind, textTime, sinusoids, levels } = config;
  const frequencies = levels[0]!.channels;
  const labels = (batch: Dim) => classLabels(kind!, batch, 4 * frequencies);
  const widths = textTime && textTimeWidths(textTime, geometry, unet2DCondition.className);
  return unet({
    className: unet2DCondition.className,
    config,
    geometry,
    frames: 1,
    sample: ({ batch, channel, height, width }) => ({ batch, channel, height, width }),
    norm: { groups: config.normNumGroups, epsilon: config.normEps },
    downsamplePadding: config.downsamplePadding,
    sinusoids,
    center: config.centerInputSample,
    timestepCond: config.timeCondProjDim,
    inputs: (batch) => ({
      ...(kind && { classLabels: labels(batch).layout }),
      ...(widths && textTimeInputs(widths, batch)),
    }),
    ...(kind && { types: { classLabels: labels(geometry.batch).type } }),
    addedTimes: [
      ...(kind ? [classEmbedding(kind, sinusoids, frequencies)] : []),
      ...(textTime ? [textTimeEmbedding(textTime, sinusoids)] : []),
    ],
    parts: (net) => spatialParts(net, config),
  });
}

/** Resnets, each followed by attention if the block has it, for each image or each frame of a video separately. */
export function spatialParts(net: StageList, config: SpatialConfig): UNetParts {
  const { normNumGroups: groups, normEps: epsilon, useLinearProjection: linearProjection, scaleShift } = config;
  const norm = { groups, epsilon, scaleShift };
  return {
    resnet: (x, module, { level }, skip) => resnet(net, x, module, level.channels, { ...norm, skip }),
    rest: (x, { block, index, level, kind, transformerLayers: layers }) => {
      const module = `${block}.attentions.${index}`;
      const { heads, onlyCross } = level;
      if (kind === "plain") return x;
      // In simple blocks attention_head_dim is what its name says: the width of a head.
      if (kind === "simple")
        return simpleAttention(net, x, module, { groups, heads: level.channels / heads, onlyCross });
      return transformer2d(net, x, module, { groups, heads, layers, linearProjection, onlyCross });
    },
    halve: (x, module) => resizingResnet(net, x, module, "half", norm),
    double: (x, module) => resizingResnet(net, x, module, "twice", norm),
  };
}
