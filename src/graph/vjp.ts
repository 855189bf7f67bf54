/**
 * Gradients, one rule an operator: given the gradient of each output (null where nothing depends on it), the gradient
 * of each input (null where none is needed), as more operators. Tested against central finite differences.
 */
import { HalfstepError, ShapeError } from "../errors.ts";
import {
  add,
  allAxes,
  cast,
  concat,
  conv2d,
  convTranspose2d,
  cos,
  div,
  equal,
  erf,
  exp,
  expand,
  flip,
  gemm,
  less,
  matmul,
  mul,
  neg,
  pad,
  reduceMean,
  reduceSum,
  reshape,
  scatterAdd,
  sigmoid,
  sin,
  slice,
  softmax,
  sub,
  transpose,
  where,
} from "./operators.ts";
import { type Attribute, constant, describe, type Node, staticDim, staticShape, type Value } from "./value.ts";

export type VjpRule = (node: RuleContext, ...dy: (Value | null)[]) => (Value | null)[];

export interface RuleContext {
  inputs: readonly Value[];
  outputs: readonly Value[];
  attributes: Node["attributes"];
}

/** Sums a gradient over the axes along which `target` was broadcast. */
function unbroadcast(gradient: Value, target: Value): Value {
  const extra = gradient.shape.length - target.shape.length;
  const missing = gradient.shape.flatMap((_, i) => (i < extra ? [i] : []));
  const summed = missing.length > 0 ? reduceSum(gradient, missing, false) : gradient;
  const single = target.shape.flatMap((dim, i) => (dim === 1 && summed.shape[i] !== 1 ? [i] : []));
  return single.length > 0 ? reduceSum(summed, single) : summed;
}

export function zerosLike(x: Value): Value {
  const shape = staticShape(x, "zerosLike");
  return expand(constant(Float32Array.of(0), new Array(shape.length).fill(1), "float32"), shape);
}

const float = (attribute: Attribute | undefined) => (attribute as { float: number }).float;
const integers = (attribute: Attribute | undefined) => attribute as readonly number[];
const sumKept = (x: Value, axis: number) => reduceSum(x, [axis]);

/** Gradient of a slice of one axis: zeros everywhere else. */
function unslice(gradient: Value, x: Value, axis: number, start: number): Value {
  const before = x.shape.map((_, i) => (i === axis ? start : 0));
  const rest = (x.shape[axis] as number) - start - (gradient.shape[axis] as number);
  if (start === 0 && rest === 0) return gradient;
  return pad(
    gradient,
    before,
    x.shape.map((_, i) => (i === axis ? rest : 0)),
  );
}

const isOnes = ({ node: { op, data, inputs } }: Value): boolean => {
  if (op === "Expand") return isOnes(inputs[0]!);
  return op === "Constant" && data !== undefined && "bytes" in data && float32s(data.bytes).every((x) => x === 1);
};
const float32s = (bytes: Uint8Array) => new Float32Array(bytes.slice().buffer);

const int64Values = (value: Value) => {
  const bytes = (value.node.data as { bytes: Uint8Array }).bytes;
  return Array.from(new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 8), Number);
};

export const vjp: Readonly<Record<string, VjpRule>> = {
  Add: ({ inputs: [a, b] }, dy) => [unbroadcast(dy!, a!), unbroadcast(dy!, b!)],
  Sub: ({ inputs: [a, b] }, dy) => [unbroadcast(dy!, a!), unbroadcast(neg(dy!), b!)],
  Mul: ({ inputs: [a, b] }, dy) => [unbroadcast(mul(dy!, b!), a!), unbroadcast(mul(dy!, a!), b!)],
  Div: ({ inputs: [a, b], outputs: [y] }, dy) => {
    const da = div(dy!, b!);
    return [unbroadcast(da, a!), unbroadcast(neg(mul(da, y!)), b!)];
  },
  Neg: (_, dy) => [neg(dy!)],
  Exp: ({ outputs: [y] }, dy) => [mul(dy!, y!)],
  Log: ({ inputs: [x] }, dy) => [div(dy!, x!)],
  Sqrt: ({ outputs: [y] }, dy) => [div(mul(dy!, 0.5), y!)],
  Sin: ({ inputs: [x] }, dy) => [mul(dy!, cos(x!))],
  Cos: ({ inputs: [x] }, dy) => [neg(mul(dy!, sin(x!)))],
  Abs: ({ inputs: [x] }, dy) => [where(less(x!, 0), neg(dy!), dy!)],
  Relu: ({ outputs: [y] }, dy) => [where(less(0, y!), dy!, 0)],
  Clip: ({ inputs: [x], outputs: [y] }, dy) => [where(equal(x!, y!), dy!, 0)],
  Tanh: ({ outputs: [y] }, dy) => [mul(dy!, sub(1, mul(y!, y!)))],
  Sigmoid: ({ outputs: [y] }, dy) => [mul(dy!, mul(y!, sub(1, y!)))],
  Erf: ({ inputs: [x] }, dy) => [mul(dy!, mul(exp(neg(mul(x!, x!))), 2 / Math.sqrt(Math.PI)))],
  // d/dx x s(ax) = s(ax) + a x s(ax) (1 - s(ax)) = s + a y (1 - s)
  QuickGelu: ({ inputs: [x], outputs: [y], attributes }, dy) => {
    const alpha = float(attributes["alpha"]);
    const s = sigmoid(alpha === 1 ? x! : mul(x!, alpha));
    return [mul(dy!, add(s, mul(alpha === 1 ? y! : mul(y!, alpha), sub(1, s))))];
  },
  Gelu: ({ inputs: [x], outputs: [y], attributes }, dy) => {
    if (attributes["approximate"] === "tanh") {
      // y = x s with s = (1 + tanh u) / 2 = sigmoid(2 u), 2 u = c x + d x^3: dy/dx = s + y (1 - s) (c + 3 d x^2)
      const c = 2 * Math.sqrt(2 / Math.PI);
      const d = 0.044715 * c;
      const square = mul(x!, x!);
      const s = sigmoid(mul(x!, add(mul(square, d), c)));
      return [mul(dy!, add(s, mul(mul(y!, sub(1, s)), add(mul(square, 3 * d), c))))];
    }
    const cdf = mul(add(erf(mul(x!, Math.SQRT1_2)), 1), 0.5);
    const density = mul(exp(mul(mul(x!, x!), -0.5)), 1 / Math.sqrt(2 * Math.PI));
    return [mul(dy!, add(cdf, mul(x!, density)))];
  },
  Cast: ({ inputs: [x] }, dy) => [x!.dtype.includes("float") ? cast(dy!, x!.dtype) : null],
  Where: ({ inputs: [condition, a, b] }, dy) => [
    null,
    unbroadcast(where(condition!, dy!, 0), a!),
    unbroadcast(where(condition!, 0, dy!), b!),
  ],

  MatMul: (context, dy) => matmulRule(context, dy!, false, false, 1),
  FusedMatMul: (context, dy) => {
    const { transA, transB, alpha } = context.attributes;
    return matmulRule(context, dy!, transA === 1, transB === 1, float(alpha));
  },
  Gemm: ({ inputs: [a, b, c], attributes }, dy) => {
    const [transA, transB] = [attributes["transA"] === 1, attributes["transB"] === 1];
    const da = transA
      ? gemm(b!, dy!, null, { transA: transB, transB: true })
      : gemm(dy!, b!, null, { transB: !transB });
    const db = transB
      ? gemm(dy!, a!, null, { transA: true, transB: transA })
      : gemm(a!, dy!, null, { transA: !transA });
    return [da, db, c ? unbroadcast(dy!, c) : null];
  },
  Conv: convRule,
  Resize: ({ inputs: [x], outputs: [y] }, dy) => {
    const [batch, channels, height, width] = staticShape(x!, "Resize gradient");
    const factor = (y!.shape[3] as number) / width!;
    const blocks = reshape(dy!, [batch!, channels!, height!, factor, width!, factor]);
    return [reduceSum(blocks, [3, 5], false), null, null];
  },

  // With n = (x - mean) / std and g = dy * scale: dx = (g - mean(g) - n mean(g n)) / std
  LayerNormalization: ({ inputs: [x, scale, shift], outputs: [y, mean, inverse] }, dy, ...statistics) => {
    if (!dy || statistics.some((gradient) => gradient)) {
      throw new HalfstepError("LayerNormalization: no gradient through its mean and deviation outputs");
    }
    const plain = isOnes(scale!);
    const normalised = plain && !shift ? y! : mul(sub(x!, mean!), inverse!);
    const g = plain ? dy : mul(dy, scale!);
    const centred = sub(sub(g, reduceMean(g, [-1])), mul(normalised, reduceMean(mul(g, normalised), [-1])));
    return [mul(centred, inverse!), unbroadcast(mul(dy, normalised), scale!), shift ? unbroadcast(dy, shift) : null];
  },
  // dx = y (dy - sum(dy y)), over the axis that was normalised
  Softmax: ({ outputs: [y], attributes }, dy) => [softmaxGradient(y!, dy!, attributes["axis"] as number)],
  MultiHeadAttention: attentionRule,

  Reshape: ({ inputs: [x] }, dy) => [reshape(dy!, x!.shape), null],
  Transpose: ({ attributes }, dy) => {
    const permutation = integers(attributes["perm"]);
    return [
      transpose(
        dy!,
        permutation.map((_, i) => permutation.indexOf(i)),
      ),
    ];
  },
  Slice: ({ inputs: [x, starts, , axes, steps] }, dy) => {
    const [start, axis, step] = [starts, axes, steps].map((value) => int64Values(value!)[0]!) as [
      number,
      number,
      number,
    ];
    if (step === 1) return [unslice(dy!, x!, axis, start), null, null, null, null];
    if (step === -1) {
      const length = dy!.shape[axis] as number;
      return [unslice(flip(dy!, [axis]), x!, axis, start - length + 1), null, null, null, null];
    }
    throw new ShapeError(`Slice: no gradient for step ${step} on ${describe(x!.shape)}`);
  },
  Split: ({ outputs, attributes }, ...dy) => [
    concat(
      dy.map((gradient, i) => gradient ?? zerosLike(outputs[i]!)),
      attributes["axis"] as number,
    ),
  ],
  Concat: ({ inputs, attributes }, dy) => {
    const axis = attributes["axis"] as number;
    let end = 0;
    return inputs.map(({ shape }) => {
      const start = end;
      end += shape[axis] as number;
      return slice(dy!, axis, start, end);
    });
  },
  Pad: ({ inputs: [x, pads] }, dy) => {
    const before = int64Values(pads!).slice(0, x!.shape.length);
    const cut = staticShape(x!, "Pad gradient").reduce(
      (gradient, dim, i) => (gradient.shape[i] === dim ? gradient : slice(gradient, i, before[i]!, before[i]! + dim)),
      dy!,
    );
    return [cut, null, null];
  },
  Expand: ({ inputs: [x] }, dy) => [unbroadcast(dy!, x!), null],
  Gather: ({ inputs: [table, indices] }, dy) => [scatterAdd(zerosLike(table!), indices!, dy!), null],
  ReduceSum: ({ inputs: [x, axes] }, dy) => [spread(dy!, x!, axes!), null],
  ReduceMean: ({ inputs: [x, axes] }, dy) => {
    const size = int64Values(axes!).reduce((n, axis) => n * staticDim(x!, axis, "ReduceMean gradient"), 1);
    return [spread(mul(dy!, 1 / size), x!, axes!), null];
  },
};

/** The gradient of a reduction, repeated over the axes that were reduced. */
function spread(gradient: Value, x: Value, axes: Value): Value {
  const reduced = int64Values(axes);
  const kept = reshape(
    gradient,
    x.shape.map((dim, i) => (reduced.includes(i) ? 1 : dim)),
  );
  return expand(
    kept,
    x.shape.map((_, i) => (reduced.includes(i) ? staticDim(x, i, "reduction gradient") : 1)),
  );
}

function softmaxGradient(y: Value, dy: Value, axis: number): Value {
  const weighted = mul(dy, y);
  return sub(weighted, mul(y, sumKept(weighted, axis)));
}

function matmulRule({ inputs: [a, b] }: RuleContext, dy: Value, transA: boolean, transB: boolean, alpha: number) {
  // [rows, k] x [k, n] with many leading axes on the left only is one flat product; summing a batch of [k, n] is not.
  if (b!.shape.length === 2 && a!.shape.length > 2 && !transA && alpha === 1) {
    const [k, n] = [a!.shape.at(-1)!, dy.shape.at(-1)!];
    const flatA = reshape(a!, [-1, k]);
    const flatDy = reshape(dy, [-1, n]);
    const db = transB ? gemm(flatDy, flatA, null, { transA: true }) : gemm(flatA, flatDy, null, { transA: true });
    return [reshape(gemm(flatDy, b!, null, { transB: !transB }), a!.shape), db];
  }
  // y = alpha A B. dA = alpha dY B^T, read as its transpose when A itself was read transposed; B likewise.
  const da = transA
    ? matmul(b!, dy, { transA: transB, transB: true, alpha })
    : matmul(dy, b!, { transB: !transB, alpha });
  const db = transB
    ? matmul(dy, a!, { transA: true, transB: transA, alpha })
    : matmul(a!, dy, { transA: !transA, alpha });
  return [unbroadcast(da, a!), unbroadcast(db, b!)];
}

function convRule({ inputs: [x, weights, bias], attributes }: RuleContext, dy: Value | null): (Value | null)[] {
  const [batch, channels, height, width] = staticShape(x!, "Conv gradient") as [number, number, number, number];
  const [out, , kh, kw] = staticShape(weights!, "Conv gradient") as [number, number, number, number];
  const [, , oh, ow] = staticShape(dy!, "Conv gradient") as [number, number, number, number];
  const [top, left, bottom, right] = integers(attributes["pads"]) as [number, number, number, number];
  const stride = integers(attributes["strides"])[0]!;

  // In x: for stride 1 a convolution with the weights turned by 180 degrees, which runs faster than ConvTranspose.
  const turned = [kh - 1 - top, kw - 1 - left, kh - 1 - bottom, kw - 1 - right] as const;
  const dx =
    stride === 1 && turned.every((side) => side >= 0)
      ? conv2d(dy!, transpose(flip(weights!, [2, 3]), [1, 0, 2, 3]), null, { padding: turned })
      : convTranspose2d(dy!, weights!, { stride, padding: [top, left, bottom, right], size: [height, width] });

  // In the weights: for each place in the kernel one product over all pictures' positions, of dy and of x moved by that
  // much. Channels last, so that what is cut out of x are long runs, and no product per picture waits to be summed.
  const flatDy = reshape(transpose(dy!, [0, 2, 3, 1]), [batch * oh * ow, out]);
  const last = transpose(x!, [0, 2, 3, 1]);
  const padded = top + left + bottom + right === 0 ? last : pad(last, [0, top, left, 0], [0, bottom, right, 0]);
  const places: Value[] = [];
  for (let i = 0; i < kh; i++) {
    const rows = strided(padded, 1, i, oh, stride);
    for (let j = 0; j < kw; j++) {
      const moved = reshape(strided(rows, 2, j, ow, stride), [batch * oh * ow, channels]);
      places.push(reshape(gemm(flatDy, moved, null, { transA: true }), [out, channels, 1]));
    }
  }
  const dw = reshape(places.length === 1 ? places[0]! : concat(places, 2), weights!.shape);
  return [dx, dw, bias ? reduceSum(dy!, [0, 2, 3], false) : null];
}

/** `length` elements of an axis, `stride` apart. */
function strided(x: Value, axis: number, start: number, length: number, stride: number): Value {
  if (start === 0 && stride === 1 && x.shape[axis] === length) return x;
  return slice(x, axis, start, start + (length - 1) * stride + 1, stride);
}

/** The attention matrix is worked out again here, since the forward operator never keeps it. */
function attentionRule({ inputs, outputs, attributes }: RuleContext, dy: Value | null): (Value | null)[] {
  const [q, k, v, , , bias] = inputs;
  const heads = attributes["num_heads"] as number;
  const scale = float(attributes["scale"]);
  const [batch, tokens, width] = staticShape(q!, "attention gradient") as [number, number, number];
  const [, context] = staticShape(k!, "attention gradient") as [number, number];
  const open = (x: Value, length: number) =>
    transpose(reshape(x, [batch, length, heads, (x.shape[2] as number) / heads]), [0, 2, 1, 3]);
  const close = (x: Value, length: number, total: number) =>
    reshape(transpose(x, [0, 2, 1, 3]), [batch, length, total]);
  const [qh, kh, vh, dyh] = [open(q!, tokens), open(k!, context), open(v!, context), open(dy!, tokens)];
  const scores = matmul(qh, kh, { transB: true, alpha: scale });
  const probabilities = softmax(bias ? add(scores, bias) : scores, -1);
  const dScores = softmaxGradient(probabilities, matmul(dyh, vh, { transB: true }), 3);
  const result: (Value | null)[] = [
    close(matmul(dScores, kh, { alpha: scale }), tokens, width),
    close(matmul(dScores, qh, { transA: true, alpha: scale }), context, width),
    close(matmul(probabilities, dyh, { transA: true }), context, outputs[0]!.shape[2] as number),
    null,
    null,
    bias ? unbroadcast(dScores, bias) : null,
  ];
  return result.slice(0, inputs.length);
}

/** Reduces every axis, for a loss. */
export const sumAll = (x: Value) => reduceSum(x, allAxes(x), false);
export const meanAll = (x: Value) => reduceMean(x, allAxes(x), false);
