/** `npm start`: images of a few prompts, with the model that comes with halfstep. Arguments are prompts of your own. */
import { mkdir } from "node:fs/promises";
import { contactSheet, RawImage, TextToImagePipeline } from "halfstep";

const given = process.argv.slice(2);
const some = [
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
for (const prompt of given.length > 0 ? given : some) {
  const started = performance.now();
  const result = await pipe(prompt, { seed: 7 });
  const image = result.images[0]!;
  const file = `${folder}/${prompt.replaceAll(/\W+/g, "-")}.png`;
  await image.save(file, { text: { prompt, seed: "7" } });
  console.log(`${file}  (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  images.push(image);
}
await new RawImage(contactSheet(images, 4)).save(`${folder}/contact-sheet.png`);
console.log(`All of them together: ${folder}/contact-sheet.png`);
