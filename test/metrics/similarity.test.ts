/** Against closed forms, and for SSIM the paper's formula written out for one window. */
import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import type { Picture } from "../../src/media/picture.ts";
import { resizeArea } from "../../src/metrics/resize.ts";
import { psnr, ssim } from "../../src/metrics/similarity.ts";
import { seededRandom } from "../../training/random.ts";

function picture(width: number, height: number, value: (i: number) => number): Picture {
  return { width, height, data: Uint8Array.from({ length: 3 * width * height }, (_, i) => value(i)) };
}
function random(width: number, height: number, seed: number): Picture {
  const next = seededRandom(seed);
  return picture(width, height, () => Math.floor(256 * next()));
}
const grey = (width: number, height: number, seed: number) => {
  const { data } = random(width, height, seed);
  return picture(width, height, (i) => data[3 * Math.floor(i / 3)]!);
};

describe("PSNR", () => {
  it("is 20 log10(255 / d) where every value is d off", () => {
    expect(
      psnr(
        picture(5, 4, () => 100),
        picture(5, 4, () => 110),
      ),
    ).toBeCloseTo(20 * Math.log10(25.5), 10);
  });
  it("is 0 between black and white, and infinite between equal pictures", () => {
    expect(
      psnr(
        picture(2, 2, () => 0),
        picture(2, 2, () => 255),
      ),
    ).toBeCloseTo(0, 10);
    expect(psnr(random(8, 8, 1), random(8, 8, 1))).toBe(Number.POSITIVE_INFINITY);
  });
  it("refuses pictures of two sizes", () => expect(() => psnr(random(8, 8, 1), random(8, 9, 1))).toThrow(ShapeError));
});

describe("SSIM", () => {
  it("is 1 between equal pictures", () => expect(ssim(random(20, 16, 1), random(20, 16, 1))).toBeCloseTo(1, 12));

  it("is (2 a b + C1) / (a^2 + b^2 + C1) between two plain greys", () => {
    const [a, b, c1] = [80, 200, 2.55 ** 2];
    const expected = (2 * a * b + c1) / (a * a + b * b + c1);
    expect(
      ssim(
        picture(16, 12, () => a),
        picture(16, 12, () => b),
      ),
    ).toBeCloseTo(expected, 10);
  });

  it("is the formula of the paper in a single window", () => {
    const [a, b] = [grey(11, 11, 3), grey(11, 11, 4)];
    const weights = Array.from({ length: 121 }, (_, i) =>
      Math.exp(-((Math.floor(i / 11) - 5) ** 2 + ((i % 11) - 5) ** 2) / (2 * 1.5 ** 2)),
    );
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const mean = (f: (i: number) => number) => weights.reduce((sum, weight, i) => sum + (weight / total) * f(3 * i), 0);
    const [x, y] = [mean((i) => a.data[i]!), mean((i) => b.data[i]!)];
    const varianceX = mean((i) => (a.data[i]! - x) ** 2);
    const varianceY = mean((i) => (b.data[i]! - y) ** 2);
    const covariance = mean((i) => (a.data[i]! - x) * (b.data[i]! - y));
    const [c1, c2] = [2.55 ** 2, 7.65 ** 2];
    const expected = ((2 * x * y + c1) * (2 * covariance + c2)) / ((x * x + y * y + c1) * (varianceX + varianceY + c2));
    expect(ssim(a, b)).toBeCloseTo(expected, 9);
  });

  it("is the same both ways, and negative for a picture and its negative", () => {
    const a = grey(24, 24, 5);
    expect(ssim(a, grey(24, 24, 6))).toBeCloseTo(ssim(grey(24, 24, 6), a), 12);
    expect(ssim(a, { ...a, data: a.data.map((value) => 255 - value) })).toBeLessThan(-0.5);
  });

  it("refuses pictures of two sizes, and smaller than its window", () => {
    expect(() => ssim(random(16, 16, 1), random(16, 17, 1))).toThrow(ShapeError);
    expect(() => ssim(random(10, 16, 1), random(10, 16, 1))).toThrow(ArgumentError);
  });
});

describe("resizing by area", () => {
  it("averages the pixels that one of the new ones covers", () => {
    const two = picture(4, 2, (i) => 10 * Math.floor(i / 3));
    // Pixels 0 1 4 5 and 2 3 6 7, times 10
    expect([...resizeArea(two, 2, 1).data]).toEqual([25, 25, 25, 45, 45, 45]);
  });
  it("takes shares of pixels where sizes do not divide", () => {
    // 3 pixels 0, 90, 180 to 2: (0 + 90 / 2) / 1.5 and (90 / 2 + 180) / 1.5
    expect([
      ...resizeArea(
        picture(3, 1, (i) => 90 * Math.floor(i / 3)),
        2,
        1,
      ).data,
    ]).toEqual([30, 30, 30, 150, 150, 150]);
  });
  it("leaves a picture of the size alone, and enlarges", () => {
    const same = random(6, 6, 1);
    expect(resizeArea(same, 6, 6)).toBe(same);
    expect(
      new Set(
        resizeArea(
          picture(3, 3, () => 77),
          64,
          64,
        ).data,
      ),
    ).toEqual(new Set([77]));
  });
});
