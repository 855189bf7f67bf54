/** `npm start`: a picture for each of a few prompts, with the model that comes with halfstep. */
import { mkdir, writeFile } from "node:fs/promises";
import { contactSheet, encodePng, TextToImagePipeline } from "../src/index.ts";

const prompts = [
  "a smiling cat with heart eyes",
  "a red apple",
  "a rocket",
  "a slice of pizza",
  "a panda",
  "a rainbow",
  "a wrapped gift",
  "a thinking face",
];

const folder = "out";
await mkdir(folder, { recursive: true });
const pipe = await TextToImagePipeline.fromPretrained("fluent-emoji");
const images = [];
for (const prompt of prompts) {
  const started = performance.now();
  const result = await pipe(prompt, { seed: 7 });
  const image = result.images[0]!;
  const file = `${folder}/${prompt.replaceAll(" ", "-")}.png`;
  await writeFile(file, encodePng(image, { prompt, seed: "7" }));
  console.log(`${file}  (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  images.push(image);
}
await writeFile(`${folder}/contact-sheet.png`, encodePng(contactSheet(images, 4)));
console.log(`All of them together: ${folder}/contact-sheet.png`);
