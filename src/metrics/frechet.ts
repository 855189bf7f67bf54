/** Fréchet distance between two sets of features, each taken for a Gaussian (Heusel et al. 2017, arXiv 1706.08500). */
import { EigenvalueDecomposition, Matrix } from "ml-matrix";
import { ArgumentError, NumericError, ShapeError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";

/** What the distance knows of a set of features. */
export interface FeatureStatistics {
  readonly count: number;
  readonly mean: Float64Array;
  /** width x width, divided by count - 1. */
  readonly covariance: Matrix;
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
  const covariance = Matrix.zeros(width, width);
  for (let i = 0; i < width; i++) {
    for (let j = 0; j <= i; j++) {
      const value = sums[i * width + j]! / (count - 1);
      covariance.set(i, j, value);
      covariance.set(j, i, value);
    }
  }
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
  const root = symmetricRoot(a.covariance);
  const both = root.mmul(b.covariance).mmul(root);
  const overlap = eigen(both).values.reduce((sum, value) => sum + Math.sqrt(Math.max(0, value)), 0);
  // Rounding can leave a hair less than nothing.
  return Math.max(0, means + a.covariance.trace() + b.covariance.trace() - 2 * overlap);
}

/** V sqrt(D) V^T of a symmetric matrix without negative eigenvalues; those that rounding left below zero count as zero. */
export function symmetricRoot(matrix: Matrix): Matrix {
  const { values, vectors } = eigen(matrix);
  const scaled = vectors.clone();
  values.forEach((value, column) => {
    scaled.mulColumn(column, Math.sqrt(Math.max(0, value)));
  });
  return scaled.mmul(vectors.transpose());
}

function eigen(matrix: Matrix): { values: number[]; vectors: Matrix } {
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
  return { values: realEigenvalues, vectors: eigenvectorMatrix };
}
