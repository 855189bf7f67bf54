/**
 * The temporal layers of video UNets, as stages. Attention and convolutions work on all frames of one position. Only the
 * statistics of group norms cover everything; they are combined from those of each frame or position, so that no large
 * feature has to be in memory as a whole.
 */
import { add, reshape, silu, slice, transpose } from "../../graph/operators.ts";
import { constant, staticDim, type Value } from "../../graph/value.ts";
import type { Layout } from "../architecture.ts";
import { gegluFeedForward, layerNorm, linear, sinusoidalEmbedding, timestepEmbedding } from "../layers.ts";
import { alphaBlender, frameConv, groupNormFromMoments, moments, scaleAndShift } from "../temporal-layers.ts";
import type { Weights } from "../weights.ts";
import {
  crossAttention,
  LAYER_NORM_EPSILON,
  type NormOptions,
  normedPerFrame,
  resnet,
  selfAttention,
  spatialBlock,
  TIME,
  TRANSFORMER_NORM_EPSILON,
  transformerBlock,
} from "./layers.ts";
import { CONTEXT, type Field, type StageList, toPictures } from "./stages.ts";

/**
 * The statistics of a group norm over channels, all frames and all positions, without applying it. Two stages: the first runs
 * in parts like the stages around it; the second waits for all of these parts, and reads very little. Returns the name of
 * a feature [batch, 2, channels] for `scaleAndShift`. `axis` is that of the stage that computed x.
 */
function normOverFrames(
  net: StageList,
  x: Field,
  module: string,
  { groups, epsilon, axis }: NormOptions & { axis: "frame" | "position" },
): string {
  const statistics = `${module}.statistics`;
  const { batch, frames } = net;
  const parts: Layout = axis === "frame" ? { frame: frames } : { position: x.height * x.width };
  net.add(statistics, axis, [x.name], { [statistics]: { batch, ...parts, group: groups, moment: 2 } }, (features) => {
    const value = features[x.name]!;
    return { [statistics]: axis === "frame" ? frameMoments(value, x, groups) : positionMoments(value, groups) };
  });
  const lines = { batch, line: 2, channel: x.channels };
  net.add(module, "whole", [statistics], { [module]: lines }, (features, weights) => ({
    [module]: groupNormFromMoments(features[statistics]!, x.channels, epsilon, weights.at(module)),
  }));
  return module;
}

/** -> [batch, frames, groups, 2] */
function frameMoments(value: Value, x: Field, groups: number): Value {
  const pictures = toPictures(value, x);
  const rows = reshape(pictures, [pictures.shape[0]!, groups, -1]);
  return reshape(moments(rows, [2]), [value.shape[0]!, value.shape[1]!, groups, 2]);
}

/** -> [batch, positions, groups, 2] */
function positionMoments(value: Value, groups: number): Value {
  const [batch, frames, positions] = value.shape;
  const rows = reshape(value, [batch!, frames!, positions!, groups, -1]);
  return reshape(moments(rows, [1, 4]), [batch!, positions!, groups, 2]);
}

/** [batch, frames, positions, channels] <-> [batch, positions, frames, channels] */
const framesInside = (x: Value) => transpose(x, [0, 2, 1, 3]);

export interface MotionOptions {
  groups: number;
  heads: number;
  layers: number;
  /** Rows of the stored position table. */
  maxFrames: number;
}

/**
 * AnimateDiff's motion module (diffusers' AnimateDiffTransformer3D): every position attends to itself in all frames,
 * twice per block.
 */
export function motionModule(net: StageList, x: Field, module: string, options: MotionOptions): Field {
  const { groups, heads, layers, maxFrames } = options;
  const epsilon = TRANSFORMER_NORM_EPSILON;
  const norm = normOverFrames(net, x, `${module}.norm`, { groups, epsilon, axis: "frame" });
  return net.field(module, "position", { fields: [x], also: [norm] }, x, ([value], features, weights) => {
    const w = weights.at(module);
    let h = linear(framesInside(scaleAndShift(value!, features[norm]!)), w.at("proj_in"), x.channels);
    for (let i = 0; i < layers; i++) h = motionBlock(h, w.at("transformer_blocks").at(i), heads, maxFrames);
    return add(value!, framesInside(linear(h, w.at("proj_out"), x.channels)));
  });
}

/** x: [batch, positions, frames, channels] -> the same. The frame's position embedding is added to each attention's input. */
function motionBlock(x: Value, w: Weights, heads: number, maxFrames: number): Value {
  const [frames, channels] = [staticDim(x, 2, "motion module"), staticDim(x, 3, "motion module")];
  const table = w.at("pos_embed").tensor("pe", [1, maxFrames, channels]);
  const positions = frames === maxFrames ? table : slice(table, 1, 0, frames);
  const attention = (normed: Value, w: Weights) => selfAttention(add(normed, positions), w, heads);
  return transformerBlock(x, w, attention, attention);
}

/**
 * Stable Video Diffusion's resnet (diffusers' SpatioTemporalResBlock): a spatial one for each frame, then a temporal one of
 * the same kind for each position, and a blend of the two.
 */
export function spatioTemporalResnet(
  net: StageList,
  x: Field,
  module: string,
  out: number,
  { skip, groups, epsilon }: NormOptions & { skip?: Field | undefined },
): Field {
  const spatial = resnet(net, x, `${module}.spatial_res_block`, out, { groups, epsilon, skip });
  const temporal = `${module}.temporal_res_block`;
  const norm1 = normOverFrames(net, spatial, `${temporal}.norm1`, { groups, epsilon, axis: "frame" });
  const hidden = net.field(
    `${temporal}.conv1`,
    "position",
    { fields: [spatial], also: [norm1, TIME] },
    spatial,
    ([value], features, weights) => {
      const w = weights.at(temporal);
      const h = convOverFrames(silu(scaleAndShift(value!, features[norm1]!)), w.at("conv1"));
      const time = linear(silu(features[TIME]!), w.at("time_emb_proj"), out);
      return add(h, reshape(time, [time.shape[0]!, 1, 1, out]));
    },
  );
  const norm2 = normOverFrames(net, hidden, `${temporal}.norm2`, { groups, epsilon, axis: "position" });
  return net.field(
    module,
    "position",
    { fields: [spatial, hidden], also: [norm2] },
    spatial,
    ([value, h], features, weights) => {
      const w = weights.at(module);
      const conv2 = w.at("temporal_res_block").at("conv2");
      const mixed = add(value!, convOverFrames(silu(scaleAndShift(h!, features[norm2]!)), conv2));
      return alphaBlender(value!, mixed, w.at("time_mixer"));
    },
  );
}

/** x: [batch, frames, positions, channels] -> the same. */
function convOverFrames(x: Value, w: Weights): Value {
  return transpose(frameConv(transpose(x, [0, 3, 1, 2]), w), [0, 2, 3, 1]);
}

/**
 * Stable Video Diffusion's transformer (diffusers' TransformerSpatioTemporalModel): after each spatial block a temporal one,
 * whose output is blended with its input.
 */
export function spatioTemporalTransformer(
  net: StageList,
  x: Field,
  module: string,
  { groups, heads, layers }: { groups: number; heads: number; layers: number },
): Field {
  let h = x;
  for (let i = 0; i < layers; i++) {
    const block = `${module}.transformer_blocks.${i}`;
    const first = i === 0;
    h = net.field(block, "frame", { fields: [h], also: [CONTEXT] }, x, ([value], features, weights) => {
      const w = weights.at(module);
      const input = first
        ? linear(normedPerFrame(value!, x, groups, w.at("norm")), w.at("proj_in"), x.channels)
        : value!;
      return spatialBlock(input, features[CONTEXT]!, weights.at(block), heads);
    });
    const temporal = `${module}.temporal_transformer_blocks.${i}`;
    const last = i === layers - 1;
    const fields = last ? [h, x] : [h];
    h = net.field(temporal, "position", { fields, also: [CONTEXT] }, x, ([value, residual], features, weights) => {
      const w = weights.at(module);
      const spatial = framesInside(value!);
      const placed = add(spatial, frameEmbedding(spatial, w.at("time_pos_embed")));
      const mixed = temporalBlock(placed, features[CONTEXT]!, weights.at(temporal), heads);
      const blended = framesInside(alphaBlender(spatial, mixed, w.at("time_mixer")));
      return last ? add(linear(blended, w.at("proj_out"), x.channels), residual!) : blended;
    });
  }
  return h;
}

/** The embedding of each frame's number: [frames, channels] for x [batch, positions, frames, channels]. */
function frameEmbedding(x: Value, w: Weights): Value {
  const [frames, channels] = [staticDim(x, 2, "frame embedding"), staticDim(x, 3, "frame embedding")];
  const numbers = constant(
    Float32Array.from({ length: frames }, (_, i) => i),
    [frames],
    "float32",
  );
  return timestepEmbedding(sinusoidalEmbedding(numbers, channels), w, 4 * channels, channels);
}

/** TemporalBasicTransformerBlock. x: [batch, positions, frames, channels] -> the same. */
function temporalBlock(x: Value, context: Value, w: Weights, heads: number): Value {
  x = add(x, gegluFeedForward(layerNorm(x, LAYER_NORM_EPSILON, w.at("norm_in")), w.at("ff_in")));
  return transformerBlock(
    x,
    w,
    (normed, w) => selfAttention(normed, w, heads),
    (normed, w) => crossAttention(normed, context, w, heads),
  );
}
