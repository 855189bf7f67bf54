/** How near decoded pictures are to the real ones, and how sharp. */

import type { Picture } from "../src/media/picture.ts";
import { finitePsnr, ssim } from "../src/metrics/similarity.ts";

export interface RoundTripScores {
  /** Means over the pictures. */
  psnr: number;
  ssim: number;
  /** Gradient energy over that of the real pictures: below 1 blurred, above 1 too sharp or noisy. */
  sharpness: number;
}

export function scoreRoundTrip(made: readonly Picture[], real: readonly Picture[]): RoundTripScores {
  const mean = (of: (a: Picture, b: Picture) => number) =>
    made.reduce((sum, picture, i) => sum + of(picture, real[i]!), 0) / made.length;
  const energy = (pictures: readonly Picture[]) => pictures.reduce((sum, picture) => sum + gradientEnergy(picture), 0);
  return { psnr: mean(finitePsnr), ssim: mean(ssim), sharpness: energy(made) / energy(real) };
}

/** Sum of squared differences of neighbouring pixels, over rows, columns and channels. */
export function gradientEnergy({ width, height, data }: Picture): number {
  let energy = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        const at = 3 * (y * width + x) + c;
        if (x + 1 < width) energy += (data[at + 3]! - data[at]!) ** 2;
        if (y + 1 < height) energy += (data[at + 3 * width]! - data[at]!) ** 2;
      }
    }
  }
  return energy;
}
