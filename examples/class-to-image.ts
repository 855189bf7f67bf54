/**
 * Images of classes with DiT: npx tsx examples/class-to-image.ts facebook/DiT-XL-2-256 207 "tabby cat"
 * A class is a number, or a name of it where the model's model_index.json has names (id2label).
 */
import { ClassToImagePipeline } from "halfstep";

const [model = "facebook/DiT-XL-2-256", ...classes] = process.argv.slice(2);

const pipe = await ClassToImagePipeline.fromPretrained(model);
const numbers = (classes.length > 0 ? classes : ["207"]).map((name) =>
  /^\d+$/.test(name) ? Number(name) : pipe.classNumber(name),
);
const { images, seeds } = await pipe(numbers, { steps: 25, guidanceScale: 4, seed: 7 });
for (const [i, image] of images.entries()) {
  const label = pipe.labels[numbers[i]!] ?? "";
  const file = await image.save(`class-${numbers[i]}-${seeds[i]}.png`, { text: { class: String(numbers[i]), label } });
  console.log(`${file}  ${label}`);
}
