import { describe, expect, it } from "vitest";
import { input } from "../../src/graph/value.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import * as vae from "../../src/models/autoencoder-kl.ts";
import { parameterWeights } from "../../src/models/weights.ts";
import { floatTensor } from "../../src/tensor.ts";
import { isHeldOutPicture } from "../../training/data.ts";
import { croppedDecoder, decoderConfig, widen } from "../../training/decoder-model.ts";
import { gradientEnergy, scoreRoundTrip } from "../../training/round-trip.ts";

describe("the large decoder's training", () => {
  it("keeps one emoji in sixteen back", () => {
    const heldOut = Array.from({ length: 1383 }, (_, i) => i).filter(isHeldOutPicture);
    expect(heldOut).toHaveLength(86);
    expect(heldOut.slice(0, 3)).toEqual([15, 31, 47]);
  });

  it("shows every pixel of a picture in one of the four corners", () => {
    const config = vae.parseConfig(decoderConfig(256));
    const { mask, side, corner, decoded } = croppedDecoder(
      config,
      input("latent", [4, 16, 8, 8]),
      parameterWeights().source,
    );
    expect(decoded.shape).toEqual([4, 3, side, side]);
    const shown = new Uint8Array(256 * 256);
    for (let i = 0; i < 4; i++) {
      const [left, top] = corner(i);
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
          if (mask.data[(i * side + y) * side + x] === 1) shown[(top + y) * 256 + left + x] = 1;
        }
      }
    }
    expect(shown.every((value) => value === 1)).toBe(true);
  });

  it("has 64 pixels' coarse levels under the same names and shapes", () => {
    const shapesOf = (size: 64 | 256) =>
      weightShapes(vae.decoder(vae.parseConfig(decoderConfig(size)), { batch: 1, height: 8, width: 8 }));
    const large = shapesOf(256);
    for (const [name, shape] of shapesOf(64)) {
      if (!/conv_(norm_)?out/.test(name)) expect(large.get(name), name).toEqual(shape);
    }
  });

  it("measures sharpness against the real pictures", () => {
    // A ramp of 3 a pixel to the right: 9 for each of 3 channels, 2 rows and 4 differences.
    const ramp = { width: 5, height: 2, data: Uint8Array.from({ length: 30 }, (_, i) => 3 * (Math.floor(i / 3) % 5)) };
    expect(gradientEnergy(ramp)).toBe(9 * 3 * 2 * 4);
    const half = (size: number, low: number, high: number) => ({
      width: size,
      height: size,
      data: Uint8Array.from({ length: 3 * size * size }, (_, i) => (Math.floor(i / 3) % size < size / 2 ? low : high)),
    });
    // Half of the edge's height, so a quarter of its energy; 20 off everywhere: 10 log10(255^2 / 20^2).
    const scores = scoreRoundTrip([half(16, 80, 120)], [half(16, 60, 140)]);
    expect(scores.sharpness).toBeCloseTo(0.25, 10);
    expect(scores.psnr).toBeCloseTo(22.1102, 3);
    expect(scores.ssim).toBeLessThan(1);
  });
});

describe("widening", () => {
  const random = (shape: number[]) =>
    floatTensor(
      shape,
      Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(12.9898 * i + shape.length)),
    );

  it("gives old channels the same results, whatever the new ones hold", () => {
    // 8 groups of 2 become 8 of 3: channel c of the old is channel 3 floor(c / 2) + c % 2 of the new.
    const place = (c: number) => 3 * Math.floor(c / 2) + (c % 2);
    const old = random([16, 16]);
    const flat = new Float32Array(24 * 24).fill(7);
    widen(old, [24, 24], flat);
    const x = random([24]).data;
    for (let row = 0; row < 16; row++) {
      let before = 0;
      let after = 0;
      for (let c = 0; c < 16; c++) before += old.data[row * 16 + c]! * x[place(c)]!;
      for (let c = 0; c < 24; c++) after += flat[place(row) * 24 + c]! * x[c]!;
      expect(after).toBeCloseTo(before, 5);
    }
    // New rows keep what they were drawn with.
    expect([...flat.subarray(2 * 24, 3 * 24)]).toEqual(new Array(24).fill(7));
  });

  it("copies tensors of the same size", () => {
    const old = random([16, 24, 3, 3]);
    const flat = new Float32Array(old.data.length);
    widen(old, old.shape, flat);
    expect(flat).toEqual(old.data);
  });
});
