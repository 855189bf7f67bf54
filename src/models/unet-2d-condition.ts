/**
 * Stable Diffusion's UNet (Rombach et al. 2022, arXiv 2112.10752), as versions 1 and 2 have it: residual blocks with
 * attention within the picture and to the text. Names and configuration keys are those of diffusers'
 * UNet2DConditionModel.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";
import type { Architecture, Geometry, StagedModel } from "./architecture.ts";
import { ConfigReader } from "./config.ts";
import { parseLevels, parseSizes, type UNetConfig } from "./unet/config.ts";
import { resnet, transformer2d } from "./unet/layers.ts";
import type { StageList } from "./unet/stages.ts";
import { type UNetParts, unet } from "./unet/unet.ts";

/** What the layers depend on that work on each picture, or each frame of a video, alone. */
export interface SpatialConfig {
  normNumGroups: number;
  normEps: number;
  /** Whether the transformers' projections are stored as linear layers (Stable Diffusion 2). */
  useLinearProjection: boolean;
  downsamplePadding: 0 | 1;
}

export interface UNet2DConditionConfig extends UNetConfig, SpatialConfig {
  freqShift: number;
}

export const unet2DCondition: Architecture<UNet2DConditionConfig> = {
  className: "UNet2DConditionModel",
  parseConfig,
  model,
};

/** Settings of the class that would change the result and are not served, with the one value that is. */
const fixed: Readonly<Record<string, string | number | boolean | null>> = {
  act_fn: "silu",
  addition_embed_type: null,
  attention_type: "default",
  center_input_sample: false,
  class_embed_type: null,
  conv_in_kernel: 3,
  conv_out_kernel: 3,
  cross_attention_norm: null,
  dual_cross_attention: false,
  encoder_hid_dim: null,
  encoder_hid_dim_type: null,
  flip_sin_to_cos: true,
  mid_block_scale_factor: 1,
  mid_block_type: "UNetMidBlock2DCrossAttn",
  num_attention_heads: null,
  num_class_embeds: null,
  only_cross_attention: false,
  resnet_out_scale_factor: 1,
  resnet_skip_time_act: false,
  resnet_time_scale_shift: "default",
  reverse_transformer_layers_per_block: null,
  time_cond_proj_dim: null,
  time_embedding_act_fn: null,
  time_embedding_dim: null,
  time_embedding_type: "positional",
  timestep_post_act: null,
};

function parseConfig(raw: RawConfig): UNet2DConditionConfig {
  const { className } = unet2DCondition;
  const read = new ConfigReader(raw, className);
  for (const [key, only] of Object.entries(fixed)) read.require(key, only);
  read.require("mid_block_only_cross_attention", false);
  const spatial = parseSpatial(read, className);
  const levels = parseLevels(read, className, {
    blocks: { down: ["CrossAttnDownBlock2D", "DownBlock2D"], up: ["CrossAttnUpBlock2D", "UpBlock2D"] },
    // The class's name for the number of heads, kept for the sake of the checkpoints that have it.
    heads: ["attention_head_dim", 8],
    groups: spatial.normNumGroups,
  });
  return {
    ...spatial,
    ...parseSizes(read),
    levels,
    middle: { ...levels.at(-1)!, layers: 1 },
    freqShift: read.integer("freq_shift", 0, 0),
  };
}

export function parseSpatial(read: ConfigReader, className: string): SpatialConfig {
  const downsamplePadding = read.integer("downsample_padding", 1, 0);
  if (downsamplePadding > 1) {
    throw new ConfigError(`${className}: config "downsample_padding" is ${downsamplePadding}; supported is 0 or 1.`);
  }
  return {
    normNumGroups: read.integer("norm_num_groups", 32),
    normEps: read.number("norm_eps", 1e-5),
    useLinearProjection: read.boolean("use_linear_projection", false),
    downsamplePadding: downsamplePadding as 0 | 1,
  };
}

/**
 * Inputs: `sample` [batch, inChannels, height, width] latent, `timestep` [batch] in 0..1000, `encoderHiddenStates` [batch,
 * tokens, crossAttentionDim]; all float32. Output: `sample` [batch, outChannels, height, width].
 */
function model(config: UNet2DConditionConfig, geometry: Geometry): StagedModel {
  return unet({
    className: unet2DCondition.className,
    config,
    geometry,
    frames: 1,
    sample: ({ batch, channel, height, width }) => ({ batch, channel, height, width }),
    norm: { groups: config.normNumGroups, epsilon: config.normEps },
    downsamplePadding: config.downsamplePadding,
    frequencyShift: config.freqShift,
    parts: (net) => spatialParts(net, config),
  });
}

/** Resnets, and after them attention where a block has it: each picture, or each frame of a video, alone. */
export function spatialParts(net: StageList, config: SpatialConfig): UNetParts {
  const { normNumGroups: groups, normEps: epsilon, useLinearProjection: linearProjection } = config;
  return {
    resnet: (x, module, { level }, skip) => resnet(net, x, module, level.channels, { groups, epsilon, skip }),
    rest: (x, { block, index, level, attends }) => {
      if (!attends) return x;
      const { heads, transformerLayers: layers } = level;
      return transformer2d(net, x, `${block}.attentions.${index}`, { groups, heads, layers, linearProjection });
    },
  };
}
