/** Pictures from files and to files. */
import { open } from "node:fs/promises";
import type { Sharp } from "sharp";
import { ArgumentError } from "../errors.ts";
import { asciiOnly } from "./animation.ts";
import { decodeBmp, isBmp } from "./bmp.ts";
import { encodePng, type Picture } from "./picture.ts";
import { loadSharp } from "./sharp-node.ts";

/** More than cameras make, and 300 MB as bytes. */
const MOST_PIXELS = 100_000_000;
const MOST_BYTES = 512 * 2 ** 20;

/**
 * A picture from a file (PNG, JPEG, WebP, GIF, AVIF, TIFF, BMP), upright as its camera says; transparency becomes white. The
 * values are those that diffusers gets from Pillow: colour profiles are not applied, and of CMYK each channel is (255 - c) *
 * (255 - k) / 255. Throws ArgumentError for a file that is not there, is no picture, or has more than 100 million pixels,
 * ToolError where sharp's binary is missing.
 */
export async function readPicture(path: string): Promise<Picture> {
  const sharp = await loadSharp("Reading a picture");
  const options = { limitInputPixels: MOST_PIXELS, ignoreIcc: true };
  try {
    const bytes = await readLimited(path);
    if (isBmp(bytes)) {
      const { width, height, rgba } = decodeBmp(bytes, MOST_PIXELS);
      return await toRgb(sharp(rgba, { ...options, raw: { width, height, channels: 4 } }));
    }
    const image = sharp(bytes, options);
    const { space, width, height, pages = 1, pageHeight = height } = await image.metadata();
    if (width * (pages > 1 ? pageHeight : height) > MOST_PIXELS) {
      throw new ArgumentError(`it has ${width}x${height} pixels; at most ${MOST_PIXELS} are read`);
    }
    return await (space === "cmyk" ? fromCmyk(image.autoOrient()) : toRgb(image.autoOrient()));
  } catch (cause) {
    throw new ArgumentError(`${path}: cannot be read as a picture: ${(cause as Error).message}`, { cause });
  }
}

/** The file's bytes: its name is opened here, since libvips reads options at the end of a name ("a.png[page=1]"). */
async function readLimited(path: string): Promise<Buffer> {
  const file = await open(path);
  try {
    const stats = await file.stat();
    if (!stats.isFile()) throw new ArgumentError("it is no ordinary file");
    const { size } = stats;
    if (size > MOST_BYTES) throw new ArgumentError(`it has ${size} bytes; at most ${MOST_BYTES} are read`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}

async function toRgb(image: Sharp): Promise<Picture> {
  const upright = image.flatten({ background: "#ffffff" }).toColourspace("srgb");
  const { data, info } = await upright.raw().toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const rgb = channels === 1 ? Uint8Array.from({ length: 3 * data.length }, (_, i) => data[Math.floor(i / 3)]!) : data;
  return { width, height, data: Uint8Array.from(rgb) };
}

async function fromCmyk(image: Sharp): Promise<Picture> {
  const inks = image.pipelineColourspace("cmyk").toColourspace("cmyk").raw();
  const { data, info } = await inks.toBuffer({ resolveWithObject: true });
  const { width, height, channels } = info;
  const rgb = new Uint8Array(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const white = 255 - data[channels * i + 3]!;
    for (let c = 0; c < 3; c++) rgb[3 * i + c] = white - Math.round((data[channels * i + c]! * white) / 255);
  }
  return { width, height, data: rgb };
}

/** Longest side, and how it is said; PNG's is beyond what fits in memory. */
const formats = {
  png: { name: "PNG", most: 2 ** 31 - 1 },
  jpeg: { name: "JPEG", most: 65_535 },
  webp: { name: "WebP", most: 16_383 },
} as const;
export type PictureFormat = keyof typeof formats;

const endings = new Map<string, PictureFormat>([
  ["png", "png"],
  ["jpg", "jpeg"],
  ["jpeg", "jpeg"],
  ["webp", "webp"],
]);

/** What a name asks for. Throws ArgumentError for endings that are none of .png, .jpg, .jpeg and .webp. */
export function pictureFormat(path: string): PictureFormat {
  const ending = /\.(\w+)$/.exec(path.split(/[\\/]/).at(-1)!)?.[1]?.toLowerCase() ?? "";
  const format = endings.get(ending);
  if (format) return format;
  throw new ArgumentError(
    `${path}: a picture's name must end in .png, .jpg or .webp${ending ? `, not in .${ending}` : ""}.`,
  );
}

/** Whether a format has room for this size. */
export function fitsFormat(format: PictureFormat, { width, height }: Pick<Picture, "width" | "height">): boolean {
  return Math.max(width, height) <= formats[format].most;
}

/**
 * A picture as a file. `text` goes where the format has a place for it: PNG's tEXt chunks, the image description of EXIF in
 * JPEG and WebP, as JSON in ASCII. Throws ArgumentError where a side is longer than the format has, ToolError without sharp.
 */
export async function encodePicture(
  picture: Picture,
  format: PictureFormat,
  text: Readonly<Record<string, string>> = {},
): Promise<Uint8Array> {
  const { width, height, data } = picture;
  const { name, most } = formats[format];
  if (!fitsFormat(format, picture)) {
    throw new ArgumentError(`${name} has at most ${most} pixels a side; this picture has ${width}x${height}.`);
  }
  if (format === "png") return encodePng(picture, text);
  const sharp = await loadSharp(`Writing ${name}`, "PNG needs nothing.");
  const image = sharp(data, { raw: { width, height, channels: 3 }, limitInputPixels: false });
  if (Object.keys(text).length > 0)
    image.withExif({ IFD0: { ImageDescription: describedIn(text, MOST_EXIF, inAscii) } });
  const encoded = format === "jpeg" ? image.jpeg({ quality: 95, chromaSubsampling: "4:4:4" }) : image.webp(webp);
  return encoded.toBuffer();
}

const webp = { quality: 95, smartSubsample: true };

/** A JPEG's EXIF has less than 64 kB in all. */
const MOST_EXIF = 60_000;

/** Texts as JSON of at most `most` characters: the longest of them are cut, and "..." says so. */
export function describedIn(text: Readonly<Record<string, string>>, most: number, encode = JSON.stringify): string {
  const cut = (value: string, limit: number) => (value.length > limit ? `${value.slice(0, limit)}...` : value);
  const written = (limit: number) => encode(mapValues(text, (value) => cut(value, limit)));
  let limit = most;
  while (written(limit).length > most && limit > 16) limit = Math.floor(limit / 2);
  return written(limit);
}

/** In ASCII, since readers of EXIF do not agree on what other bytes mean. */
const inAscii = (text: unknown) => asciiOnly(JSON.stringify(text));

const mapValues = (record: Readonly<Record<string, string>>, f: (value: string) => string) =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, f(value)]));

/** Throws ToolError now rather than after the work where a format cannot be written on this system. */
export async function checkEncoder(format: PictureFormat): Promise<void> {
  if (format !== "png") await loadSharp(`Writing ${formats[format].name}`, "PNG needs nothing.");
}
