/**
 * Cases for every rule of the gradient table, and how a rule's error is measured: against central finite differences of
 * the graph itself. Used by the gradient test and by the table of errors that `bench` prints.
 */
import {
  abs,
  add,
  attention,
  cast,
  clip,
  concat,
  conv2d,
  cos,
  div,
  erf,
  exp,
  expand,
  flip,
  gather,
  gelu,
  gemm,
  layerNorm,
  less,
  log,
  type MatMulOptions,
  matmul,
  mul,
  neg,
  pad,
  quickGelu,
  reduceMean,
  reduceSum,
  relu,
  reshape,
  sigmoid,
  silu,
  sin,
  slice,
  softmax,
  split,
  sqrt,
  sub,
  tanh,
  transpose,
  upsampleNearest,
  where,
} from "../../src/graph/operators.ts";
import { constant, type Value } from "../../src/graph/value.ts";

/** Inputs are uniform in [-1.5, 1.5] unless `from` and `to` say otherwise, and at least 0.2 from each of `kinks`. */
export type InputSpec =
  | readonly number[]
  | { shape: readonly number[]; from?: number; to?: number; kinks?: readonly number[] };

export interface GradientCase {
  readonly name: string;
  readonly inputs: readonly InputSpec[];
  readonly build: (...inputs: Value[]) => Value | readonly Value[];
}

type Build = (...inputs: Value[]) => Value | readonly Value[];
const of = (name: string, inputs: readonly InputSpec[], build: Build): GradientCase => ({ name, inputs, build });

const unary = (f: (x: Value) => Value, range: Partial<Exclude<InputSpec, readonly number[]>> = {}) => [
  of("[3, 4]", [{ shape: [3, 4], ...range }], (x) => f(x!)),
];

/** Same shapes, either side broadcast on some axis, missing axes, a scalar, and one value on both sides. */
function binary(f: (a: Value, b: Value) => Value, range: { from: number; to: number } = { from: -1.5, to: 1.5 }) {
  const shapes: [number[], number[]][] = [
    [
      [3, 4],
      [3, 4],
    ],
    [[2, 3, 4], [4]],
    [
      [2, 3, 4],
      [3, 1],
    ],
    [
      [1, 4],
      [3, 1],
    ],
    [[], [2, 3]],
    [
      [2, 1, 4],
      [1, 3, 1],
    ],
  ];
  const spec = (shape: readonly number[]) => ({ shape, ...range });
  const cases = shapes.map(([a, b]) => of(`[${a}] with [${b}]`, [spec(a), spec(b)], (x, y) => f(x!, y!)));
  return [...cases, of("a value with itself", [spec([5])], (x) => f(x!, x!))];
}

const product = (a: number[], b: number[], options: MatMulOptions = {}) =>
  of(`[${a}] x [${b}] ${JSON.stringify(options)}`, [a, b], (x, y) => matmul(x!, y!, options));

const fused = [false, true].flatMap((transA) =>
  [false, true].flatMap((transB) =>
    [1, 0.3].flatMap((alpha) => {
      if (!transA && !transB && alpha === 1) return [];
      const options = { transA, transB, alpha };
      const left = transA ? [3, 2] : [2, 3];
      const right = transB ? [4, 3] : [3, 4];
      return [
        product(left, right, options),
        product([3, ...left], [3, ...right], options),
        product([2, 3, ...left], right, options),
        product([2, 1, ...left], [3, ...right], options),
      ];
    }),
  ),
);

const gemms = [false, true].flatMap((transA) =>
  [false, true].flatMap((transB) => {
    const shapes = [transA ? [3, 2] : [2, 3], transB ? [4, 3] : [3, 4]];
    const name = `transA ${transA}, transB ${transB}`;
    const options = { transA, transB };
    return [
      of(name, shapes, (a, b) => gemm(a!, b!, null, options)),
      ...[[4], [2, 4], [2, 1], [1, 4], []].map((c) =>
        of(`${name}, c [${c}]`, [...shapes, c], (a, b, x) => gemm(a!, b!, x!, options)),
      ),
    ];
  }),
);

function convolution(
  kernel: [number, number],
  stride: number,
  padding: number | [number, number, number, number],
  size: [number, number] = [5, 6],
  bias = true,
) {
  const name = `${kernel.join("x")}, stride ${stride}, padding ${padding}, on ${size.join("x")}${bias ? "" : ", no bias"}`;
  const inputs = [[2, 3, ...size], [2, 3, ...kernel], ...(bias ? [[2]] : [])];
  return of(name, inputs, (x, w, b) => conv2d(x!, w!, b ?? null, { stride, padding }));
}

const heads = 2;
const attend = (name: string, inputs: readonly InputSpec[], scale?: number) =>
  of(name, inputs, (q, k, v, bias) => attention(q!, k!, v!, heads, bias ?? null, scale));

const indices = (values: number[], shape: number[]) => constant(BigInt64Array.from(values, BigInt), shape, "int64");
const mask = (values: number[], shape: number[]) => constant(Uint8Array.from(values), shape, "bool");

/** For each operator with a gradient rule, the cases that its rule must pass. */
export const gradientCases: Readonly<Record<string, readonly GradientCase[]>> = {
  Add: binary(add),
  Sub: binary(sub),
  Mul: binary(mul),
  Div: binary(div, { from: 0.7, to: 1.8 }),
  Neg: unary(neg),
  Exp: unary(exp),
  Log: unary(log, { from: 0.5, to: 2 }),
  Sqrt: unary(sqrt, { from: 0.5, to: 2 }),
  Sin: unary(sin, { from: -3, to: 3 }),
  Cos: unary(cos, { from: -3, to: 3 }),
  Abs: unary(abs, { kinks: [0] }),
  Relu: unary(relu, { kinks: [0] }),
  Clip: unary((x) => clip(x, -0.7, 0.4), { kinks: [-0.7, 0.4] }),
  Tanh: unary(tanh),
  Sigmoid: unary(sigmoid, { from: -3, to: 3 }),
  Erf: unary(erf),
  QuickGelu: [
    ...unary(silu, { from: -4, to: 4 }),
    of("alpha 1.702", [{ shape: [3, 4], from: -3, to: 3 }], (x) => quickGelu(x!)),
    of("alpha 0.5", [[4]], (x) => quickGelu(x!, 0.5)),
  ],
  Gelu: [
    of("exact", [{ shape: [4, 5], from: -3, to: 3 }], (x) => gelu(x!)),
    of("tanh", [{ shape: [4, 5], from: -3, to: 3 }], (x) => gelu(x!, "tanh")),
  ],
  Cast: [
    of("a comparison, which has no gradient", [[3]], (x) => mul(x!, cast(less(0, x!), "float32"))),
    of("a constant mask", [[4]], (x) => mul(x!, cast(mask([1, 0, 1, 1], [4]), "float32"))),
  ],
  Where: [
    of(
      "same shapes",
      [
        [2, 3],
        [2, 3],
      ],
      (a, b) => where(mask([1, 0, 0, 1, 1, 0], [2, 3]), a!, b!),
    ),
    of("broadcast operands", [[3], [2, 1]], (a, b) => where(mask([1, 0, 0, 1, 1, 0], [2, 3]), a!, b!)),
    of("broadcast condition", [[2, 3], []], (a, b) => where(mask([1, 0], [2, 1]), a!, b!)),
    of("condition larger than both", [[1, 3], [1]], (a, b) => where(mask([1, 0], [2, 1]), a!, b!)),
    of("a number on one side", [[2, 3]], (a) => where(mask([1, 0, 1], [3]), a!, 0.5)),
    of("a number on the other", [[2, 3]], (a) => where(mask([1, 0, 1], [3]), 0.5, a!)),
  ],

  MatMul: [
    product([2, 3], [3, 4]),
    product([2, 2, 3], [3, 4]),
    product([2, 3], [2, 3, 4]),
    product([3, 2, 3], [3, 3, 4]),
    product([2, 1, 2, 3], [3, 3, 4]),
    product([1, 2, 3], [3, 3, 4]),
    of("a matrix with itself", [[3, 3]], (a) => matmul(a!, a!)),
  ],
  FusedMatMul: fused,
  Gemm: gemms,
  Conv: [
    convolution([3, 3], 1, 1),
    convolution([3, 3], 1, 0, [5, 6], false),
    convolution([1, 1], 1, 0),
    convolution([1, 1], 1, 1),
    convolution([1, 1], 2, 0),
    convolution([2, 2], 1, 0),
    convolution([2, 2], 2, 0, [4, 6]),
    convolution([2, 2], 2, 0, [5, 7]),
    convolution([4, 4], 2, 1, [6, 8]),
    convolution([3, 3], 2, 1),
    convolution([3, 3], 2, 1, [6, 6], false),
    convolution([3, 3], 2, [0, 0, 1, 1], [6, 6]),
    convolution([3, 3], 2, [0, 1, 0, 1], [5, 6]),
    convolution([3, 3], 1, [0, 1, 0, 1]),
    convolution([3, 3], 1, [2, 0, 1, 2]),
    convolution([3, 3], 1, 3, [3, 3]),
    convolution([1, 3], 1, [0, 1, 0, 1]),
    convolution([3, 2], 2, [1, 0, 0, 1]),
    convolution([3, 3], 3, 0, [7, 8]),
  ],
  Resize: [
    of("twice", [[2, 2, 2, 3]], (x) => upsampleNearest(x!)),
    of("three times", [[1, 2, 2, 1]], (x) => upsampleNearest(x!, 3)),
  ],

  LayerNormalization: [
    of("plain", [[2, 3, 6]], (x) => layerNorm(x!, null, null, 1e-6)),
    of("scale", [[3, 6], [6]], (x, scale) => layerNorm(x!, scale!, null, 1e-5)),
    of("shift", [[3, 6], [6]], (x, shift) => layerNorm(x!, null, shift!, 1e-5)),
    of("scale and shift", [[2, 3, 6], [6], [6]], (x, scale, shift) => layerNorm(x!, scale!, shift!, 1e-5)),
    of("constant scale", [[3, 4]], (x) =>
      layerNorm(x!, constant(Float32Array.of(1, 2, -1, 0.5), [4], "float32"), null, 1e-5),
    ),
    of("a large epsilon", [[3, 6]], (x) => layerNorm(x!, null, null, 0.5)),
  ],
  Softmax: [
    of("last axis", [[2, 3, 4]], (x) => softmax(x!)),
    of("middle axis", [[2, 3, 4]], (x) => softmax(x!, 1)),
    of("first axis", [[3, 2]], (x) => softmax(x!, 0)),
  ],
  MultiHeadAttention: [
    attend("self", [
      [2, 3, 8],
      [2, 3, 8],
      [2, 3, 8],
    ]),
    of("one value as query, key and value", [[2, 3, 8]], (x) => attention(x!, x!, x!, heads)),
    attend(
      "scale 0.3",
      [
        [2, 3, 8],
        [2, 3, 8],
        [2, 3, 8],
      ],
      0.3,
    ),
    attend("cross, another length", [
      [2, 3, 8],
      [2, 5, 8],
      [2, 5, 8],
    ]),
    attend("values of another width", [
      [2, 3, 8],
      [2, 3, 8],
      [2, 3, 12],
    ]),
    attend("bias", [
      [2, 3, 8],
      [2, 5, 8],
      [2, 5, 8],
      [2, heads, 3, 5],
    ]),
    attend("bias for all heads", [
      [2, 3, 8],
      [2, 5, 8],
      [2, 5, 8],
      [2, 1, 3, 5],
    ]),
    attend("bias for the whole batch", [
      [2, 3, 8],
      [2, 5, 8],
      [2, 5, 8],
      [1, heads, 3, 5],
    ]),
    attend(
      "bias for all heads and the whole batch",
      [
        [2, 3, 8],
        [2, 3, 8],
        [2, 3, 8],
        [1, 1, 3, 3],
      ],
      1,
    ),
  ],

  Reshape: [
    of("[2, 6] to [3, 4]", [[2, 6]], (x) => reshape(x!, [3, 4])),
    of("-1", [[2, 3, 4]], (x) => reshape(x!, [2, -1])),
    of("a scalar", [[1]], (x) => reshape(x!, [])),
  ],
  Transpose: [
    of("a matrix", [[2, 3]], (x) => transpose(x!, [1, 0])),
    of("a permutation that is not its own inverse", [[2, 3, 4]], (x) => transpose(x!, [1, 2, 0])),
    of("four axes", [[2, 3, 1, 4]], (x) => transpose(x!, [0, 2, 1, 3])),
  ],
  Slice: [
    of("first axis", [[4, 3]], (x) => slice(x!, 0, 1, 3)),
    of("middle axis", [[2, 4, 3]], (x) => slice(x!, 1, 0, 2)),
    of("last axis", [[2, 4]], (x) => slice(x!, -1, 2, 4)),
    of("all of an axis", [[2, 4]], (x) => slice(x!, 1, 0, 4)),
    of("overlapping slices", [[5]], (x) => add(slice(x!, 0, 0, 3), slice(x!, 0, 2, 5))),
    of("flipped", [[3, 4]], (x) => flip(x!, [1])),
    of("flipped on two axes", [[2, 3, 4]], (x) => flip(x!, [0, -1])),
    of("part of an axis backwards", [[5, 2]], (x) => slice(x!, 0, 3, 0, -1)),
  ],
  Split: [
    of("all parts", [[2, 6]], (x) => split(x!, 3)),
    of("an unused part", [[2, 6]], (x) => [split(x!, 3)[0]!, split(x!, 3)[2]!]),
    of("one part of one split", [[4, 3]], (x) => split(x!, 2, 0)[1]!),
    of("one part used twice", [[2, 6]], (x) => {
      const [, second, third] = split(x!, 3);
      return mul(mul(second!, second!), third!);
    }),
  ],
  Concat: [
    of(
      "first axis",
      [
        [1, 3],
        [2, 3],
      ],
      (a, b) => concat([a!, b!], 0),
    ),
    of(
      "last axis",
      [
        [2, 1],
        [2, 3],
        [2, 2],
      ],
      (a, b, c) => concat([a!, b!, c!], -1),
    ),
    of(
      "a value twice",
      [
        [2, 2],
        [2, 1],
      ],
      (a, b) => concat([a!, b!, a!], 1),
    ),
    of("one value", [[2, 2]], (a) => concat([a!], 1)),
  ],
  Pad: [
    of("both sides", [[2, 3]], (x) => pad(x!, [1, 0], [0, 2])),
    of("four axes", [[1, 2, 2, 3]], (x) => pad(x!, [0, 0, 1, 2], [0, 1, 0, 1])),
    of("nothing", [[2]], (x) => pad(x!, [0], [0])),
  ],
  Expand: [
    of("one axis", [[2, 1, 3]], (x) => expand(x!, [2, 4, 3])),
    of("new axes", [[3]], (x) => expand(x!, [2, 4, 3])),
    of("a scalar", [[]], (x) => expand(x!, [2, 2])),
    of("nothing", [[2, 3]], (x) => expand(x!, [2, 3])),
  ],
  Gather: [
    of("repeated indices", [[4, 3]], (table) => gather(table!, indices([2, 0, 2, 2], [4]))),
    of("indices of two axes", [[4, 2]], (table) => gather(table!, indices([3, 3, 1, 0, 3, 1], [2, 3]))),
    of("a table of three axes", [[3, 2, 2]], (table) => gather(table!, indices([1, 1], [2]))),
    of("one index", [[3, 2]], (table) => gather(table!, indices([1], []))),
  ],
  ReduceSum: [
    of("last axis", [[2, 3]], (x) => reduceSum(x!, [-1])),
    of("last axis, dropped", [[2, 3]], (x) => reduceSum(x!, [-1], false)),
    of("outer axes, dropped", [[2, 3, 2]], (x) => reduceSum(x!, [0, 2], false)),
    of("every axis", [[2, 3]], (x) => reduceSum(x!, [0, 1], false)),
  ],
  ReduceMean: [
    of("last axis", [[2, 3]], (x) => reduceMean(x!, [-1])),
    of("first axis, dropped", [[2, 3]], (x) => reduceMean(x!, [0], false)),
    of("two axes", [[2, 3, 2]], (x) => reduceMean(x!, [1, 2])),
    of("every axis", [[2, 3]], (x) => reduceMean(x!, [0, 1], false)),
  ],
};
