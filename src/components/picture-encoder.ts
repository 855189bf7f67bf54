/** Images and masks as an autoencoder and a denoiser see them, prepared as diffusers' VaeImageProcessor does it. */
import { ArgumentError } from "../errors.ts";
import { checkPicture, type Picture } from "../media/picture.ts";
import { resample } from "../media/resample.ts";
import { type AutoencoderConfig, latentFactor } from "../models/autoencoder.ts";
import { checkFinite } from "../sampling/sampler.ts";
import { inTiles } from "../streamlined/tiles.ts";
import { type FloatTensor, floatOf, floatTensor } from "../tensor.ts";
import type { Component } from "./components.ts";

/** Tiles of a latent, which overlap. */
export interface TileSize {
  readonly height: number;
  readonly width: number;
  readonly overlap: number;
}

/** 8-bit pixels, row by row, to [1, 3, height, width] in [-1, 1], at this size. */
export function pictureValues(picture: Picture, width: number, height: number): FloatTensor {
  const { data } = resample(picture, width, height, "lanczos");
  const area = width * height;
  const values = floatTensor([1, 3, height, width]);
  for (let i = 0; i < values.data.length; i++) {
    values.data[i] = 2 * Math.fround(data[3 * (i % area) + Math.floor(i / area)]! / 255) - 1;
  }
  return values;
}

/** [1, 1, height, width]: 1 where the mask is white, or nearer to white than to black, else 0. */
export function maskValues(mask: Picture, width: number, height: number): FloatTensor {
  const { data } = resample(mask, width, height, "lanczos");
  const values = floatTensor([1, 1, height, width]);
  for (let i = 0; i < values.data.length; i++) {
    // Pillow's grey: ITU-R 601-2 luma in whole 65536ths.
    const [red, green, blue] = [data[3 * i]!, data[3 * i + 1]!, data[3 * i + 2]!];
    const grey = Math.floor((19595 * red + 38470 * green + 7471 * blue + 32768) / 65536);
    values.data[i] = grey / 255 >= 0.5 ? 1 : 0;
  }
  return values;
}

/** Every `factor`-th value of each side, as PyTorch's nearest interpolation takes them. */
export function smallerMask({ shape, data }: FloatTensor, factor: number): FloatTensor {
  const [, , height, width] = shape as [number, number, number, number];
  const [high, wide] = [height / factor, width / factor];
  const values = floatTensor([1, 1, high, wide]);
  for (let i = 0; i < values.data.length; i++) {
    values.data[i] = data[factor * Math.floor(i / wide) * width + factor * (i % wide)]!;
  }
  return values;
}

/** The image with what may change in grey. */
export function masked({ shape, data }: FloatTensor, mask: FloatTensor): FloatTensor {
  const area = mask.data.length;
  return floatTensor(
    shape,
    data.map((value, i) => (mask.data[i % area]! < 0.5 ? value : 0)),
  );
}

/** Throws ArgumentError for what is no image, and for a mask without one or of another size. */
export function checkPictures(image: Picture | undefined, mask: Picture | undefined): void {
  if (image !== undefined) checkPicture(image, "image");
  if (mask === undefined) return;
  checkPicture(mask, "mask");
  if (image === undefined) throw new ArgumentError("mask goes with an image; it says which part of it may change.");
  if (mask.width === image.width && mask.height === image.height) return;
  throw new ArgumentError(
    `The mask has ${mask.width} x ${mask.height} pixels and the image ${image.width} x ${image.height}; they must be of one size.`,
  );
}

/** What an autoencoder says of images: the mean of their latents and its deviation; null for one that gives the latents themselves. */
export interface EncodedPicture {
  /** [batch, channels, height, width], not scaled. */
  readonly mean: FloatTensor;
  readonly std: FloatTensor | null;
}

/** The encoder of an autoencoder, which is looked at when an image comes first: most calls begin at noise. */
export class PictureEncoder {
  readonly #open: () => Component<AutoencoderConfig>;
  #component: Component<AutoencoderConfig> | null = null;

  constructor(open: () => Component<AutoencoderConfig>) {
    this.#open = open;
  }

  /** The network. */
  component(): Component<AutoencoderConfig> {
    this.#component ??= this.#open();
    return this.#component;
  }

  /** Images [batch, 3, height, width] in [-1, 1] as latents. In `tile`s of the latent, where there is no memory for all of an image. */
  async encode(image: FloatTensor, tile?: TileSize): Promise<EncodedPicture> {
    const encoder = this.component();
    const run = async (part: FloatTensor): Promise<EncodedPicture> => {
      const [batch, , height, width] = part.shape as [number, number, number, number];
      const session = await encoder.session({ batch, height, width });
      const outputs = await session.run({ image: part });
      const sampled = Object.hasOwn(outputs, "std");
      return { mean: floatOf(outputs, sampled ? "mean" : "latents"), std: sampled ? floatOf(outputs, "std") : null };
    };
    const { mean, std } = tile ? await encodeInTiles(image, tile, latentFactor(encoder.config), run) : await run(image);
    checkFinite(mean, "the autoencoder's code of the image");
    return { mean, std };
  }

  async release(): Promise<void> {
    await this.#component?.release();
  }
}

/** Mean and deviation of one image, if there is one, which are blended together, as channels. */
async function encodeInTiles(
  image: FloatTensor,
  tile: TileSize,
  factor: number,
  run: (part: FloatTensor) => Promise<EncodedPicture>,
): Promise<EncodedPicture> {
  let sampled = true;
  const code = async (part: FloatTensor) => {
    const { mean, std } = await run(part);
    sampled = std !== null;
    if (!std) return mean;
    const [, channels, height, width] = mean.shape as [number, number, number, number];
    const both = floatTensor([1, 2 * channels, height, width]);
    both.data.set(mean.data);
    both.data.set(std.data, mean.data.length);
    return both;
  };
  const blended = await inTiles(image, tile, tile.overlap, code, factor);
  if (!sampled) return { mean: blended, std: null };
  const { shape, data } = blended;
  const [, channels, height, width] = shape as [number, number, number, number];
  const [half, middle] = [[1, channels / 2, height, width], data.length / 2];
  return { mean: floatTensor(half, data.slice(0, middle)), std: floatTensor(half, data.slice(middle)) };
}
