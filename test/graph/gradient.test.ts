import { describe, expect, it } from "vitest";
import { ShapeError } from "../../src/errors.ts";
import { gradients } from "../../src/graph/gradient.ts";
import {
  add,
  attention,
  cast,
  gather,
  gelu,
  layerNorm,
  layerNormWithStatistics,
  matmul,
  mul,
  reduceMax,
  reduceMean,
  reduceSum,
  relu,
  scatterAdd,
  softmax,
} from "../../src/graph/operators.ts";
import { constant, input, topologicalOrder, type Value } from "../../src/graph/value.ts";
import { sumAll, vjp } from "../../src/graph/vjp.ts";
import { type FloatTensor, floatTensor, int64Tensor } from "../../src/tensor.ts";
import { gradientCases } from "../support/gradient-cases.ts";
import { evaluate, gradientError, random, randomTensor } from "../support/gradient-error.ts";

const floats = (shape: readonly number[], seed: number) => randomTensor(shape, random(seed));
const asValue = ({ data, shape }: FloatTensor) => constant(data, shape, "float32");

/** The gradient of sum(f(x) * dy), run. */
async function gradient(f: (x: Value) => Value, x: FloatTensor, dy: FloatTensor): Promise<number[]> {
  const value = input("x", x.shape);
  const [dx] = gradients(null, [value], [[f(value), asValue(dy)]]);
  const { out } = await evaluate({ out: dx! }, { x });
  return Array.from(out.data as Float32Array);
}

function expectClose(actual: readonly number[], expected: readonly number[], tolerance = 1e-5) {
  expect(actual.length).toBe(expected.length);
  for (const [i, x] of expected.entries()) expect(Math.abs(actual[i]! - x), `[${i}]`).toBeLessThan(tolerance);
}

describe("gradient rules", () => {
  it("have cases, and no case is without a rule", () => {
    expect(Object.keys(gradientCases).sort()).toEqual(Object.keys(vjp).sort());
  });

  describe.each(Object.keys(vjp))("%s", (operator) => {
    it.each((gradientCases[operator] ?? []).map((each) => [each.name, each] as const))(
      "%s: equals finite differences",
      async (_, gradientCase) => {
        expect(await gradientError(operator, gradientCase)).toBeLessThan(2e-4);
      },
    );
  });

  it("would be caught if one were wrong", async () => {
    const wrong = { name: "half", inputs: [[3]], build: (x: Value) => mul(x, x) } as const;
    const rules = vjp as Record<string, (typeof vjp)[string]>;
    const right = rules["Mul"]!;
    try {
      rules["Mul"] = ({ inputs: [, b] }, dy) => [mul(dy!, b!), null];
      expect(await gradientError("Mul", wrong)).toBeGreaterThan(0.4);
    } finally {
      rules["Mul"] = right;
    }
  });
});

describe("gradients equal closed forms in double precision", () => {
  it("of softmax: y_i (dy_i - sum_j dy_j y_j)", async () => {
    const [x, dy] = [floats([4, 7], 1), floats([4, 7], 2)];
    const expected: number[] = [];
    for (let row = 0; row < 28; row += 7) {
      const e = Array.from(x.data.subarray(row, row + 7), Math.exp);
      const y = e.map((value) => value / e.reduce((a, b) => a + b));
      const inner = y.reduce((sum, value, i) => sum + value * dy.data[row + i]!, 0);
      expected.push(...y.map((value, i) => value * (dy.data[row + i]! - inner)));
    }
    expectClose(await gradient((value) => softmax(value), x, dy), expected);
  });

  it("of layer norm: the Jacobian, written out", async () => {
    const [n, epsilon] = [6, 1e-5];
    const [x, dy] = [floats([1, n], 3), floats([1, n], 4)];
    const xs = Array.from(x.data);
    const mean = xs.reduce((a, b) => a + b) / n;
    const variance = xs.reduce((sum, value) => sum + (value - mean) ** 2, 0) / n;
    const deviation = Math.sqrt(variance + epsilon);
    const expected = xs.map((xi, i) =>
      xs.reduce((sum, xj, j) => {
        const slope = (Number(i === j) - 1 / n) / deviation - ((xi - mean) * (xj - mean)) / (n * deviation ** 3);
        return sum + dy.data[j]! * slope;
      }, 0),
    );
    expectClose(await gradient((value) => layerNorm(value, null, null, epsilon), x, dy), expected);
  });

  it("of both forms of GELU, far into their tails", async () => {
    const x = { ...floats([1, 49], 5), data: Float32Array.from({ length: 49 }, (_, i) => (i - 24) / 3) };
    const dy = { ...x, data: new Float32Array(49).fill(1) };
    const c = Math.sqrt(2 / Math.PI);
    const tanhForm = (v: number) => (v / 2) * (1 + Math.tanh(c * (v + 0.044715 * v ** 3)));
    const cdf = (v: number) => {
      // Simpson's rule on the density
      const steps = 2000;
      let sum = 0;
      for (let i = 0; i <= steps; i++) {
        sum += (i === 0 || i === steps ? 1 : i % 2 ? 4 : 2) * Math.exp(-((v * (i / steps)) ** 2) / 2);
      }
      return 0.5 + ((v / steps / 3) * sum) / Math.sqrt(2 * Math.PI);
    };
    const slope = (f: (v: number) => number, v: number, h = 1e-4) =>
      (8 * (f(v + h) - f(v - h)) - (f(v + 2 * h) - f(v - 2 * h))) / (12 * h);
    const xs = Array.from(x.data);
    expectClose(
      await gradient((value) => gelu(value, "tanh"), x, dy),
      xs.map((v) => slope(tanhForm, v)),
      5e-6,
    );
    expectClose(
      await gradient((value) => gelu(value), x, dy),
      xs.map((v) => slope((u) => u * cdf(u), v)),
      5e-6,
    );
  });

  it("of a product of matrices, at a size that runs on several threads", async () => {
    const [x, w, dy] = [floats([2, 65, 33], 6), floats([33, 70], 7), floats([2, 65, 70], 8)];
    const expected = Array.from(x.data, (_, at) => {
      const [row, k] = [Math.floor(at / 33), at % 33];
      let sum = 0;
      for (let n = 0; n < 70; n++) sum += dy.data[row * 70 + n]! * w.data[k * 70 + n]!;
      return sum;
    });
    expectClose(await gradient((value) => matmul(value, asValue(w)), x, dy), expected, 1e-4);
  });
});

describe("gradients", () => {
  it("add up over every use of a value", async () => {
    // d/dx of sum(x^2 + 3x + relu(x) x) = 2x + 3 + 2 relu(x)
    const x = floats([5], 9);
    const value = input("x", [5]);
    const [dx] = gradients(sumAll(add(add(mul(value, value), mul(value, 3)), mul(relu(value), value))), [value]);
    const { out } = await evaluate({ out: dx! }, { x });
    const expected = Array.from(x.data, (v) => 2 * v + 3 + 2 * Math.max(0, v));
    expectClose(Array.from(out.data as Float32Array), expected);
  });

  it("are zeros, in the target's shape, where the loss does not depend on it", async () => {
    const [x, other, single] = [input("x", [2]), input("other", [2, 3]), input("single", [])];
    const [dx, dOther, dSingle] = gradients(sumAll(x), [x, other, single]);
    const out = await evaluate({ dx: dx!, dOther: dOther!, dSingle: dSingle! }, { x: floats([2], 1) });
    expect(out.dx).toMatchObject({ shape: [2], data: Float32Array.of(1, 1) });
    expect(out.dOther).toMatchObject({ shape: [2, 3], data: new Float32Array(6) });
    expect(out.dSingle).toMatchObject({ shape: [], data: Float32Array.of(0) });
  });

  it("of the loss itself is one, and of a value between is what comes back to it", async () => {
    const x = input("x", [3]);
    const square = mul(x, x);
    const loss = reduceSum(mul(square, 2), [0], false);
    const [dLoss, dSquare] = gradients(loss, [loss, square]);
    const out = await evaluate({ dLoss: dLoss!, dSquare: dSquare! });
    expect(out.dLoss.data).toEqual(Float32Array.of(1));
    expect(out.dSquare.data).toEqual(Float32Array.of(2, 2, 2));
  });

  it("need no rule for what lies before the target", async () => {
    const x = input("x", [2, 3]);
    const largest = reduceMax(x, [1]);
    const [d] = gradients(sumAll(mul(largest, largest)), [largest]);
    const data = Float32Array.of(1, 2, 3, 6, 5, 4);
    const { out } = await evaluate({ out: d! }, { x: { dtype: "float32", shape: [2, 3], data } });
    expect(out.data).toEqual(Float32Array.of(6, 12));
    expect(() => gradients(sumAll(largest), [x])).toThrow("no gradient rule for operator ReduceMax");
  });

  it("take seeds, which add up with each other and with the loss", async () => {
    const x = input("x", [2]);
    const y = mul(x, 2);
    const seed = constant(Float32Array.of(10, 100), [2], "float32");
    const [dx] = gradients(
      sumAll(y),
      [x],
      [
        [y, seed],
        [y, seed],
      ],
    );
    const { out } = await evaluate({ out: dx! });
    expect(out.data).toEqual(Float32Array.of(42, 402));
  });

  it("refuse a loss that is not a scalar, and a gradient through layer norm's statistics", () => {
    const x = input("x", [2, 3]);
    expect(() => gradients(x, [x])).toThrow(ShapeError);
    expect(() => gradients(x, [x])).toThrow("[2,3]");
    const ones = constant(new Float32Array(3).fill(1), [3], "float32");
    const [y, mean] = layerNormWithStatistics(x, ones, null, 1e-5);
    expect(() => gradients(sumAll(add(y!, mean!)), [x])).toThrow("LayerNormalization");
  });

  it("cost nothing for a frozen part", () => {
    const count = (values: Value[]) => topologicalOrder(values).length;
    const [x, frozen, trained] = [input("x", [4, 8]), input("frozen", [8, 8]), input("trained", [8, 8])];
    let below = x;
    for (let i = 0; i < 20; i++) below = gelu(matmul(below, frozen), "tanh");
    const loss = sumAll(gelu(matmul(below, trained), "tanh"));
    const backward = count([loss, ...gradients(loss, [trained])]) - count([loss]);
    const alone = sumAll(gelu(matmul(x, trained), "tanh"));
    expect(backward).toBe(count([alone, ...gradients(alone, [trained])]) - count([alone]));
  });

  it("of a frozen weight are not worked out on the way to the input", () => {
    const [x, frozen] = [input("x", [4, 8]), input("frozen", [8, 8])];
    const loss = sumAll(matmul(x, frozen));
    const operators = topologicalOrder(gradients(loss, [x])).map(({ op }) => op);
    expect(operators.filter((op) => op.endsWith("MatMul"))).toHaveLength(1);
  });

  it("of an embedding are exact with many threads and many tokens alike", async () => {
    const [rows, width, tokens] = [64, 144, 4096];
    const table = input("table", [rows, width]);
    const ids = input("ids", ["tokens"], "int64");
    const updates = input("updates", ["tokens", width]);
    const [d] = gradients(null, [table], [[gather(table, ids), updates]]);
    const feeds = {
      ids: int64Tensor(
        [tokens],
        Array.from({ length: tokens }, (_, i) => (i * i) % rows),
      ),
      updates: { dtype: "float32", shape: [tokens, width], data: new Float32Array(tokens * width).fill(1) },
    } as const;
    const expected = new Float32Array(rows * width);
    for (let i = 0; i < tokens; i++) {
      const row = ((i * i) % rows) * width;
      for (let j = 0; j < width; j++) expected[row + j]!++;
    }
    for (let run = 0; run < 10; run++) expect((await evaluate({ d: d! }, feeds)).d.data).toEqual(expected);
  });

  it("work with a batch that is named only", async () => {
    const [x, w, dy] = [input("x", ["batch", 3]), input("w", [3, 2]), input("dy", ["batch", 1])];
    const [dx, dw] = gradients(null, [x, w], [[reduceMean(matmul(x, w), [-1]), dy]]);
    expect([dx!.shape, dw!.shape]).toEqual([
      ["batch", 3],
      [3, 2],
    ]);
    const feeds = { x: floats([4, 3], 1), w: floats([3, 2], 2), dy: floats([4, 1], 3) };
    const { out } = await evaluate({ out: dw! }, feeds);
    const expected = [0, 1, 2].map(
      (k) => [0, 1, 2, 3].reduce((s, b) => s + feeds.x.data[b * 3 + k]! * feeds.dy.data[b]!, 0) / 2,
    );
    expectClose(
      Array.from(out.data as Float32Array),
      expected.flatMap((sum) => [sum, sum]),
    );
    expect(() => gradients(sumAll(x), [x])).toThrow("[batch, 3]");
  });

  it("pass through half precision, rounded to it", async () => {
    const dy = floatTensor([3], Float32Array.of(0.5, -3, 1 / 3));
    const halves = (x: Value) => cast(cast(x, "float16"), "float32");
    expectClose(await gradient(halves, floats([3], 1), dy), [0.5, -3, 0.333251953125], 1e-9);
  });

  it("through attention agree with the same attention written out", async () => {
    const [q, k, v, dy] = [1, 2, 3, 4].map((seed) => floats([1, 5, 4], seed)) as [
      FloatTensor,
      FloatTensor,
      FloatTensor,
      FloatTensor,
    ];
    const [key, value] = [asValue(k), asValue(v)];
    const fused = await gradient((x) => attention(x, key, value, 1), q, dy);
    const open = (x: Value) => matmul(softmax(matmul(x, key, { transB: true, alpha: 0.5 })), value);
    expectClose(fused, await gradient(open, q, dy));
  });

  it("of scatterAdd are not defined", () => {
    const x = input("x", [4, 2]);
    const indices = constant(BigInt64Array.of(1n), [1], "int64");
    const loss = sumAll(scatterAdd(x, indices, constant(new Float32Array(2), [1, 2], "float32")));
    expect(() => gradients(loss, [x])).toThrow("ScatterElements");
  });
});
