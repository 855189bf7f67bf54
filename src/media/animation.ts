/** Moving pictures as pipelines give them, and the formats that they can be written in. */
import { ArgumentError, ShapeError } from "../errors.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import { type Picture, toPictures } from "./picture.ts";

/** Frames and how fast they go. */
export interface Animation<Frame extends Picture = Picture> {
  /** All of one size. */
  readonly frames: readonly Frame[];
  /** Frames a second. */
  readonly fps: number;
}

/** Decoded values [batch, 3, frames, height, width], where -1 is black and 1 is white, as the frames of each video. */
export function toFrames({ shape, data }: FloatTensor): Picture[][] {
  const [batch, channels, frames, height, width] = shape as [number, number, number, number, number];
  if (shape.length !== 5)
    throw new ShapeError(`videos are [batch, 3, frames, height, width], not [${shape.join(", ")}]`);
  const area = height * width;
  const each = channels * frames * area;
  return Array.from({ length: batch }, (_, video) => {
    const pictures = new Float32Array(each);
    for (let c = 0; c < channels; c++) {
      for (let f = 0; f < frames; f++) {
        const from = video * each + (c * frames + f) * area;
        pictures.set(data.subarray(from, from + area), (f * channels + c) * area);
      }
    }
    return toPictures(floatTensor([frames, channels, height, width], pictures));
  });
}

/** "frames" is a folder of numbered PNG files. */
export type AnimationFormat = "gif" | "webp" | "mp4" | "frames";

/** GIF's longest pause is 655 seconds. */
const LEAST_FPS = 0.01;

/** GIF counts hundredths of a second, and browsers take a pause of fewer than two of them for ten. */
const GIF_FPS = 50;

/** Bytes that start a part of a GIF file. */
const [EXTENSION, COMMENT, APPLICATION] = [0x21, 0xfe, 0xff];

/** What a name asks for: .gif, .webp, .mp4, or a folder if it ends in "/" or has no ending. Throws ArgumentError for others. */
export function animationFormat(out: string): AnimationFormat {
  const name = out.split(/[\\/]/).at(-1)!;
  const ending = /\.(\w+)$/.exec(name)?.[1]?.toLowerCase();
  if (ending === undefined) return "frames";
  if (ending === "gif" || ending === "webp" || ending === "mp4") return ending;
  throw new ArgumentError(
    `${out}: an animation's name ends in .gif, .webp or .mp4, or in / for a folder of PNG files; not in .${ending}.`,
  );
}

/** Throws ArgumentError for frames that cannot be an animation of this format. */
export function checkAnimation({ frames, fps }: Animation, format: AnimationFormat): void {
  const [first] = frames;
  if (!first) throw new ArgumentError("An animation needs at least one frame.");
  const odd = frames.find(({ width, height }) => width !== first.width || height !== first.height);
  if (odd) {
    throw new ArgumentError(
      `The frames of an animation have one size; these are ${first.width}x${first.height} and ${odd.width}x${odd.height}.`,
    );
  }
  checkRate(fps, format);
  const side = sides[format];
  if (Math.max(first.width, first.height) <= side) return;
  throw new ArgumentError(
    `${format} has at most ${side} pixels a side; these frames have ${first.width}x${first.height}.`,
  );
}

/** Longest side. H.264 has no such number of its own; this is its highest level's. */
const sides = { gif: 65_535, webp: 16_383, mp4: 16_384, frames: 2 ** 31 - 1 } as const;

/** Throws ArgumentError for frames a second that a format does not have. */
export function checkRate(fps: number, format: AnimationFormat): void {
  const most = format === "gif" ? GIF_FPS : 1000;
  if (Number.isFinite(fps) && fps >= LEAST_FPS && fps <= most) return;
  throw new ArgumentError(
    `the frames a second must be a number from ${LEAST_FPS} to ${most} for ${format}, not ${fps}.`,
  );
}

/**
 * How long each frame stays, in milliseconds that are multiples of `unit`; rounding errors do not add up, so 16 frames at 8
 * a second last two seconds also where a frame can only last 120 or 130 ms.
 */
export function frameDelays(frames: number, fps: number, unit = 1): number[] {
  const end = (frame: number) => Math.round((frame * 1000) / fps / unit) * unit;
  return Array.from({ length: frames }, (_, i) => end(i + 1) - end(i));
}

/**
 * A GIF file with a comment, which the format has for every text about the picture, before its first frame. In ASCII: other
 * characters are escaped as in JSON, since readers do not agree on what the bytes mean. Throws ArgumentError if it is no GIF.
 */
export function withGifComment(gif: Uint8Array, comment: string): Uint8Array {
  if (!/^GIF8[79]a$/.test(String.fromCharCode(...gif.subarray(0, 6))))
    throw new ArgumentError("These bytes are no GIF.");
  const flags = gif[10]!;
  // Header and screen take 13 bytes; then come the colours of all frames, if there are any.
  let at = 13 + (flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  // That it repeats is an application's extension, which has to be the first.
  while (gif[at] === EXTENSION && gif[at + 1] === APPLICATION) {
    at += 2;
    while (gif[at]! > 0) at += 1 + gif[at]!;
    at += 1;
  }
  const text = new TextEncoder().encode(asciiOnly(comment));
  const block = [EXTENSION, COMMENT];
  for (let from = 0; from < text.length; from += 255) {
    const part = text.subarray(from, from + 255);
    block.push(part.length, ...part);
  }
  block.push(0);
  const out = new Uint8Array(gif.length + block.length);
  out.set(gif.subarray(0, at));
  out.set(block, at);
  out.set(gif.subarray(at), at + block.length);
  return out;
}

/** Characters outside printable ASCII as JSON escapes them. */
export function asciiOnly(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
