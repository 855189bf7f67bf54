/** How similar two images are, by pixels (PSNR) and by structure (SSIM). */
import { ArgumentError, ShapeError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";

const PEAK = 255;

/** Peak signal-to-noise ratio in decibels over all channels; infinite for equal pictures. */
export function psnr(a: Picture, b: Picture): number {
  sameSize(a, b);
  const squares = a.data.reduce((sum, value, i) => sum + (value - b.data[i]!) ** 2, 0);
  return 10 * Math.log10((PEAK * PEAK * a.data.length) / squares);
}

/** PSNR for means over images, some of which may be equal: at most 60 dB, which is more than 8 bits can show. */
export const finitePsnr = (a: Picture, b: Picture): number => Math.min(60, psnr(a, b));

const RADIUS = 5;
const window = gaussian(1.5);
const C1 = (0.01 * PEAK) ** 2;
const C2 = (0.03 * PEAK) ** 2;

/**
 * Structural similarity (Wang et al. 2004, equation 13): of the luma, in a Gaussian window of 11 x 11 with standard
 * deviation 1.5, averaged over all places where the window lies inside the picture. 1 for equal pictures.
 */
export function ssim(a: Picture, b: Picture): number {
  sameSize(a, b);
  const { width, height } = a;
  if (width <= 2 * RADIUS || height <= 2 * RADIUS) {
    throw new ArgumentError(`SSIM's window is 11 x 11 pixels; the pictures are ${width} x ${height}.`);
  }
  const [x, y] = [luma(a), luma(b)];
  const local = (values: Float64Array) => filter(values, width, height);
  const product = (left: Float64Array, right: Float64Array) => left.map((value, i) => value * right[i]!);
  const [meanX, meanY] = [local(x), local(y)];
  const [squareX, squareY, cross] = [local(product(x, x)), local(product(y, y)), local(product(x, y))];
  let sum = 0;
  for (let i = 0; i < meanX.length; i++) {
    const [mx, my] = [meanX[i]!, meanY[i]!];
    const [varianceX, varianceY] = [squareX[i]! - mx * mx, squareY[i]! - my * my];
    const covariance = cross[i]! - mx * my;
    const likeness = (2 * mx * my + C1) * (2 * covariance + C2);
    sum += likeness / ((mx * mx + my * my + C1) * (varianceX + varianceY + C2));
  }
  return sum / meanX.length;
}

/** ITU-R BT.601. */
function luma({ data }: Picture): Float64Array {
  return Float64Array.from(
    { length: data.length / 3 },
    (_, i) => 0.299 * data[3 * i]! + 0.587 * data[3 * i + 1]! + 0.114 * data[3 * i + 2]!,
  );
}

function gaussian(deviation: number): Float64Array {
  const weights = Float64Array.from({ length: 2 * RADIUS + 1 }, (_, i) =>
    Math.exp(-((i - RADIUS) ** 2) / (2 * deviation ** 2)),
  );
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

/** The window's weighted means at every place where it fits: rows, then columns. */
function filter(values: Float64Array, width: number, height: number): Float64Array {
  const [across, down] = [width - 2 * RADIUS, height - 2 * RADIUS];
  const rows = new Float64Array(across * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < across; x++) {
      let sum = 0;
      for (let d = 0; d < window.length; d++) sum += window[d]! * values[y * width + x + d]!;
      rows[y * across + x] = sum;
    }
  }
  const result = new Float64Array(across * down);
  for (let y = 0; y < down; y++) {
    for (let x = 0; x < across; x++) {
      let sum = 0;
      for (let d = 0; d < window.length; d++) sum += window[d]! * rows[(y + d) * across + x]!;
      result[y * across + x] = sum;
    }
  }
  return result;
}

function sameSize(a: Picture, b: Picture): void {
  if (a.width !== b.width || a.height !== b.height) {
    throw new ShapeError(`pictures of ${a.width} x ${a.height} and ${b.width} x ${b.height} cannot be compared`);
  }
}
