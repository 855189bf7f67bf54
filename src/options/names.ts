/** Names that diffusers, transformers.js and others have for our options, and for things that have no option here. */
import { ArgumentError } from "../errors.ts";

/**
 * The parts of what onStep gets (SamplerStep) and onDownload gets (DownloadProgress) that callbacks under other names
 * get.
 */
interface Step {
  readonly index: number;
  readonly timestep: number;
  readonly latents: unknown;
}
interface Download {
  readonly file: string;
  readonly fileLoaded: number;
  readonly fileSize: number;
}

type Convert = (value: unknown, self: unknown) => unknown;

export interface Alias {
  /** Our name. */
  name: string;
  /** Converts a value to ours, if the values differ. */
  convert?: Convert;
}

const same = (name: string) => ({ name });

/** In camel case; snake case works too. The first name that the function has counts. */
const aliases = new Map<string, readonly Alias[]>([
  ["numInferenceSteps", [same("steps")]],
  ["inferenceSteps", [same("steps")]],
  ["numImagesPerPrompt", [same("count")]],
  ["numVideosPerPrompt", [same("count")]],
  ["numFrames", [same("frames")]],
  ["prompt_2", [same("prompt2")]],
  ["negativePrompt_2", [same("negativePrompt2")]],
  ["prompt_3", [same("prompt3")]],
  ["negativePrompt_3", [same("negativePrompt3")]],
  ["maskImage", [same("mask")]],
  ["initImage", [same("image")]],
  ["cfgScale", [same("guidanceScale")]],
  ["cfg", [same("guidanceScale")]],
  ["sampler", [same("scheduler")]],
  ["device", [same("provider")]],
  ["onProgress", [same("onDownload")]],
  [
    "progressCallback",
    [
      { name: "onDownload", convert: progressCallback },
      { name: "onProgress", convert: progressCallback },
    ],
  ],
  ["callbackOnStepEnd", [{ name: "onStep", convert: callbackOnStepEnd }]],
]);

/** "guidance_scale" as "guidanceScale". */
export const camelCase = (name: string) => name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());

/** Our name for the option `given`, if the function `has` it. */
export function aliasOf(given: string, has: (name: string) => boolean): Alias | null {
  const camel = camelCase(given);
  if (has(camel)) return { name: camel };
  return aliases.get(camel)?.find(({ name }) => has(name)) ?? null;
}

/** As in diffusers: (pipeline, step, timestep, { latents }). What it returns cannot replace the latents here. */
function callbackOnStepEnd(value: unknown, self: unknown) {
  const call = value as (...args: unknown[]) => unknown;
  return async ({ index, timestep, latents }: Step): Promise<void> => {
    const returned = await call(self, index, timestep, { latents });
    const changed = (returned as { latents?: unknown } | null | undefined)?.latents;
    if (changed === undefined || changed === latents) return;
    throw new ArgumentError("callbackOnStepEnd returned other latents; here a callback can only look at them.");
  };
}

/** As in transformers.js: one object a report, with the file's own progress in percent. */
function progressCallback(value: unknown) {
  const call = value as (info: Readonly<Record<string, unknown>>) => void;
  return ({ file, fileLoaded, fileSize }: Download): void => {
    const progress = fileSize > 0 ? (100 * fileLoaded) / fileSize : 100;
    call({ status: "progress", file, loaded: fileLoaded, total: fileSize, progress });
  };
}

const NO_PICTURE =
  "an image to begin at is an option of TextToImagePipeline, and ImageToVideoPipeline takes one as its first argument.";
const SEED = 'give a "seed": the same one gives the same picture as torch.Generator("cpu").manual_seed(seed).';
const DTYPE =
  'weights are read in the type that they are stored in; "variant" ("fp16") picks a checkpoint\'s files of another one.';
const RESULT = "results are always pictures of 8 bits a channel, in `images` or `videos`.";

/** What to do instead of options that have no counterpart here. */
export const hints: ReadonlyMap<string, string> = new Map([
  ["image", NO_PICTURE],
  ["images", NO_PICTURE],
  ["initImage", NO_PICTURE],
  ["maskImage", NO_PICTURE],
  ["ipAdapterImage", NO_PICTURE],
  ["strength", NO_PICTURE],
  ["prompt", "the prompt is the first argument, options the second."],
  ["generator", SEED],
  ["generators", SEED],
  ["latents", `the noise comes from the seed; \`sampleLatents\` takes noise of your own.`],
  ["promptEmbeds", "`sampleLatents` takes embeddings, which `embed` makes."],
  ["negativePromptEmbeds", "`sampleLatents` takes embeddings, which `embed` makes."],
  ["dtype", DTYPE],
  ["torchDtype", DTYPE],
  ["outputType", RESULT],
  ["returnDict", RESULT],
  ["cacheDir", "set the environment's HALFSTEP_CACHE, or download with downloadModel(id, { cacheDir }) first."],
  ["localFilesOnly", "set the environment's HF_HUB_OFFLINE=1."],
  ["token", "set the environment's HF_TOKEN, or download with downloadModel(id, { token }) first."],
  ["safetyChecker", "there is none."],
]);
