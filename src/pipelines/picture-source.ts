/** The image that a call begins at, and its mask: what of them is encoded, and in which order noise is drawn. */
import { checkPictures, masked, maskValues, pictureValues, smallerMask } from "../components/picture-encoder.ts";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { drawnLatents, type PictureLatents } from "../sampling/from-picture.ts";
import type { FloatTensor } from "../tensor.ts";
import type { PictureSize } from "./resolution-bins.ts";
import type { TextToImageFamily } from "./text-to-image-family.ts";

/** An image [1, 3, height, width] in [-1, 1], and where it may change, [1, 1, height, width] of 1 and 0. */
export interface PictureValues {
  readonly image: FloatTensor;
  readonly mask?: FloatTensor;
}

/** How an image becomes latents. */
export interface Encoding {
  /** Standard normal values of a latent. */
  readonly draw: () => FloatTensor;
  /** The encoder: mean and standard deviation of the latent. */
  readonly encode: (image: FloatTensor) => Promise<{ mean: FloatTensor; std: FloatTensor }>;
  readonly scalingFactor: number;
  /** Is taken from latents before they are scaled: of pipelines that use the autoencoder's shift_factor. */
  readonly shift?: number;
}

/** The image that a call begins with, and its mask. */
export class PictureSource {
  readonly #values: PictureValues;
  readonly #strength: number;
  /** Whether the denoiser sees the mask and the masked image. */
  readonly #seen: boolean;
  readonly #factor: number;

  /** `factor`: how many times smaller a latent is than its image. */
  constructor(values: PictureValues, settings: { strength: number; seen: boolean; factor: number }) {
    this.#values = values;
    this.#strength = settings.strength;
    this.#seen = settings.seen;
    this.#factor = settings.factor;
  }

  /** As diffusers' image-to-image and inpainting pipelines draw: the image's latent where it counts, noise, the masked image's. */
  async encode({
    draw,
    encode,
    scalingFactor,
    shift,
  }: Encoding): Promise<{ noise: FloatTensor; picture: PictureLatents }> {
    const { image, mask } = this.#values;
    const strength = this.#strength;
    const latentsOf = async (of: FloatTensor) => {
      const { mean, std } = await encode(of);
      return drawnLatents(mean, std, draw(), { factor: scalingFactor, shift });
    };
    const counts = !mask || !this.#seen || strength < 1;
    const latents = counts ? await latentsOf(image) : null;
    const noise = draw();
    if (!mask) return { noise, picture: { latents, strength } };
    const small = smallerMask(mask, this.#factor);
    // Drawn though a denoiser of four channels does not see it: the noise of later steps comes after it.
    if (!this.#seen) {
      draw();
      return { noise, picture: { latents, strength, mask: small } };
    }
    return { noise, picture: { latents, strength, mask: small, maskedLatents: await latentsOf(masked(image, mask)) } };
  }
}

/** An image and its mask at the size that is drawn; null for a call that begins at noise. Throws ArgumentError for an image or mask that cannot be, or that this model needs. */
export function pictureInputs(
  className: string,
  { inChannels, latentChannels, usual }: TextToImageFamily,
  factor: number,
  options: { image?: Picture; mask?: Picture; strength?: number },
): ((size: PictureSize) => PictureSource) | null {
  const { image, mask } = options;
  checkPictures(image, mask);
  const seen = inChannels !== latentChannels;
  if (seen && !mask) {
    throw new ArgumentError(
      `This ${className} was trained for inpainting: it needs an image and a mask (image, mask).`,
    );
  }
  if (!image) {
    if (options.strength === undefined) return null;
    throw new ArgumentError("strength goes with an image: it says how much of it may change.");
  }
  const { strength = mask ? usual.maskedStrength : usual.strength } = options;
  return ({ width, height }) => {
    const values = {
      image: pictureValues(image, width, height),
      ...(mask && { mask: maskValues(mask, width, height) }),
    };
    return new PictureSource(values, { strength, seen, factor });
  };
}

/** The size at which an image is drawn anew, in multiples of `unit`; as in diffusers it is scaled down to that. */
export function sizeOfImage({ width, height }: PictureSize, unit: number): PictureSize {
  const multiple = (pixels: number) => Math.max(unit, pixels - (pixels % unit));
  return { width: multiple(width), height: multiple(height) };
}
