/** Against closed forms: of Gaussians whose covariances commute, and of any two in the plane. */
import { Matrix } from "ml-matrix";
import { describe, expect, it } from "vitest";
import { ArgumentError, NumericError, ShapeError } from "../../src/errors.ts";
import { featureStatistics, frechetDistance } from "../../src/metrics/frechet.ts";
import { symmetricRoot } from "../../src/metrics/symmetric.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { floatTensor } from "../../src/tensor.ts";

/** What `featureStatistics` gives for a set with this mean and covariance. */
const gaussian = (mean: number[], covariance: number[][]) => ({
  count: 2,
  mean: Float64Array.from(mean),
  covariance,
});

/** Rows mean + L z for standard normal z. */
function rows(count: number, mean: number[], factor: number[][], seed: number) {
  const width = mean.length;
  const { data } = new TorchGenerator(seed).randn([count, width]);
  const out = floatTensor([count, width]);
  for (let row = 0; row < count; row++) {
    for (let i = 0; i < width; i++) {
      out.data[row * width + i] =
        mean[i]! + factor[i]!.reduce((sum, value, j) => sum + value * data[row * width + j]!, 0);
    }
  }
  return out;
}

describe("mean and covariance of features", () => {
  it("are those of a set that can be worked out by hand", () => {
    const { mean, covariance } = featureStatistics(floatTensor([3, 2], Float32Array.of(1, 0, 2, 0, 3, 3)));
    expect([...mean]).toEqual([2, 1]);
    // Sums over 2 = count - 1: (1 + 0 + 1) / 2, (1 + 0 + 2) / 2, (1 + 1 + 4) / 2
    expect(covariance).toEqual([
      [1, 1.5],
      [1.5, 3],
    ]);
  });

  it("cannot be had from one row, from a batch of pictures or from NaN", () => {
    expect(() => featureStatistics(floatTensor([1, 3]))).toThrow(ArgumentError);
    expect(() => featureStatistics(floatTensor([2, 3, 4, 4]))).toThrow(ShapeError);
    expect(() => featureStatistics(floatTensor([2, 1], Float32Array.of(1, Number.NaN)))).toThrow(NumericError);
  });
});

describe("the Fréchet distance", () => {
  it("is (m1 - m2)^2 + (s1 - s2)^2 on a line", () => {
    expect(frechetDistance(gaussian([3], [[4]]), gaussian([1], [[25]]))).toBeCloseTo(4 + 9, 10);
  });

  it("sums that over the axes of covariances that share their axes, turned or not", () => {
    const turn = new Matrix([
      [0.6, -0.8, 0],
      [0.8, 0.6, 0],
      [0, 0, 1],
    ]);
    const turned = (variances: number[]) => turn.mmul(Matrix.diag(variances)).mmul(turn.transpose()).to2DArray();
    const a = gaussian([0, 1, 2], turned([1, 4, 9]));
    const b = gaussian([1, 1, 0], turned([16, 4, 0]));
    expect(frechetDistance(a, b)).toBeCloseTo(1 + 4 + (1 - 4) ** 2 + 0 + 3 ** 2, 10);
  });

  it("is right in the plane where the axes differ: tr (C1 C2)^(1/2) = sqrt(tr C1 C2 + 2 sqrt(det C1 C2))", () => {
    const [c1, c2] = [
      [
        [2, 1],
        [1, 3],
      ],
      [
        [5, -2],
        [-2, 1],
      ],
    ] as [number[][], number[][]];
    const [traceOfProduct, determinants] = [2 * 5 + 2 * 1 * -2 + 3 * 1, 5 * 1];
    const overlap = Math.sqrt(traceOfProduct + 2 * Math.sqrt(determinants));
    expect(frechetDistance(gaussian([0, 0], c1), gaussian([0, 0], c2))).toBeCloseTo(5 + 6 - 2 * overlap, 10);
  });

  it("is nothing between a set and itself, also with fewer rows than numbers in a row", () => {
    for (const count of [400, 10]) {
      const statistics = featureStatistics(new TorchGenerator(1).randn([count, 32]));
      expect(frechetDistance(statistics, statistics)).toBeLessThan(1e-5);
    }
  });

  it("is the same both ways, and near that of the Gaussians that many rows are drawn from", () => {
    const factor = [
      [1, 0],
      [0.5, 2],
    ];
    const a = featureStatistics(rows(20_000, [0, 0], factor, 3));
    const b = featureStatistics(
      rows(
        20_000,
        [1, -1],
        [
          [1, 0],
          [0, 1],
        ],
        4,
      ),
    );
    // C1 = F F^T = [[1, 0.5], [0.5, 4.25]]; against the identity the overlap is tr C1^(1/2) = sqrt(tr + 2 sqrt(det)).
    const expected = 2 + 5.25 + 2 - 2 * Math.sqrt(5.25 + 2 * Math.sqrt(4));
    expect(frechetDistance(a, b)).toBeCloseTo(frechetDistance(b, a), 9);
    expect(Math.abs(frechetDistance(a, b) - expected)).toBeLessThan(0.1);
  });

  it("refuses features of different widths", () => {
    const wide = featureStatistics(new TorchGenerator(1).randn([3, 2]));
    expect(() => frechetDistance(gaussian([0], [[1]]), wide)).toThrow(ShapeError);
  });
});

it("the root of a symmetric matrix squares to it", () => {
  const covariance = new Matrix(featureStatistics(new TorchGenerator(2).randn([50, 20])).covariance as number[][]);
  const root = symmetricRoot(covariance);
  expect(Matrix.sub(root.mmul(root), covariance).norm()).toBeLessThan(1e-10);
});
