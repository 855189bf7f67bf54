/** Latents of an image that a call begins at, instead of pixels. */
import { isObject, shown } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { repeatRow } from "../sampling/guidance.ts";
import { type FloatTensor, sizeOf } from "../tensor.ts";
import type { PictureSize } from "./resolution-bins.ts";

/** Whether it is meant as latents rather than as an image. */
export const isLatents = (value: unknown): value is FloatTensor => isObject(value) && "shape" in value;

/** Throws ArgumentError for what is no tensor [images, channels, height, width] of float32. */
export function checkLatents(value: unknown, name: string): asserts value is FloatTensor {
  const { dtype, shape, data } = value as Partial<FloatTensor>;
  const sides =
    Array.isArray(shape) && shape.length === 4 && shape.every((side) => Number.isInteger(side) && side >= 1);
  if (!sides || dtype !== "float32" || !(data instanceof Float32Array)) {
    throw new ArgumentError(
      `${name} must be an image, or latents [images, channels, height, width] of float32, not ${shown(value)} whose shape is ${sides ? `[${shape.join(", ")}]` : shown(shape)}.`,
    );
  }
  if (data.length === sizeOf(shape)) return;
  throw new ArgumentError(
    `${name} has ${data.length} values; latents of shape [${shape.join(", ")}] have ${sizeOf(shape)}.`,
  );
}

/** Size in pixels of what latents are of. */
export const sizeOfLatents = ({ shape }: FloatTensor, factor: number): PictureSize => ({
  width: shape[3]! * factor,
  height: shape[2]! * factor,
});

/**
 * Latents as a denoiser with `channels` reads them, one row for each of `count` pictures of this size. Throws ArgumentError for
 * others.
 */
export function latentsFor(
  latents: FloatTensor,
  { channels, count, size, factor }: { channels: number; count: number; size: PictureSize; factor: number },
): FloatTensor {
  const [rows, own] = latents.shape as [number, number];
  if (own !== channels) {
    throw new ArgumentError(`image are latents of ${own} channels; this model's have ${channels}.`);
  }
  const { width, height } = sizeOfLatents(latents, factor);
  if (width !== size.width || height !== size.height) {
    throw new ArgumentError(
      `image are latents of ${width} x ${height} pixels, which cannot be resized to ${size.width} x ${size.height}.`,
    );
  }
  if (rows === count) return latents;
  if (rows === 1) return repeatRow(latents, 0, count);
  throw new ArgumentError(
    `image are latents of ${rows} images; the call makes ${count}. Give one for all, or one for each.`,
  );
}

/** The image of a call as pixels; undefined if it has none, or latents. */
export const pixelsOf = (image: Picture | FloatTensor | undefined): Picture | undefined =>
  image === undefined || isLatents(image) ? undefined : image;
