/**
 * What the video model draws: one moving picture of some fixed prompts, and a strip of frames for a few of them.
 * `npx tsx training/motion-sheet.ts [--model checkpoints/fluent-emoji-motion] [--out docs/motion-strip.webp]`
 */
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { writeAnimation } from "../src/media/animation-node.ts";
import { contactSheet, type Picture } from "../src/media/picture.ts";
import { TextToVideoPipeline } from "../src/pipelines/text-to-video.ts";
import { frameCount } from "./animations.ts";
import { writeWebp } from "./write-webp.ts";

/** Chosen before the model was trained: faces, hearts, animals, people, things; the last two have no animation in the data. */
export const motionPrompts = [
  ...["a beating heart", "a grinning face", "a face blowing a kiss", "an angry face"],
  ...["a rabbit face", "an octopus", "a penguin", "a dog face"],
  ...["a person running", "a waving hand", "a person dancing", "clapping hands"],
  ...["a party popper", "a rocket", "fire", "a birthday cake"],
  ...["a red apple", "a guitar"],
];

const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: "checkpoints/fluent-emoji-motion" },
    out: { type: "string", default: "docs/motion-strip.webp" },
    /** The moving picture; six prompts in a row. */
    animation: { type: "string", default: "docs/motion-sheet.gif" },
    steps: { type: "string", default: "25" },
    guidance: { type: "string" },
    seed: { type: "string", default: "0" },
  },
});
const pipe = await TextToVideoPipeline.fromPretrained(options.model, { spin: false });
const videos: (readonly Picture[])[] = [];
for (const prompt of motionPrompts) {
  const { videos: made } = await pipe(prompt, {
    steps: Number(options.steps),
    ...(options.guidance ? { guidanceScale: Number(options.guidance) } : {}),
    seed: Number(options.seed),
    frames: frameCount,
  });
  videos.push(made[0]!.frames);
}
const inStrip = ["a beating heart", "a person running", "a person dancing", "fire"];
const strips = inStrip.map((prompt) => videos[motionPrompts.indexOf(prompt)]!);
await writeWebp(options.out, contactSheet(strips.flat(), frameCount));
const frames = videos[0]!.map((_, i) =>
  contactSheet(
    videos.map((video) => video[i]!),
    6,
  ),
);
await writeAnimation(options.animation, { frames, fps: 8 });
// Pixels that hardly change stay as they are from frame to frame: a quarter of the file.
const smaller = await sharp(options.animation, { animated: true }).gif({ interFrameMaxError: 8 }).toBuffer();
await writeFile(options.animation, smaller);
