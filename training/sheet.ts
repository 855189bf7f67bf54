/**
 * The README's contact sheets, contact-sheet.webp and recombined-sheet.webp: fixed prompts and seeds, whatever comes out.
 * `npx tsx training/sheet.ts [--model checkpoints/fluent-emoji] [--out docs]`
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { contactSheet } from "../src/media/picture.ts";
import { TextToImagePipeline } from "../src/pipelines/text-to-image.ts";
import { writeWebp } from "./write-webp.ts";

/** Six of each group of the data, chosen before the model was trained. */
export const sheetPrompts = [
  ...["a smiling face", "a crying face", "a smiling cat with heart eyes", "an angry face", "a ghost", "a robot"],
  ...["a panda", "a dog", "a fox", "a penguin", "an octopus", "a butterfly"],
  ...["a red apple", "a slice of pizza", "a birthday cake", "a banana", "an ice cream", "a cup of coffee"],
  ...["a sunflower", "a cactus", "a tree", "a mushroom", "a rose", "a palm tree"],
  ...["a rocket", "a red car", "a house", "a mountain", "a sailboat", "a train"],
  ...["a soccer ball", "a trophy", "a guitar", "a wrapped gift", "a balloon", "a crown"],
  ...["a light bulb", "a key", "a book", "a camera", "an umbrella", "a clock"],
  ...["a red heart", "a star", "a check mark", "a man", "a waving hand", "a warning"],
];

/** Known words in combinations that no emoji has; some of the colours are among the recoloured pictures of training. */
export const recombinedPrompts = [
  ...["a blue cat", "an angry strawberry", "a green octopus", "a purple dog", "a pink car", "a red banana"],
  ...["a yellow penguin", "a blue apple", "a green fox", "a crying pumpkin", "a purple rose", "an orange elephant"],
  ...["a blue pizza", "a smiling star", "a pink frog", "a black strawberry"],
];

const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: "checkpoints/fluent-emoji" },
    out: { type: "string", default: "docs" },
    steps: { type: "string", default: "20" },
    seed: { type: "string", default: "0" },
  },
});
const pipe = await TextToImagePipeline.fromPretrained(options.model, { spin: false });
await sheet("contact-sheet.webp", sheetPrompts);
await sheet("recombined-sheet.webp", recombinedPrompts);

async function sheet(name: string, prompts: readonly string[]): Promise<void> {
  const images = [];
  for (const prompt of prompts) {
    const { images: made } = await pipe(prompt, {
      steps: Number(options.steps),
      seed: Number(options.seed),
    });
    images.push(made[0]!);
  }
  await writeWebp(join(options.out, name), contactSheet(images, 8));
}
