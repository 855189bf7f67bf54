/** The blocks of Stable Diffusion 3's transformer (`sd3.ts`): whole, and in the pieces that a planner can cut them into. */
import { add, attention, concat, mul, reshape, silu, slice, split } from "../graph/operators.ts";
import type { Dim, Value } from "../graph/value.ts";
import type { Features } from "./architecture.ts";
import type { BareStage } from "./features.ts";
import { feedForward, layerNorm, linear, modulate, rmsNorm } from "./layers.ts";
import type { Weights } from "./weights.ts";

const EPSILON = 1e-6;

/** The settings of all blocks. */
export interface SD3BlockConfig {
  heads: number;
  /** heads * attention_head_dim */
  width: number;
  numLayers: number;
  /** Blocks with a second attention. */
  dualAttentionLayers: ReadonlySet<number>;
  /** Whether queries and keys are normalised (3.5). */
  qkNorm: boolean;
}

/** A stage of this model, whose axis is "whole". */
export type SD3Stage = Omit<BareStage, "axis">;
type Piece = NonNullable<BareStage["pieces"]>[number];

/** Block `index` of a model. */
export function blockStage(index: number, config: SD3BlockConfig): SD3Stage {
  const name = `transformer_blocks.${index}`;
  // Nothing reads the text's output of the last block, so it is not computed: diffusers' context_pre_only.
  const last = index === config.numLayers - 1;
  const kind = { dual: config.dualAttentionLayers.has(index), last };
  return {
    name,
    role: "block",
    reads: ["patches", "context", "temb"],
    writes: last ? ["patches"] : ["patches", "context"],
    build: (features, w) => jointBlock(features, w.at(name), config, kind),
    pieces: blockPieces(name, config, kind),
  };
}

/**
 * The same for a planner: what both attend to, then the text, then the image, which is independent for each position. A last
 * block's text has fewer vectors; the image of one with two attentions has three more.
 */
function blockPieces(name: string, config: SD3BlockConfig, { dual, last }: BlockKind): readonly Piece[] {
  const duals = dual ? ["dualModulation", "dualKeys", "dualValues"] : [];
  const text = last ? [] : ["textModulation"];
  const shared: Piece = {
    name: `${name}.attn`,
    role: "block",
    axis: "whole",
    reads: ["patches", "context", "temb"],
    writes: ["imageModulation", ...text, "keys", "values", ...duals],
    build: ({ patches: image, context, temb }, weights) => {
      const w = weights.at(name);
      const all = modulation(temb!, w.at("norm1"), dual ? 9 : 6);
      const imageModulation = dual ? slice(all, 2, 0, 6 * config.width) : all;
      const [shift, scale] = chunks(imageModulation, 6);
      const textModulation = last ? null : modulation(temb!, w.at("norm1_context"), 6);
      const normedText = textModulation
        ? modulate(layerNorm(context!, EPSILON), ...(chunks(textModulation, 6).slice(0, 2) as [Value, Value]))
        : continuousNorm(context!, temb!, w.at("norm1_context"));
      const normed = layerNorm(image!, EPSILON);
      const attended = modulate(normed, shift!, scale!);
      const both = (of: Value, from: readonly string[], norm: string) => [
        projection(of, w.at("attn"), from[0]!, norm, config),
        projection(of, w.at("attn"), from[1]!, null, config),
      ];
      const ofImage = both(attended, ["to_k", "to_v"], "norm_k");
      const ofText = both(normedText, ["add_k_proj", "add_v_proj"], "norm_added_k");
      const flat = (x: Value) => reshape(x, [x.shape[0]!, x.shape[2]!]);
      const made: Record<string, Value> = {
        imageModulation: flat(imageModulation),
        ...(textModulation && { textModulation: flat(textModulation) }),
        keys: concat([ofImage[0]!, ofText[0]!], 1),
        values: concat([ofImage[1]!, ofText[1]!], 1),
      };
      if (!dual) return made;
      const dualModulation = slice(all, 2, 6 * config.width, 9 * config.width);
      const [dualShift, dualScale] = chunks(dualModulation, 3);
      const second = modulate(normed, dualShift!, dualScale!);
      return {
        ...made,
        dualModulation: flat(dualModulation),
        dualKeys: projection(second, w.at("attn2"), "to_k", "norm_k", config),
        dualValues: projection(second, w.at("attn2"), "to_v", null, config),
      };
    },
  };
  const ofText: Piece = {
    name: `${name}.context`,
    role: "block",
    axis: "whole",
    reads: ["context", "textModulation", "keys", "values"],
    writes: ["context"],
    build: ({ context, textModulation, keys, values }, weights) => {
      const w = weights.at(name);
      const vectors = chunks(asVectors(textModulation!), 6) as Six;
      const attended = modulate(layerNorm(context!, EPSILON), vectors[0], vectors[1]);
      const q = projection(attended, w.at("attn"), "add_q_proj", "norm_added_q", config);
      const mixed = linear(attention(q, keys!, values!, config.heads), w.at("attn").at("to_add_out"), config.width);
      return { context: afterAttention(context!, mixed, vectors, w.at("ff_context")) };
    },
  };
  const ofImage: Piece = {
    name,
    role: "block",
    axis: "position",
    reads: ["patches", "imageModulation", "keys", "values", ...duals],
    writes: ["patches"],
    build: ({ patches, imageModulation, keys, values, ...others }, weights) => {
      const w = weights.at(name);
      const vectors = chunks(asVectors(imageModulation!), 6) as Six;
      const normed = layerNorm(patches!, EPSILON);
      const attend = (x: Value, to: Weights, k: Value, v: Value) => {
        const q = projection(x, to, "to_q", "norm_q", config);
        return linear(attention(q, k, v, config.heads), to.at("to_out").at(0), config.width);
      };
      const mixed = attend(modulate(normed, vectors[0], vectors[1]), w.at("attn"), keys!, values!);
      if (!dual) return { patches: afterAttention(patches!, mixed, vectors, w.at("ff")) };
      const [shift, scale, gate] = chunks(asVectors(others["dualModulation"]!), 3) as [Value, Value, Value];
      const { dualKeys, dualValues } = others;
      const second = mul(gate, attend(modulate(normed, shift, scale), w.at("attn2"), dualKeys!, dualValues!));
      return { patches: afterAttention(patches!, mixed, vectors, w.at("ff"), second) };
    },
  };
  return last ? [shared, ofImage] : [shared, ofText, ofImage];
}

interface BlockKind {
  dual: boolean;
  last: boolean;
}

/** patches [batch, rows * columns, width], context [batch, tokens, width], temb [batch, width] -> the first two. */
function jointBlock(features: Features, w: Weights, config: SD3BlockConfig, { dual, last }: BlockKind): Features {
  const { patches: image, context: text, temb } = features;
  const normed = layerNorm(image!, EPSILON);
  const [shift1, scale1, gate1, shift2, scale2, gate2, ...second] = vectors(temb!, w.at("norm1"), dual ? 9 : 6);
  const ofText = last ? null : vectors(temb!, w.at("norm1_context"), 6);
  const normedText = ofText
    ? modulate(layerNorm(text!, EPSILON), ofText[0], ofText[1])
    : continuousNorm(text!, temb!, w.at("norm1_context"));

  const attended = jointAttention(modulate(normed, shift1, scale1), normedText, w.at("attn"), config, last);
  let also: Value | null = null;
  if (dual) {
    const [shift, scale, gate] = second as [Value, Value, Value];
    also = mul(gate, selfAttention(modulate(normed, shift, scale), w.at("attn2"), config));
  }
  const ofImage: Six = [shift1, scale1, gate1, shift2, scale2, gate2];
  const x = afterAttention(image!, attended.image, ofImage, w.at("ff"), also);
  if (!ofText) return { patches: x };
  return { patches: x, context: afterAttention(text!, attended.text!, ofText, w.at("ff_context")) };
}

/** x with what attention made of it, gated, and after the feed-forward layer. `also`: what a second attention adds. */
function afterAttention(
  x: Value,
  mixed: Value,
  [, , gate1, shift2, scale2, gate2]: Six,
  w: Weights,
  also: Value | null = null,
): Value {
  let y = add(x, mul(gate1, mixed));
  if (also) y = add(y, also);
  return add(y, mul(gate2, feedForward(modulate(layerNorm(y, EPSILON), shift2, scale2), w)));
}

type Six = readonly [Value, Value, Value, Value, Value, Value, ...Value[]];

/** Shifts, scales and gates computed from the conditioning: `count` times [batch, 1, width]. */
const vectors = (temb: Value, w: Weights, count: number): Six => chunks(modulation(temb, w, count), count) as Six;

/** The same in one: [batch, 1, count * width]. */
function modulation(temb: Value, w: Weights, count: number): Value {
  return asVectors(linear(silu(temb), w.at("linear"), count * (temb.shape[1] as number)));
}

const asVectors = (x: Value): Value => reshape(x, [x.shape[0]!, 1, x.shape[1]!]);
const chunks = (x: Value, count: number): readonly Value[] => split(x, count, 2);

/** diffusers' AdaLayerNormContinuous, in which the scale comes before the shift. */
export function continuousNorm(x: Value, temb: Value, w: Weights): Value {
  const [scale, shift] = vectors(temb, w, 2);
  return modulate(layerNorm(x, EPSILON), shift, scale);
}

/** One attention over patches and tokens, with separate projections for each. */
function jointAttention(image: Value, text: Value, w: Weights, config: SD3BlockConfig, last: boolean) {
  const ofImage = projections(image, w, ["to_q", "to_k", "to_v"], ["norm_q", "norm_k"], config);
  const names = ["add_q_proj", "add_k_proj", "add_v_proj"] as const;
  const ofText = projections(text, w, names, ["norm_added_q", "norm_added_k"], config);
  const [q, k, v] = ofImage.map((value, i) => concat([value, ofText[i]!], 1)) as [Value, Value, Value];
  const mixed = attention(q, k, v, config.heads);
  const [patches, tokens] = [image.shape[1] as number, text.shape[1] as number];
  const out = (start: number, end: number, to: Weights) => linear(slice(mixed, 1, start, end), to, config.width);
  return {
    image: out(0, patches, w.at("to_out").at(0)),
    text: last ? null : out(patches, patches + tokens, w.at("to_add_out")),
  };
}

function selfAttention(x: Value, w: Weights, config: SD3BlockConfig): Value {
  const [q, k, v] = projections(x, w, ["to_q", "to_k", "to_v"], ["norm_q", "norm_k"], config);
  return linear(attention(q, k, v, config.heads), w.at("to_out").at(0), config.width);
}

/** Queries, keys and values; with `qkNorm` the queries and keys of each head are normalised. */
const projections = (
  x: Value,
  w: Weights,
  names: readonly [string, string, string],
  [ofQueries, ofKeys]: readonly [string, string],
  config: SD3BlockConfig,
): [Value, Value, Value] => {
  const [q, k, v] = names;
  return [
    projection(x, w, q, ofQueries, config),
    projection(x, w, k, ofKeys, config),
    projection(x, w, v, null, config),
  ];
};

function projection(
  x: Value,
  w: Weights,
  name: string,
  norm: string | null,
  { width, heads, qkNorm }: SD3BlockConfig,
): Value {
  const projected = linear(x, w.at(name), width);
  if (!qkNorm || norm === null) return projected;
  const [batch, tokens] = x.shape as [Dim, Dim];
  const each = reshape(projected, [batch, tokens, heads, width / heads]);
  return reshape(rmsNorm(each, w.at(norm), EPSILON), [batch, tokens, width]);
}
