/**
 * How much the text matters to a model of pictures or videos, at several timesteps: see text-difference.ts.
 * `npx tsx training/text-use.ts [--model checkpoints/fluent-emoji]`
 */
import { parseArgs } from "node:util";
import { readModelIndex } from "../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../src/checkpoints/node.ts";
import { TextToImagePipeline } from "../src/pipelines/text-to-image.ts";
import { TextToVideoPipeline } from "../src/pipelines/text-to-video.ts";
import { rows } from "../src/sampling/guidance.ts";
import { TorchGenerator } from "../src/sampling/noise.ts";
import { type FloatTensor, floatTensor } from "../src/tensor.ts";
import { frameCount } from "./animations.ts";
import { probePrompts, probeTimesteps, textDifference } from "./text-difference.ts";

const { values: options } = parseArgs({ options: { model: { type: "string", default: "checkpoints/fluent-emoji" } } });
const { className } = await readModelIndex(new NodeFolder(options.model));
const predict = className === "AnimateDiffPipeline" ? await videoModel() : await pictureModel();
const noise = new TorchGenerator(0).randn([1, ...predict.shape]).data;
const count = probePrompts.length;
const sample = floatTensor([count, ...predict.shape]);
for (let i = 0; i < count; i++) sample.data.set(noise, i * noise.length);
for (const t of probeTimesteps) {
  const predicted = await predict.run(sample, floatTensor([count], new Float32Array(count).fill(t)));
  const difference = textDifference(probePrompts.map((_, i) => rows(predicted, i, i + 1).data));
  console.log(`timestep ${t}: ${difference.toFixed(4)}`);
}

interface Model {
  /** Of one latent. */
  shape: number[];
  run(sample: FloatTensor, timestep: FloatTensor): Promise<FloatTensor>;
}

async function pictureModel(): Promise<Model> {
  const pipe = await TextToImagePipeline.fromPretrained(options.model, { spin: false });
  const { embeddings } = await pipe.embed(probePrompts);
  const { inChannels, sampleSize } = pipe.transformer.config;
  const tokens = embeddings.encoderHiddenStates.shape[1]!;
  const session = await pipe.transformer.session({ batch: "batch", height: sampleSize, width: sampleSize, tokens });
  return {
    shape: [inChannels, sampleSize, sampleSize],
    run: async (hiddenStates, timestep) =>
      (await session.run({ hiddenStates, timestep, ...embeddings }))["sample"] as FloatTensor,
  };
}

async function videoModel(): Promise<Model> {
  const pipe = await TextToVideoPipeline.fromPretrained(options.model, { spin: false });
  const { embeddings } = await pipe.embed(probePrompts);
  const { inChannels, sampleSize: size = 8 } = pipe.unet.config;
  const tokens = embeddings.encoderHiddenStates.shape[1]!;
  const session = await pipe.unet.session({ batch: "batch", height: size, width: size, tokens, frames: frameCount });
  return {
    shape: [inChannels, frameCount, size, size],
    run: async (sample, timestep) => (await session.run({ sample, timestep, ...embeddings }))["sample"] as FloatTensor,
  };
}
