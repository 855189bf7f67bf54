/**
 * The operators that graphs are made of. Each checks its operands when the node is made, so a wrong shape fails in the
 * TypeScript call that wrote it, with both shapes. Semantics are ONNX's (opset 20 and com.microsoft); see onnx.ts. Those
 * that only move elements are in shapes.ts.
 */
import { ShapeError } from "../errors.ts";
import { broadcastInto, broadcastShapes, expand } from "./shapes.ts";
import {
  type Attribute,
  type Dim,
  describe,
  floats,
  int64s,
  makeNode,
  makeValue as node,
  normaliseAxis,
  scalar,
  staticDim,
  staticShape,
  typeCodes,
  type Value,
  type ValueType,
} from "./value.ts";

export * from "./shapes.ts";

export type Operand = Value | number;

// ---------------------------------------------------------------- element by element

function binary(op: string, left: Operand, right: Operand, result?: ValueType): Value {
  const dtype = typeof left !== "number" ? left.dtype : typeof right !== "number" ? right.dtype : "float32";
  const a = typeof left === "number" ? scalar(left, dtype) : left;
  const b = typeof right === "number" ? scalar(right, dtype) : right;
  if (a.dtype !== b.dtype) throw new ShapeError(`${op}: operands are ${a.dtype} and ${b.dtype}`);
  return node(op, [a, b], { dtype: result ?? dtype, shape: broadcastShapes(a.shape, b.shape, op) });
}

function unary(op: string, x: Value, attributes: Record<string, Attribute> = {}): Value {
  return node(op, [x], { dtype: x.dtype, shape: x.shape }, attributes);
}

export const add = (a: Operand, b: Operand) => binary("Add", a, b);
export const sub = (a: Operand, b: Operand) => binary("Sub", a, b);
export const mul = (a: Operand, b: Operand) => binary("Mul", a, b);
export const div = (a: Operand, b: Operand) => binary("Div", a, b);
export const less = (a: Operand, b: Operand) => binary("Less", a, b, "bool");
export const equal = (a: Operand, b: Operand) => binary("Equal", a, b, "bool");
export const neg = (x: Value) => unary("Neg", x);
export const exp = (x: Value) => unary("Exp", x);
export const log = (x: Value) => unary("Log", x);
export const sqrt = (x: Value) => unary("Sqrt", x);
export const tanh = (x: Value) => unary("Tanh", x);
export const erf = (x: Value) => unary("Erf", x);
export const sin = (x: Value) => unary("Sin", x);
export const cos = (x: Value) => unary("Cos", x);
export const abs = (x: Value) => unary("Abs", x);
export const sigmoid = (x: Value) => unary("Sigmoid", x);
export const relu = (x: Value) => unary("Relu", x);

/** x * sigmoid(alpha x): SiLU for alpha 1, CLIP's quick GELU for 1.702. */
export function quickGelu(x: Value, alpha = 1.702): Value {
  return node("QuickGelu", [x], x, { alpha: { float: alpha } }, "com.microsoft");
}
export const silu = (x: Value) => quickGelu(x, 1);

/** GELU, exact (with erf) or in its tanh approximation, which DiT, PixArt and T5 v1.1 use. */
export const gelu = (x: Value, approximate: "none" | "tanh" = "none") => unary("Gelu", x, { approximate });

/** Limits x to [low, high]. */
export function clip(x: Value, low: number, high: number): Value {
  return node("Clip", [x, scalar(low, x.dtype), scalar(high, x.dtype)], x);
}

export function cast(x: Value, dtype: ValueType): Value {
  return x.dtype === dtype ? x : node("Cast", [x], { dtype, shape: x.shape }, { to: typeCodes[dtype] });
}

export function where(condition: Value, a: Operand, b: Operand): Value {
  const dtype = typeof a !== "number" ? a.dtype : typeof b !== "number" ? b.dtype : "float32";
  const [x, y] = [a, b].map((value) => (typeof value === "number" ? scalar(value, dtype) : value)) as [Value, Value];
  if (condition.dtype !== "bool" || x.dtype !== y.dtype) {
    throw new ShapeError(`Where: a ${condition.dtype} condition between ${x.dtype} and ${y.dtype}`);
  }
  const shape = broadcastShapes(broadcastShapes(x.shape, y.shape, "Where"), condition.shape, "Where");
  return node("Where", [condition, x, y], { dtype, shape });
}

// ---------------------------------------------------------------- products

export interface MatMulOptions {
  transA?: boolean;
  transB?: boolean;
  /** Factor on the product. */
  alpha?: number;
}

/** Batched product of the last two axes: [..., m, k] x [..., k, n] -> [..., m, n], either side read transposed. */
export function matmul(a: Value, b: Value, { transA = false, transB = false, alpha = 1 }: MatMulOptions = {}): Value {
  if (a.shape.length < 2 || b.shape.length < 2) {
    throw new ShapeError(`MatMul needs matrices, got ${describe(a.shape)} and ${describe(b.shape)}`);
  }
  if (a.dtype !== b.dtype) throw new ShapeError(`MatMul: operands are ${a.dtype} and ${b.dtype}`);
  const [m, k] = transA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!];
  const [k2, n] = transB ? [b.shape.at(-1)!, b.shape.at(-2)!] : [b.shape.at(-2)!, b.shape.at(-1)!];
  if (k !== k2) throw new ShapeError(`MatMul: inner sizes differ in ${describe(a.shape)} x ${describe(b.shape)}`);
  const shape = [...broadcastShapes(a.shape.slice(0, -2), b.shape.slice(0, -2), "MatMul"), m, n];
  if (!transA && !transB && alpha === 1) return node("MatMul", [a, b], { dtype: a.dtype, shape });
  const attributes = { transA: Number(transA), transB: Number(transB), alpha: { float: alpha } };
  return node("FusedMatMul", [a, b], { dtype: a.dtype, shape }, attributes, "com.microsoft");
}

/** op(a) op(b) + c on matrices; c broadcasts to the result. */
export function gemm(
  a: Value,
  b: Value,
  c: Value | null = null,
  { transA = false, transB = false }: Omit<MatMulOptions, "alpha"> = {},
): Value {
  const [m, k] = transA ? [a.shape[1], a.shape[0]] : [a.shape[0], a.shape[1]];
  const [k2, n] = transB ? [b.shape[1], b.shape[0]] : [b.shape[0], b.shape[1]];
  if (a.shape.length !== 2 || b.shape.length !== 2 || k !== k2) {
    throw new ShapeError(`Gemm: ${describe(a.shape)}${transA ? "^T" : ""} x ${describe(b.shape)}${transB ? "^T" : ""}`);
  }
  const shape = [m!, n!];
  if (c) broadcastInto(c.shape, shape, "Gemm");
  const attributes = { transA: Number(transA), transB: Number(transB) };
  return node("Gemm", c ? [a, b, c] : [a, b], { dtype: a.dtype, shape }, attributes);
}

// ---------------------------------------------------------------- convolution

export interface ConvOptions {
  stride?: number;
  /** Zeros around the picture: one number, or [top, left, bottom, right]. */
  padding?: number | readonly [number, number, number, number];
}

const fourSides = (padding: ConvOptions["padding"] = 0): readonly [number, number, number, number] =>
  typeof padding === "number" ? [padding, padding, padding, padding] : padding;

/** x: [batch, in, height, width], weights: [out, in, kh, kw], bias: [out]. */
export function conv2d(x: Value, weights: Value, bias: Value | null, { stride = 1, padding }: ConvOptions = {}): Value {
  const [batch, channels, height, width] = x.shape;
  const [out, inner, kh, kw] = staticShape(weights, "Conv");
  if (x.shape.length !== 4 || weights.shape.length !== 4 || channels !== inner) {
    throw new ShapeError(`Conv: ${describe(x.shape)} does not fit weights ${describe(weights.shape)}`);
  }
  if (bias && describe(bias.shape) !== describe([out!])) {
    throw new ShapeError(`Conv: bias ${describe(bias.shape)} does not fit weights ${describe(weights.shape)}`);
  }
  const pads = fourSides(padding);
  const size = (dim: Dim | undefined, kernel: number, before: number, after: number): Dim => {
    if (typeof dim === "number") return Math.floor((dim + before + after - kernel) / stride) + 1;
    return stride === 1 && before + after === kernel - 1 ? dim! : `conv(${dim})`;
  };
  const shape = [batch!, out!, size(height, kh!, pads[0], pads[2]), size(width, kw!, pads[1], pads[3])];
  const attributes = { kernel_shape: [kh!, kw!], strides: [stride, stride], pads };
  return node("Conv", bias ? [x, weights, bias] : [x, weights], { dtype: x.dtype, shape }, attributes);
}

/** The adjoint of conv2d in x: spreads [batch, out, h, w] back to `size`; weights as in conv2d. */
export function convTranspose2d(
  x: Value,
  weights: Value,
  { stride = 1, padding, size }: ConvOptions & { size: [number, number] },
): Value {
  const [out, inner, kh, kw] = staticShape(weights, "ConvTranspose");
  if (x.shape.length !== 4 || weights.shape.length !== 4 || x.shape[1] !== out) {
    throw new ShapeError(`ConvTranspose: ${describe(x.shape)} does not fit weights ${describe(weights.shape)}`);
  }
  const pads = fourSides(padding);
  const spread = (axis: number, kernel: number, before: number, after: number) =>
    (staticDim(x, axis, "ConvTranspose") - 1) * stride + kernel - before - after;
  const outputPadding = [size[0] - spread(2, kh!, pads[0], pads[2]), size[1] - spread(3, kw!, pads[1], pads[3])];
  const attributes = { kernel_shape: [kh!, kw!], strides: [stride, stride], pads, output_padding: outputPadding };
  return node("ConvTranspose", [x, weights], { dtype: x.dtype, shape: [x.shape[0]!, inner!, ...size] }, attributes);
}

/** Nearest-neighbour enlargement of the last two axes by a whole factor. */
export function upsampleNearest(x: Value, factor = 2): Value {
  const shape = x.shape.map((dim, i) => (i < 2 ? dim : typeof dim === "number" ? dim * factor : `${factor}*${dim}`));
  const attributes = { mode: "nearest", nearest_mode: "floor", coordinate_transformation_mode: "asymmetric" };
  const scales = floats([1, 1, factor, factor]);
  return node("Resize", [x, null, scales], { dtype: x.dtype, shape }, attributes);
}

// ---------------------------------------------------------------- normalisation and attention

/**
 * Over the last axis: (x - mean) / sqrt(variance + epsilon), then scale and shift if given ([last axis] each).
 * The first output is the result, then mean and 1/sqrt(variance + epsilon), which the gradient reuses.
 */
export function layerNormWithStatistics(
  x: Value,
  scale: Value,
  shift: Value | null,
  epsilon: number,
): readonly Value[] {
  for (const learned of shift ? [scale, shift] : [scale]) {
    if (describe(learned.shape) !== describe(x.shape.slice(-1))) {
      throw new ShapeError(`layerNorm: ${describe(learned.shape)} is not the last axis of ${describe(x.shape)}`);
    }
  }
  const statistics = { dtype: x.dtype, shape: [...x.shape.slice(0, -1), 1] };
  const inputs = shift ? [x, scale, shift] : [x, scale];
  return makeNode("LayerNormalization", inputs, [x, statistics, statistics], { axis: -1, epsilon: { float: epsilon } });
}

/** A norm without a learned scale still gets one from ONNX Runtime, as long as what it normalises: 512 MB. */
const MOST_ONES = 2 ** 27;

export function layerNorm(x: Value, scale: Value | null, shift: Value | null, epsilon: number): Value {
  const width = staticDim(x, -1, "layerNorm");
  if (scale) return layerNormWithStatistics(x, scale, shift, epsilon)[0]!;
  if (width > MOST_ONES) {
    throw new ShapeError(`layerNorm over ${width} values of ${describe(x.shape)}; at most ${MOST_ONES} are supported.`);
  }
  return layerNormWithStatistics(x, ones(width), shift, epsilon)[0]!;
}

/** Made by ONNX Runtime as it loads the graph: a group norm's scale can be as long as a picture, and would be in the file. */
const ones = (width: number): Value => expand(floats([1]), [width]);

/** Softmax over one axis. */
export function softmax(x: Value, axis = -1): Value {
  return unary("Softmax", x, { axis: normaliseAxis(axis, x.shape.length, "Softmax") });
}

/**
 * softmax(q k^T * scale + bias) v for every head, without keeping the attention matrix.
 * q: [batch, tokens, heads * d], k, v: [batch, context, heads * d]; bias: broadcasts to [batch, heads, tokens, context],
 * its last two axes whole. scale: 1/sqrt(d) unless given.
 */
export function attention(
  q: Value,
  k: Value,
  v: Value,
  heads: number,
  bias: Value | null = null,
  scale?: number,
): Value {
  const [width, inner] = [staticDim(q, -1, "attention"), staticDim(v, -1, "attention")];
  const [batch, tokens] = q.shape;
  const context = k.shape[1]!;
  const fits =
    [q, k, v].every(({ shape }) => shape.length === 3 && shape[0] === batch) &&
    [width, inner].every((size) => size % heads === 0) &&
    k.shape[2] === width &&
    v.shape[1] === context;
  if (!fits) {
    const shapes = [q, k, v].map(({ shape }) => describe(shape)).join(", ");
    throw new ShapeError(`attention with ${heads} heads: q, k, v are ${shapes}`);
  }
  if (bias) {
    const scores = [batch!, heads, tokens!, context];
    if (bias.shape.length !== 4 || bias.shape[2] !== tokens || bias.shape[3] !== context) {
      throw new ShapeError(`attention: bias ${describe(bias.shape)} does not fit scores ${describe(scores)}`);
    }
    broadcastInto(bias.shape, scores, "attention bias");
  }
  const attributes = { num_heads: heads, scale: { float: scale ?? 1 / Math.sqrt(width / heads) } };
  const inputs = bias ? [q, k, v, null, null, bias] : [q, k, v];
  const shape = [q.shape[0]!, q.shape[1]!, v.shape[2]!];
  return node("MultiHeadAttention", inputs, { dtype: q.dtype, shape }, attributes, "com.microsoft");
}

// ---------------------------------------------------------------- reductions

function reduce(op: string, x: Value, axes: readonly number[], keepDims: boolean): Value {
  const reduced = axes.map((axis) => normaliseAxis(axis, x.shape.length, op));
  const shape = x.shape.flatMap((dim, i) => (reduced.includes(i) ? (keepDims ? [1] : []) : [dim]));
  return node(op, [x, int64s(reduced)], { dtype: x.dtype, shape }, { keepdims: Number(keepDims) });
}

export const reduceSum = (x: Value, axes: readonly number[], keepDims = true) => reduce("ReduceSum", x, axes, keepDims);
export const reduceMean = (x: Value, axes: readonly number[], keepDims = true) =>
  reduce("ReduceMean", x, axes, keepDims);
export const reduceMax = (x: Value, axes: readonly number[], keepDims = true) => reduce("ReduceMax", x, axes, keepDims);

export const allAxes = (x: Value) => x.shape.map((_, i) => i);
