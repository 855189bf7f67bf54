/** Reading the data packages' pictures. Uses sharp, which only training/node_modules has. */
import sharp from "sharp";
import { imageSize } from "./data.ts";

const square = { fit: "contain", kernel: "lanczos3", fastShrinkOnLoad: false } as const;

/**
 * One picture on white, and its alpha. Compositing is at full size, then Lanczos at exactly a quarter, both on sRGB
 * values: that is what a browser does with an emoji, and averaging linear light instead thins the dark lines (mouths,
 * eyes, outlines) that a 64-pixel face is recognised by. A few files are 256x264; they are fitted into the square.
 * `page` is the frame of an animated file.
 */
export async function readEmoji(file: string | Buffer, page = 0): Promise<{ rgb: Uint8Array; alpha: Uint8Array }> {
  const clear = { r: 255, g: 255, b: 255, alpha: 0 };
  const fitted = await sharp(file, { page })
    .ensureAlpha()
    .resize(256, 256, { ...square, background: clear })
    .raw()
    .toBuffer();
  return reduced(fitted);
}

/** The same of some frames of an animated file, which is decoded once; and how long each of its frames lasts. */
export async function readFrames(
  file: string,
  choose: (durations: readonly number[]) => readonly number[],
): Promise<Uint8Array[] | null> {
  const { pages = 1, width, pageHeight, delay } = await sharp(file, { pages: -1 }).metadata();
  if (pages < 2) return null;
  if (width !== 256 || pageHeight !== 256) throw new Error(`${file}: frames of ${width}x${pageHeight}, not 256x256`);
  const all = await sharp(file, { pages: -1 }).ensureAlpha().raw().toBuffer();
  const size = 256 * 256 * 4;
  const frames: Uint8Array[] = [];
  for (const frame of choose(delay!)) {
    frames.push((await reduced(all.subarray(frame * size, (frame + 1) * size))).rgb);
  }
  return frames;
}

async function reduced(rgba: Buffer): Promise<{ rgb: Uint8Array; alpha: Uint8Array }> {
  const raw = () => sharp(rgba, { raw: { width: 256, height: 256, channels: 4 } });
  const rgb = await raw().flatten({ background: "#ffffff" }).resize(imageSize, imageSize, square).raw().toBuffer();
  const alpha = await raw().extractChannel(3).resize(imageSize, imageSize, square).raw().toBuffer();
  return { rgb, alpha };
}
