/**
 * The layers that Stable Diffusion's UNet consists of (Rombach et al. 2022, arXiv 2112.10752, section 3.3; the residual
 * block is Ho et al.'s 2020, arXiv 2006.11239, appendix B), each as a stage. Names are diffusers'.
 */
import { add, concat, reshape, silu, split } from "../../graph/operators.ts";
import { type Dim, staticDim, type Value } from "../../graph/value.ts";
import type { Features } from "../architecture.ts";
import { attentionLayer, conv, gegluFeedForward, groupNorm, layerNorm, linear, modulate } from "../layers.ts";
import { resizeNearest } from "../resize.ts";
import type { Weights } from "../weights.ts";
import { CONTEXT, type Field, type FieldPiece, type Size, type StageList, toField, toPictures } from "./stages.ts";

/** The embedding that resnets receive, of the timestep and all other conditions: [batch, width]. */
export const TIME = "embedding";

/** Epsilon of the layer norms inside transformers. */
export const LAYER_NORM_EPSILON = 1e-5;
/** Epsilon of the group norm at the start of a transformer. */
export const TRANSFORMER_NORM_EPSILON = 1e-6;

export interface NormOptions {
  groups: number;
  epsilon: number;
}

export interface ResnetOptions extends NormOptions {
  /** The time embedding scales and shifts the second norm's output instead of being added before it: diffusers' "scale_shift". */
  scaleShift?: boolean;
  /** Halves or doubles the image size, after the first norm and in the shortcut. */
  resize?: (pictures: Value) => Value;
}

/**
 * ResnetBlock2D: x [batch * frames, channels, height, width] and time [batch, width] -> [batch * frames, out, height,
 * width].
 */
export function resnetBlock(
  x: Value,
  time: Value,
  frames: Dim,
  w: Weights,
  out: number,
  { groups, epsilon, resize = (pictures) => pictures, scaleShift = false }: ResnetOptions,
): Value {
  let h = resize(silu(groupNorm(x, groups, epsilon, w.at("norm1"))));
  x = resize(x);
  h = conv(h, w.at("conv1"), out, 3, { padding: 1 });
  const told = linear(silu(time), w.at("time_emb_proj"), scaleShift ? 2 * out : out);
  if (!scaleShift) h = eachFrame(h, [told], frames, add);
  h = groupNorm(h, groups, epsilon, w.at("norm2"));
  if (scaleShift) h = eachFrame(h, split(told, 2, 1), frames, (x, scale, shift) => modulate(x, shift!, scale));
  h = conv(silu(h), w.at("conv2"), out, 3, { padding: 1 });
  return add(staticDim(x, 1, "resnet") === out ? x : conv(x, w.at("conv_shortcut"), out, 1), h);
}

/** Combines a vector per video [batch, channels] with all positions of its frames: [batch * frames, channels, height, width]. */
function eachFrame(
  pictures: Value,
  vectors: readonly Value[],
  frames: Dim,
  combine: (videos: Value, first: Value, ...others: Value[]) => Value,
): Value {
  const [, channels, height, width] = pictures.shape as [Dim, number, number, number];
  const batch = vectors[0]!.shape[0]!;
  const videos = reshape(pictures, [batch, frames, channels, height * width]);
  const spread = vectors.map((vector) => reshape(vector, [batch, 1, channels, 1])) as [Value, ...Value[]];
  return reshape(combine(videos, ...spread), pictures.shape);
}

/** The stage of a resnet; `skip` is the feature from the way down that is concatenated to its input on the way up. */
export function resnet(
  net: StageList,
  x: Field,
  module: string,
  out: number,
  { skip, ...options }: ResnetOptions & { skip?: Field | undefined },
): Field {
  const fields = skip ? [x, skip] : [x];
  return net.field(module, "frame", { fields, also: [TIME] }, { ...x, channels: out }, (values, features, weights) => {
    const pictures = values.map((value) => toPictures(value, x));
    const joined = skip ? concat(pictures, 1) : pictures[0]!;
    const { shape } = values[0]!;
    return toField(resnetBlock(joined, features[TIME]!, shape[1]!, weights.at(module), out, options), shape);
  });
}

/** Self-attention over the third axis of x [a, b, tokens, channels], separately for each of the a * b rows. */
export function selfAttention(x: Value, w: Weights, heads: number): Value {
  const [, , tokens, channels] = x.shape as [Dim, Dim, Dim, number];
  const rows = reshape(x, [-1, tokens, channels]);
  return reshape(attentionLayer(rows, rows, w, { heads, inner: channels, bias: false }), x.shape);
}

/** Cross-attention from x [batch, a, b, channels] to context [batch, tokens, width]. */
export function crossAttention(x: Value, context: Value, w: Weights, heads: number): Value {
  const [batch, , , channels] = x.shape as [Dim, Dim, Dim, number];
  const queries = reshape(x, [batch, -1, channels]);
  return reshape(attentionLayer(queries, context, w, { heads, inner: channels, bias: false }), x.shape);
}

/** BasicTransformerBlock: two attentions and a feed-forward layer, each with a layer norm before it and a residual connection. */
export function transformerBlock(
  x: Value,
  w: Weights,
  attention1: (x: Value, w: Weights) => Value,
  attention2: (x: Value, w: Weights) => Value,
): Value {
  return fedForward(attending(x, w, attention1, attention2), w);
}

/** Its first part. */
function attending(
  x: Value,
  w: Weights,
  attention1: (x: Value, w: Weights) => Value,
  attention2: (x: Value, w: Weights) => Value,
): Value {
  const norm = (name: string) => layerNorm(x, LAYER_NORM_EPSILON, w.at(name));
  x = add(x, attention1(norm("norm1"), w.at("attn1")));
  return add(x, attention2(norm("norm2"), w.at("attn2")));
}

/** The rest of it, for each position alone. */
const fedForward = (x: Value, w: Weights): Value =>
  add(x, gegluFeedForward(layerNorm(x, LAYER_NORM_EPSILON, w.at("norm3")), w.at("ff")));

/** A block of the spatial transformers: attention within each frame, then to the context. x: a field's value. */
export function spatialBlock(x: Value, context: Value, w: Weights, heads: number): Value {
  return transformerBlock(
    x,
    w,
    (normed, w) => selfAttention(normed, w, heads),
    (normed, w) => crossAttention(normed, context, w, heads),
  );
}

export interface TransformerOptions {
  groups: number;
  heads: number;
  layers: number;
  /** Whether proj_in and proj_out are stored as linear layers (Stable Diffusion 2) or as 1 x 1 convolutions (1.5). */
  linearProjection: boolean;
  /** Whether both attentions attend to the context, so that there is no self-attention. */
  onlyCross?: boolean;
}

/** Transformer2DModel, for each frame separately. Stable Diffusion XL's have up to ten blocks, which a planner can take one by one. */
export function transformer2d(net: StageList, x: Field, module: string, options: TransformerOptions): Field {
  const { groups, heads, layers, linearProjection, onlyCross } = options;
  const stored = { convolution: !linearProjection };
  const [start, ...names] = [`${module}.proj_in`, ...range(layers).map((i) => `${module}.transformer_blocks.${i}`)];
  const attentions = onlyCross ? ["attn1", "attn2"] : ["attn2"];
  const attended = names.flatMap((block) => attentions.map((attention) => `${block}.${attention}`));
  const { reads, writes } = net.attends(attended, x);
  const into = (value: Value, w: Weights) =>
    linear(normedPerFrame(value, x, groups, w.at("norm")), w.at("proj_in"), x.channels, stored);
  const attend = (value: Value, features: Features, w: Weights, i: number, written: Record<string, Value> = {}) => {
    const toText = (attention: string) => (normed: Value, w: Weights) => {
      const name = `${names[i]}.${attention}`;
      const added = features[name] ?? crossAttention(normed, features[CONTEXT]!, w, heads);
      if (writes[name]) written[name] = added;
      return added;
    };
    const within = onlyCross ? toText("attn1") : (normed: Value, w: Weights) => selfAttention(normed, w, heads);
    return attending(value, w.at("transformer_blocks").at(i), within, toText("attn2"));
  };
  const feed = (value: Value, w: Weights, i: number) => fedForward(value, w.at("transformer_blocks").at(i));
  const out = (value: Value, h: Value, w: Weights) => add(value, linear(h, w.at("proj_out"), x.channels, stored));
  const pieces: Omit<FieldPiece, "layout">[] = [
    { name: start!, reads: [x.name], build: (features, w) => ({ [start!]: into(features[x.name]!, w.at(module)) }) },
    ...names.flatMap((name, i): Omit<FieldPiece, "layout">[] => {
      const before = names[i - 1] ?? start!;
      const between = `${name}.attn`;
      const first: FieldPiece["build"] = (features, w) => ({
        [between]: attend(features[before]!, features, w.at(module), i),
      });
      const second: FieldPiece["build"] = (features, w) => ({ [name]: feed(features[between]!, w.at(module), i) });
      return [
        { name: between, reads: [before, CONTEXT], build: first },
        { name, axis: "position", reads: [between], build: second },
      ];
    }),
    {
      name: module,
      reads: [x.name, names.at(-1) ?? start!],
      build: (features, w) => ({
        [module]: out(features[x.name]!, features[names.at(-1) ?? start!]!, w.at(module)),
      }),
    },
  ];
  const whole = ([value]: readonly Value[], features: Features, weights: Weights, written: Record<string, Value>) => {
    const w = weights.at(module);
    const h = range(layers).reduce((h, i) => feed(attend(h, features, w, i, written), w, i), into(value!, w));
    return out(value!, h, w);
  };
  const inPieces = layers > 1 && !net.crossAttention;
  return net.field(module, "frame", { fields: [x], also: reads, writes }, x, whole, inPieces ? pieces : undefined);
}

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** The group norm at the start of spatial transformers. */
export function normedPerFrame(value: Value, x: Field, groups: number, w: Weights): Value {
  return toField(groupNorm(toPictures(value, x), groups, TRANSFORMER_NORM_EPSILON, w), value.shape);
}

/**
 * Downsample2D: half the height and width, rounded up. Padding 0 adds one row and column of zeros after the image only,
 * and rounds down.
 */
export function downsample(net: StageList, x: Field, block: string, padding: 0 | 1): Field {
  const module = `${block}.downsamplers.0`;
  const half = (side: number) => (padding === 1 ? Math.ceil(side / 2) : Math.floor(side / 2));
  const size = { height: half(x.height), width: half(x.width), channels: x.channels };
  return net.field(module, "frame", { fields: [x] }, size, ([value], _, weights) => {
    const options = { stride: 2, padding: padding === 1 ? 1 : ([0, 0, 1, 1] as const) };
    return toField(conv(toPictures(value!, x), weights.at(module).at("conv"), x.channels, 3, options), value!.shape);
  });
}

/**
 * Upsample2D: enlarges to the size of the feature that it will be joined with, usually twice its own. It does not use
 * `upsampleConv`, whose sums of weights would need memory on top of the mapped files.
 */
export function upsample(net: StageList, x: Field, block: string, { height, width }: Size): Field {
  const module = `${block}.upsamplers.0`;
  return net.field(module, "frame", { fields: [x] }, { height, width, channels: x.channels }, ([value], _, weights) => {
    const enlarged = resizeNearest(toPictures(value!, x), height, width);
    return toField(conv(enlarged, weights.at(module).at("conv"), x.channels, 3, { padding: 1 }), value!.shape);
  });
}
