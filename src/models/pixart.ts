/**
 * PixArt-alpha (Chen et al. 2023, arXiv 2310.00426) and PixArt-sigma (Chen et al. 2024, arXiv 2403.04692): a diffusion
 * transformer with cross-attention to text, and one adaptive norm for all blocks (adaLN-single). Names and
 * configuration keys are those of diffusers' PixArtTransformer2DModel.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError } from "../errors.ts";
import { add, concat, expand, gelu, mul, reshape, silu, split, sub } from "../graph/operators.ts";
import { input, staticDim, type Value } from "../graph/value.ts";
import type { Architecture, CrossAttention, Features, Geometry, Layout, StagedModel } from "./architecture.ts";
import { ConfigReader, MOST_WIDTH } from "./config.ts";
import { type BareStage, withLayouts } from "./features.ts";
import {
  attentionLayer,
  feedForward,
  layerNorm,
  linear,
  modulate,
  sinusoidalEmbedding,
  timestepEmbedding,
} from "./layers.ts";
import {
  describePatchTransformer,
  harmlessKeys,
  type PatchTransformerConfig,
  parsePatchTransformer,
  patchEmbedding,
  patchGrid,
  transformerCounts,
  unpatchify,
} from "./patch-transformer.ts";
import { attentionPieces, SelfAttentionBlock } from "./self-attention-block.ts";
import type { Weights } from "./weights.ts";

/** The values of a PixArt transformer's `config.json` that its graph depends on. */
export interface PixArtConfig extends PatchTransformerConfig {
  /** Width of the text encoder's output, which is projected to the transformer's; null if it is attended to as it is. */
  captionChannels: number | null;
  /** Width of what the blocks attend to. */
  contextWidth: number;
  /** Whether the image's size and aspect ratio are inputs (PixArt-alpha at 1024 pixels). */
  useAdditionalConditions: boolean;
}

/** Number of sinusoids that encode a scalar condition. */
const FREQUENCIES = 256;
/** Added to the attention scores of padding. */
const HIDDEN = -10000;

/** PixArt-alpha and PixArt-sigma: `PixArtTransformer2DModel`. */
export const pixart: Architecture<PixArtConfig> = {
  className: "PixArtTransformer2DModel",
  parseConfig,
  model,
  counts: transformerCounts,
  picture: "hiddenStates",
  text: "encoderHiddenStates",
  // The table of sines and cosines, which some versions store.
  ignores: /^pos_embed\.pos_embed$/,
};

function parseConfig(raw: RawConfig): PixArtConfig {
  const read = new ConfigReader(raw, pixart.className);
  const defaults = { outChannels: 8, sampleSize: 128, normEps: 1e-6 };
  const common = parsePatchTransformer(read, raw, pixart.className, "ada_norm_single", defaults);
  const contextWidth = read.integer("cross_attention_dim", 1152, 1, MOST_WIDTH);
  const projected = read.has("caption_channels");
  // The projected text has the transformer's width.
  if (projected) read.require("cross_attention_dim", common.width, 1152);
  const scale = Math.max(Math.floor(common.sampleSize / 64), 1);
  const own = (key: string) => read.has(key);
  const config = {
    ...common,
    captionChannels: projected ? read.integer("caption_channels", undefined, 1, MOST_WIDTH) : null,
    contextWidth,
    interpolationScale: own("interpolation_scale") ? read.number("interpolation_scale") : scale,
    useAdditionalConditions: own("use_additional_conditions")
      ? read.boolean("use_additional_conditions")
      : common.sampleSize === 128,
  };
  read.finish([...harmlessKeys, "num_embeds_ada_norm"]);
  return config;
}

/**
 * Inputs: `hiddenStates` [batch, inChannels, height, width] latent, `timestep` [batch] in 0..1000,
 * `encoderHiddenStates` [batch, tokens, captionChannels], `encoderAttentionMask` [batch, tokens] of 1 (text) and 0
 * (padding), and with additional conditions `resolution` [batch, 2] (height, width in pixels) and `aspectRatio`
 * [batch, 1]; all float32. Output: `sample` [batch, outChannels, height, width].
 */
function model(config: PixArtConfig, geometry: Geometry): StagedModel {
  const { batch, tokens, crossAttention } = geometry;
  if (tokens === undefined) throw new ArgumentError(`${pixart.className}: how many text tokens are there?`);
  const grid = patchGrid(geometry, config);
  const [height, width] = grid.map((size) => size * config.patchSize) as [number, number];
  const patches = grid[0] * grid[1];
  const isGiven = crossAttention === "given";
  const blocks = Array.from({ length: config.numLayers }, (_, i) => `transformer_blocks.${i}`);
  const attended: Record<string, Layout> = Object.fromEntries(
    blocks.map((block) => [attendedBy(block), { batch, position: patches, channel: config.width }]),
  );
  const conditions: Record<string, Layout> = {
    ...(!isGiven && {
      encoderHiddenStates: { batch, token: tokens, channel: config.captionChannels ?? config.contextWidth },
      encoderAttentionMask: { batch, token: tokens },
    }),
    ...(config.useAdditionalConditions && { resolution: { batch, side: 2 }, aspectRatio: { batch, ratio: 1 } }),
  };
  const inputs: Record<string, Layout> = {
    hiddenStates: { batch, channel: config.inChannels, row: height, column: width },
    timestep: { batch },
    ...conditions,
    ...(isGiven && attended),
  };
  const layouts: Record<string, Layout> = {
    ...inputs,
    ...attended,
    hiddenStates: { batch, position: patches, channel: config.width },
    embeddedTimestep: { batch, channel: config.width },
    adalnSingle: { batch, channel: 6 * config.width },
    captionProjection: { batch, token: tokens, channel: config.contextWidth },
    captionBias: { batch, head: 1, position: patches, token: tokens },
    keys: { batch, key: patches, channel: config.width },
    values: { batch, key: patches, channel: config.width },
    sample: { batch, channel: config.outChannels, row: height, column: width },
  };
  const stages: BareStage[] = [
    {
      name: "pos_embed",
      role: "enter",
      axis: "whole",
      reads: ["hiddenStates"],
      writes: ["hiddenStates"],
      readLayouts: { hiddenStates: inputs["hiddenStates"]! },
      build: ({ hiddenStates }, w) => ({ hiddenStates: patchEmbedding(hiddenStates!, w.at("pos_embed"), config) }),
    },
    conditioningStage(config),
    ...(isGiven ? [] : [captionStage(config, patches)]),
    ...blocks.map((name) => blockStage(name, config, crossAttention)),
    {
      name: "proj_out",
      role: "leave",
      axis: "whole",
      reads: ["hiddenStates", "embeddedTimestep"],
      writes: ["sample"],
      build: ({ hiddenStates, embeddedTimestep }, w) => ({
        sample: unpatchify(finalLayer(hiddenStates!, embeddedTimestep!, w, config), grid, config),
      }),
    },
  ];
  return {
    className: pixart.className,
    settings: `${describePatchTransformer(config)}, caption_channels ${config.captionChannels}`,
    inputs: Object.fromEntries(
      Object.entries(inputs).map(([name, layout]) => [name, input(name, Object.values(layout))]),
    ),
    outputs: ["sample", ...(crossAttention === "kept" ? Object.keys(attended) : [])],
    conditions: Object.keys(conditions),
    latent: "hiddenStates",
    streams: ["hiddenStates"],
    stages: stages.map((stage) => withLayouts(stage, layouts)),
  };
}

/**
 * adaLN-single (PixArt-alpha, section 2.3): one vector of six shifts, scales and gates that every block shifts by a
 * table of its own. Writes `embeddedTimestep` [batch, width] and `adalnSingle` [batch, 6 * width].
 */
function conditioningStage(config: PixArtConfig): BareStage {
  return {
    name: "adaln_single",
    role: "enter",
    axis: "whole",
    reads: ["timestep", ...(config.useAdditionalConditions ? ["resolution", "aspectRatio"] : [])],
    writes: ["embeddedTimestep", "adalnSingle"],
    build: (features, weights) => {
      const w = weights.at("adaln_single");
      const embeddedTimestep = embedTimestep(features, w.at("emb"), config);
      return { embeddedTimestep, adalnSingle: linear(silu(embeddedTimestep), w.at("linear"), 6 * config.width) };
    },
  };
}

function embedTimestep({ timestep, resolution, aspectRatio }: Features, w: Weights, config: PixArtConfig): Value {
  const { width, useAdditionalConditions } = config;
  const embedded = timestepEmbedding(sinusoidalEmbedding(timestep!, FREQUENCIES), w.at("timestep_embedder"), width);
  if (!useAdditionalConditions) return embedded;
  // Height, width and aspect ratio get a third of the width each.
  const third = Math.floor(width / 3);
  const sizes = (values: Value, name: string) => {
    const each = sinusoidalEmbedding(reshape(values, [-1]), FREQUENCIES);
    const vectors = timestepEmbedding(each, w.at(name), third);
    return reshape(vectors, [values.shape[0]!, staticDim(values, 1, "size embedding") * third]);
  };
  const size = concat([sizes(resolution!, "resolution_embedder"), sizes(aspectRatio!, "aspect_ratio_embedder")], -1);
  return add(embedded, size);
}

/**
 * The text, projected to the transformer's width if it has a projection: `captionProjection` [batch, tokens, width], and the mask
 * that hides its padding from `patches` queries: `captionBias` [batch, 1, patches, tokens].
 */
function captionStage({ width, captionChannels }: PixArtConfig, patches: number): BareStage {
  return {
    name: "caption_projection",
    role: "enter",
    axis: "whole",
    reads: ["encoderHiddenStates", "encoderAttentionMask"],
    writes: ["captionProjection", "captionBias"],
    build: ({ encoderHiddenStates, encoderAttentionMask: mask }, weights) => {
      const w = weights.at("caption_projection");
      const project = (text: Value) =>
        linear(gelu(linear(text, w.at("linear_1"), width), "tanh"), w.at("linear_2"), width);
      const captionProjection = captionChannels === null ? encoderHiddenStates! : project(encoderHiddenStates!);
      const [batch, tokens] = mask!.shape;
      const bias = reshape(mul(sub(1, mask!), HIDDEN), [batch!, 1, 1, tokens!]);
      return { captionProjection, captionBias: expand(bias, [1, 1, patches, 1]) };
    },
  };
}

/** What a block's cross-attention adds, where it is an output or an input of the network. */
const attendedBy = (block: string) => `${block}.attn2`;

function blockStage(name: string, config: PixArtConfig, crossAttention?: CrossAttention): BareStage {
  const added = attendedBy(name);
  const text = crossAttention === "given" ? [added] : ["captionProjection", "captionBias"];
  const [reads, writes] = [["hiddenStates", "adalnSingle", ...text], ["hiddenStates"]];
  return {
    name,
    role: "block",
    axis: "whole",
    reads,
    writes: crossAttention === "kept" ? [...writes, added] : writes,
    build: (features, weights) => {
      const w = weights.at(name);
      let kept: Value;
      const toText = (x: Value) => {
        kept = features[added] ?? captionAttention(x, features, w, config);
        return kept;
      };
      const hiddenStates = pixartBlock(features, w, config, toText);
      return { hiddenStates, ...(crossAttention === "kept" && { [added]: kept! }) };
    },
    ...(!crossAttention && {
      pieces: attentionPieces(name, { attentionReads: ["hiddenStates", "adalnSingle"], reads, writes }, (features, w) =>
        blockWith(features, w, config),
      ),
    }),
  };
}

/** What attention to the text adds to x [batch, patches, width]. */
function captionAttention(
  x: Value,
  features: Features,
  w: Weights,
  { width, heads, attentionBias }: PixArtConfig,
): Value {
  const { captionProjection, captionBias } = features;
  const layer = { heads, inner: width, bias: attentionBias, mask: captionBias! };
  return attentionLayer(x, captionProjection!, w.at("attn2"), layer);
}

type ToText = (x: Value) => Value;

/** hiddenStates [batch, patches, width] -> the same; the other features as the stages above write them. */
export function pixartBlock(features: Features, w: Weights, config: PixArtConfig, toText?: ToText): Value {
  return blockWith(features, w, config, toText).whole();
}

function blockWith(
  features: Features,
  w: Weights,
  config: PixArtConfig,
  toText: ToText = (x) => captionAttention(x, features, w, config),
): SelfAttentionBlock {
  const { width, normEps } = config;
  const { hiddenStates, adalnSingle } = features;
  const table = w.tensor("scale_shift_table", [6, width]);
  const modulation = add(reshape(adalnSingle!, [-1, 6, width]), table);
  const [shift1, scale1, gate1, shift2, scale2, gate2] = split(modulation, 6, 1) as Six;
  const normed = () => modulate(layerNorm(hiddenStates!, normEps), shift1, scale1);
  return new SelfAttentionBlock(config, w, normed, (attended) => {
    let x = add(hiddenStates!, mul(gate1, attended));
    // Cross-attention has no norm before it: the block's second norm belongs to the feed-forward layer.
    x = add(x, toText(x));
    return add(x, mul(gate2, feedForward(modulate(layerNorm(x, normEps), shift2, scale2), w.at("ff"))));
  });
}

type Six = readonly [Value, Value, Value, Value, Value, Value];

/** [batch, patches, width] -> [batch, patches, patch * patch * outChannels] */
function finalLayer(x: Value, embeddedTimestep: Value, w: Weights, { width, patchSize, outChannels }: PixArtConfig) {
  const table = w.tensor("scale_shift_table", [2, width]);
  const modulation = add(reshape(embeddedTimestep, [-1, 1, width]), table);
  const [shift, scale] = split(modulation, 2, 1) as [Value, Value];
  return linear(modulate(layerNorm(x, 1e-6), shift, scale), w.at("proj_out"), patchSize ** 2 * outChannels);
}
