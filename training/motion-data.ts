import { readFile } from "node:fs/promises";
import path from "node:path";
import { ArgumentError } from "../src/errors.ts";
import { frameCount } from "./animations.ts";
import { type EmojiData, imageSize } from "./data.ts";

/** One animated emoji as motion.json has it; its number in that list is its number in motion.u8. */
export interface MotionEntry {
  hexcode: string;
  label: string;
  /** Its number in captions.json, where its captions are. */
  still: number;
  /** How much it moves, in levels of 255. */
  movement: number;
}

export interface MotionData {
  count: number;
  /** count x 16 x 64 x 64 x 3, sRGB on white. */
  frames: Uint8Array;
  entries: MotionEntry[];
}

const videoBytes = frameCount * imageSize * imageSize * 3;

/** Reads what prepare-motion.ts wrote, and checks that it belongs to these stills. */
export async function loadMotionData(folder: string, stills: Pick<EmojiData, "entries">): Promise<MotionData> {
  const entries = JSON.parse(await readFile(path.join(folder, "motion.json"), "utf8")) as MotionEntry[];
  const frames = new Uint8Array(await readFile(path.join(folder, "motion.u8")));
  const again = "Run training/prepare-motion.ts again.";
  if (frames.length !== entries.length * videoBytes) {
    throw new ArgumentError(
      `${folder}: motion.u8 has ${frames.length} bytes, but the ${entries.length} entries of motion.json need ` +
        `${entries.length * videoBytes}. ${again}`,
    );
  }
  const odd = entries.find(({ still, hexcode }) => stills.entries[still]?.hexcode !== hexcode);
  if (odd) throw new ArgumentError(`${folder}: motion.json has ${odd.label} as still ${odd.still}. ${again}`);
  return { count: entries.length, frames, entries };
}

/** All frames as pictures of their own, each with the captions of its emoji. */
export function asPictures({ count, frames, entries }: MotionData, stills: EmojiData): EmojiData {
  const each = entries.flatMap(({ still }) =>
    new Array<EmojiData["entries"][number]>(frameCount).fill(stills.entries[still]!),
  );
  return { count: count * frameCount, images: frames, entries: each };
}
