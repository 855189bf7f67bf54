import { readFile } from "node:fs/promises";
import path from "node:path";
import { ArgumentError } from "../src/errors.ts";
import type { Caption } from "./captions.ts";
import type { ColourName } from "./colour.ts";
import type { Random } from "./random.ts";

/** Width and height of the training pictures. */
export const imageSize = 64;
const pixels = imageSize * imageSize;
/** Width and height of the sources, and of what the large decoder makes. */
export const largeSize = 256;

/** One emoji as captions.json has it; its number in that list is its number in images.u8. */
export interface EmojiEntry {
  hexcode: string;
  emoji: string;
  label: string;
  group: string;
  subgroup: string;
  /** When it comes into training: 1 faces, animals, plants and food, 2 people, places and things, 3 symbols. */
  rung: 1 | 2 | 3;
  colour?: ColourName;
  captions: Caption[];
}

export interface EmojiData {
  count: number;
  /** count x 64 x 64 x 3, sRGB on white. */
  images: Uint8Array;
  entries: EmojiEntry[];
}

/** Reads what prepare-data.ts wrote; `rung` leaves out what comes later in training than that. */
export async function loadEmojiData(folder: string, { rung = 3 }: { rung?: number } = {}): Promise<EmojiData> {
  const all = JSON.parse(await readFile(path.join(folder, "captions.json"), "utf8")) as EmojiEntry[];
  const images = new Uint8Array(await readFile(path.join(folder, "images.u8")));
  if (images.length !== all.length * pixels * 3) {
    throw new ArgumentError(
      `${folder}: images.u8 has ${images.length} bytes, but the ${all.length} entries of captions.json need ` +
        `${all.length * pixels * 3}. Run training/prepare-data.ts again.`,
    );
  }
  if (rung >= 3) return { count: all.length, images, entries: all };
  const kept = all.flatMap((entry, i) => (entry.rung <= rung ? [i] : []));
  const some = new Uint8Array(kept.length * pixels * 3);
  for (const [to, from] of kept.entries()) {
    some.set(images.subarray(from * pixels * 3, (from + 1) * pixels * 3), to * pixels * 3);
  }
  return { count: kept.length, images: some, entries: kept.map((i) => all[i]!) };
}

/**
 * The same pictures in their full size, as prepare-data.ts wrote them: count x 256 x 256 x 3, sRGB on white. Throws
 * ArgumentError for a file of another length.
 */
export async function loadLargeImages(folder: string, count: number): Promise<Uint8Array> {
  const file = path.join(folder, "images-256.u8");
  const images = new Uint8Array(await readFile(file));
  const needed = count * largeSize * largeSize * 3;
  if (images.length === needed) return images;
  throw new ArgumentError(
    `${file} has ${images.length} bytes, but ${count} pictures need ${needed}. Run training/prepare-data.ts again.`,
  );
}

/**
 * Every sixteenth emoji is never shown to the large decoder: 86 of 1,383. The autoencoder that makes the latents, the
 * transformer and the judge have seen them.
 */
export const isHeldOutPicture = (index: number): boolean => index % 16 === 15;

/** One of the emoji's captions, by their weights. */
export function drawCaption({ captions }: Pick<EmojiEntry, "captions">, random: Random): string {
  let left = random() * captions.reduce((sum, { weight }) => sum + weight, 0);
  for (const { text, weight } of captions) {
    left -= weight;
    if (left < 0) return text;
  }
  return captions.at(-1)?.text ?? "";
}

/**
 * What is done to a picture before the autoencoder sees it. Moves are by whole pixels, so that edges stay as sharp as
 * those it has to reproduce (a resampled picture would teach it blur). Colour changes leave white white, because every
 * real picture stands on pure white.
 */
export interface Augmentation {
  flip: boolean;
  /** Quarter turns. */
  turns: number;
  /** Pixels to the right and down; what comes in is white. */
  shiftX: number;
  shiftY: number;
  /** Radians around the grey axis. */
  hue: number;
  /** 0 grey, 1 as it is. */
  saturation: number;
  /** Multiplies the distance from white: below 1 paler, above 1 darker. */
  ink: number;
}

export interface AugmentationRange {
  flip: boolean;
  turns: boolean;
  /** Largest shift in pixels. */
  shift: number;
  /** Largest hue rotation in radians; small ones are likelier, so that most pictures keep about their own palette. */
  hue: number;
  /** Saturation is in [1 - saturation, 1 + saturation]; ink likewise. */
  saturation: number;
  ink: number;
}

/** For the autoencoder, which must code any colour anywhere. A text-to-image model needs none of the turns or hues. */
export const autoencoderRange: AugmentationRange = {
  flip: true,
  turns: true,
  shift: 6,
  hue: Math.PI,
  saturation: 0.25,
  ink: 0.15,
};

export function drawAugmentation(random: Random, range: AugmentationRange = autoencoderRange): Augmentation {
  const between = (reach: number) => (2 * random() - 1) * reach;
  return {
    flip: range.flip && random() < 0.5,
    turns: range.turns ? Math.floor(random() * 4) : 0,
    shiftX: Math.round(between(range.shift)),
    shiftY: Math.round(between(range.shift)),
    hue: between(1) ** 3 * range.hue,
    saturation: 1 + between(range.saturation),
    ink: 1 + between(range.ink),
  };
}

/**
 * Writes picture `index` to `out` (3 x size x size values in [-1, 1]), augmented if `augmentation` is given, whose shifts
 * are in pixels of the picture.
 */
export function writeImage(
  { images, count }: Pick<EmojiData, "images" | "count">,
  index: number,
  out: Float32Array,
  augmentation?: Augmentation,
  size: number = imageSize,
): void {
  const pixels = size * size;
  if (!(index >= 0 && index < count)) throw new ArgumentError(`picture ${index} of ${count}`);
  if (out.length !== 3 * pixels)
    throw new ArgumentError(`a picture is ${3 * pixels} values, the buffer has ${out.length}`);
  const rgb = images.subarray(index * pixels * 3, (index + 1) * pixels * 3);
  if (!augmentation) {
    for (let i = 0; i < pixels; i++) {
      for (let c = 0; c < 3; c++) out[c * pixels + i] = rgb[3 * i + c]! / 127.5 - 1;
    }
    return;
  }
  const m = colourMatrix(augmentation);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const i = y * size + x;
      const from = sourcePixel(x, y, augmentation, size);
      // Distances from white, so that white is the fixed point of every linear colour change
      const r = from < 0 ? 0 : 1 - rgb[3 * from]! / 255;
      const g = from < 0 ? 0 : 1 - rgb[3 * from + 1]! / 255;
      const b = from < 0 ? 0 : 1 - rgb[3 * from + 2]! / 255;
      for (let c = 0; c < 3; c++) {
        const value = m[3 * c]! * r + m[3 * c + 1]! * g + m[3 * c + 2]! * b;
        out[c * pixels + i] = 1 - 2 * Math.min(1, Math.max(0, value));
      }
    }
  }
}

/** The pixel that comes to (x, y), or -1 for the white outside. */
function sourcePixel(x: number, y: number, { flip, turns, shiftX, shiftY }: Augmentation, size: number): number {
  let u = x - shiftX;
  let v = y - shiftY;
  if (u < 0 || v < 0 || u >= size || v >= size) return -1;
  for (let turn = 0; turn < turns; turn++) [u, v] = [v, size - 1 - u];
  if (flip) u = size - 1 - u;
  return v * size + u;
}

/** Hue rotation about the grey axis, then saturation around the mean, then ink: one 3 x 3 matrix. */
function colourMatrix({ hue, saturation, ink }: Augmentation): Float64Array {
  const cos = Math.cos(hue);
  const sin = Math.sin(hue) / Math.sqrt(3);
  const third = (1 - cos) / 3;
  const matrix = new Float64Array(9);
  for (let row = 0; row < 3; row++) {
    for (let column = 0; column < 3; column++) {
      const side = row === column ? 0 : (column - row + 3) % 3 === 1 ? -sin : sin;
      const rotated = third + (row === column ? cos : 0) + side;
      // Every row of a rotation about grey sums to one, so the mean of the three channels is kept
      matrix[3 * row + column] = ink * (saturation * rotated + (1 - saturation) / 3);
    }
  }
  return matrix;
}
