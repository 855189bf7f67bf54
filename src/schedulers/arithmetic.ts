import { ArgumentError, ShapeError } from "../errors.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";

export type Term = readonly [coefficient: number, tensor: FloatTensor];

/**
 * The sum of coefficient * tensor over at most five terms of one shape, as a new tensor, in one pass over memory.
 * Every solver's update is such a sum. Terms whose coefficient is 0 are left out, so infinities in them do no harm.
 * Throws ShapeError if sizes differ.
 */
export function combine(operation: string, ...terms: readonly [Term, ...Term[]]): FloatTensor {
  const { shape, data } = terms[0][1];
  for (const [, tensor] of terms) checkSameSize(operation, terms[0][1], tensor);
  const out = new Float32Array(data.length);
  const used = terms.filter(([coefficient]) => coefficient !== 0);
  const [[a, x], [b, y], [c, z], [d, u], [e, v]] = [0, 1, 2, 3, 4].map((i): [number, Float32Array] =>
    used[i] ? [used[i][0], used[i][1].data] : [0, out],
  ) as [Row, Row, Row, Row, Row];
  if (used.length <= 2) {
    for (let i = 0; i < out.length; i++) out[i] = a * x[i]! + b * y[i]!;
  } else {
    for (let i = 0; i < out.length; i++) out[i] = a * x[i]! + b * y[i]! + c * z[i]! + d * u[i]! + e * v[i]!;
  }
  return floatTensor(shape, out);
}
type Row = [number, Float32Array];

/** a[row] * x + b[row] * y. A row is one entry of the first axis; a single coefficient applies to all rows. */
export function mix(
  operation: string,
  x: FloatTensor,
  a: readonly number[],
  y: FloatTensor,
  b: readonly number[],
): FloatTensor {
  checkSameSize(operation, x, y);
  const rows = a.length === 1 ? 1 : (x.shape[0] ?? 1);
  if (a.length !== rows) {
    throw new ShapeError(`${operation}: ${a.length} timesteps for a tensor of shape [${x.shape.join(", ")}].`);
  }
  const out = new Float32Array(x.data.length);
  const size = out.length / rows;
  for (let row = 0; row < rows; row++) {
    const [p, q] = [a[row]!, b[row]!];
    for (let i = row * size; i < (row + 1) * size; i++) out[i] = p * x.data[i]! + q * y.data[i]!;
  }
  return floatTensor(x.shape, out);
}

/** original + sigma[row] * noise; a single sigma applies to all rows. */
export const withNoise = (original: FloatTensor, noise: FloatTensor, sigmas: readonly number[]): FloatTensor =>
  mix(
    "addNoise",
    original,
    sigmas.map(() => 1),
    noise,
    sigmas,
  );

/** Clamps to [-range, range] in place. */
export function clampInPlace(tensor: FloatTensor, range: number): void {
  const { data } = tensor;
  for (let i = 0; i < data.length; i++) data[i] = Math.min(Math.max(data[i]!, -range), range);
}

/**
 * Dynamic thresholding, in place (Saharia et al. 2022, section 2.3): each row of the batch is clamped to the given
 * quantile of its absolute values, itself between 1 and `maximum`, and divided by it.
 */
export function thresholdInPlace(tensor: FloatTensor, quantile: number, maximum: number): void {
  const rows = tensor.shape[0] ?? 1;
  const size = tensor.data.length / rows;
  for (let row = 0; row < rows; row++) {
    const values = tensor.data.subarray(row * size, (row + 1) * size);
    const sorted = values.map(Math.abs).sort();
    const place = quantile * (size - 1);
    const below = Math.floor(place);
    const [low, high] = [sorted[below]!, sorted[Math.min(below + 1, size - 1)]!];
    const bound = Math.min(Math.max(low + (high - low) * (place - below), 1), maximum);
    for (let i = 0; i < size; i++) values[i] = Math.min(Math.max(values[i]!, -bound), bound) / bound;
  }
}

/** Splits a model output into mean and variance: the halves of the channel axis, each with the shape of `sample`. */
export function splitVariance(output: FloatTensor, sample: FloatTensor): { mean: FloatTensor; variance: FloatTensor } {
  const [rows = 1, channels = 1] = sample.shape;
  if (output.shape[0] !== rows || output.shape[1] !== 2 * channels || output.data.length !== 2 * sample.data.length) {
    throw new ShapeError(
      `A model that predicts its variance must give [${[rows, 2 * channels, ...sample.shape.slice(2)].join(", ")}] ` +
        `for a sample of shape [${sample.shape.join(", ")}], but gave [${output.shape.join(", ")}].`,
    );
  }
  const size = sample.data.length / rows;
  const half = (offset: number) => {
    const data = new Float32Array(sample.data.length);
    for (let row = 0; row < rows; row++) {
      const start = row * 2 * size + offset;
      data.set(output.data.subarray(start, start + size), row * size);
    }
    return floatTensor(sample.shape, data);
  };
  return { mean: half(0), variance: half(size) };
}

/** The noise for a step that needs it. Throws ArgumentError if the caller gave no noise source. */
export function drawNoise(className: string, noise: (() => FloatTensor) | undefined): FloatTensor {
  if (noise) return noise();
  throw new ArgumentError(
    `${className}: this step adds noise; pass options.noise, which draws it in the sample's shape.`,
  );
}

function checkSameSize(operation: string, a: FloatTensor, b: FloatTensor): void {
  if (a.data.length !== b.data.length) {
    throw new ShapeError(`${operation}: shapes [${a.shape.join(", ")}] and [${b.shape.join(", ")}] differ.`);
  }
}
