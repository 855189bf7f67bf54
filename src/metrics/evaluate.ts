/** How good a text-to-image model's pictures are: fixed captions, one picture each, judged by emoji-align. */
import { callback, signal as signalCheck, whole } from "../checks.ts";
import { type SolverOptions, solverOptions } from "../components/solver.ts";
import type { Picture } from "../media/picture.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import {
  type GuidanceInterval,
  guidanceIntervalCheck,
  guidanceScaleCheck,
  pickRows,
  stack,
} from "../sampling/guidance.ts";
import { seedCheck } from "../sampling/seeds.ts";
import { alignmentScore, retrievalRanks, topAccuracy } from "./alignment.ts";
import { type FeatureStatistics, featureStatistics, frechetDistance } from "./frechet.ts";
import type { Judge, JudgedPictures, Reference } from "./judge.ts";

/** The settings that every image is made with. Those that are not given are the model's own. */
export interface ImageSettings extends SolverOptions {
  guidanceScale?: number;
  guidanceInterval?: GuidanceInterval;
  signal?: AbortSignal;
}

/** Makes images from prompts: a TextToImagePipeline, in a worker or not, or anything else with such a method. */
export interface ImageMaker {
  /** One image of each prompt; image i is drawn from `seed` + i, and all steps are full ones. */
  generate(
    prompts: readonly string[],
    options: ImageSettings & { seed: number; accelerate: "none" },
  ): Promise<{ readonly images: readonly Picture[] }>;
}

export interface EvaluateOptions extends ImageSettings {
  /** How many pictures, 512 unless given; their captions are spread evenly over the judge's list. */
  samples?: number;
  /** Picture i has seed + i; 0 unless given. */
  seed?: number;
  /** Pictures that are made together, 8 unless given: no difference in the result, but for rounding. */
  batch?: number;
  /** Told after each batch of images. */
  onProgress?: (progress: { done: number; total: number }) => void;
  /** Called with the images as they are made, and with their captions: for other kinds of judges. */
  onPictures?: (pictures: readonly Picture[], captions: readonly string[]) => unknown;
}

const evaluateOptions: OptionTable<EvaluateOptions> = {
  ...solverOptions,
  samples: whole(2, 1e6),
  seed: seedCheck,
  guidanceScale: guidanceScaleCheck,
  guidanceInterval: guidanceIntervalCheck,
  batch: whole(1, 1024),
  signal: signalCheck,
  onProgress: callback,
  onPictures: callback,
};

/** One row of the table: of a model, or of images that show how good a model can be at best. */
export interface Scores {
  samples: number;
  /**
   * Fréchet distance between the judge's features of these pictures and of all real ones. Not comparable with published
   * FIDs, which are of another network's features.
   */
  fdData: number;
  /** Mean cosine between the judge's embeddings of each picture and its caption. */
  alignment: number;
  /** How often the picture's caption is the nearest of all captions, or among the nearest five. */
  retrievalTop1: number;
  retrievalTop5: number;
}

export interface Evaluation extends Scores {
  /** The same captions with the real pictures that they are of: the ceiling. */
  real: Scores;
  /** The real pictures after the embedded model's autoencoder: the ceiling of a denoiser with that autoencoder. */
  roundTrip: Scores;
}

/**
 * Makes one picture for each of `samples` captions and judges them. Throws ArgumentError for settings outside their
 * range, what the pipeline throws, and the signal's reason when it is aborted.
 */
export async function evaluate(maker: ImageMaker, judge: Judge, given: EvaluateOptions = {}): Promise<Evaluation> {
  const options = readOptions(given, evaluateOptions, { of: "evaluate" });
  const { samples = 512, batch = 8, seed = 0, onProgress, onPictures, ...settings } = options;
  const { signal } = settings;
  const reference = await judge.reference();
  const score = await scorer(judge, reference, samples);
  const prompts = captionsFor(reference, samples);
  const judged: JudgedPictures[] = [];
  for (let start = 0; start < samples; start += batch) {
    onProgress?.({ done: start, total: samples });
    const some = prompts.slice(start, start + batch).map((caption) => reference.captions[caption]!.text);
    const { images } = await maker.generate(some, { ...settings, seed: seed + start, accelerate: "none" });
    await onPictures?.(images, some);
    judged.push(await judge.judgePictures(images));
    // Aborted while the last pictures were judged.
    signal?.throwIfAborted();
  }
  /** Told after each batch of images. */
  onProgress?.({ done: samples, total: samples });
  return { ...score(judged.reduce(together)), ...ceilings(reference, samples, score) };
}

/** The rows that need no model. */
export async function evaluateCeilings(judge: Judge, samples = 512): Promise<Pick<Evaluation, "real" | "roundTrip">> {
  const reference = await judge.reference();
  return ceilings(reference, samples, await scorer(judge, reference, samples));
}

type Scorer = (pictures: JudgedPictures) => Scores;

const together = (a: JudgedPictures, b: JudgedPictures): JudgedPictures => ({
  features: stack(a.features, b.features),
  embeds: stack(a.embeds, b.embeds),
});

function ceilings({ captions, real, roundTrip }: Reference, samples: number, score: Scorer) {
  const pictures = captionsFor({ captions }, samples).map((caption) => captions[caption]!.picture);
  const pick = ({ features, embeds }: JudgedPictures): JudgedPictures => ({
    features: pickRows(features, pictures),
    embeds: pickRows(embeds, pictures),
  });
  return { real: score(pick(real)), roundTrip: score(pick(roundTrip)) };
}

/**
 * Numbers of the captions of `samples` pictures, spread evenly over the list, so that every group of the data has its
 * share; more samples than captions go through the list again.
 */
export function captionsFor({ captions }: Pick<Reference, "captions">, samples: number): number[] {
  const { length } = captions;
  return Array.from({ length: samples }, (_, i) =>
    samples >= length ? i % length : Math.floor((i * length) / samples),
  );
}

/** Scores images against what all rows share: all captions, and the statistics of all real images. */
async function scorer(judge: Judge, { captions, real }: Reference, samples: number): Promise<Scorer> {
  const texts = await judge.embedCaptions(captions.map(({ text }) => text));
  const data: FeatureStatistics = featureStatistics(real.features);
  const asked = captionsFor({ captions }, samples);
  const own = pickRows(texts, asked);
  return ({ features, embeds }) => {
    const ranks = retrievalRanks(embeds, texts, (picture, caption) =>
      sharePicture(captions[asked[picture]!]!.belongsTo, captions[caption]!.belongsTo),
    );
    return {
      samples,
      fdData: frechetDistance(featureStatistics(features), data),
      alignment: alignmentScore(embeds, own),
      retrievalTop1: topAccuracy(ranks, 1),
      retrievalTop5: topAccuracy(ranks, 5),
    };
  };
}

/**
 * "a cat" is the caption of a face and of a whole animal. An image of either is right for it, and so are the captions
 * of both.
 */
const sharePicture = (a: readonly number[], b: readonly number[]) => a.some((picture) => b.includes(picture));
