import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { alignmentScore, retrievalRanks, topAccuracy } from "../../src/metrics/alignment.ts";
import { floatTensor } from "../../src/tensor.ts";

const rows = (...values: number[][]) =>
  floatTensor([values.length, values[0]!.length], Float32Array.from(values.flat()));
const same = (picture: number, caption: number) => picture === caption;
const axes = rows([1, 0, 0], [0, 1, 0], [0, 0, 1]);

describe("the alignment score", () => {
  it("is the mean cosine of the pairs", () => {
    expect(alignmentScore(axes, axes)).toBeCloseTo(1, 12);
    expect(alignmentScore(axes, rows([-1, 0, 0], [0, 1, 0], [0.6, 0.8, 0]))).toBeCloseTo(0, 12);
  });
  it("refuses pairs that are none", () => {
    expect(() => alignmentScore(axes, rows([1, 0, 0]))).toThrow(ShapeError);
    expect(() => alignmentScore(axes, rows([1, 0], [1, 0], [1, 0]))).toThrow(ShapeError);
  });
});

describe("retrieval", () => {
  it("ranks the right caption among all", () => {
    expect(retrievalRanks(axes, axes, same)).toEqual([1, 1, 1]);
    // Cosines 0.8, 0.6, 0.5 with captions 0, 1, 2
    const captions = rows([0.8, 0.6], [0.6, 0.8], [0.5, 0.8]);
    expect(retrievalRanks(rows([1, 0], [1, 0], [1, 0]), captions, same)).toEqual([1, 2, 3]);
  });

  it("counts the nearest of several right captions, and none of them as the other's rival", () => {
    const captions = rows([0.8, 0.6], [0.6, 0.8], [0.5, 0.8]);
    const shared = (_: number, caption: number) => caption !== 0;
    expect(retrievalRanks(rows([1, 0]), captions, shared)).toEqual([2]);
    expect(retrievalRanks(rows([0, 1]), captions, shared)).toEqual([1]);
    expect(retrievalRanks(rows([1, 0]), captions, (_, caption) => caption === 2)).toEqual([3]);
  });

  it("gives nothing for an answer that is the same to everything", () => {
    const constant = rows([1, 0, 0], [1, 0, 0], [1, 0, 0]);
    expect(retrievalRanks(constant, constant, same)).toEqual([3, 3, 3]);
  });

  it("needs a right caption for every picture", () => {
    expect(() => retrievalRanks(axes, axes, (picture, caption) => picture === caption && picture < 2)).toThrow(
      ArgumentError,
    );
  });

  it("is the share of ranks up to k", () => {
    expect(topAccuracy([1, 2, 5, 6], 1)).toBe(0.25);
    expect(topAccuracy([1, 2, 5, 6], 5)).toBe(0.75);
  });
});
