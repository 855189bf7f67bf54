import { describe, expect, it } from "vitest";
import { farFromTraining, pictureSizes, sizeNotes } from "../../src/pipelines/picture-size.ts";
import { nearestSize, resizeAndCrop, trainedSizes } from "../../src/pipelines/resolution-bins.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { fixture } from "../support/golden.ts";

interface Reference {
  chosen: [sampleSize: number, width: number, height: number, wide: number, high: number][];
  resized: { seed: number; from: [number, number]; width: number; height: number; values: number[] }[];
}

// diffusers' PixArtImageProcessor and its pipelines' tables: test/fixtures/resolution-bins.py.
const reference = (await fixture("").json("resolution-bins.json")) as Reference;
const sigma = { pipeline: "PixArtSigmaPipeline", sampleSize: 32, patchSize: 2, factor: 8 };

describe("resolution bins", () => {
  it(`are those of diffusers, for ${reference.chosen.length} sizes`, () => {
    for (const [sampleSize, width, height, wide, high] of reference.chosen) {
      const size = nearestSize(trainedSizes("PixArtSigmaPipeline", sampleSize)!, { width, height });
      expect([sampleSize, width, height, size.width, size.height]).toEqual([sampleSize, width, height, wide, high]);
    }
  });

  // diffusers' pipelines of Stable Diffusion have no bins.
  it.each([
    ["StableDiffusionPipeline", 64, 768, 512],
    ["StableDiffusionXLPipeline", 128, 832, 1216],
    ["StableDiffusion3Pipeline", 128, 1344, 768],
  ])("are not %s's, which draws what is asked for", (pipeline, sampleSize, width, height) => {
    const sizes = pictureSizes({ pipeline, sampleSize, patchSize: 1, factor: 8 }, 1, { width, height });
    expect(sizes.drawn).toEqual({ width, height });
  });

  it.each(reference.resized)("resizes and crops $from to $height x $width as PyTorch does", (expected) => {
    const picture = new TorchGenerator(expected.seed).randn([2, 3, ...expected.from]);
    const made = resizeAndCrop(picture, expected);
    expect(made.shape).toEqual([2, 3, expected.height, expected.width]);
    for (const [i, value] of expected.values.entries()) expect(made.data[i]).toBeCloseTo(value, 5);
  });

  it.each([
    [
      { width: 300, height: 200 },
      { width: 304, height: 208 },
    ],
    [
      { width: 512, height: 512 },
      { width: 256, height: 256 },
    ],
    [
      { width: 400, height: 240 },
      { width: 320, height: 192 },
    ],
    [{}, { width: 256, height: 256 }],
  ])("%j is drawn at %j", (asked, drawn) => {
    const sizes = pictureSizes(sigma, 1, asked);
    expect(sizes.drawn).toEqual(drawn);
    expect(sizes.latent).toEqual({ width: drawn.width / 8, height: drawn.height / 8 });
    expect(sizes).toMatchObject({ width: 256, height: 256, ...asked });
  });

  it("can be switched off, and are for models that have them", () => {
    const asked = { width: 512, height: 512, useResolutionBinning: false };
    expect(pictureSizes(sigma, 1, asked).drawn).toEqual({ width: 512, height: 512 });
    expect(() => pictureSizes(sigma, 1, { width: 300, useResolutionBinning: false })).toThrow("multiple of 16 pixels");
    const embedded = { ...sigma, sampleSize: 8 };
    expect(pictureSizes(embedded, 1, {}).drawn).toEqual({ width: 64, height: 64 });
    expect(() => pictureSizes(embedded, 1, { useResolutionBinning: true })).toThrow("of sample_size 8");
    // PixArt-alpha has no model of 2048 pixels, and its pipeline no sizes for one.
    expect(trainedSizes("PixArtAlphaPipeline", 256)).toBeNull();
    // diffusers' pipelines of Stable Diffusion draw at the size that is asked for, at every sample_size.
    for (const pipeline of ["StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"]) {
      const own = { pipeline, sampleSize: 64, patchSize: 1, factor: 8 };
      expect(pictureSizes(own, 1, { width: 512, height: 768 }).drawn).toEqual({ width: 512, height: 768 });
    }
  });

  it("are said where they are not what was asked for, as are sizes far from training", () => {
    const notes = (asked: object) => sizeNotes(pictureSizes(sigma, 1, asked));
    expect(notes({})).toEqual([]);
    expect(notes({ width: 300, height: 200 })).toEqual([]);
    expect(notes({ width: 512, height: 512 })[0]).toContain("Drawn at 256 x 256 pixels");
    expect(notes({ width: 512, height: 512, useResolutionBinning: false })[0]).toContain("512 x 512 pixels are far");
    const trained = { width: 64, height: 64 };
    expect(farFromTraining(trained, trained)).toEqual([]);
    expect(farFromTraining({ width: 40, height: 40 }, trained)).toHaveLength(1);
    expect(farFromTraining({ width: 20, height: 200 }, trained)).toHaveLength(1);
  });
});
