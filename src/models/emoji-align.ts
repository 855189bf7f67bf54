/**
 * The alignment model that evaluates the embedded models. It embeds images and captions in one space, where those that belong
 * together are close (Radford et al. 2021, arXiv 2103.00020, section 2.3), and is small enough to be trained here: a residual
 * convolutional network for images, a two-layer transformer for captions.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";
import { add, div, mul, reduceMean, reduceSum, reshape, silu, sqrt, sub } from "../graph/operators.ts";
import { constant, input, staticDim, type Value } from "../graph/value.ts";
import type { Architecture, Geometry, Role, Stage, StagedModel } from "./architecture.ts";
import { ConfigReader, MOST_LAYERS, MOST_WIDTH } from "./config.ts";
import { attentionLayer, conv, embedding, feedForward, groupNorm, layerNorm, linear } from "./layers.ts";
import type { Weights } from "./weights.ts";

export interface EmojiAlignConfig {
  /** Pixels on a side of the images. */
  imageSize: number;
  /** Channels at each resolution, the finest (a quarter of the picture) first. */
  channels: readonly number[];
  /** Residual blocks at each resolution. */
  blocks: readonly number[];
  groups: number;
  vocabSize: number;
  /** Tokens of a caption, the ending one included. */
  maxTokens: number;
  textWidth: number;
  textLayers: number;
  textHeads: number;
  /** Width of the space that both share. */
  projectionWidth: number;
}

const className = "EmojiAlignModel";
const EPSILON = 1e-5;
/** Added to the attention scores of padding. */
const HIDDEN = -1e9;

export const emojiAlign: Readonly<Record<"image" | "text", Architecture<EmojiAlignConfig>>> = {
  image: { className, parseConfig, model: imageTower, picture: "pixelValues" },
  text: { className, parseConfig, model: textTower, text: "inputIds" },
};

function parseConfig(raw: RawConfig): EmojiAlignConfig {
  const read = new ConfigReader(raw, className);
  const config = {
    imageSize: read.side("image_size", 64),
    channels: read.integers("channels", undefined, { most: MOST_WIDTH }),
    blocks: read.integers("blocks", undefined, { most: MOST_LAYERS }),
    groups: read.integer("norm_num_groups", 8, 1, MOST_WIDTH),
    vocabSize: read.integer("vocab_size"),
    maxTokens: read.integer("max_tokens", 16, 1, 4096),
    textWidth: read.integer("text_width", undefined, 1, MOST_WIDTH),
    textLayers: read.integer("text_layers", undefined, 1, MOST_LAYERS),
    textHeads: read.integer("text_heads", 4, 1, MOST_WIDTH),
    projectionWidth: read.integer("projection_width", undefined, 1, MOST_WIDTH),
  };
  read.finish([]);
  const { channels, blocks, groups, imageSize, textWidth, textHeads } = config;
  const unit = 4 * 2 ** (channels.length - 1);
  if (channels.length !== blocks.length || channels.some((width) => width % groups !== 0)) {
    throw new ConfigError(
      `${className}: [${channels}] channels need as many numbers of blocks, not [${blocks}], and ${groups} equal groups.`,
    );
  }
  if (imageSize % unit !== 0) throw new ConfigError(`${className}: image_size ${imageSize} is no multiple of ${unit}.`);
  if (textWidth % textHeads !== 0) {
    throw new ConfigError(`${className}: text_width ${textWidth} is not ${textHeads} equal heads.`);
  }
  return config;
}

const settingsOf = ({ channels, blocks, vocabSize, textWidth, projectionWidth }: EmojiAlignConfig) =>
  `channels [${channels}], blocks [${blocks}], vocab_size ${vocabSize}, text_width ${textWidth} and ` +
  `projection_width ${projectionWidth}`;

function stage(
  name: string,
  role: Role,
  reads: readonly string[],
  to: string,
  build: (w: Weights, ...x: Value[]) => Value,
): Stage {
  return {
    name,
    role,
    axis: "whole",
    reads,
    writes: [to],
    build: (features, weights) => ({ [to]: build(weights, ...reads.map((read) => features[read]!)) }),
  };
}

/**
 * pixelValues [batch, 3, size, size] in [-1, 1] -> imageFeatures [batch, last channels], the features before the
 * projection, and imageEmbeds [batch, projection width], each of length 1.
 */
function imageTower(config: EmojiAlignConfig, { batch }: Geometry): StagedModel {
  const { imageSize, channels, blocks, groups, projectionWidth } = config;
  return {
    className,
    settings: settingsOf(config),
    inputs: { pixelValues: input("pixelValues", [batch, 3, imageSize, imageSize]) },
    outputs: ["imageFeatures", "imageEmbeds"],
    stages: [
      stage("image.conv_in", "enter", ["pixelValues"], "hidden", (w, x) =>
        conv(x, w.at("image").at("conv_in"), channels[0]!, 4, { stride: 4 }),
      ),
      ...channels.map((width, i) =>
        stage(`image.stages.${i}`, "block", ["hidden"], "hidden", (w, x) => {
          const weights = w.at("image").at("stages").at(i);
          if (i > 0) x = conv(x, weights.at("downsample"), width, 2, { stride: 2 });
          for (let block = 0; block < blocks[i]!; block++) x = resnet(x, weights.at("blocks").at(block), groups);
          return x;
        }),
      ),
      stage("image.norm_out", "leave", ["hidden"], "imageFeatures", (w, x) =>
        reduceMean(silu(groupNorm(x, groups, EPSILON, w.at("image").at("norm_out"))), [2, 3], false),
      ),
      stage("image.projection", "leave", ["imageFeatures"], "imageEmbeds", (w, x) =>
        normalise(linear(x, w.at("image").at("projection"), projectionWidth, { bias: false })),
      ),
    ],
  };
}

/** x: [batch, channels, height, width] -> the same. */
function resnet(x: Value, w: Weights, groups: number): Value {
  const channels = staticDim(x, 1, "resnet");
  let h = conv(silu(groupNorm(x, groups, EPSILON, w.at("norm1"))), w.at("conv1"), channels, 3, { padding: 1 });
  h = conv(silu(groupNorm(h, groups, EPSILON, w.at("norm2"))), w.at("conv2"), channels, 3, { padding: 1 });
  return add(x, h);
}

/**
 * inputIds int64 [batch, maxTokens], attentionMask [batch, maxTokens] of 1 (text) and 0 (padding) -> textEmbeds
 * [batch, projection width], each of length 1.
 */
function textTower(config: EmojiAlignConfig, { batch }: Geometry): StagedModel {
  const { vocabSize, maxTokens: tokens, textWidth, textLayers, textHeads, projectionWidth } = config;
  return {
    className,
    settings: settingsOf(config),
    inputs: {
      inputIds: input("inputIds", [batch, tokens], "int64"),
      attentionMask: input("attentionMask", [batch, tokens]),
    },
    outputs: ["textEmbeds"],
    stages: [
      stage("text.embeddings", "enter", ["inputIds"], "states", (w, ids) => {
        const text = w.at("text");
        const positions = text.at("positions").tensor("weight", [tokens, textWidth]);
        return add(embedding(ids, text.at("tokens"), vocabSize, textWidth), positions);
      }),
      stage("text.mask", "enter", ["attentionMask"], "scoreBias", (_, mask) => {
        const hidden = reshape(mul(sub(1, mask), HIDDEN), [mask.shape[0]!, 1, 1, tokens]);
        // Attention wants one row of scores a query.
        return add(hidden, constant(new Float32Array(tokens), [1, 1, tokens, 1], "float32"));
      }),
      ...Array.from({ length: textLayers }, (_, i) =>
        stage(`text.blocks.${i}`, "block", ["states", "scoreBias"], "states", (w, x, mask) => {
          const weights = w.at("text").at("blocks").at(i);
          const attended = layerNorm(x, EPSILON, weights.at("norm1"));
          x = add(
            x,
            attentionLayer(attended, attended, weights.at("attn"), { heads: textHeads, inner: textWidth, mask }),
          );
          return add(x, feedForward(layerNorm(x, EPSILON, weights.at("norm2")), weights.at("ff")));
        }),
      ),
      stage("text.projection", "leave", ["states", "attentionMask"], "textEmbeds", (w, x, mask) => {
        const weights = w.at("text");
        const shown = reshape(mask, [mask.shape[0]!, tokens, 1]);
        const mean = div(reduceSum(mul(x, shown), [1], false), reduceSum(mask, [1]));
        const pooled = layerNorm(mean, EPSILON, weights.at("norm_out"));
        return normalise(linear(pooled, weights.at("projection"), projectionWidth, { bias: false }));
      }),
    ],
  };
}

/** Rows of length 1. */
function normalise(x: Value): Value {
  return div(x, sqrt(add(reduceSum(mul(x, x), [-1]), 1e-12)));
}
