/** Measures a gradient rule: `gradients` of a graph against finite differences of the same graph. */
import { gradients } from "../../src/graph/gradient.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { constant, input, staticShape, topologicalOrder, type Value } from "../../src/graph/value.ts";
import { vjp } from "../../src/graph/vjp.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type FloatTensor, floatTensor, sizeOf, type Tensor } from "../../src/tensor.ts";
import { type GradientCase, gradientCases, type InputSpec } from "./gradient-cases.ts";

/** Mulberry32: uniform in [0, 1). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomTensor(shape: readonly number[], next: () => number, from = -1.5, to = 1.5): FloatTensor {
  return floatTensor(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, () => from + (to - from) * next()),
  );
}

/** Runs the graph behind some values once. */
export async function evaluate<Names extends string>(
  outputs: Readonly<Record<Names, Value>>,
  feeds: Readonly<Record<string, Tensor>> = {},
): Promise<Record<Names, Tensor>> {
  const session = await nodeRuntime.compile(toOnnx(outputs));
  try {
    return await session.run(feeds);
  } finally {
    await session.release();
  }
}

function sample(spec: InputSpec, next: () => number): FloatTensor {
  const { shape, from, to, kinks } = "shape" in spec ? spec : { shape: spec };
  const tensor = randomTensor(shape, next, from, to);
  const margin = 0.2;
  tensor.data.forEach((x, i) => {
    for (const kink of kinks ?? [])
      if (Math.abs(x - kink) < margin) tensor.data[i] = kink + (x < kink ? -margin : margin);
  });
  return tensor;
}

/** The step of the finite differences: its fourth power is about as small as float32's rounding over it. */
const STEP = 0.04;

/**
 * Largest error of any input's gradient, over the largest gradient of that input. The function differentiated is
 * sum(output * fixed random numbers), summed in double precision; differences are of fourth order.
 */
export async function gradientError(operator: string, { inputs, build }: GradientCase, seed = 1): Promise<number> {
  const next = random(seed);
  const feeds = Object.fromEntries(inputs.map((spec, i) => [`x${i}`, sample(spec, next)] as const));
  const values = Object.entries(feeds).map(([name, { shape }]) => input(name, shape));
  const built = build(...values);
  const outputs = Array.isArray(built) ? (built as readonly Value[]) : [built as Value];
  if (!topologicalOrder(outputs).some(({ op }) => op === operator)) throw new Error(`no ${operator} in its own case`);
  const seeds = outputs.map((output) => randomTensor(staticShape(output, "case"), next));

  const forward = await nodeRuntime.compile(toOnnx(named(outputs)));
  const loss = async () => {
    const results = await forward.run(feeds);
    return seeds.reduce((sum, { data }, i) => sum + dot(data, results[`v${i}`]!.data as Float32Array), 0);
  };
  const dy = seeds.map(({ data, shape }, i) => [outputs[i]!, constant(data, shape, "float32")] as const);
  const results = await evaluate(named(gradients(null, values, dy)), feeds);
  let worst = 0;
  for (const [i, { data }] of Object.values(feeds).entries()) {
    const expected = new Float64Array(data.length);
    for (let j = 0; j < data.length; j++) expected[j] = await difference(data, j, loss);
    const actual = results[`v${i}`]!.data as Float32Array;
    const scale = expected.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
    if (actual.length !== data.length) throw new Error(`gradient ${i} has ${actual.length} elements`);
    const error = expected.reduce((largest, x, j) => Math.max(largest, Math.abs(x - actual[j]!)), 0);
    worst = Math.max(worst, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error / (scale || 1));
  }
  await forward.release();
  return worst;
}

/** (8 (f(x + h) - f(x - h)) - (f(x + 2h) - f(x - 2h))) / 12h, with the steps as float32 rounded them. */
async function difference(data: Float32Array, j: number, f: () => Promise<number>): Promise<number> {
  const x = data[j]!;
  const slope = async (h: number) => {
    data[j] = x + h;
    const [above, high] = [data[j]!, await f()];
    data[j] = x - h;
    const [below, low] = [data[j]!, await f()];
    data[j] = x;
    return (high - low) / (above - below);
  };
  return (4 * (await slope(STEP)) - (await slope(2 * STEP))) / 3;
}

const dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
const named = (values: readonly Value[]) => Object.fromEntries(values.map((value, i) => [`v${i}`, value]));

/** For each operator with a gradient rule: its number of cases and the largest relative error over them. */
export async function gradientTable(): Promise<{ operator: string; cases: number; error: number; worst: string }[]> {
  const rows = [];
  for (const operator of Object.keys(vjp)) {
    const row = { operator, cases: 0, error: 0, worst: "" };
    for (const gradientCase of gradientCases[operator] ?? []) {
      const error = await gradientError(operator, gradientCase);
      row.cases++;
      if (error >= row.error) Object.assign(row, { error, worst: gradientCase.name });
    }
    rows.push(row);
  }
  return rows;
}
