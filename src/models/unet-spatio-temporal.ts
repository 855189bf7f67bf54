/**
 * Stable Video Diffusion's UNet (Blattmann et al. 2023, arXiv 2311.15127, appendix D; "Align your Latents", arXiv
 * 2304.08818, section 3.1): each layer of Stable Diffusion's UNet is followed by a temporal layer and blended with it. Names
 * and configuration keys are those of diffusers' UNetSpatioTemporalConditionModel.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import { reshape } from "../graph/operators.ts";
import type { Value } from "../graph/value.ts";
import type { Architecture, Geometry, StagedModel } from "./architecture.ts";
import { ConfigReader, MOST_WIDTH } from "./config.ts";
import { sinusoidalEmbedding, timestepEmbedding } from "./layers.ts";
import { parseLevels, parseSizes, type UNetConfig, unetCounts } from "./unet/config.ts";
import { spatioTemporalResnet, spatioTemporalTransformer } from "./unet/temporal.ts";
import { unet } from "./unet/unet.ts";
import type { Weights } from "./weights.ts";

/** The values of a Stable Video Diffusion UNet's `config.json` that its graph depends on. */
export interface UNetSpatioTemporalConfig extends UNetConfig {
  /** Frames of the videos that it was trained on; other numbers can be asked for. */
  numFrames: number;
  /** Sinusoids per number that is given besides the timestep. */
  additionTimeEmbedDim: number;
  /** How many numbers are given besides the timestep. */
  addedTimeIds: number;
}

/** The UNet of Stable Video Diffusion: `UNetSpatioTemporalConditionModel`. */
export const unetSpatioTemporal: Architecture<UNetSpatioTemporalConfig> = {
  className: "UNetSpatioTemporalConditionModel",
  parseConfig,
  model,
  counts: (config) => unetCounts(config, "spatial_res_block.conv1"),
  picture: "sample",
  text: "encoderHiddenStates",
  framesAxis: 1,
};

/** The most frames in a configuration. */
const MOST_FRAMES = 4096;

/** Fixed in this class. */
const GROUPS = 32;
const EPSILON = 1e-5;
/** Epsilon of the resnets in down blocks with attention, and of all resnets on the way up. */
const SMALL_EPSILON = 1e-6;

function parseConfig(raw: RawConfig): UNetSpatioTemporalConfig {
  const { className } = unetSpatioTemporal;
  const read = new ConfigReader(raw, className);
  const levels = parseLevels(read, className, {
    blocks: {
      down: { CrossAttnDownBlockSpatioTemporal: "transformer", DownBlockSpatioTemporal: "plain" },
      up: { CrossAttnUpBlockSpatioTemporal: "transformer", UpBlockSpatioTemporal: "plain" },
    },
    heads: ["num_attention_heads", [5, 10, 20, 20]],
    groups: GROUPS,
  });
  const additionTimeEmbedDim = read.integer("addition_time_embed_dim", 256, 1, MOST_WIDTH);
  const projected = read.integer("projection_class_embeddings_input_dim", 768, 1, MOST_WIDTH);
  if (additionTimeEmbedDim % 2 !== 0 || projected % additionTimeEmbedDim !== 0) {
    throw new ConfigError(
      `${className}: config "projection_class_embeddings_input_dim" is ${projected}; supported is a multiple of ` +
        `"addition_time_embed_dim", which is ${additionTimeEmbedDim} and has to be even.`,
    );
  }
  const deepest = levels.at(-1)!;
  const config = {
    ...parseSizes(read, className, levels.length, { inChannels: 8, crossAttentionDim: 1024 }),
    levels,
    middle: {
      ...deepest,
      kind: "transformer" as const,
      layers: 1,
      transformerLayers: deepest.transformerLayers.slice(0, 1),
    },
    numFrames: read.integer("num_frames", 25, 1, MOST_FRAMES),
    additionTimeEmbedDim,
    addedTimeIds: projected / additionTimeEmbedDim,
  };
  read.finish([]);
  return config;
}

/**
 * Inputs: `sample` [batch, frames, inChannels, height, width], the noisy latents concatenated with the image's, `timestep`
 * [batch] (0.25 ln sigma), `encoderHiddenStates` [batch, tokens, crossAttentionDim], the image's CLIP embedding, and
 * `addedTimeIds` [batch, 3]: frames per second less 1, motion bucket, noise that was added to the image; all float32.
 * Output: `sample` [batch, frames, outChannels, height, width].
 */
function model(config: UNetSpatioTemporalConfig, geometry: Geometry): StagedModel {
  const { className } = unetSpatioTemporal;
  const frames = geometry.frames ?? config.numFrames;
  if (!Number.isInteger(frames) || frames < 1) {
    throw new ArgumentError(`${className}: a video of ${frames} frames; at least 1 is needed.`);
  }
  return unet({
    className,
    config,
    geometry,
    frames,
    sample: ({ batch, frame, channel, height, width }) => ({ batch, frame, channel, height, width }),
    inputs: (batch) => ({ addedTimeIds: { batch, number: config.addedTimeIds } }),
    norm: { groups: GROUPS, epsilon: EPSILON },
    addedTimes: [
      {
        module: "add_embedding",
        reads: ["addedTimeIds"],
        embed: ({ addedTimeIds }, w, width) => embedNumbers(addedTimeIds!, w, width, config),
      },
    ],
    parts: (net) => ({
      resnet: (x, module, { block, level, kind }, skip) => {
        const small = block.startsWith("up_") || (block.startsWith("down_") && kind !== "plain");
        const epsilon = small ? SMALL_EPSILON : EPSILON;
        return spatioTemporalResnet(net, x, module, level.channels, { groups: GROUPS, epsilon, skip });
      },
      rest: (x, { block, index, level, kind, transformerLayers: layers }) => {
        if (kind === "plain") return x;
        const { heads } = level;
        return spatioTemporalTransformer(net, x, `${block}.attentions.${index}`, { groups: GROUPS, heads, layers });
      },
    }),
  });
}

/** Embeds the numbers given besides the timestep, [batch, count], as one vector: [batch, width]. */
function embedNumbers(numbers: Value, w: Weights, width: number, config: UNetSpatioTemporalConfig): Value {
  const { additionTimeEmbedDim, addedTimeIds: count } = config;
  const sinusoids = sinusoidalEmbedding(reshape(numbers, [-1]), additionTimeEmbedDim);
  return timestepEmbedding(reshape(sinusoids, [numbers.shape[0]!, count * additionTimeEmbedDim]), w, width);
}
