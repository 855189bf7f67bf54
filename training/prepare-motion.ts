/**
 * Animated Fluent emoji -> training/data/motion.u8 and motion.json: of every emoji that has a still with captions and an
 * animated file, 16 frames. `npm run motion` in training/ after `npm run data`. Same input, same output.
 */
import { open, readdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { frameCount, framesInTime, matchAnimations, movement } from "./animations.ts";
import type { EmojiEntry } from "./data.ts";
import type { MotionEntry } from "./motion-data.ts";
import { readFrames } from "./picture.ts";

sharp.cache(false);
const require = createRequire(import.meta.url);
const target = fileURLToPath(new URL("./data/", import.meta.url));
const stills = JSON.parse(await readFile(path.join(target, "captions.json"), "utf8")) as EmojiEntry[];
const files: string[] = [];
for (const part of [1, 2, 3, 4]) {
  const name = `@lobehub/fluent-emoji-anim-${part}`;
  const folder = path.join(path.dirname(require.resolve(`${name}/package.json`)), "assets");
  for (const file of await readdir(folder)) if (file.endsWith(".webp")) files.push(path.join(folder, file));
}
const { matched, unmatched } = matchAnimations(stills, files);

/** Mean difference from the mean picture, in levels of 255, below which nobody sees that anything moves. */
const stillness = 0.5;

const out = await open(path.join(target, "motion.u8"), "w");
const entries: MotionEntry[] = [];
const [single, motionless]: [string[], string[]] = [[], []];
for (const { entry, still, file } of matched) {
  const frames = await readFrames(file, (durations) => framesInTime(durations));
  if (!frames) {
    single.push(entry.label);
    continue;
  }
  const video = new Uint8Array(Buffer.concat(frames));
  const moved = movement(video);
  if (moved < stillness) {
    motionless.push(entry.label);
    continue;
  }
  await out.write(video);
  entries.push({ hexcode: entry.hexcode, label: entry.label, still, movement: +moved.toFixed(2) });
}
await out.close();
await writeFile(
  path.join(target, "motion.json"),
  `[\n${entries.map((entry) => JSON.stringify(entry)).join(",\n")}\n]\n`,
);

const tally = (numbers: readonly number[]) => {
  const counts = new Map<string, number>();
  for (const i of numbers) counts.set(stills[i]!.group, (counts.get(stills[i]!.group) ?? 0) + 1);
  return counts;
};
const of = tally([...stills.keys()]);
console.log(`${entries.length} of ${stills.length} emoji with ${frameCount} frames, by group:`);
for (const [group, count] of tally(entries.map(({ still }) => still)))
  console.log(`  ${count} of ${of.get(group)} ${group}`);
const moves = entries.map((entry) => entry.movement).sort((a, b) => a - b);
const quantile = (q: number) => moves[Math.floor(q * (moves.length - 1))];
console.log(`movement: ${[0, 0.25, 0.5, 0.75, 1].map(quantile).join(", ")} (levels of 255; least, quartiles, most)`);
console.log(`${single.length} have one frame only, ${unmatched.length} no file, ${motionless.length} do not move:`);
console.log(`  ${motionless.join(", ")}`);
