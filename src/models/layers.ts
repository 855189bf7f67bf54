/** Layers that several architectures share, with PyTorch's weight layouts. */
import {
  add,
  attention,
  type ConvOptions,
  cast,
  concat,
  conv2d,
  cos,
  div,
  gather,
  gelu,
  gemm,
  mul,
  layerNorm as normalise,
  type Operand,
  reduceMean,
  reshape,
  silu,
  sin,
  sqrt,
} from "../graph/operators.ts";
import { constant, staticDim, type Value } from "../graph/value.ts";
import { rows, type Weights } from "./weights.ts";

/** y = x W^T + b over the last axis; W is [out, in], or stored as a convolution's [out, in, 1, 1]. */
export function linear(x: Value, w: Weights, out: number, { bias = true, convolution = false } = {}): Value {
  const width = staticDim(x, -1, "linear");
  const matrix = convolution
    ? reshape(w.tensor("weight", [out, width, 1, 1]), [out, width])
    : w.tensor("weight", [out, width]);
  const shift = bias ? w.tensor("bias", [out]) : null;
  if (x.shape.length === 2) return gemm(x, matrix, shift, { transB: true });
  return reshape(gemm(reshape(x, [-1, width]), matrix, shift, { transB: true }), [...x.shape.slice(0, -1), out]);
}

/** In elements. T5-XXL's vocabulary has eight times as many. */
const LARGE_TABLE = 2 ** 24;

/** Rows of a learned table [rows, width], PyTorch's Embedding: int64 indices of any shape -> [...indices, width]. */
export function embedding(indices: Value, w: Weights, rows: number, width: number): Value {
  const table = w.tensor("weight", [rows, width]);
  // From a large table stored as float16 only the rows that are looked up are widened to float32. Smaller tables are widened
  // when the session is created, like all weights, since not every GPU computes in float16.
  const stored = table.node.op === "Cast" && rows * width > LARGE_TABLE ? table.node.inputs[0]! : table;
  return cast(gather(stored, indices), "float32");
}

/** Layer norm over the last axis, with learned scale and shift if `w` is given. */
export function layerNorm(x: Value, epsilon: number, w?: Weights): Value {
  const width = staticDim(x, -1, "layerNorm");
  return w
    ? normalise(x, w.tensor("weight", [width]), w.tensor("bias", [width]), epsilon)
    : normalise(x, null, null, epsilon);
}

/** x / rms(x) * weight over the last axis (Zhang & Sennrich 2019, arXiv 1910.07467): no mean, no shift. */
export function rmsNorm(x: Value, w: Weights, epsilon: number): Value {
  const rms = sqrt(add(reduceMean(mul(x, x), [-1]), epsilon));
  return mul(div(x, rms), w.tensor("weight", [staticDim(x, -1, "rmsNorm")]));
}

/** x (1 + scale) + shift: the second half of an adaptive layer norm. */
export function modulate(x: Value, shift: Operand, scale: Value): Value {
  return add(mul(x, add(scale, 1)), shift);
}

/** x: [batch, channels, height, width], normalised over groups of channels, with learned scale and shift. */
export function groupNorm(x: Value, groups: number, epsilon: number, w: Weights): Value {
  const channels = staticDim(x, 1, "groupNorm");
  const normalised = reshape(normalise(reshape(x, [x.shape[0]!, groups, -1]), null, null, epsilon), x.shape);
  const scale = reshape(w.tensor("weight", [channels]), [channels, 1, 1]);
  return add(mul(normalised, scale), reshape(w.tensor("bias", [channels]), [channels, 1, 1]));
}

/** Convolution with a square kernel, PyTorch's weights [out, in, k, k]. */
export function conv(x: Value, w: Weights, out: number, kernel: number, options: ConvOptions = {}): Value {
  const inner = staticDim(x, 1, "conv");
  return conv2d(x, w.tensor("weight", [out, inner, kernel, kernel]), w.tensor("bias", [out]), options);
}

export interface AttentionOptions {
  heads: number;
  inner: number;
  bias?: boolean;
  mask?: Value | null;
}

/** Multi-head attention with diffusers' names to_q, to_k, to_v, to_out.0. */
export function attentionLayer(x: Value, context: Value, w: Weights, options: AttentionOptions): Value {
  const q = queries(x, w, options);
  return attend(q, keysAndValues(context, w, options), w, options, staticDim(x, -1, "attention"));
}

/** The queries of such a layer; they may be those of some positions alone. */
export const queries = (x: Value, w: Weights, { inner, bias = true }: AttentionOptions): Value =>
  linear(x, w.at("to_q"), inner, { bias });

/** What it attends to. */
export const keysAndValues = (
  context: Value,
  w: Weights,
  { inner, bias = true }: AttentionOptions,
): readonly [keys: Value, values: Value] => [
  linear(context, w.at("to_k"), inner, { bias }),
  linear(context, w.at("to_v"), inner, { bias }),
];

/** The rest of it, to `width` channels. */
export function attend(
  q: Value,
  [k, v]: readonly [Value, Value],
  w: Weights,
  { heads, mask = null }: AttentionOptions,
  width: number,
): Value {
  return linear(attention(q, k, v, heads, mask), w.at("to_out").at(0), width);
}

/** Tells the usual variants of the sinusoidal embedding apart. */
export interface SinusoidOptions {
  /** diffusers' downscale_freq_shift, 0 unless given. */
  shift?: number;
  /** Sines before cosines: diffusers' flip_sin_to_cos false. */
  sinesFirst?: boolean;
}

/** Sinusoids of `values` [n] -> [n, width], for an even width. Frequencies fall from 1 to 1/10000. */
export function sinusoidalEmbedding(
  values: Value,
  width: number,
  { shift = 0, sinesFirst = false }: SinusoidOptions = {},
): Value {
  const half = width / 2;
  // Rounded where PyTorch rounds: at timestep 1000 the last bit of a frequency changes the angle by 6e-5.
  const step = Math.fround(-Math.log(10000));
  const frequencies = Float32Array.from({ length: half }, (_, i) =>
    Math.exp(Math.fround(Math.fround(step * i) / (half - shift))),
  );
  const angles = mul(reshape(values, [values.shape[0]!, 1]), constant(frequencies, [1, half], "float32"));
  return concat(sinesFirst ? [sin(angles), cos(angles)] : [cos(angles), sin(angles)], -1);
}

/** linear_1, SiLU, linear_2: diffusers' TimestepEmbedding, `width` wide inside. */
export function timestepEmbedding(x: Value, w: Weights, width: number, out = width): Value {
  return linear(silu(linear(x, w.at("linear_1"), width)), w.at("linear_2"), out);
}

/** diffusers' FeedForward with activation "gelu-approximate": four times as wide inside. */
export function feedForward(x: Value, w: Weights): Value {
  const width = staticDim(x, -1, "feedForward");
  const net = w.at("net");
  return linear(gelu(linear(x, net.at(0).at("proj"), 4 * width), "tanh"), net.at(2), width);
}

/** diffusers' FeedForward with activation "geglu" (Shazeer 2020, arXiv 2002.05202): four times as wide inside. */
export function gegluFeedForward(x: Value, w: Weights): Value {
  const width = staticDim(x, -1, "gegluFeedForward");
  const net = w.at("net");
  const inner = 4 * width;
  const [matrix, bias] = [
    net
      .at(0)
      .at("proj")
      .tensor("weight", [2 * inner, width]),
    net
      .at(0)
      .at("proj")
      .tensor("bias", [2 * inner]),
  ];
  // Two products with half of the rows each: the output of a single one would need as much memory again as its two halves.
  const flat = reshape(x, [-1, width]);
  const half = (start: number) =>
    gemm(flat, rows(matrix, start, start + inner), rows(bias, start, start + inner), { transB: true });
  const hidden = mul(half(0), gelu(half(inner)));
  return reshape(linear(hidden, net.at(2), width), x.shape);
}
