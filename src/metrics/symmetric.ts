/** Symmetric matrices, apart from what is exported: ml-matrix is bundled, and a user's types know nothing of it. */
import { EigenvalueDecomposition, type Matrix } from "ml-matrix";

/** V sqrt(D) V^T of a symmetric matrix without negative eigenvalues; those that rounding left below zero count as zero. */
export function symmetricRoot(matrix: Matrix): Matrix {
  const { values, vectors } = eigen(matrix);
  const scaled = vectors.clone();
  values.forEach((value, column) => {
    scaled.mulColumn(column, Math.sqrt(Math.max(0, value)));
  });
  return scaled.mmul(vectors.transpose());
}

export function eigen(matrix: Matrix): { values: number[]; vectors: Matrix } {
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(matrix, { assumeSymmetric: true });
  return { values: realEigenvalues, vectors: eigenvectorMatrix };
}
