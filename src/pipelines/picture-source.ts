/** The image that a call begins at, and its mask: what of them is encoded, and in which order noise is drawn. */
import {
  checkPictures,
  type EncodedPicture,
  masked,
  maskValues,
  pictureValues,
  smallerMask,
} from "../components/picture-encoder.ts";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { drawnLatents, type PictureLatents } from "../sampling/from-picture.ts";
import { repeatRow } from "../sampling/guidance.ts";
import type { FloatTensor } from "../tensor.ts";
import { checkLatents, isLatents, latentsFor } from "./given-latents.ts";
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
  /** The encoder. */
  readonly encode: (image: FloatTensor) => Promise<EncodedPicture>;
  readonly scalingFactor: number;
  /** Is taken from latents before they are scaled: of pipelines that use the autoencoder's shift_factor. */
  readonly shift?: number;
}

/** How a call begins at an image. */
export interface PictureSettings {
  readonly strength: number;
  /** Where the run goes on that made the image's latents: nothing is added to them. Counts instead of `strength`. */
  readonly denoisingStart?: number | undefined;
  /** Whether the denoiser sees the mask and the masked image. */
  readonly seen: boolean;
  /** How many times smaller a latent is than its image. */
  readonly factor: number;
  /** Of pictures; 1 unless given. */
  readonly count?: number;
}

/** The image that a call begins with, and its mask. */
export class PictureSource {
  /** Or latents of an image, a row for each picture. */
  readonly #values: PictureValues | FloatTensor;
  readonly #settings: PictureSettings;

  constructor(values: PictureValues | FloatTensor, settings: PictureSettings) {
    this.#values = values;
    this.#settings = settings;
  }

  /**
   * As diffusers' image-to-image and inpainting pipelines draw: the image's latent where it counts, noise where it is added, the
   * masked image's. Nothing is drawn for latents that are given, and those of an autoencoder that gives them without deviation.
   */
  async encode(encoding: Encoding): Promise<{ noise: FloatTensor; picture: PictureLatents }> {
    const { draw, encode, scalingFactor, shift } = encoding;
    const { strength, denoisingStart, seen, factor, count = 1 } = this.#settings;
    const values = this.#values;
    const { image, mask } = "image" in values ? values : {};
    const latentsOf = ({ mean, std }: EncodedPicture) =>
      drawnLatents(mean, std && { std, noise: draw() }, { factor: scalingFactor, shift });
    const counts = !mask || !seen || strength < 1;
    const encoded = image && counts ? await encode(image) : null;
    const one = "image" in values ? encoded && latentsOf(encoded) : values;
    if (one && denoisingStart !== undefined) {
      const latents = forRows(one, count);
      // They have their noise; no other is used.
      return { noise: latents, picture: { latents, strength, denoisingStart } };
    }
    const noise = draw();
    const rows = noise.shape[0]!;
    const latents = one && forRows(one, rows);
    if (!image || !mask) return { noise, picture: { latents, strength } };
    const small = smallerMask(mask, factor);
    // Drawn though a denoiser of four channels does not see it: the noise of later steps comes after it.
    if (!seen) {
      if (encoded?.std) draw();
      return { noise, picture: { latents, strength, mask: small } };
    }
    const maskedLatents = forRows(latentsOf(await encode(masked(image, mask))), rows);
    return { noise, picture: { latents, strength, mask: small, maskedLatents } };
  }
}

/** Latents of one image for each row of a batch, if it has none of its own. */
const forRows = (latents: FloatTensor, count: number) =>
  latents.shape[0] === 1 ? repeatRow(latents, 0, count) : latents;

/** An image and its mask at the size that is drawn; null for a call that begins at noise. Throws ArgumentError for an image or mask that cannot be, or that this model needs. */
export function pictureInputs(
  className: string,
  { inChannels, latentChannels, usual, refines }: TextToImageFamily,
  factor: number,
  options: PictureInputs,
): ((size: PictureSize, count: number) => PictureSource) | null {
  const { image, mask, denoisingStart } = options;
  if (image && isLatents(image)) {
    checkLatents(image, "image");
    if (mask) throw new ArgumentError("mask goes with an image of pixels; latents cannot be masked.");
  } else checkPictures(image, mask);
  const seen = inChannels !== latentChannels;
  if (seen && !mask) {
    throw new ArgumentError(
      `This ${className} was trained for inpainting: it needs an image and a mask (image, mask).`,
    );
  }
  if (refines && !image) {
    throw new ArgumentError(`This ${className} refines images (requires_aesthetics_score): it needs one (image).`);
  }
  checkSettings(options);
  if (!image) return null;
  const { strength = mask ? usual.maskedStrength : usual.strength } = options;
  return (size, count) => {
    const settings = { strength, denoisingStart, seen, factor, count };
    if (isLatents(image)) {
      return new PictureSource(latentsFor(image, { channels: latentChannels, count, size, factor }), settings);
    }
    const { width, height } = size;
    const values = {
      image: pictureValues(image, width, height),
      ...(mask && { mask: maskValues(mask, width, height) }),
    };
    return new PictureSource(values, settings);
  };
}

interface PictureInputs {
  image?: Picture | FloatTensor;
  mask?: Picture;
  strength?: number;
  denoisingStart?: number;
  denoisingEnd?: number;
}

/** Throws ArgumentError for settings of an image without one, and such as do not go together. */
function checkSettings({ image, mask, strength, denoisingStart: start, denoisingEnd: end }: PictureInputs): void {
  if (!image && strength !== undefined) {
    throw new ArgumentError("strength goes with an image: it says how much of it may change.");
  }
  if (start === undefined) return;
  if (!image) {
    throw new ArgumentError(
      'denoisingStart goes with an image: the latents of a run that ended there (denoisingEnd, outputType: "latent").',
    );
  }
  if (mask) throw new ArgumentError("denoisingStart and a mask do not go together.");
  if (strength !== undefined) {
    throw new ArgumentError("strength and denoisingStart both say where a run begins; give one of them.");
  }
  if (end === undefined || start < end) return;
  throw new ArgumentError(`denoisingStart ${start} must be below denoisingEnd ${end}.`);
}

/** The size at which an image is drawn anew, in multiples of `unit`; as in diffusers it is scaled down to that. */
export function sizeOfImage({ width, height }: PictureSize, unit: number): PictureSize {
  const multiple = (pixels: number) => Math.max(unit, pixels - (pixels % unit));
  return { width: multiple(width), height: multiple(height) };
}
