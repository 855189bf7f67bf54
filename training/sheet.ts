/**
 * The README's contact sheet: fixed prompts and seeds, whatever comes out.
 * `npx tsx training/sheet.ts [--model checkpoints/fluent-emoji] [--out docs/contact-sheet.png]`
 */
import { writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { contactSheet, encodePng } from "../src/pipelines/picture.ts";
import { TextToImagePipeline } from "../src/pipelines/text-to-image.ts";

/** Four of each group of the data, chosen before the model was trained. */
export const sheetPrompts = [
  ...["a smiling face", "a crying face", "a smiling cat with heart eyes", "an angry face"],
  ...["a panda", "a dog", "a fox", "a penguin"],
  ...["a red apple", "a slice of pizza", "a birthday cake", "a banana"],
  ...["a sunflower", "a cactus", "a tree", "a mushroom"],
  ...["a rocket", "a red car", "a house", "a mountain"],
  ...["a soccer ball", "a trophy", "a guitar", "a wrapped gift"],
  ...["a light bulb", "a key", "a book", "a camera"],
  ...["a red heart", "a star", "a check mark", "a man"],
];

const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: "checkpoints/fluent-emoji" },
    out: { type: "string", default: "docs/contact-sheet.png" },
    steps: { type: "string", default: "20" },
    guidance: { type: "string", default: "4.5" },
    seed: { type: "string", default: "0" },
  },
});
const pipe = await TextToImagePipeline.fromPretrained(options.model, { spin: false });
const images = [];
for (const prompt of sheetPrompts) {
  const { images: made } = await pipe(prompt, {
    steps: Number(options.steps),
    guidanceScale: Number(options.guidance),
    seed: Number(options.seed),
  });
  images.push(made[0]!);
}
await writeFile(options.out, encodePng(contactSheet(images, 8)));
