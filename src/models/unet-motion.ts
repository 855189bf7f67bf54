/**
 * AnimateDiff (Guo et al. 2023, arXiv 2307.04725): Stable Diffusion's UNet on every frame of a video, with a motion module
 * after each layer, in which every position attends to itself in all frames. Names and configuration keys are those of
 * diffusers' UNetMotionModel.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { motionName } from "../checkpoints/motion-names.ts";
import { ArgumentError } from "../errors.ts";
import type { Dim } from "../graph/value.ts";
import type { Architecture, Geometry, StagedModel } from "./architecture.ts";
import { ConfigReader, MOST_LAYERS, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import {
  type BlockTypes,
  divisible,
  parseLevels,
  parseSizes,
  type UNetConfig,
  type UNetLevel,
  unetCounts,
} from "./unet/config.ts";
import { motionModule } from "./unet/temporal.ts";
import {
  parseTextTime,
  type TextTime,
  textTimeCounts,
  textTimeEmbedding,
  textTimeInputs,
  textTimeWidths,
} from "./unet/text-time.ts";
import { parseTimestepCond, type TimestepCond, timestepCondCounts } from "./unet/timestep-cond.ts";
import { unet } from "./unet/unet.ts";
import { parseSpatial, type SpatialConfig, spatialParts } from "./unet-2d-condition.ts";

export interface MotionLevel extends UNetLevel {
  /** Attention heads of the motion modules. */
  motionHeads: number;
  /** Blocks in each motion module. */
  motionLayers: number;
}

/** The values of an AnimateDiff UNet's `config.json` that its graph depends on. */
export interface UNetMotionConfig extends UNetConfig<MotionLevel>, SpatialConfig, TimestepCond {
  /** The most frames: rows of the motion modules' position tables. */
  motionMaxSeqLength: number;
  useMotionMidBlock: boolean;
  textTime: TextTime | null;
}

/** The UNet of AnimateDiff: `UNetMotionModel`. */
export const unetMotion: Architecture<UNetMotionConfig> = {
  className: "UNetMotionModel",
  parseConfig,
  model,
  // AnimateDiff's own files have other names, as diffusers converts them.
  rename: motionName,
  counts: motionCounts,
  picture: "sample",
  text: "encoderHiddenStates",
  framesAxis: 2,
  // AnimateDiff's own files repeat the table for the second attention.
  ignores: /\.pos_encoder\.pe$/,
};

/** Default number of frames, unless the model allows only fewer: AnimateDiff was trained with as many. */
const FRAMES = 16;
/** The most rows of a position table; published adapters have 24 and 32. */
const MOST_FRAMES = 4096;

/** Settings of the class that would change the result, with the only value that is supported. */
const fixed: Readonly<Record<string, string | number | null>> = {
  encoder_hid_dim: null,
  encoder_hid_dim_type: null,
  mid_block_scale_factor: 1,
  reverse_motion_num_attention_heads: null,
  reverse_temporal_transformer_layers_per_block: null,
};

/** Settings without effect here, as in UNet2DConditionModel. */
const harmless = ["addition_time_embed_dim", "projection_class_embeddings_input_dim"];

const blocks: BlockTypes = {
  down: { CrossAttnDownBlockMotion: "transformer", DownBlockMotion: "plain" },
  up: { CrossAttnUpBlockMotion: "transformer", UpBlockMotion: "plain" },
};

function parseConfig(raw: RawConfig): UNetMotionConfig {
  const { className } = unetMotion;
  const read = new ConfigReader(raw, className);
  for (const [key, only] of Object.entries(fixed)) read.require(key, only);
  const spatial = parseSpatial(read);
  const spatialLevels = parseLevels(read, className, {
    blocks,
    heads: ["num_attention_heads", 8],
    groups: spatial.normNumGroups,
  });
  const count = spatialLevels.length;
  const heads = read.integerPerBlock("motion_num_attention_heads", count, 8, MOST_WIDTH);
  const layers = read.integerPerBlock("temporal_transformer_layers_per_block", count, 1, MOST_LAYERS);
  const levels = spatialLevels.map((level, i) => {
    divisible(className, "motion_num_attention_heads", level.channels, heads[i]!);
    return { ...level, motionHeads: heads[i]!, motionLayers: layers[i]! };
  });
  const deepest = levels.at(-1)!;
  const layersOr = (key: string, fallback: number) =>
    read.has(key) ? read.integer(key, undefined, 1, MOST_LAYERS) : fallback;
  const middleLayers = read.integer("mid_block_layers", 1, 1, MOST_LAYERS);
  const config = {
    ...spatial,
    ...parseSizes(read, className, count),
    levels,
    middle: {
      ...deepest,
      kind: "transformer" as const,
      layers: middleLayers,
      transformerLayers: new Array<number>(middleLayers).fill(
        layersOr("transformer_layers_per_mid_block", deepest.transformerLayers[0]!),
      ),
      motionLayers: layersOr("temporal_transformer_layers_per_mid_block", 1),
    },
    motionMaxSeqLength: read.integer("motion_max_seq_length", 32, 1, MOST_FRAMES),
    useMotionMidBlock: read.boolean("use_motion_mid_block", true),
    textTime: parseTextTime(read, className),
    ...parseTimestepCond(read),
  };
  read.finish(harmless);
  return config;
}

function motionCounts(config: UNetMotionConfig): Count[] {
  const key = "temporal_transformer_layers_per_block";
  const module = "motion_modules.0.transformer_blocks";
  return [
    ...unetCounts(config),
    ...(config.textTime ? textTimeCounts(config.textTime) : []),
    ...timestepCondCounts(config),
    ...config.levels.map(({ motionLayers: count }, i) => ({ key, module: `down_blocks.${i}.${module}`, count })),
  ];
}

/**
 * Inputs: `sample` [batch, inChannels, frames, height, width] latents, `timestep` [batch] in 0..1000,
 * `encoderHiddenStates` [batch, tokens, crossAttentionDim], one text for all frames; in a model with `textTime` (XL)
 * `textEmbeds` and `timeIds` as in UNet2DConditionModel, and so `timestepCond` in one with `timeCondProjDim` (LCM); all
 * float32. Output: `sample` [batch, outChannels, frames, height, width]. Throws ArgumentError for more frames than the motion modules have positions for.
 */
function model(config: UNetMotionConfig, geometry: Geometry): StagedModel {
  const { className } = unetMotion;
  const { motionMaxSeqLength: maxFrames, normNumGroups: groups, normEps: epsilon } = config;
  const frames = geometry.frames ?? Math.min(FRAMES, maxFrames);
  if (!Number.isInteger(frames) || frames < 1 || frames > maxFrames) {
    throw new ArgumentError(
      `${className}: a video of ${frames} frames; its motion modules have positions for 1 to ${maxFrames} ` +
        "(config motion_max_seq_length). Ask for no more, or take an adapter that was trained on longer videos.",
    );
  }
  const { textTime } = config;
  const widths = textTime && textTimeWidths(textTime, geometry, className);
  return unet({
    className,
    config,
    geometry,
    frames,
    ...(textTime &&
      widths && {
        inputs: (batch: Dim) => textTimeInputs(widths, batch),
        addedTimes: [textTimeEmbedding(textTime)],
      }),
    sample: ({ batch, channel, frame, height, width }) => ({ batch, channel, frame, height, width }),
    norm: { groups, epsilon },
    downsamplePadding: config.downsamplePadding,
    timestepCond: config.timeCondProjDim,
    parts: (net) => {
      const { resnet, rest } = spatialParts(net, config);
      return {
        resnet,
        rest: (x, layer) => {
          const { block, index, level } = layer;
          const attended = rest(x, layer);
          if (block === "mid_block" && !config.useMotionMidBlock) return attended;
          const { motionHeads: heads, motionLayers: layers } = level;
          return motionModule(net, attended, `${block}.motion_modules.${index}`, { groups, heads, layers, maxFrames });
        },
      };
    },
  });
}
