/**
 * Trains the UNet of the embedded video model, on the stills and single frames of the animations, with captions.
 * `npx tsx training/train-unet.ts`; a killed run goes on from its last checkpoint, a finished one ends at once.
 */
import { appendFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { toOnnx } from "../src/graph/onnx.ts";
import { mul, sub } from "../src/graph/operators.ts";
import { input } from "../src/graph/value.ts";
import { meanAll } from "../src/graph/vjp.ts";
import { buildModel, weightShapes } from "../src/models/architecture.ts";
import { unet2DCondition } from "../src/models/unet-2d-condition.ts";
import { parameterWeights } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { rows } from "../src/sampling/guidance.ts";
import { TorchGenerator } from "../src/sampling/noise.ts";
import { type FloatTensor, floatTensor } from "../src/tensor.ts";
import { resumeTraining, saveTraining } from "../src/training/checkpoint-node.ts";
import { Parameters } from "../src/training/parameters.ts";
import { Trainer } from "../src/training/trainer.ts";
import { loadEmojiData } from "./data.ts";
import { startUNet } from "./initial-values.ts";
import { asPictures, loadMotionData } from "./motion-data.ts";
import { recoloured } from "./recolour.ts";
import { drawPicture, drawTimestep, noisy, train } from "./sampling.ts";
import { allCaptions, encoded, encodeTexts, takeShared } from "./shared-parts.ts";
import { probePrompts, probeTimesteps, textDifference } from "./text-difference.ts";
import { unetConfig, videoShape } from "./unet-model.ts";

const { values: options } = parseArgs({
  options: {
    steps: { type: "string", default: "12000" },
    batch: { type: "string", default: "64" },
    "learning-rate": { type: "string", default: "1.2e-3" },
    /** The last steps, in which the learning rate falls to zero. */
    decay: { type: "string", default: "3000" },
    dropout: { type: "string", default: "0.1" },
    /** Share of pictures that are shown in another colour, which their caption names. */
    recolour: { type: "string", default: "0.1" },
    /** Share of pictures that are frames of animations: what motion modules are to move must be within reach. */
    frames: { type: "string", default: "0.25" },
    minutes: { type: "string", default: "100000" },
    /** Steps between two lines of the log. */
    log: { type: "string", default: "100" },
    seed: { type: "string", default: "0" },
    data: { type: "string", default: "training/data" },
    /** Whose autoencoder, text encoder and tokenizer are used. */
    image: { type: "string", default: "checkpoints/fluent-emoji" },
    out: { type: "string", default: "training/runs/unet" },
  },
});
const batch = Number(options.batch);
const seed = Number(options.seed);

// ---------------------------------------------------------------- data

await takeShared(options.image, options.out);
const stills = await loadEmojiData(options.data);
const otherColours = recoloured(stills);
const frames = asPictures(await loadMotionData(options.data, stills), stills);
const cached = (name: string) => join(options.out, `${name}-latents.safetensors`);
const pictures = {
  plain: await encoded(options.out, stills, cached("stills")),
  recoloured: await encoded(options.out, otherColours, cached("recoloured")),
  others: await encoded(options.out, frames, cached("frames")),
};
const texts = await encodeTexts(options.out, [...allCaptions(stills, otherColours), ...probePrompts]);
const [, channels, size] = pictures.plain.latents.mean.shape as [number, number, number, number];

// ---------------------------------------------------------------- graph

const { parseConfig, model: unetModel } = unet2DCondition;
const config = parseConfig(unetConfig(videoShape));
const geometry = { height: size, width: size, tokens: texts.tokens };
const model = unetModel(config, { ...geometry, batch });
const { source, parameters: values } = parameterWeights();
const { sample } = buildModel(model, source);
const error = sub(sample!, input("target", sample!.shape));
const parameters = new Parameters(weightShapes(model));
startUNet(parameters, seed + 1);
const trainer = await Trainer.create(nodeRuntime, meanAll(mul(error, error)), values, parameters, {
  emaDecay: 0.9995,
  weightDecay: 0.01,
  session: { spin: false },
});
const statePath = join(options.out, "state.safetensors");
await resumeTraining(statePath, trainer);
console.log(
  `${parameters.size} parameters, ${stills.count} stills, ${otherColours.count} in other colours, ${frames.count} frames, ` +
    `from step ${trainer.optimizer.steps} to ${options.steps}`,
);

const small = unetModel(config, { ...geometry, batch: probePrompts.length });
const { sample: probed } = buildModel(small, parameterWeights().source);
const probe = await nodeRuntime.compile(toOnnx({ predicted: probed! }), new Map(), { spin: false });

/** How much another prompt changes the prediction of the averaged weights, at each of the probe's timesteps. */
async function textUse(): Promise<number[]> {
  const count = probePrompts.length;
  const noise = new TorchGenerator(0).randn([1, channels, size, size]).data;
  const same = floatTensor([count, channels, size, size]);
  const encoderHiddenStates = floatTensor([count, texts.tokens, texts.width]);
  for (const [i, prompt] of probePrompts.entries()) {
    same.data.set(noise, i * noise.length);
    encoderHiddenStates.data.set(texts.of(prompt), i * texts.tokens * texts.width);
  }
  const used: number[] = [];
  for (const t of probeTimesteps) {
    const timestep = floatTensor([count], new Float32Array(count).fill(t));
    const feeds = { ...parameters.tensors(trainer.optimizer.ema), sample: same, timestep, encoderHiddenStates };
    const predicted = (await probe.run(feeds))["predicted"] as FloatTensor;
    used.push(+textDifference(probePrompts.map((_, i) => rows(predicted, i, i + 1).data)).toFixed(4));
  }
  return used;
}

async function save() {
  await saveTraining(statePath, trainer);
  await writeSafetensors(
    join(options.out, "unet.safetensors"),
    new Map(Object.entries(parameters.tensors(trainer.optimizer.ema))),
  );
  const line = JSON.stringify({ step: trainer.optimizer.steps, textUse: await textUse() });
  console.log(line);
  await appendFile(join(options.out, "text-use.jsonl"), line + "\n");
}

// ---------------------------------------------------------------- loop

const clean = floatTensor([batch, channels, size, size]);
const encoderHiddenStates = floatTensor([batch, texts.tokens, texts.width]);
const each = channels * size * size;
const shares = {
  dropout: Number(options.dropout),
  recolour: Number(options.recolour),
  others: Number(options.frames),
};
const done = await train({
  trainer,
  batch,
  steps: Number(options.steps),
  peak: Number(options["learning-rate"]),
  decay: Number(options.decay),
  seed,
  minutes: Number(options.minutes),
  log: Number(options.log),
  out: options.out,
  save,
  draw(step, random) {
    const timesteps: number[] = [];
    for (let i = 0; i < batch; i++) {
      const { latent, caption } = drawPicture(random, pictures, shares);
      clean.data.set(latent, i * each);
      encoderHiddenStates.data.set(texts.of(caption), i * texts.tokens * texts.width);
      timesteps.push(drawTimestep(random));
    }
    return { ...noisy(clean, timesteps, step), encoderHiddenStates };
  },
});
if (!done) process.exitCode = 1;
