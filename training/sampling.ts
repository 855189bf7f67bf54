/** What the training runs of denoisers have in common: which pictures, words and timesteps, the loop and its log. */
import { existsSync } from "node:fs";
import { appendFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import { TorchGenerator } from "../src/sampling/noise.ts";
import { DDIMScheduler } from "../src/schedulers/ddim.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../src/tensor.ts";
import type { Trainer } from "../src/training/trainer.ts";
import { drawCaption, type EmojiData, type EmojiEntry } from "./data.ts";
import type { Latents } from "./latents.ts";
import { schedulerConfig } from "./model.ts";
import { type Random, seededRandom } from "./random.ts";

/** Groups whose emoji are the same mirrored: no letters, arrows or hands with a side. */
const symmetric = new Set(["smileys-emotion", "animals-nature", "food-drink"]);

export const drawMirrored = ({ group }: EmojiEntry, random: Random) => symmetric.has(group) && random() < 0.5;

/**
 * Logit-normal (Esser et al. 2024, section 3.1): most where the picture is decided; some everywhere; and a share where
 * only the text can say what it will be.
 */
export function drawTimestep(random: Random): number {
  const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const kind = random();
  const time = kind < 0.1 ? random() : kind < 0.4 ? 0.6 + 0.4 * random() : 1 / (1 + Math.exp(-normal));
  return Math.min(999, Math.floor(1000 * time));
}

export interface Pictures {
  data: EmojiData;
  latents: Pick<Latents, "mean" | "flippedMean">;
}

export interface Shares {
  /** Pictures without their caption. */
  dropout: number;
  /** Pictures in another colour, which their caption names. */
  recolour: number;
  /** Pictures out of `others`. */
  others?: number;
}

/** One picture as the autoencoder codes it, and its caption. */
export function drawPicture(
  random: Random,
  { plain, recoloured, others }: { plain: Pictures; recoloured: Pictures; others?: Pictures },
  shares: Shares,
): { latent: Float32Array; caption: string } {
  const other = others !== undefined && random() < (shares.others ?? 0);
  const wordless = random() < shares.dropout;
  const recolour = !other && !wordless && random() < shares.recolour;
  const { data, latents } = other ? others : recolour ? recoloured : plain;
  const index = Math.floor(random() * data.count);
  const entry = data.entries[index]!;
  const { data: values, shape } = drawMirrored(entry, random) ? latents.flippedMean : latents.mean;
  const each = values.length / shape[0]!;
  return {
    latent: values.subarray(index * each, (index + 1) * each),
    caption: wordless ? "" : drawCaption(entry, random),
  };
}

const scheduler = new DDIMScheduler({ ...schedulerConfig, _class_name: "DDIMScheduler" });

/** What a denoiser is given and what it is to answer (its velocity), for rows of clean latents at these timesteps. */
export function noisy(clean: FloatTensor, timesteps: readonly number[], seed: number) {
  const noise = new TorchGenerator(seed).randn(clean.shape);
  return {
    sample: scheduler.addNoise(clean, noise, [...timesteps]),
    timestep: floatTensor([timesteps.length], Float32Array.from(timesteps)),
    target: scheduler.velocity(clean, noise, [...timesteps]),
  };
}

export interface Rate {
  peak: number;
  steps: number;
  /** The last steps, in which the rate falls to zero in a straight line; before them it is constant. */
  decay: number;
}

export const learningRate = (step: number, { peak, steps, decay }: Rate) =>
  peak * Math.min(1, (step + 1) / 300, (steps - step) / decay);

export interface Loop extends Rate {
  trainer: Trainer;
  /** Examples in a batch, and what they are called in the log. */
  batch: number;
  unit?: "pictures" | "videos";
  /** A batch. Everything random follows from the step's number: a resumed run draws what the whole one would have. */
  draw(step: number, random: Random): Readonly<Record<string, Tensor>>;
  seed: number;
  /** Folder of log.jsonl. */
  out: string;
  /** Steps between two lines of the log, and between two checkpoints. */
  log: number;
  every?: number;
  save(): Promise<void>;
  /** Stop, with a checkpoint, after this many minutes. */
  minutes: number;
}

/** Trains to the last step, or until the time is over. Says whether the last step was reached. */
export async function train(loop: Loop): Promise<boolean> {
  const { trainer, steps, batch, unit = "pictures", every = 500 } = loop;
  const log = join(loop.out, "log.jsonl");
  let seen = await seenSoFar(log, loop);
  const began = performance.now();
  let started = began;
  let since = trainer.optimizer.steps;
  let sum = 0;
  let count = 0;
  while (trainer.optimizer.steps < steps && performance.now() - began < loop.minutes * 60_000) {
    const step = trainer.optimizer.steps;
    const feeds = loop.draw(step, seededRandom(loop.seed + 7919 * (step + 1)));
    const report = await trainer.step(feeds, learningRate(step, loop));
    sum += report.loss;
    count++;
    seen += batch;
    if (count === loop.log || step + 1 === steps) {
      const rate = ((step + 1 - since) * batch) / ((performance.now() - started) / 1000);
      const line = JSON.stringify({
        step: step + 1,
        [unit]: seen,
        loss: +(sum / count).toFixed(4),
        norm: +report.norm.toFixed(3),
        [`${unit}PerSecond`]: +rate.toFixed(1),
        minutesLeft: +(((steps - step - 1) * batch) / rate / 60).toFixed(1),
      });
      console.log(line);
      await appendFile(log, line + "\n");
      sum = 0;
      count = 0;
      started = performance.now();
      since = step + 1;
    }
    if ((step + 1) % every === 0) await loop.save();
  }
  await loop.save();
  const done = trainer.optimizer.steps >= steps;
  if (!done) console.log(`stopped at step ${trainer.optimizer.steps} of ${steps}; the same command goes on`);
  return done;
}

/** What a run that goes on has seen up to its checkpoint. Before the last line of the log batches may have had another size. */
async function seenSoFar(log: string, { trainer, batch, unit = "pictures" }: Loop): Promise<number> {
  const { steps } = trainer.optimizer;
  const text = steps > 0 && existsSync(log) ? (await readFile(log, "utf8")).trim() : "";
  const lines = text === "" ? [] : text.split("\n").map((line) => JSON.parse(line) as Record<string, number>);
  const last = lines.filter((line) => line["step"]! <= steps).at(-1);
  return (last?.[unit] ?? 0) + (steps - (last?.["step"] ?? 0)) * batch;
}
