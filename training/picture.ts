/** Reading the data packages' pictures. Uses sharp, which only training/node_modules has. */
import sharp from "sharp";
import { imageSize, largeSize } from "./data.ts";

export interface EmojiPicture {
  /** 64 x 64 x 3, and the same in the source's 256 x 256. */
  rgb: Uint8Array;
  large: Uint8Array;
  /** 64 x 64. */
  alpha: Uint8Array;
}

const square = { fit: "contain", kernel: "lanczos3", fastShrinkOnLoad: false } as const;

/**
 * One picture on white, in both sizes, and the alpha of the small one. Compositing is at full size, then Lanczos at exactly a quarter, both on sRGB
 * values: that is what a browser does with an emoji, and averaging linear light instead thins the dark lines (mouths,
 * eyes, outlines) that a 64-pixel face is recognised by. A few files are 256x264; they are fitted into the square.
 * `page` is the frame of an animated file.
 */
export async function readEmoji(file: string | Buffer, page = 0): Promise<EmojiPicture> {
  const clear = { r: 255, g: 255, b: 255, alpha: 0 };
  const fitted = await sharp(file, { page })
    .ensureAlpha()
    .resize(largeSize, largeSize, { ...square, background: clear })
    .raw()
    .toBuffer();
  return { ...(await reduced(fitted)), large: await onWhite(fitted).raw().toBuffer() };
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

const fullSize = (rgba: Buffer) => sharp(rgba, { raw: { width: largeSize, height: largeSize, channels: 4 } });
const onWhite = (rgba: Buffer) => fullSize(rgba).flatten({ background: "#ffffff" });

async function reduced(rgba: Buffer): Promise<Omit<EmojiPicture, "large">> {
  const rgb = await onWhite(rgba).resize(imageSize, imageSize, square).raw().toBuffer();
  const alpha = await fullSize(rgba).extractChannel(3).resize(imageSize, imageSize, square).raw().toBuffer();
  return { rgb, alpha };
}
