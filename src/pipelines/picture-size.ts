/** Which size a picture is drawn at, and what a user should know about it. */
import { ArgumentError } from "../errors.ts";
import { nearestSize, type PictureSize, trainedSizes } from "./resolution-bins.ts";
import { checkPixels, checkSide } from "./settings.ts";

export interface Sizes extends PictureSize {
  /** What is drawn, before it is fitted to the size that was asked for. */
  readonly drawn: PictureSize;
  readonly latent: PictureSize;
  /** Of a square picture, which the model was made for. */
  readonly side: number;
}

export interface SizesOf {
  readonly pipeline: string;
  /** Of the latent. */
  readonly sampleSize: number;
  readonly patchSize: number;
  /** How many times the latent is smaller than the picture. */
  readonly factor: number;
}

/**
 * With resolution binning, which models with trained sizes have unless it is switched off, the trained size with the nearest aspect
 * ratio is drawn. Throws ArgumentError for a size that cannot be.
 */
export function pictureSizes(
  { pipeline, sampleSize, patchSize, factor }: SizesOf,
  pictures: number,
  options: { width?: number; height?: number; useResolutionBinning?: boolean },
): Sizes {
  const side = sampleSize * factor;
  const { width = side, height = side } = options;
  checkPixels(pictures, width, height);
  const table = trainedSizes(pipeline, sampleSize);
  const { useResolutionBinning: binned = table !== null } = options;
  if (binned && !table) {
    throw new ArgumentError(
      `useResolutionBinning: there are no trained sizes for a ${pipeline} of sample_size ${sampleSize}, only for PixArt of 32, 64, 128, ` +
        "and with PixArt-sigma 256.",
    );
  }
  const drawn = binned ? nearestSize(table!, { width, height }) : { width, height };
  for (const [name, pixels] of Object.entries(drawn)) checkSide(name, pixels, factor * patchSize);
  checkPixels(pictures, drawn.width, drawn.height);
  return { width, height, drawn, latent: { width: drawn.width / factor, height: drawn.height / factor }, side };
}

export function sizeNotes({ width, height, drawn, side }: Sizes): string[] {
  if (drawn.width === width && drawn.height === height)
    return farFromTraining({ width, height }, { width: side, height: side });
  if (Math.max(width / drawn.width, height / drawn.height) < 1.5) return [];
  return [
    `Drawn at ${drawn.width} x ${drawn.height} pixels, which this model was trained on, and enlarged to ${width} x ${height}. ` +
      "Without resolution binning it is drawn at that size itself.",
  ];
}

/**
 * A warning for less than half or more than twice as many pixels as the model was trained on, or more than four times as long as wide: no
 * published model was trained on such. Empty for others.
 */
export function farFromTraining({ width, height }: PictureSize, trained: PictureSize): string[] {
  const share = (width * height) / (trained.width * trained.height);
  const long = Math.max(width / height, height / width);
  if (share >= 0.5 && share <= 2 && long <= 4) return [];
  return [
    `${width} x ${height} pixels are far from the ${trained.width} x ${trained.height} that this model was trained on; expect repeated ` +
      "or missing parts.",
  ];
}
