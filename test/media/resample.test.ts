import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import type { Picture } from "../../src/media/picture.ts";
import { type Resampling, resample, resizeWithAntialiasing } from "../../src/media/resample.ts";
import { floatTensor } from "../../src/tensor.ts";
import { fixture } from "../support/golden.ts";

const [width, height] = [22, 13];
const picture: Picture = {
  width,
  height,
  data: Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * i * 7 + i * 31) % 256),
};
/** By Pillow, and by PyTorch as diffusers' pipeline calls it: make.py in the same folder. */
const cases = JSON.parse(await readFile(`${fixture("resample").path}/expected.json`, "utf8")) as {
  method: Resampling | "antialiasing";
  width: number;
  height: number;
  data: number[];
}[];
const of = (antialiasing: boolean) => cases.filter(({ method }) => (method === "antialiasing") === antialiasing);

describe("a picture in another size", () => {
  it.each(of(false))("$method $width x $height is Pillow's, bit for bit", (expected) => {
    const resized = resample(picture, expected.width, expected.height, expected.method as Resampling);
    expect(resized).toMatchObject({ width: expected.width, height: expected.height });
    expect([...resized.data]).toEqual(expected.data);
  });

  it.each(of(true))("$width x $height with antialiasing is Stable Video Diffusion's", (expected) => {
    const planes = Float32Array.from({ length: picture.data.length }, (_, i) => {
      const [channel, place] = [Math.floor(i / (width * height)), i % (width * height)];
      return picture.data[3 * place + channel]! / 127.5 - 1;
    });
    const image = floatTensor([1, 3, height, width], planes);
    const resized = resizeWithAntialiasing(image, expected.height, expected.width);
    expect(resized.shape).toEqual([1, 3, expected.height, expected.width]);
    for (const [i, value] of expected.data.entries()) expect(resized.data[i]).toBeCloseTo(value, 5);
  });

  it("cannot be of nothing, nor blurred over more than it has", () => {
    expect(() => resample(picture, 0, 5, "lanczos")).toThrow(ArgumentError);
    expect(() => resizeWithAntialiasing(floatTensor([1, 1, 1, 9]), 1, 1)).toThrow(ArgumentError);
  });
});
