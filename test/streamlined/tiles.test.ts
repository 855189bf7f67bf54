import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { inTiles, tileAxis, tileWeights } from "../../src/streamlined/tiles.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";

/** A decoder that works on each element alone: twice as large, and something is done to every value. */
async function enlarge({ shape, data }: FloatTensor): Promise<FloatTensor> {
  const [batch, channels, height, width] = shape as [number, number, number, number];
  const out = floatTensor([batch, channels, 2 * height, 2 * width]);
  for (let i = 0; i < out.data.length; i++) {
    const [plane, y, x] = [
      Math.floor(i / (4 * height * width)),
      Math.floor(i / (2 * width)) % (2 * height),
      i % (2 * width),
    ];
    out.data[i] = 3 * data[(plane * height + (y >> 1)) * width + (x >> 1)]! - 1;
  }
  return out;
}

const sizes = fc.record({
  length: fc.integer({ min: 1, max: 40 }),
  tile: fc.integer({ min: 2, max: 30 }),
  part: fc.double({ min: 0, max: 0.5, noNaN: true }),
});

describe("tiles", () => {
  it("cover everything, overlap enough, and count for one in all at every place", () => {
    const property = fc.property(sizes, fc.integer({ min: 1, max: 4 }), ({ length, tile, part }, factor) => {
      const overlap = Math.floor(part * tile);
      const axis = tileAxis(length, tile, overlap);
      const total = new Float64Array(length * factor);
      for (const [i, weights] of tileWeights(axis, factor).entries()) {
        const start = axis.starts[i]!;
        if (i > 0) expect(axis.starts[i - 1]! + axis.tile - start).toBeGreaterThanOrEqual(overlap);
        for (const [at, weight] of weights.entries()) {
          expect(weight).toBeGreaterThan(0);
          total[start * factor + at]! += weight;
        }
      }
      for (const sum of total) expect(sum).toBeCloseTo(1, 12);
    });
    fc.assert(property, { numRuns: 100, seed: 6 });
  });

  it("have no seam: a decoder that works on each place alone gives what it gives for the whole", async () => {
    const [height, width] = [13, 21];
    const latent = floatTensor(
      [1, 2, height, width],
      Float32Array.from({ length: 2 * height * width }, (_, i) => Math.sin(i)),
    );
    const whole = await enlarge(latent);
    for (const [tile, overlap] of [
      [{ height: 13, width: 8 }, 2],
      [{ height: 6, width: 7 }, 3],
      [{ height: 5, width: 21 }, 1],
    ] as const) {
      const { shape, data } = await inTiles(latent, tile, overlap, enlarge);
      expect(shape).toEqual(whole.shape);
      for (const [i, value] of data.entries()) expect(value).toBeCloseTo(whole.data[i]!, 5);
    }
  });

  it("go over from one to the next without a step, where they differ", async () => {
    let count = 0;
    const flat = async ({ shape }: FloatTensor) =>
      floatTensor(shape, new Float32Array(shape[2]! * shape[3]!).fill(count++));
    const { data } = await inTiles(floatTensor([1, 1, 1, 20]), { height: 1, width: 12 }, 4, flat);
    expect([data[0], data[19]]).toEqual([0, 1]);
    const steps = [...data].slice(1).map((value, i) => value - data[i]!);
    expect(Math.min(...steps)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...steps)).toBeLessThanOrEqual(1 / 4 + 1e-6);
  });

  it("one that covers all is the very result, and overlaps beyond half are refused", async () => {
    const latent = floatTensor(
      [1, 1, 3, 3],
      Float32Array.from({ length: 9 }, (_, i) => i),
    );
    expect(await inTiles(latent, { height: 9, width: 3 }, 0, enlarge)).toEqual(await enlarge(latent));
    expect(() => tileAxis(20, 8, 5)).toThrow(ArgumentError);
  });
});
