/** Which animated file belongs to which still, and which of its frames to take. Pure: no files are read here. */
import { ArgumentError } from "../src/errors.ts";
import { codePointKey } from "./emoji.ts";

/** Frames of a training video. */
export const frameCount = 16;

/**
 * `count` moments, evenly spread over one turn of an animation that repeats: at each, the frame that is on the screen. The
 * last is one step before the first comes again. `durations` are the frames' in any unit; nothing is blended.
 */
export function framesInTime(durations: readonly number[], count = frameCount): number[] {
  const total = durations.reduce((sum, duration) => sum + duration, 0);
  if (!(total > 0)) throw new ArgumentError(`an animation of ${durations.length} frames that last ${total} in all`);
  const taken: number[] = [];
  let frame = 0;
  let end = durations[0]!;
  for (let i = 0; i < count; i++) {
    while ((i * total) / count >= end && frame + 1 < durations.length) {
      frame++;
      end += durations[frame]!;
    }
    taken.push(frame);
  }
  return taken;
}

export interface Match<Entry> {
  entry: Entry;
  /** Number of the entry in its list, which is that of its still. */
  still: number;
  file: string;
}

/** The stills that have a file among `files` (paths whose names are code points: "a/1f600.webp"), in the stills' order. */
export function matchAnimations<Entry extends { hexcode: string }>(
  entries: readonly Entry[],
  files: readonly string[],
): { matched: Match<Entry>[]; unmatched: Entry[] } {
  const fileOf = new Map(files.map((file) => [codePointKey(/([^/]+)\.\w+$/.exec(file)?.[1] ?? file), file]));
  const matched: Match<Entry>[] = [];
  const unmatched: Entry[] = [];
  for (const [still, entry] of entries.entries()) {
    const file = fileOf.get(codePointKey(entry.hexcode));
    if (file === undefined) unmatched.push(entry);
    else matched.push({ entry, still, file });
  }
  return { matched, unmatched };
}

/** How much a video moves: the mean difference of its frames from their mean picture, in levels of 255. */
export function movement(frames: Uint8Array, count = frameCount): number {
  const size = frames.length / count;
  let sum = 0;
  for (let i = 0; i < size; i++) {
    let mean = 0;
    for (let f = 0; f < count; f++) mean += frames[f * size + i]! / count;
    for (let f = 0; f < count; f++) sum += Math.abs(frames[f * size + i]! - mean);
  }
  return sum / frames.length;
}
