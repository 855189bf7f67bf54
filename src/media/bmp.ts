/**
 * Windows bitmaps, which libvips does not read and people still have. What is read, and how 5 and 6 bits become 8, is as in
 * Pillow: headers of 12 to 124 bytes; 1, 4, 8, 16, 24 and 32 bits a pixel; runs of equal pixels (RLE4, RLE8); masks.
 */
import { ArgumentError } from "../errors.ts";

export interface Bitmap {
  readonly width: number;
  readonly height: number;
  /** Red, green, blue and opacity of each pixel, rows from the top. */
  readonly rgba: Uint8Array;
}

interface Header {
  readonly width: number;
  readonly height: number;
  readonly fromTop: boolean;
  readonly bits: number;
  readonly compression: number;
  /** Where pixels begin. */
  readonly pixels: number;
  readonly palette: Uint8Array;
  /** Bytes of a colour in the palette. */
  readonly entry: number;
  /** Of red, green, blue and opacity in a pixel of 16 or 32 bits. */
  readonly masks: readonly number[];
}

const [RGB, RLE8, RLE4, MASKS, ALPHA_MASKS] = [0, 1, 2, 3, 6];

export const isBmp = (bytes: Uint8Array): boolean => bytes[0] === 0x42 && bytes[1] === 0x4d;

/** Throws ArgumentError for what is no bitmap, is cut off, or has more than `mostPixels`. */
export function decodeBmp(bytes: Uint8Array, mostPixels: number): Bitmap {
  const header = readHeader(bytes);
  const { width, height, bits, compression } = header;
  if (width * height > mostPixels) {
    throw new ArgumentError(`the bitmap has ${width}x${height} pixels; at most ${mostPixels} are read`);
  }
  const packed = compression === RLE8 || compression === RLE4;
  const stride = packed ? width : Math.ceil((width * bits) / 32) * 4;
  // A run of equal pixels takes two bytes and is at most 255 long.
  const least = packed ? Math.ceil((width * height) / 128) : (height - 1) * stride + Math.ceil((width * bits) / 8);
  if (bytes.length - header.pixels < least) throw new ArgumentError("the bitmap is cut off");
  const rows = packed ? unpacked(bytes, header) : bytes.subarray(header.pixels);
  const rgba = new Uint8Array(4 * width * height);
  const pixel = packed ? indexed(rows, 8, header) : bits <= 8 ? indexed(rows, bits, header) : direct(rows, header);
  for (let y = 0; y < height; y++) {
    const row = (header.fromTop ? y : height - 1 - y) * stride;
    for (let x = 0; x < width; x++) pixel(row, x, rgba, 4 * (y * width + x));
  }
  return { width, height, rgba };
}

function readHeader(bytes: Uint8Array): Header {
  if (!isBmp(bytes) || bytes.length < 26) throw new ArgumentError("these bytes are no bitmap");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = view.getUint32(14, true);
  const old = size === 12;
  if (!(old || (size >= 40 && size <= 124)) || bytes.length < 14 + size) {
    throw new ArgumentError(`a bitmap's header has 12 or 40 to 124 bytes, not ${size}`);
  }
  const width = old ? view.getUint16(18, true) : view.getInt32(18, true);
  const tall = old ? view.getUint16(20, true) : view.getInt32(22, true);
  const bits = view.getUint16(old ? 24 : 28, true);
  const compression = old ? RGB : view.getUint32(30, true);
  if (width < 1 || tall === 0) throw new ArgumentError(`the bitmap has ${width}x${tall} pixels`);
  const known: Record<number, number[]> = { 1: [RGB!], 4: [RGB!, RLE4!], 8: [RGB!, RLE8!], 24: [RGB!] };
  known[16] = known[32] = [RGB!, MASKS!, ALPHA_MASKS!];
  if (!known[bits]?.includes(compression!)) {
    throw new ArgumentError(`bitmaps of ${bits} bits a pixel with compression ${compression} are not read`);
  }
  const masked = compression === MASKS || compression === ALPHA_MASKS;
  // With a header of 40 bytes the masks come after it.
  const masksAfter = masked && size === 40 ? (compression === ALPHA_MASKS ? 16 : 12) : 0;
  const paletteAt = 14 + size + masksAfter;
  const pixels = view.getUint32(10, true);
  if (pixels < paletteAt || pixels > bytes.length) throw new ArgumentError("the bitmap's pixels begin outside of it");
  const hasAlpha = masked && (size >= 56 || compression === ALPHA_MASKS);
  const mask = (i: number) => (masked && 58 + 4 * i <= bytes.length ? view.getUint32(54 + 4 * i, true) : 0);
  const usual = bits === 16 ? [0x7c00, 0x3e0, 0x1f, 0] : [0xff0000, 0xff00, 0xff, 0];
  return {
    ...{ width, height: Math.abs(tall), fromTop: tall < 0, bits, compression: compression!, pixels },
    palette: bytes.subarray(paletteAt, pixels),
    entry: old ? 3 : 4,
    masks: masked ? [mask(0), mask(1), mask(2), hasAlpha ? mask(3) : 0] : usual,
  };
}

/** Writes the pixel at column x of the row that begins at `row`. */
type PutPixel = (row: number, x: number, rgba: Uint8Array, to: number) => void;

function indexed(rows: Uint8Array, bits: number, { palette, entry }: Header): PutPixel {
  const perByte = 8 / bits;
  return (row, x, rgba, to) => {
    const byte = rows[row + Math.floor(x / perByte)]!;
    const at = entry * ((byte >> (8 - bits * (1 + (x % perByte)))) & (2 ** bits - 1));
    for (let c = 0; c < 3; c++) rgba[to + c] = palette[at + 2 - c] ?? 0;
    rgba[to + 3] = 255;
  };
}

function direct(rows: Uint8Array, { bits, masks }: Header): PutPixel {
  const size = bits / 8;
  const parts = masks.map((mask) => {
    const low = mask === 0 ? 0 : 31 - Math.clz32(mask & -mask);
    return { mask, low, most: mask >>> low };
  });
  return (row, x, rgba, to) => {
    let value = 0;
    for (let i = 0; i < size; i++) value |= rows[row + size * x + i]! << (8 * i);
    for (const [c, { mask, low, most }] of parts.entries()) {
      rgba[to + c] = most === 0 ? (c === 3 ? 255 : 0) : Math.floor((((value & mask) >>> low) * 255) / most);
    }
  };
}

/** Runs of equal pixels as rows of one byte a pixel; what a file leaves out is colour 0. */
function unpacked(bytes: Uint8Array, { width, height, pixels, compression }: Header): Uint8Array {
  const rows = new Uint8Array(width * height);
  const nibbles = compression === RLE4;
  let [at, x, y] = [pixels, 0, 0];
  const put = (index: number) => {
    if (x < width && y < height) rows[y * width + x] = index;
    x++;
  };
  const half = (byte: number, i: number) => (nibbles ? (i % 2 === 0 ? byte >> 4 : byte & 15) : byte);
  while (at + 1 < bytes.length && y < height) {
    const [count, value] = [bytes[at]!, bytes[at + 1]!];
    at += 2;
    if (count > 0) for (let i = 0; i < count; i++) put(half(value, i));
    else if (value === 0) [x, y] = [0, y + 1];
    else if (value === 1) break;
    else if (value === 2) {
      [x, y] = [x + (bytes[at] ?? 0), y + (bytes[at + 1] ?? 0)];
      at += 2;
    } else {
      for (let i = 0; i < value; i++) put(half(bytes[at + (nibbles ? i >> 1 : i)] ?? 0, i));
      const length = nibbles ? Math.ceil(value / 2) : value;
      at += length + (length % 2);
    }
  }
  return rows;
}
