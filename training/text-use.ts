/**
 * How much the text matters to a model: the difference that another prompt makes to its prediction, over the prediction.
 * `npx tsx training/text-use.ts [--model checkpoints/fluent-emoji]`
 */
import { parseArgs } from "node:util";
import { TextToImagePipeline } from "../src/pipelines/text-to-image.ts";
import { rows } from "../src/sampling/guidance.ts";
import { TorchGenerator } from "../src/sampling/noise.ts";
import { type FloatTensor, floatTensor } from "../src/tensor.ts";

const { values: options } = parseArgs({ options: { model: { type: "string", default: "checkpoints/fluent-emoji" } } });
const pipe = await TextToImagePipeline.fromPretrained(options.model, { spin: false });
const { embeddings } = await pipe.embed(["a smiling face", "a red apple", "a rocket", "a panda"]);
const { inChannels, sampleSize } = pipe.transformer.config;
const tokens = embeddings.encoderHiddenStates.shape[1]!;
const session = await pipe.transformer.session({ batch: "batch", height: sampleSize, width: sampleSize, tokens });
const shape = [4, inChannels, sampleSize, sampleSize];
const noise = new TorchGenerator(0).randn([1, ...shape.slice(1)]).data;
const hiddenStates = floatTensor(shape);
for (let i = 0; i < 4; i++) hiddenStates.data.set(noise, i * noise.length);
for (const t of [999, 900, 800, 600, 400]) {
  const timestep = floatTensor([4], new Float32Array(4).fill(t));
  const { sample } = await session.run({ hiddenStates, timestep, ...embeddings });
  const each = [0, 1, 2, 3].map((i) => rows(sample as FloatTensor, i, i + 1).data);
  let [between, all] = [0, 0];
  for (let j = 0; j < noise.length; j++) {
    const mean = each.reduce((sum, row) => sum + row[j]!, 0) / 4;
    for (const row of each) {
      between += (row[j]! - mean) ** 2;
      all += row[j]! ** 2;
    }
  }
  console.log(`timestep ${t}: ${Math.sqrt(between / all).toFixed(4)}`);
}
