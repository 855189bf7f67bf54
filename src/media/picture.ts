/** Pictures as pipelines give them: 8 bits a channel, rows from the top. */
import { decode, encode } from "fast-png";
import { isObject, shown, whole } from "../checks.ts";
import { ArgumentError, ShapeError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";

/** A picture of 8 bits a channel. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue of each pixel: width * height * 3 bytes. */
  readonly data: Uint8Array;
}

/** Most pixels of a side of a picture that is read. */
const MOST_SIDE = 65535;

/** Throws ArgumentError for what is no picture. */
export function checkPicture(value: unknown, name = "The picture"): asserts value is Picture {
  if (!isObject(value)) {
    throw new ArgumentError(`${name} must be { width, height, data }, as readPicture gives it, not ${shown(value)}.`);
  }
  const { width, height, data } = value;
  whole(1, MOST_SIDE)(width, `${name}'s width`);
  whole(1, MOST_SIDE)(height, `${name}'s height`);
  const pixels = (width as number) * (height as number);
  if (!ArrayBuffer.isView(data) || !(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    throw new ArgumentError(`${name}'s data must be bytes (Uint8Array), not ${shown(data)}.`);
  }
  if (data.length === 3 * pixels) return;
  const alpha =
    data.length === 4 * pixels ? " It has four bytes a pixel, as ImageData does: leave out every fourth." : "";
  throw new ArgumentError(
    `${name} of ${width} x ${height} has ${data.length} bytes; expected ${3 * pixels}: red, green, blue.${alpha}`,
  );
}

/** Decoded values [batch, 3, height, width], where -1 is black and 1 is white, as one picture a row of the batch. */
export function toPictures({ shape, data }: FloatTensor): Picture[] {
  const [batch, channels, height, width] = shape as [number, number, number, number];
  if (channels !== 3) throw new ShapeError(`a picture has 3 channels, not ${channels}`);
  const area = height * width;
  return Array.from({ length: batch }, (_, i) => {
    const pixels = new Uint8Array(3 * area);
    for (let c = 0; c < 3; c++) {
      const from = (3 * i + c) * area;
      // As diffusers does: clamp(x / 2 + 0.5, 0, 1), then rounded half to even; + 0.5 differs on exact halves only.
      for (let p = 0; p < area; p++) {
        const value = Math.min(1, Math.max(0, data[from + p]! / 2 + 0.5));
        pixels[3 * p + c] = Math.floor(value * 255 + 0.5);
      }
    }
    return { width, height, data: pixels };
  });
}

/** A PNG file; `text` goes into its tEXt chunks (Latin-1 only, so other characters are escaped as in JSON). */
export function encodePng(
  { width, height, data }: Picture,
  text: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const png = encode({ width, height, data, channels: 3, depth: 8, text: mapValues(text, escapeNonLatin) });
  // Never of shared memory, which its type does not say: what takes files (Response, Blob) takes no others.
  return png as Uint8Array<ArrayBuffer>;
}

/** The text chunks of a PNG file. */
export function pngText(png: Uint8Array): Record<string, string> {
  return decode(png).text;
}

const escapeNonLatin = (value: string) =>
  value.replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

const mapValues = (record: Readonly<Record<string, string>>, f: (value: string) => string) =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, f(value)]));

/** Pictures of one size side by side, in rows of `columns`, on white with a margin. */
export function contactSheet(
  pictures: readonly Picture[],
  columns = Math.ceil(Math.sqrt(pictures.length)),
  margin = 4,
): Picture {
  if (pictures.length === 0) throw new ArgumentError("a contact sheet needs at least one picture");
  const { width, height } = pictures[0]!;
  const rows = Math.ceil(pictures.length / columns);
  const sheet = {
    width: columns * (width + margin) + margin,
    height: rows * (height + margin) + margin,
  };
  const data = new Uint8Array(sheet.width * sheet.height * 3).fill(255);
  for (const [i, picture] of pictures.entries()) {
    if (picture.width !== width || picture.height !== height) {
      throw new ShapeError(
        `a contact sheet needs pictures of one size: ${width}x${height} and ${picture.width}x${picture.height}`,
      );
    }
    const left = margin + (i % columns) * (width + margin);
    const top = margin + Math.floor(i / columns) * (height + margin);
    for (let row = 0; row < height; row++) {
      const from = picture.data.subarray(row * width * 3, (row + 1) * width * 3);
      data.set(from, ((top + row) * sheet.width + left) * 3);
    }
  }
  return { ...sheet, data };
}
