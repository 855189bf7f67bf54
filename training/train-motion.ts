/**
 * Trains the motion modules of the embedded video model, on the animations; the UNet, from train-unet.ts, stays as it is.
 * `npx tsx training/train-motion.ts`; a killed run goes on from its last checkpoint, a finished one ends at once.
 */
import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fileSource } from "../src/checkpoints/node.ts";
import { SafetensorsFile } from "../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { WeightFiles } from "../src/checkpoints/weights.ts";
import { mul, sub } from "../src/graph/operators.ts";
import { input } from "../src/graph/value.ts";
import { meanAll } from "../src/graph/vjp.ts";
import { buildModel } from "../src/models/architecture.ts";
import { unetMotion } from "../src/models/unet-motion.ts";
import { checkpointWeights, weightLocations } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { type FloatTensor, floatTensor } from "../src/tensor.ts";
import { resumeTraining, saveTraining } from "../src/training/checkpoint-node.ts";
import { Parameters } from "../src/training/parameters.ts";
import { Trainer } from "../src/training/trainer.ts";
import { frameCount } from "./animations.ts";
import { drawCaption, loadEmojiData } from "./data.ts";
import { startMotion } from "./initial-values.ts";
import { asPictures, loadMotionData } from "./motion-data.ts";
import { drawMirrored, drawTimestep, noisy, train } from "./sampling.ts";
import { allCaptions, encoded, encodeTexts, takeShared } from "./shared-parts.ts";
import { isMotion, motionParameterSource, motionUNetConfig, parameterShapes, videoShape } from "./unet-model.ts";

const { values: options } = parseArgs({
  options: {
    steps: { type: "string", default: "8000" },
    /** Videos, of 16 frames each. */
    batch: { type: "string", default: "4" },
    "learning-rate": { type: "string", default: "6e-4" },
    /** The last steps, in which the learning rate falls to zero. */
    decay: { type: "string", default: "2500" },
    dropout: { type: "string", default: "0.1" },
    /** Share of videos that show a thing without an animation, which holds still. */
    still: { type: "string", default: "0.1" },
    minutes: { type: "string", default: "100000" },
    /** Steps between two lines of the log. */
    log: { type: "string", default: "50" },
    seed: { type: "string", default: "0" },
    data: { type: "string", default: "training/data" },
    unet: { type: "string", default: "training/runs/unet" },
    out: { type: "string", default: "training/runs/motion" },
  },
});
const batch = Number(options.batch);
const seed = Number(options.seed);

// ---------------------------------------------------------------- data

await takeShared(options.unet, options.out);
const unetPath = join(options.out, "unet.safetensors");
if (!existsSync(unetPath)) await copyFile(join(options.unet, "unet.safetensors"), unetPath);
const stills = await loadEmojiData(options.data);
const motion = await loadMotionData(options.data, stills);
const cached = (name: string) => join(options.unet, `${name}-latents.safetensors`);
const pictures = await encoded(options.out, stills, cached("stills"));
const frames = await encoded(options.out, asPictures(motion, stills), cached("frames"));
const texts = await encodeTexts(options.out, allCaptions(stills));
const [, channels, size] = pictures.latents.mean.shape as [number, number, number, number];
const animated = new Set(motion.entries.map(({ still }) => still));
const unmoved = [...stills.entries.keys()].filter((still) => !animated.has(still));

// ---------------------------------------------------------------- graph

const config = unetMotion.parseConfig(motionUNetConfig(videoShape));
const model = unetMotion.model(config, { batch, height: size, width: size, tokens: texts.tokens, frames: frameCount });
const files = WeightFiles.of(await SafetensorsFile.open(await fileSource(unetPath)));
const frozen = checkpointWeights(files, "the UNet");
const { source, parameters: values } = motionParameterSource();
const { sample } = buildModel(model, (name, shape) => (isMotion(name) ? source : frozen)(name, shape));
const error = sub(sample!, input("target", sample!.shape));
const parameters = new Parameters(parameterShapes(motionUNetConfig(videoShape), isMotion));
startMotion(parameters, seed + 2);
const trainer = await Trainer.create(nodeRuntime, meanAll(mul(error, error)), values, parameters, {
  emaDecay: 0.999,
  weightDecay: 0.01,
  locations: weightLocations(files),
  session: { spin: false },
});
const statePath = join(options.out, "state.safetensors");
await resumeTraining(statePath, trainer);
console.log(
  `${parameters.size} parameters, ${motion.count} videos and ${unmoved.length} stills, ` +
    `from step ${trainer.optimizer.steps} to ${options.steps}`,
);

async function save() {
  await saveTraining(statePath, trainer);
  await writeSafetensors(
    join(options.out, "motion.safetensors"),
    new Map(Object.entries(parameters.tensors(trainer.optimizer.ema))),
  );
}

// ---------------------------------------------------------------- loop

const clean = floatTensor([batch, channels, frameCount, size, size]);
const encoderHiddenStates = floatTensor([batch, texts.tokens, texts.width]);
const area = size * size;

/** Copies a picture's latent [channels, height, width] to one frame of a video's [channels, frames, height, width]. */
function place({ data }: FloatTensor, picture: number, video: number, frame: number): void {
  for (let c = 0; c < channels; c++) {
    const from = (picture * channels + c) * area;
    clean.data.set(data.subarray(from, from + area), ((video * channels + c) * frameCount + frame) * area);
  }
}

const done = await train({
  trainer,
  batch,
  unit: "videos",
  steps: Number(options.steps),
  peak: Number(options["learning-rate"]),
  decay: Number(options.decay),
  seed,
  minutes: Number(options.minutes),
  log: Number(options.log),
  every: 250,
  out: options.out,
  save,
  draw(step, random) {
    const timesteps: number[] = [];
    for (let i = 0; i < batch; i++) {
      const wordless = random() < Number(options.dropout);
      const still = random() < Number(options.still);
      const number = Math.floor(random() * (still ? unmoved.length : motion.count));
      const entry = stills.entries[still ? unmoved[number]! : motion.entries[number]!.still]!;
      const { latents } = still ? pictures : frames;
      const from = drawMirrored(entry, random) ? latents.flippedMean : latents.mean;
      for (let f = 0; f < frameCount; f++) place(from, still ? unmoved[number]! : number * frameCount + f, i, f);
      const caption = wordless ? "" : drawCaption(entry, random);
      encoderHiddenStates.data.set(texts.of(caption), i * texts.tokens * texts.width);
      timesteps.push(drawTimestep(random));
    }
    return { ...noisy(clean, timesteps, step), encoderHiddenStates };
  },
});
if (!done) process.exitCode = 1;
