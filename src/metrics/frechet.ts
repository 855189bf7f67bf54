/** Fréchet distance between two sets of features, each taken for a Gaussian (Heusel et al. 2017, arXiv 1706.08500). */
import { Matrix } from "ml-matrix";
import { ArgumentError, NumericError, ShapeError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { eigen, symmetricRoot } from "./symmetric.ts";

/** What the distance needs to know about a set of features. */
export interface FeatureStatistics {
  readonly count: number;
  readonly mean: Float64Array;
  /** width rows of width values, divided by count - 1. */
  readonly covariance: readonly (readonly number[])[];
}

/** Mean and covariance of the rows of [count, width], in double precision. Throws ArgumentError for fewer than two. */
export function featureStatistics({ shape, data }: FloatTensor): FeatureStatistics {
  const [count, width] = shape as [number, number];
  if (shape.length !== 2) throw new ShapeError(`features are [count, width], not [${shape.join(", ")}]`);
  if (count < 2) throw new ArgumentError(`a covariance needs at least two rows of features, not ${count}`);
  const mean = new Float64Array(width);
  for (let row = 0; row < count; row++) for (let i = 0; i < width; i++) mean[i]! += data[row * width + i]! / count;
  if (!mean.every(Number.isFinite)) throw new NumericError("some features are not numbers");

  const sums = new Float64Array(width * width);
  const centred = new Float64Array(width);
  for (let row = 0; row < count; row++) {
    for (let i = 0; i < width; i++) centred[i] = data[row * width + i]! - mean[i]!;
    for (let i = 0; i < width; i++) for (let j = 0; j <= i; j++) sums[i * width + j]! += centred[i]! * centred[j]!;
  }
  const covariance = Array.from({ length: width }, (_, i) =>
    Array.from({ length: width }, (_, j) => sums[Math.max(i, j) * width + Math.min(i, j)]! / (count - 1)),
  );
  return { count, mean, covariance };
}

/**
 * |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)). The last trace is that of (S C2 S)^(1/2) with S the root of C1: a
 * symmetric matrix, whose eigenvalues are real and not negative but for rounding, where C1 C2 itself is neither.
 */
export function frechetDistance(a: FeatureStatistics, b: FeatureStatistics): number {
  if (a.mean.length !== b.mean.length) {
    throw new ShapeError(`features of width ${a.mean.length} and ${b.mean.length} cannot be compared`);
  }
  const means = a.mean.reduce((sum, value, i) => sum + (value - b.mean[i]!) ** 2, 0);
  const [first, second] = [a, b].map(({ covariance }) => new Matrix(covariance.map((row) => [...row]))) as [
    Matrix,
    Matrix,
  ];
  const root = symmetricRoot(first);
  const both = root.mmul(second).mmul(root);
  const overlap = eigen(both).values.reduce((sum, value) => sum + Math.sqrt(Math.max(0, value)), 0);
  // Rounding can make it slightly negative.
  return Math.max(0, means + first.trace() + second.trace() - 2 * overlap);
}

/**
 * The distance between the Gaussians of two sets of features [count, width], without their covariances: with A and B the
 * centred features over the root of count - 1, tr (C1 C2)^(1/2) is the sum of the singular values of A B^T, a matrix of
 * counts and not of widths. Of 512 pictures and Inception's 2048 features that is a hundredth of the work.
 */
export function frechetDistanceOf(a: FloatTensor, b: FloatTensor): number {
  const widths = [a, b].map(({ shape }) => shape[1]!);
  if (widths[0] !== widths[1]) throw new ShapeError(`features of width ${widths.join(" and ")} cannot be compared`);
  if (a.shape[0]! > widths[0]! && b.shape[0]! > widths[1]!) {
    return frechetDistance(featureStatistics(a), featureStatistics(b));
  }
  const [first, second] = [centred(a), centred(b)];
  const means = first.mean.reduce((sum, value, i) => sum + (value - second.mean[i]!) ** 2, 0);
  const product =
    first.rows.rows <= second.rows.rows
      ? first.rows.mmul(second.rows.transpose())
      : second.rows.mmul(first.rows.transpose());
  const overlap = eigen(product.mmul(product.transpose())).values.reduce(
    (sum, x) => sum + Math.sqrt(Math.max(0, x)),
    0,
  );
  return Math.max(0, means + sumOfSquares(first.rows) + sumOfSquares(second.rows) - 2 * overlap);
}

/** Rows less their mean, over the root of their number less 1: the covariance is rows^T rows. */
function centred({ shape, data }: FloatTensor): { mean: Float64Array; rows: Matrix } {
  const [count, width] = shape as [number, number];
  if (count < 2) throw new ArgumentError(`a covariance needs at least two rows of features, not ${count}`);
  const mean = new Float64Array(width);
  for (let i = 0; i < data.length; i++) mean[i % width]! += data[i]! / count;
  if (!mean.every(Number.isFinite)) throw new NumericError("some features are not numbers");
  const rows = Matrix.zeros(count, width);
  const scale = 1 / Math.sqrt(count - 1);
  for (let row = 0; row < count; row++) {
    for (let i = 0; i < width; i++) rows.set(row, i, (data[row * width + i]! - mean[i]!) * scale);
  }
  return { mean, rows };
}

/** The trace of the covariance. */
function sumOfSquares(matrix: Matrix): number {
  return matrix.to1DArray().reduce((sum, value) => sum + value * value, 0);
}
