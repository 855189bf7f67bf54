/**
 * Trains a larger decoder for the embedded model's latents, and at 64 pixels an encoder that stays near them:
 * docs/training.md, "256 pixels". `npx tsx training/train-decoder.ts --size 64`, then `--size 256`. One thread. A killed run
 * goes on from its last checkpoint.
 */
import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fileSource } from "../src/checkpoints/node.ts";
import { SafetensorsFile } from "../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { ArgumentError } from "../src/errors.ts";
import { abs, add, mul, sub } from "../src/graph/operators.ts";
import { slice } from "../src/graph/shapes.ts";
import { constant, input, type Value } from "../src/graph/value.ts";
import { meanAll } from "../src/graph/vjp.ts";
import type { Picture } from "../src/media/picture.ts";
import { buildModel, weightShapes } from "../src/models/architecture.ts";
import * as vae from "../src/models/autoencoder-kl.ts";
import { parameterWeights } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { TorchGenerator } from "../src/sampling/noise.ts";
import { type FloatTensor, floatTensor } from "../src/tensor.ts";
import { resumeTraining, saveTraining } from "../src/training/checkpoint-node.ts";
import { initialise, Parameters } from "../src/training/parameters.ts";
import { Trainer } from "../src/training/trainer.ts";
import {
  autoencoderRange,
  drawAugmentation,
  imageSize,
  isHeldOutPicture,
  largeSize,
  loadEmojiData,
  loadLargeImages,
  writeImage,
} from "./data.ts";
import { enlarged, openDecoder, writeSheet } from "./decoder-evaluation.ts";
import { beginWith, croppedDecoder, decoderConfig } from "./decoder-model.ts";
import { openEncoder, type Posterior } from "./latents.ts";
import { seededRandom } from "./random.ts";
import { type RoundTripScores, scoreRoundTrip } from "./round-trip.ts";

const { values: options } = parseArgs({
  options: {
    size: { type: "string", default: "256" },
    steps: { type: "string", default: "100000" },
    /** Steps at the end in which the learning rate falls to zero. */
    decay: { type: "string", default: "4000" },
    batch: { type: "string", default: "4" },
    "learning-rate": { type: "string", default: "1e-3" },
    /** Whole pictures in place of quarters, at 256 pixels. */
    whole: { type: "boolean", default: false },
    /** Share of pictures that are shown as they are. */
    plain: { type: "string", default: "0.5" },
    seed: { type: "string", default: "0" },
    data: { type: "string", default: "training/data" },
    /** The autoencoder whose latents the transformer makes. */
    encoder: { type: "string", default: "checkpoints/fluent-emoji/vae" },
    /** Folder to begin with; at 256 pixels its encoder stays as it is. */
    from: { type: "string" },
    /** Share of pictures that are decoded from the latents of --encoder as they are. */
    old: { type: "string", default: "0.25" },
    /** How much a new encoder's latents are held to those of --encoder. */
    agreement: { type: "string", default: "0.1" },
    out: { type: "string" },
    /** Minutes between checkpoints, and between evaluations. */
    save: { type: "string", default: "3" },
    evaluate: { type: "string", default: "20" },
    /** Of the held-out pictures, how many are decoded then: all at 64 pixels, a quarter at 256. */
    evaluated: { type: "string" },
  },
});
const size = Number(options.size);
if (size !== imageSize && size !== largeSize) throw new ArgumentError(`--size ${options.size} is neither 64 nor 256`);
const [steps, decay, batch] = [Number(options.steps), Number(options.decay), Number(options.batch)];
const from = options.from ?? (size === imageSize ? options.encoder : "training/runs/decoder64");
const out = options.out ?? `training/runs/decoder${size}`;
const session = { threads: 1, spin: false };
const range = { ...autoencoderRange, turns: false, hue: 1 };

const configJson = decoderConfig(size);
const config = vae.parseConfig(configJson);
const latentShape = [batch, config.latentChannels, 8, 8];
const wholeDecoder = vae.decoder(config, { batch, height: 8, width: 8 });
const newEncoder = vae.encoder(config, { batch, height: imageSize, width: imageSize });
const { source, parameters: weights } = parameterWeights();
const oldMean = input("oldMean", latentShape);
const noise = input("noise", latentShape);
const parts = size === imageSize ? smallAutoencoder() : largeDecoder();
const { side } = parts;
const mask = constant(parts.mask.data, parts.mask.shape, "float32");
const error = mul(sub(parts.decoded, input("target", [batch, 3, side, side])), mask);
const pixels = meanAll(abs(error));
// L1 on pixels and on their differences over the distances that an edge of a 64-pixel picture has here.
const distances = size === largeSize ? [1, 2, 4] : [1];
const edges = distances.flatMap((d) => [2, 3].map((axis) => meanAll(abs(difference(error, axis, d))))).reduce(add);
const loss = add(add(pixels, edges), mul(parts.disagreement, Number(options.agreement)));

const parameters = new Parameters(
  new Map([...(size === imageSize ? weightShapes(newEncoder) : []), ...weightShapes(wholeDecoder)]),
);
initialise(parameters, seededRandom(Number(options.seed)), (name) =>
  name.includes("conv2.weight") ? 0.01 : undefined,
);
const trainer = await Trainer.create(nodeRuntime, loss, weights, parameters, {
  emaDecay: 0.998,
  weightDecay: 0.01,
  session,
  metrics: { disagreement: parts.disagreement, mse: meanAll(mul(error, error)) },
});

await mkdir(out, { recursive: true });
const statePath = join(out, "state.safetensors");
if (!(await resumeTraining(statePath, trainer))) {
  const old = await readTensors(from);
  const taken = beginWith(parameters, old.tensors, old.levels === config.blockOutChannels.length);
  trainer.optimizer.ema.set(parameters.values);
  console.log(`${taken.length} of ${parameters.slots.size} tensors begin with ${from}`);
}

const data = await loadEmojiData(options.data);
const images = size === largeSize ? await loadLargeImages(options.data, data.count) : data.images;
const numbers = Array.from({ length: data.count }, (_, i) => i);
const shown = numbers.filter((i) => !isHeldOutPicture(i));
const evaluated = heldOutPictures(Number(options.evaluated ?? (size === imageSize ? 86 : 22)));
const encodeOld = await openEncoder(options.encoder, session);
const encodeNew = size === largeSize ? await openEncoder(from, session) : null;

const real = evaluated.map((index): Picture => {
  const bytes = 3 * size * size;
  return { width: size, height: size, data: images.subarray(index * bytes, (index + 1) * bytes) };
});
const heldOutImages = imagesOf(evaluated);
const oldLatents = (await encodeOld(heldOutImages)).mean;
const before = await enlarged(options.encoder, oldLatents, size);
const decode = await openDecoder(config);

const image = floatTensor([batch, 3, imageSize, imageSize]);
const target = floatTensor([batch, 3, side, side]);
const full = new Float32Array(3 * size * size);
console.log(
  `${parameters.size} parameters, ${shown.length} pictures, ${evaluated.length} held out, from step ` +
    `${trainer.optimizer.steps} to ${steps}; held out before: ${JSON.stringify(rounded(scoreRoundTrip(before, real)))}`,
);

const sums = { loss: 0, mse: 0, disagreement: 0, count: 0 };
let [saved, measured, logged] = [Date.now(), 0, Date.now()];
const since = (time: number) => (Date.now() - time) / 60_000;
while (trainer.optimizer.steps < steps) {
  if (since(measured) > Number(options.evaluate)) {
    await evaluate();
    measured = Date.now();
  }
  const step = trainer.optimizer.steps;
  const report = await trainer.step({ ...(await drawBatch(step)), image, target }, learningRate(step));
  sums.loss += report.loss;
  sums.mse += report.metrics["mse"]!;
  sums.disagreement += report.metrics["disagreement"]!;
  sums.count++;
  if (since(logged) > 1) await log();
  if (since(saved) > Number(options.save)) {
    await save();
    saved = Date.now();
  }
}
await save();
await evaluate();

/** What is decoded, from an encoder that learns beside the decoder or, for some pictures, from the old one. */
function smallAutoencoder() {
  const { mean, logvar } = buildModel(newEncoder, source);
  const moved = sub(mean!, oldMean);
  const spread = sub(logvar!, input("oldLogvar", latentShape));
  const latent = add(add(oldMean, mul(moved, input("own", [batch, 1, 1, 1]))), noise);
  return {
    decoded: buildModel({ ...wholeDecoder, inputs: { latent } }, source)["decoded"]!,
    // A deviation that is wrong by a tenth matters as little as a mean that is wrong by a hundredth.
    disagreement: add(meanAll(mul(moved, moved)), mul(meanAll(mul(spread, spread)), 0.01)),
    mask: floatTensor([1, 1, 1, 1], Float32Array.of(1)),
    side: size,
    corner: () => [0, 0] as const,
  };
}

/** What is decoded from latents that are given. */
function largeDecoder() {
  const latent = add(oldMean, noise);
  const disagreement = constant(Float32Array.of(0), [], "float32");
  if (!options.whole) return { ...croppedDecoder(config, latent, source), disagreement };
  return {
    decoded: buildModel({ ...wholeDecoder, inputs: { latent } }, source)["decoded"]!,
    disagreement,
    mask: floatTensor([1, 1, 1, 1], Float32Array.of(1)),
    side: size,
    corner: () => [0, 0] as const,
  };
}

/** Fills `image` and `target` and gives the latents. All that is random follows from the step's number, so that a run can be resumed. */
async function drawBatch(step: number): Promise<Record<string, FloatTensor>> {
  const random = seededRandom(Number(options.seed) + 7919 * (step + 1));
  const spread: number[] = [];
  for (let i = 0; i < batch; i++) {
    const index = shown[Math.floor(random() * shown.length)]!;
    const plain = random() < Number(options.plain);
    const change = plain ? undefined : drawAugmentation(random, range);
    const small = 3 * imageSize * imageSize;
    writeImage(data, index, image.data.subarray(i * small, (i + 1) * small), change);
    // The small picture's shift, so that both show the same.
    const factor = size / imageSize;
    const large = change && { ...change, shiftX: factor * change.shiftX, shiftY: factor * change.shiftY };
    writeImage({ images, count: data.count }, index, full, large, size);
    cutOut(full, parts.corner(i), target.data.subarray(i * 3 * side * side, (i + 1) * 3 * side * side));
    // The transformer learnt from samples, a round trip gives means: anything between the two.
    spread.push(random());
  }
  const isOld = Array.from({ length: batch }, () => random() < Number(options.old));
  const old = await encodeOld(image);
  const given = encodeNew ? rowsOf(await encodeNew(image), old, isOld) : old;
  const draw = new TorchGenerator(step).randn(latentShape).data;
  const each = draw.length / batch;
  return {
    oldMean: given.mean,
    oldLogvar: { ...given.std, data: given.std.data.map((value) => 2 * Math.log(value)) },
    noise: { ...given.std, data: given.std.data.map((std, i) => spread[Math.floor(i / each)]! * std * draw[i]!) },
    own: floatTensor(
      [batch, 1, 1, 1],
      Float32Array.from(isOld, (value) => (value ? 0 : 1)),
    ),
  };
}

/** Rows of `second` where it says so, or else of `first`. */
function rowsOf(first: Posterior, second: Posterior, isSecond: readonly boolean[]): Posterior {
  const mixed = (a: FloatTensor, b: FloatTensor): FloatTensor => {
    const each = a.data.length / isSecond.length;
    return { ...a, data: a.data.map((value, i) => (isSecond[Math.floor(i / each)] ? b.data[i]! : value)) };
  };
  return { mean: mixed(first.mean, second.mean), std: mixed(first.std, second.std) };
}

function cutOut(from: Float32Array, [left, top]: readonly [number, number], to: Float32Array): void {
  for (let c = 0; c < 3; c++) {
    for (let y = 0; y < side; y++) {
      const start = (c * size + top + y) * size + left;
      to.set(from.subarray(start, start + side), (c * side + y) * side);
    }
  }
}

function difference(x: Value, axis: number, distance: number): Value {
  const length = x.shape[axis] as number;
  return sub(slice(x, axis, distance, length), slice(x, axis, 0, length - distance));
}

/** Warm-up, constant, and at the end a straight line to zero. */
function learningRate(step: number): number {
  return Number(options["learning-rate"]) * Math.min(1, (step + 1) / 200, (steps - step) / Math.max(1, decay));
}

/** `count` of them, evenly spread. */
function heldOutPictures(count: number): number[] {
  const all = numbers.filter(isHeldOutPicture);
  return Array.from({ length: Math.min(count, all.length) }, (_, i) => all[Math.floor((i * all.length) / count)]!);
}

function imagesOf(indices: readonly number[]): FloatTensor {
  const tensor = floatTensor([indices.length, 3, imageSize, imageSize]);
  const each = tensor.data.length / indices.length;
  for (const [i, index] of indices.entries()) writeImage(data, index, tensor.data.subarray(i * each, (i + 1) * each));
  return tensor;
}

async function readTensors(folder: string) {
  const file = await SafetensorsFile.open(await fileSource(join(folder, "diffusion_pytorch_model.safetensors")));
  const tensors = new Map<string, FloatTensor>();
  let levels = 0;
  for (const name of file.entries.keys()) {
    tensors.set(name, (await file.read(name)) as FloatTensor);
    levels = Math.max(levels, 1 + Number(/^decoder\.up_blocks\.(\d+)/.exec(name)?.[1] ?? 0));
  }
  return { tensors, levels };
}

async function log(): Promise<void> {
  const seconds = (Date.now() - logged) / 1000;
  const line = {
    step: trainer.optimizer.steps,
    loss: +(sums.loss / sums.count).toFixed(5),
    // Pictures span [-1, 1]: the peak is 2.
    psnr: +(10 * Math.log10((4 * sums.count) / sums.mse)).toFixed(2),
    ...(size === imageSize && { moved: +Math.sqrt(sums.disagreement / sums.count).toFixed(3) }),
    picturesPerSecond: +((sums.count * batch) / seconds).toFixed(2),
  };
  console.log(JSON.stringify(line));
  await appendFile(join(out, "log.jsonl"), `${JSON.stringify({ ...line, time: new Date().toISOString() })}\n`);
  Object.assign(sums, { loss: 0, mse: 0, disagreement: 0, count: 0 });
  logged = Date.now();
}

async function save(): Promise<void> {
  await saveTraining(statePath, trainer);
  const averaged = new Map(Object.entries(parameters.tensors(trainer.optimizer.ema)));
  await writeSafetensors(join(out, "diffusion_pytorch_model.safetensors"), averaged);
  await writeFile(join(out, "config.json"), `${JSON.stringify(configJson, null, 2)}\n`);
}

async function evaluate(): Promise<void> {
  const started = Date.now();
  const step = trainer.optimizer.steps;
  if (!encodeNew) await save();
  const encode = encodeNew ?? (await openEncoder(out, session));
  const weights = parameters.tensors(trainer.optimizer.ema);
  const made = await decode((await encode(heldOutImages)).mean, weights);
  const old = rounded(scoreRoundTrip(await decode(oldLatents, weights), real));
  const line = { step, pictures: real.length, ...rounded(scoreRoundTrip(made, real)), old };
  console.log(`held out: ${JSON.stringify(line)}`);
  await appendFile(join(out, "evaluation.jsonl"), `${JSON.stringify({ ...line, time: new Date().toISOString() })}\n`);
  await writeSheet(join(out, `sheet-${String(step).padStart(6, "0")}.png`), [real, before, made]);
  // Not a part of the training's speed.
  logged += Date.now() - started;
}

function rounded(scores: RoundTripScores): RoundTripScores {
  return { psnr: +scores.psnr.toFixed(3), ssim: +scores.ssim.toFixed(4), sharpness: +scores.sharpness.toFixed(3) };
}
