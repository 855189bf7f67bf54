import { describe, expect, it } from "vitest";
import { ShapeError } from "../../src/errors.ts";
import {
  add,
  attention,
  broadcastShapes,
  clip,
  concat,
  conv2d,
  convTranspose2d,
  equal,
  expand,
  flip,
  gather,
  gelu,
  gemm,
  layerNorm,
  less,
  matmul,
  pad,
  quickGelu,
  reduceMax,
  reduceMean,
  reshape,
  scatterAdd,
  slice,
  softmax,
  split,
  transpose,
  upsampleNearest,
  where,
} from "../../src/graph/operators.ts";
import { constant, type Dim, input, type Value } from "../../src/graph/value.ts";
import { type FloatTensor, floatTensor, int64Tensor, type Tensor } from "../../src/tensor.ts";
import { evaluate, random, randomTensor } from "../support/gradient-error.ts";

const floats = (shape: readonly number[], seed = 1) => randomTensor(shape, random(seed));
const value = (shape: readonly Dim[], name = "x") => input(name, shape);
const range = (shape: readonly number[]) => {
  const tensor = floatTensor(shape);
  tensor.data.forEach((_, i) => {
    tensor.data[i] = i;
  });
  return tensor;
};

/** What f computes from tensors, as plain numbers. */
async function run(f: (...values: Value[]) => Value, ...tensors: readonly Tensor[]): Promise<number[]> {
  const inputs = tensors.map(({ shape, dtype }, i) => input(`x${i}`, shape, dtype));
  const feeds = Object.fromEntries(tensors.map((tensor, i) => [`x${i}`, tensor]));
  const built = f(...inputs);
  const { out } = await evaluate({ out: built }, feeds);
  expect(out.shape, "the shape worked out beforehand").toEqual(built.shape);
  return Array.from(out.data, Number);
}

function expectClose(actual: readonly number[], expected: readonly number[], tolerance = 1e-5) {
  expect(actual.length).toBe(expected.length);
  for (const [i, x] of expected.entries()) expect(Math.abs(actual[i]! - x), `[${i}]`).toBeLessThan(tolerance);
}

describe("shape errors name the operator and both shapes", () => {
  it.each<[string, () => unknown, RegExp]>([
    ["Add", () => add(value([2, 3]), value([4])), /Add.*\[2, 3\].*\[4\]/],
    ["MatMul", () => matmul(value([2, 3]), value([4, 5])), /MatMul.*\[2, 3\].*\[4, 5\]/],
    ["MatMul, transposed", () => matmul(value([2, 3]), value([3, 5]), { transB: true }), /\[2, 3\].*\[3, 5\]/],
    ["MatMul, batches", () => matmul(value([2, 2, 3]), value([3, 3, 5])), /MatMul.*\[2\].*\[3\]/],
    ["MatMul of a vector", () => matmul(value([3]), value([3, 5])), /MatMul.*\[3\].*\[3, 5\]/],
    ["Gemm", () => gemm(value([2, 3]), value([4, 5])), /Gemm.*\[2, 3\].*\[4, 5\]/],
    [
      "Gemm's last operand, too large",
      () => gemm(value([1, 3]), value([3, 5]), value([4, 5])),
      /Gemm.*\[4, 5\].*\[1, 5\]/,
    ],
    ["Conv", () => conv2d(value([1, 3, 8, 8]), value([4, 2, 3, 3]), null), /Conv.*\[1, 3, 8, 8\].*\[4, 2, 3, 3\]/],
    ["Conv's bias", () => conv2d(value([1, 3, 8, 8]), value([4, 3, 3, 3]), value([3])), /Conv.*\[3\].*\[4, 3, 3, 3\]/],
    ["layer norm", () => layerNorm(value([2, 6]), value([4]), null, 1e-5), /layerNorm.*\[4\].*\[2, 6\]/],
    ["attention", () => attention(value([1, 4, 8]), value([1, 5, 6]), value([1, 5, 8]), 2), /\[1, 4, 8\], \[1, 5, 6\]/],
    [
      "attention, batches",
      () => attention(value([2, 4, 8]), value([1, 5, 8]), value([1, 5, 8]), 2),
      /\[2, 4, 8\], \[1/,
    ],
    ["attention, values", () => attention(value([1, 4, 8]), value([1, 5, 8]), value([1, 6, 8]), 2), /\[1, 6, 8\]/],
    ["attention, heads", () => attention(value([1, 4, 8]), value([1, 4, 8]), value([1, 4, 8]), 3), /3 heads/],
    [
      "attention's bias",
      () => attention(value([1, 4, 8]), value([1, 5, 8]), value([1, 5, 8]), 2, value([1, 1, 1, 5])),
      /\[1, 1, 1, 5\].*\[1, 2, 4, 5\]/,
    ],
    [
      "attention's bias for more heads",
      () => attention(value([1, 4, 8]), value([1, 5, 8]), value([1, 5, 8]), 2, value([1, 4, 4, 5])),
      /\[1, 4, 4, 5\].*\[1, 2, 4, 5\]/,
    ],
    ["reshape", () => reshape(value([2, 3]), [4, 2]), /reshape.*\[2, 3\].*\[4, 2\]/],
    ["reshape with -1", () => reshape(value([2, 3]), [4, -1]), /reshape.*\[2, 3\].*\[4, -1\]/],
    ["reshape of a batch", () => reshape(value(["batch", 6]), ["batch", 4]), /reshape.*\[batch, 6\].*\[batch, 4\]/],
    ["transpose", () => transpose(value([2, 3]), [0, 0]), /transpose.*0,0.*\[2, 3\]/],
    ["slice", () => slice(value([2, 3]), 1, 1, 4), /slice.*1 to 4.*\[2, 3\]/],
    ["slice in steps", () => slice(value([2, 3]), 1, 1, 4, 2), /slice.*1 to 4.*\[2, 3\]/],
    ["slice backwards", () => slice(value([2, 3]), 1, 3, 0, -1), /slice.*3 to 0.*\[2, 3\]/],
    ["slice of no axis", () => slice(value([2, 3]), 2, 0, 1), /slice.*axis 2.*rank 2/],
    ["split", () => split(value([2, 3]), 2), /split.*\[2, 3\].*2/],
    ["concat", () => concat([value([2, 3]), value([3, 3])], 1), /concat.*\[2, 3\].*\[3, 3\]/],
    ["concat of another rank", () => concat([value([2, 3]), value([2])], 0), /concat.*\[2, 3\].*\[2\]/],
    ["pad", () => pad(value([2, 3]), [1], [1]), /pad.*\[2, 3\]/],
    ["expand", () => expand(value([2, 3]), [4, 3]), /expand.*\[2, 3\].*\[4, 3\]/],
    ["where", () => where(input("c", [2], "bool"), value([2, 3]), value([3])), /Where.*\[2, 3\].*\[2\]/],
    ["where without a condition", () => where(value([2]), value([2]), value([2])), /Where.*float32/],
    ["operand types", () => add(value([2]), input("i", [2], "int64")), /Add.*float32.*int64/],
    [
      "scatterAdd",
      () => scatterAdd(value([4, 3]), input("i", [2], "int64"), value([2, 4])),
      /scatterAdd.*\[2, 4\].*\[2, 3\]/,
    ],
  ])("%s", (_, make, message) => {
    expect(make).toThrow(ShapeError);
    expect(make).toThrow(message);
  });
});

describe("named dimensions", () => {
  it("broadcast with themselves and with 1 only", () => {
    expect(broadcastShapes(["batch", 3], [1, 3], "Add")).toEqual(["batch", 3]);
    expect(broadcastShapes(["batch", 1], ["batch", 4], "Add")).toEqual(["batch", 4]);
    expect(broadcastShapes([5], ["batch", 1], "Add")).toEqual(["batch", 5]);
    expect(() => broadcastShapes(["batch"], ["tokens"], "Add")).toThrow(/\[batch\].*\[tokens\]/);
    expect(() => broadcastShapes(["batch"], [4], "Add")).toThrow(ShapeError);
  });

  it("pass through a reshape, merged or split off", async () => {
    const x = value(["batch", 2, 6]);
    expect(reshape(x, ["batch", 12]).shape).toEqual(["batch", 12]);
    expect(reshape(x, ["batch", -1]).shape).toEqual(["batch", 12]);
    expect(reshape(x, [0, 3, 4]).shape).toEqual(["batch", 3, 4]);
    const flat = reshape(x, [-1, 6]);
    expect(flat.shape).toEqual(["batch*2", 6]);
    const back = reshape(flat, ["batch", 2, 6]);
    const both = add(back, x);
    expect(both.shape).toEqual(["batch", 2, 6]);
    const { out } = await evaluate({ out: both }, { x: range([3, 2, 6]) });
    expect(out.shape).toEqual([3, 2, 6]);
    expect(Array.from(out.data, Number)).toEqual(Array.from({ length: 36 }, (_, i) => 2 * i));
  });

  it("are refused where a number is needed", () => {
    const x = value(["batch", "tokens", 4]);
    expect(() => reshape(x, [-1, "batch", "tokens"])).toThrow(/more than one unknown.*\[batch, tokens, 4\]/);
    expect(() => reshape(value([4]), ["batch"])).toThrow(ShapeError);
    expect(() => slice(x, 1, 0, 2)).toThrow(/\[batch, tokens, 4\]/);
    expect(() => concat([x, x], 0)).toThrow(ShapeError);
  });
});

describe("products", () => {
  it("matmul reads either side transposed, in batches that broadcast, and scales", async () => {
    const [a, b] = [floats([2, 1, 4, 3], 1), floats([5, 6, 4], 2)];
    const actual = await run((x, y) => matmul(x!, y!, { transA: true, transB: true, alpha: 0.5 }), a, b);
    const expected: number[] = [];
    for (let i = 0; i < 2; i++)
      for (let j = 0; j < 5; j++)
        for (let m = 0; m < 3; m++)
          for (let n = 0; n < 6; n++) {
            let sum = 0;
            for (let k = 0; k < 4; k++) sum += a.data[(i * 4 + k) * 3 + m]! * b.data[(j * 6 + n) * 4 + k]!;
            expected.push(sum / 2);
          }
    expectClose(actual, expected);
  });

  it.each([
    [[3, 3], 1, [1, 1, 1, 1]],
    [[3, 3], 2, [0, 0, 1, 1]],
    [[3, 3], 2, [1, 0, 0, 1]],
    [[2, 4], 1, [0, 2, 1, 0]],
    [[1, 1], 2, [0, 0, 0, 0]],
  ] as const)("conv2d with kernel %s, stride %i, padding %s, and its adjoint", async (kernel, stride, padding) => {
    const [channels, out, height, width] = [2, 3, 6, 7];
    const [x, w, bias] = [
      floats([2, channels, height, width], 1),
      floats([out, channels, ...kernel], 2),
      floats([out], 3),
    ];
    const rows = Math.floor((height + padding[0] + padding[2] - kernel[0]) / stride) + 1;
    const columns = Math.floor((width + padding[1] + padding[3] - kernel[1]) / stride) + 1;
    const expected: number[] = [];
    for (let n = 0; n < 2; n++)
      for (let o = 0; o < out; o++)
        for (let r = 0; r < rows; r++)
          for (let c = 0; c < columns; c++) {
            let sum = bias.data[o]!;
            for (let i = 0; i < channels; i++)
              for (let u = 0; u < kernel[0]; u++)
                for (let v = 0; v < kernel[1]; v++) {
                  const [y, z] = [r * stride + u - padding[0], c * stride + v - padding[1]];
                  if (y < 0 || z < 0 || y >= height || z >= width) continue;
                  const at = x.data[((n * channels + i) * height + y) * width + z]!;
                  sum += at * w.data[((o * channels + i) * kernel[0] + u) * kernel[1] + v]!;
                }
            expected.push(sum);
          }
    expectClose(await run((a, b, c) => conv2d(a!, b!, c!, { stride, padding }), x, w, bias), expected);

    // <conv(x), y> = <x, convTranspose(y)>
    const y = floats([2, out, rows, columns], 4);
    const forward = await run((a, b) => conv2d(a!, b!, null, { stride, padding }), x, w);
    const adjoint = await run((a, b) => convTranspose2d(a!, b!, { stride, padding, size: [height, width] }), y, w);
    const dot = (a: readonly number[], b: FloatTensor) => a.reduce((sum, each, i) => sum + each * b.data[i]!, 0);
    expect(dot(forward, y)).toBeCloseTo(dot(adjoint, x), 4);
  });
});

describe("attention", () => {
  it.each([null, [1, 1], [2, 1], [1, 2], [2, 2]])("equals a naive softmax with bias %s", async (biasShape) => {
    const [batch, tokens, context, heads, d] = [2, 3, 5, 2, 4];
    const [q, k, v] = [
      floats([batch, tokens, heads * d], 1),
      floats([batch, context, heads * d], 2),
      floats([batch, context, heads * d], 3),
    ];
    const bias = biasShape && floats([...biasShape, tokens, context], 4);
    const expected: number[] = [];
    for (let b = 0; b < batch; b++)
      for (let t = 0; t < tokens; t++)
        for (let h = 0; h < heads; h++) {
          const scores = Array.from({ length: context }, (_, c) => {
            let sum = 0;
            for (let i = 0; i < d; i++) {
              sum +=
                q.data[(b * tokens + t) * heads * d + h * d + i]! * k.data[(b * context + c) * heads * d + h * d + i]!;
            }
            const plane = biasShape ? (biasShape[0] === 1 ? 0 : b) * biasShape[1]! + (biasShape[1] === 1 ? 0 : h) : 0;
            return sum / Math.sqrt(d) + (bias ? bias.data[(plane * tokens + t) * context + c]! : 0);
          }).map(Math.exp);
          const total = scores.reduce((a, s) => a + s);
          for (let i = 0; i < d; i++) {
            expected.push(
              scores.reduce((sum, s, c) => sum + (s / total) * v.data[(b * context + c) * heads * d + h * d + i]!, 0),
            );
          }
        }
    const tensors = bias ? [q, k, v, bias] : [q, k, v];
    expectClose(await run((x, y, z, m) => attention(x!, y!, z!, heads, m ?? null), ...tensors), expected);
  });

  it("hides what its bias hides", async () => {
    const [q, k, v] = [floats([1, 2, 4], 1), floats([1, 3, 4], 2), floats([1, 3, 4], 3)];
    const bias = floatTensor([1, 1, 2, 3], Float32Array.of(0, 0, -1e4, 0, 0, -1e4));
    const hidden = await run((x, y, z, m) => attention(x!, y!, z!, 1, m!), q, k, v, bias);
    expectClose(hidden, await run((x, y, z) => attention(x!, slice(y!, 1, 0, 2), slice(z!, 1, 0, 2), 1), q, k, v));
  });
});

describe("normalisation and activations", () => {
  it("layerNorm equals its definition", async () => {
    const [x, scale, shift] = [floats([3, 5], 1), floats([5], 2), floats([5], 3)];
    const expected: number[] = [];
    for (let row = 0; row < 15; row += 5) {
      const values = Array.from(x.data.subarray(row, row + 5));
      const mean = values.reduce((a, b) => a + b) / 5;
      const variance = values.reduce((sum, each) => sum + (each - mean) ** 2, 0) / 5;
      values.forEach((each, i) => {
        expected.push(((each - mean) / Math.sqrt(variance + 1e-3)) * scale.data[i]! + shift.data[i]!);
      });
    }
    expectClose(await run((a, b, c) => layerNorm(a!, b!, c!, 1e-3), x, scale, shift), expected);
  });

  it("gelu equals x times the series of the normal distribution; its tanh form and quickGelu their definitions", async () => {
    const x = floatTensor(
      [13],
      Float32Array.from({ length: 13 }, (_, i) => (i - 6) / 2),
    );
    /** erf z = 2/sqrt(pi) sum (-1)^n z^(2n+1) / (n! (2n+1)) */
    const erf = (z: number) => {
      let [term, sum] = [z, z];
      for (let n = 1; n < 80; n++) {
        term *= (-z * z) / n;
        sum += term / (2 * n + 1);
      }
      return (2 / Math.sqrt(Math.PI)) * sum;
    };
    const xs = Array.from(x.data);
    const exact = xs.map((v) => (v / 2) * (1 + erf(v / Math.SQRT2)));
    expectClose(await run((a) => gelu(a!), x), exact, 1e-6);
    const approximate = xs.map((v) => (v / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))));
    expectClose(await run((a) => gelu(a!, "tanh"), x), approximate, 1e-6);
    expectClose(
      await run((a) => quickGelu(a!), x),
      xs.map((v) => v / (1 + Math.exp(-1.702 * v))),
      1e-6,
    );
  });

  it("softmax, also of large numbers and over a middle axis", async () => {
    expectClose(await run((a) => softmax(a!), floatTensor([2], Float32Array.of(1000, 1000))), [0.5, 0.5]);
    const sums = await run((a) => reduceMean(softmax(a!, 1), [1], false), floats([2, 4, 3]));
    expectClose(sums, new Array(6).fill(0.25));
  });
});

describe("shapes", () => {
  const x = range([2, 3, 2]);
  it.each<[string, (x: Value) => Value, number[]]>([
    ["slice", (v) => slice(v, 1, 1, 3), [2, 3, 4, 5, 8, 9, 10, 11]],
    ["slice in steps", (v) => slice(v, 1, 0, 3, 2), [0, 1, 4, 5, 6, 7, 10, 11]],
    ["slice of a part backwards", (v) => slice(v, 1, 2, 0, -1), [4, 5, 2, 3, 10, 11, 8, 9]],
    ["flip", (v) => flip(v, [1]), [4, 5, 2, 3, 0, 1, 10, 11, 8, 9, 6, 7]],
    ["flip of several axes", (v) => flip(v, [0, -1]), [7, 6, 9, 8, 11, 10, 1, 0, 3, 2, 5, 4]],
    ["pad", (v) => pad(slice(v, 0, 0, 1), [0, 1, 0], [0, 0, 1]), [0, 0, 0, 0, 1, 0, 2, 3, 0, 4, 5, 0]],
    ["concat", (v) => concat([slice(v, 1, 2, 3), slice(v, 1, 0, 1)], 1), [4, 5, 0, 1, 10, 11, 6, 7]],
    ["split", (v) => split(v, 3, 1)[1]!, [2, 3, 8, 9]],
    ["transpose", (v) => transpose(v, [2, 0, 1]), [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]],
    ["expand", (v) => expand(slice(slice(v, 0, 1, 2), 1, 0, 1), [2, 2, 2]), [6, 7, 6, 7, 6, 7, 6, 7]],
    ["reduceMax", (v) => reduceMax(v, [0, 1]), [10, 11]],
    ["clip", (v) => clip(v, 3, 5), [3, 3, 3, 3, 4, 5, 5, 5, 5, 5, 5, 5]],
    ["where", (v) => where(less(v, 6), v, -1), [0, 1, 2, 3, 4, 5, -1, -1, -1, -1, -1, -1]],
    ["where, equal", (v) => where(equal(v, 6), 1, 0), [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]],
  ])("%s", async (_, f, expected) => {
    expect(await run((v) => f(v!), x)).toEqual(expected);
  });

  it("upsampleNearest repeats every element", async () => {
    const actual = await run((v) => upsampleNearest(v!, 3), range([1, 2, 1, 2]));
    expect(actual).toEqual(
      [0, 1, 2, 3].flatMap((i) => (i % 2 ? [] : [0, 1, 2].flatMap(() => [i, i, i, i + 1, i + 1, i + 1]))),
    );
  });

  it("gather takes rows; scatterAdd puts them back, adding up repeated ones", async () => {
    const indices = int64Tensor([2, 2], [2, 0, 2, 2]);
    expect(await run((t, i) => gather(t!, i!), range([3, 2]), indices)).toEqual([4, 5, 0, 1, 4, 5, 4, 5]);
    const scattered = await run((t, i, u) => scatterAdd(t!, i!, u!), range([3, 2]), indices, range([2, 2, 2]));
    expect(scattered).toEqual([0 + 2, 1 + 3, 2, 3, 4 + 0 + 4 + 6, 5 + 1 + 5 + 7]);
  });

  it("constants of every type arrive as they are", async () => {
    const ids = constant(BigInt64Array.of(1n, -2n), [2], "int64");
    expect(await run(() => ids)).toEqual([1, -2]);
  });
});
