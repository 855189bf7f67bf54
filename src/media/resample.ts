/** Pictures in other sizes, number for number as the libraries do it that pipelines were published with. */
import { ArgumentError } from "../errors.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import type { Picture } from "./picture.ts";

/** Weight of a pixel by its distance from the place that is asked for, in pixels of the smaller of the two pictures. */
interface Kernel {
  readonly support: number;
  weight(distance: number): number;
}

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/** Cubic convolution (Keys 1981, equation 4): Pillow has a = -0.5, PyTorch -0.75. */
function cubic(x: number, a: number): number {
  const distance = Math.abs(x);
  if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance ** 2 + 1;
  return distance < 2 ? a * (((distance - 5) * distance + 8) * distance - 4) : 0;
}

const kernels = {
  bicubic: { support: 2, weight: (x) => cubic(x, -0.5) },
  lanczos: { support: 3, weight: (x) => (Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0) },
} as const satisfies Record<string, Kernel>;
export type Resampling = keyof typeof kernels;

/**
 * A picture in another size as `Image.resize` of Pillow 13 gives it, to the last bit: the kernel is as wide as a pixel of the
 * smaller picture, first along the rows, then along the columns, rounded to 8 bits after each; or the other way round where many
 * more rows than columns go. Throws ArgumentError for a size of nothing.
 */
export function resample(picture: Picture, width: number, height: number, method: Resampling): Picture {
  if (!(width >= 1 && height >= 1)) throw new ArgumentError(`A picture of ${width} x ${height} pixels cannot be.`);
  const kernel = kernels[method];
  const along = (data: Uint8Array, lines: number) => pass(data, [lines, picture.width, 3], width, kernel);
  const down = (data: Uint8Array, wide: number) => pass(data, [1, picture.height, 3 * wide], height, kernel);
  const [lostRows, lostColumns] = [picture.height - height, picture.width - width];
  const columnsFirst = lostRows > 0 && lostRows > 2 * lostColumns;
  const data = columnsFirst
    ? along(down(picture.data, picture.width), height)
    : down(along(picture.data, picture.height), width);
  return { width, height, data };
}

/** Pillow's weights are whole multiples of this. */
const UNIT = 2 ** 22;

/** The middle axis of [lines, from, values], in another length. */
function pass(data: Uint8Array, shape: readonly [number, number, number], to: number, kernel: Kernel): Uint8Array {
  const [lines, from, values] = shape;
  if (from === to) return data;
  const out = new Uint8Array(lines * to * values);
  const scale = from / to;
  const wide = Math.max(scale, 1);
  for (let place = 0; place < to; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - kernel.support * wide + 0.5));
    const end = Math.min(from, Math.floor(centre + kernel.support * wide + 0.5));
    const weights = Float64Array.from({ length: end - first }, (_, i) =>
      kernel.weight((i + first - centre + 0.5) / wide),
    );
    const total = weights.reduce((a, b) => a + b, 0);
    const steps = weights.map((weight) => roundAway((weight / total) * UNIT));
    for (let line = 0; line < lines; line++) {
      for (let value = 0; value < values; value++) {
        let sum = UNIT / 2;
        for (let i = 0; i < steps.length; i++) sum += steps[i]! * data[(line * from + first + i) * values + value]!;
        out[(line * to + place) * values + value] = Math.min(255, Math.max(0, Math.floor(sum / UNIT)));
      }
    }
  }
  return out;
}

const roundAway = (x: number) => Math.trunc(x < 0 ? x - 0.5 : x + 0.5);

/**
 * Channels [1, channels, height, width] in another size as Stable Video Diffusion's pipeline brings its picture to CLIP's:
 * a Gaussian blur by how much smaller it becomes, then cubic interpolation at places that share the corners.
 */
export function resizeWithAntialiasing(image: FloatTensor, height: number, width: number): FloatTensor {
  const terms = (from: number, to: number) => {
    const places = cornersShared(from, to);
    const blurred = blur(from, from / to);
    // Of a blurred line only what is asked for.
    return (place: number) =>
      places(place).flatMap(([at, weight]) => blurred(at).map(([place, own]): Term => [place, weight * own]));
  };
  return resize(image, height, width, terms);
}

/** Channels [n, channels, height, width] in another size as PyTorch's bilinear `interpolate` gives it, without antialiasing. */
export function resizeBilinear(image: FloatTensor, height: number, width: number): FloatTensor {
  return resize(image, height, width, (from, to) => (place) => {
    const at = Math.max(0, ((place + 0.5) * from) / to - 0.5);
    const before = Math.floor(at);
    return [
      [before, 1 - (at - before)],
      [Math.min(from - 1, before + 1), at - before],
    ];
  });
}

/** A place of a line, and its share in a sum. */
type Term = readonly [place: number, weight: number];
type Terms = (place: number) => readonly Term[];

/** Along rows, then along columns: `terms` says what each place of a line is the sum of. */
function resize(
  image: FloatTensor,
  height: number,
  width: number,
  terms: (from: number, to: number) => Terms,
): FloatTensor {
  const [batch, channels, fromHeight, fromWidth] = image.shape as [number, number, number, number];
  const planes = batch * channels;
  const across = filter(image.data, [planes * fromHeight, fromWidth, 1], width, terms(fromWidth, width));
  const down = filter(across, [planes, fromHeight, width], height, terms(fromHeight, height));
  return floatTensor([batch, channels, height, width], down);
}

/** A Gaussian blur of a line, mirrored at its ends; `factor` is how many times smaller the line will be. */
function blur(length: number, factor: number): Terms {
  const deviation = Math.max((factor - 1) / 2, 0.001);
  const radius = Math.floor(Math.trunc(Math.max(4 * deviation, 3)) / 2);
  if (radius >= length) {
    throw new ArgumentError(
      `A picture of ${length} pixels on a side is too small to be blurred over ${2 * radius + 1}.`,
    );
  }
  const weights = Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-((i - radius) ** 2) / (2 * deviation ** 2)),
  );
  const total = weights.reduce((a, b) => a + b, 0);
  const mirrored = (place: number) => (place < 0 ? -place : place < length ? place : 2 * (length - 1) - place);
  return (place) => weights.map((weight, i) => [mirrored(place + i - radius), weight / total]);
}

/** PyTorch's bicubic interpolation with `align_corners=True`. */
function cornersShared(length: number, to: number): Terms {
  return (place) => {
    const at = to > 1 ? (place * (length - 1)) / (to - 1) : 0;
    const before = Math.floor(at);
    return [-1, 0, 1, 2].map((i) => [Math.min(length - 1, Math.max(0, before + i)), cubic(at - before - i, -0.75)]);
  };
}

/** The middle axis of [lines, length, values], each place of the result the sum that `terms` says. */
function filter(
  data: Float32Array,
  [lines, length, values]: readonly [number, number, number],
  to: number,
  terms: Terms,
): Float32Array {
  const out = new Float32Array(lines * to * values);
  const sums = new Float64Array(values);
  for (let place = 0; place < to; place++) {
    const found = terms(place);
    const places = Int32Array.from(found, ([from]) => from);
    const weights = Float64Array.from(found, ([, weight]) => weight);
    for (let line = 0; line < lines; line++) {
      sums.fill(0);
      for (let i = 0; i < places.length; i++) {
        const start = (line * length + places[i]!) * values;
        const weight = weights[i]!;
        for (let value = 0; value < values; value++) sums[value] = sums[value]! + weight * data[start + value]!;
      }
      out.set(sums, (line * to + place) * values);
    }
  }
  return out;
}
