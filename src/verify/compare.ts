import { ArgumentError, ShapeError } from "../errors.ts";
import type { DType, FloatTensor, Tensor } from "../tensor.ts";

/** The error of one output against its reference. */
export interface OutputError {
  /** The tensor's name in the reference file, with the step in brackets if it is about one step only. */
  readonly name: string;
  /** Largest absolute difference; NaN if there is one in the output. */
  readonly maxAbs: number;
  /** maxAbs divided by the standard deviation of the reference, or by its largest value if all its values are equal. */
  readonly relative: number;
  /** The largest absolute difference that passes, where that counts instead of the relative one: 1 for 8-bit pixels. */
  readonly limit?: number;
}

/** Compares element by element. Throws ShapeError if the number of elements differs, or there are none. */
export function compare(
  name: string,
  actual: ArrayLike<number | bigint>,
  reference: ArrayLike<number | bigint>,
): OutputError {
  if (actual.length !== reference.length) {
    throw new ShapeError(`${name}: ${actual.length} values, but the reference has ${reference.length}.`);
  }
  if (reference.length === 0) throw new ShapeError(`${name}: the reference is empty, so there is nothing to compare.`);
  let maxAbs = 0;
  let largest = 0;
  let sum = 0;
  for (let i = 0; i < actual.length; i++) {
    const expected = Number(reference[i]);
    const difference = Math.abs(Number(actual[i]) - expected);
    if (!(difference <= maxAbs)) maxAbs = difference;
    if (Number.isNaN(maxAbs)) break;
    largest = Math.max(largest, Math.abs(expected));
    sum += expected;
  }
  const mean = sum / reference.length;
  let squares = 0;
  for (let i = 0; i < reference.length; i++) squares += (Number(reference[i]) - mean) ** 2;
  const std = Math.sqrt(squares / reference.length);
  const scale = std > largest * 1e-6 ? std : largest;
  return { name, maxAbs, relative: maxAbs === 0 ? 0 : maxAbs / (scale || 1) };
}

/** The largest relative error; NaN counts as the largest of all. */
export function worst(errors: readonly OutputError[]): OutputError {
  const [first, ...others] = errors;
  if (!first) throw new ArgumentError("There is nothing to compare.");
  return others.reduce((a, b) => (Number.isNaN(a.relative) || a.relative >= b.relative ? a : b), first);
}

/** The tensor of that name and type. Throws ArgumentError if it is not among the reference tensors. */
export function reference<D extends DType>(io: ReadonlyMap<string, Tensor>, name: string, dtype: D): Tensor<D> {
  const tensor = io.get(name);
  if (tensor?.dtype !== dtype) {
    throw new ArgumentError(
      `The reference tensors have no ${dtype} tensor "${name}"${tensor ? `: it is ${tensor.dtype}` : ""}.`,
    );
  }
  return tensor as Tensor<D>;
}

/** Entry `index` of the first axis, as a view. Throws ArgumentError if there is none. */
export function entry(tensor: FloatTensor, index: number): FloatTensor {
  const [count = 0, ...shape] = tensor.shape;
  if (!(index < count)) {
    throw new ArgumentError(`A reference tensor [${tensor.shape}] has no entry ${index}: one is needed for each step.`);
  }
  const size = tensor.data.length / count;
  return { dtype: "float32", shape, data: tensor.data.subarray(index * size, (index + 1) * size) };
}
