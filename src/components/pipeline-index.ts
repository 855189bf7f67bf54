/** What a pipeline's model_index.json says: its class, and the model's own defaults. */
import { type ModelIndex, readModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ConfigError } from "../errors.ts";
import { checkGuidanceInterval, EVERY_STEP, type GuidanceInterval } from "../sampling/guidance.ts";
import { checkIndex } from "./index-keys.ts";

/** Reads `model_index.json` and checks that the folder is one of these pipelines. */
export async function openPipeline(folder: Folder, supported: readonly string[]): Promise<ModelIndex> {
  const index = await readModelIndex(folder);
  if (!supported.includes(index.className)) {
    throw new ConfigError(`${folder.name}: ${otherPipeline(index.className, supported)}`);
  }
  checkIndex(folder, index);
  return index;
}

/** Diffusers' classes by what opens them here. */
const openedBy = new Map([
  ["PixArtAlphaPipeline", "TextToImagePipeline, or halfstep generate"],
  ["PixArtSigmaPipeline", "TextToImagePipeline, or halfstep generate"],
  ["DiTPipeline", "ClassToImagePipeline, or halfstep generate --class"],
  ["AnimateDiffPipeline", "TextToVideoPipeline, or halfstep animate"],
  ["AnimateDiffSDXLPipeline", "TextToVideoPipeline, or halfstep animate"],
  ["StableDiffusionPipeline", "TextToImagePipeline, or halfstep generate; TextToVideoPipeline with a motion adapter"],
  ["StableDiffusionImg2ImgPipeline", "TextToImagePipeline, or halfstep generate"],
  ["StableDiffusionInpaintPipeline", "TextToImagePipeline, or halfstep generate"],
  ["StableDiffusionXLPipeline", "TextToImagePipeline, or halfstep generate; TextToVideoPipeline with a motion adapter"],
  ["StableDiffusionXLImg2ImgPipeline", "TextToImagePipeline, or halfstep generate"],
  ["StableDiffusionXLInpaintPipeline", "TextToImagePipeline, or halfstep generate"],
  ["StableDiffusion3Pipeline", "TextToImagePipeline, or halfstep generate"],
  ["StableDiffusion3Img2ImgPipeline", "TextToImagePipeline, or halfstep generate"],
  ["StableDiffusion3InpaintPipeline", "TextToImagePipeline, or halfstep generate"],
  [
    "LatentConsistencyModelPipeline",
    "TextToImagePipeline, or halfstep generate; TextToVideoPipeline with a motion adapter",
  ],
  ["LatentConsistencyModelImg2ImgPipeline", "TextToImagePipeline, or halfstep generate"],
  ["StableVideoDiffusionPipeline", "ImageToVideoPipeline, or halfstep animate --image"],
]);

/** The message for a pipeline whose class is not one of `supported`. */
function otherPipeline(className: string, supported: readonly string[]): string {
  const article = /^[AEIOU]/i.test(className) ? "an" : "a";
  const opener = openedBy.get(className);
  return (
    `it is ${article} ${className.slice(0, 100)}, and this call is for ${supported.join(" or ")}. ` +
    (opener === undefined ? "Nothing here opens that class." : `It is opened by ${opener}.`)
  );
}

/** The default guidance scale: `_guidance_scale` of model_index.json, or `usual`. */
export function ownGuidance(folder: Folder, { options }: ModelIndex, usual: number): number {
  const { _guidance_scale: own = usual } = options;
  if (typeof own === "number") return own;
  throw new ConfigError(`${folder.name}/model_index.json: "_guidance_scale" is not a number.`);
}

/** The default for the most tokens of a prompt: `_max_sequence_length` of model_index.json, or `usual`. */
export function ownSequenceLength(folder: Folder, { options }: ModelIndex, usual: number): number {
  const { _max_sequence_length: own = usual } = options;
  if (Number.isInteger(own) && (own as number) >= 2 && (own as number) <= 4096) return own as number;
  throw new ConfigError(
    `${folder.name}/model_index.json: "_max_sequence_length" is not a whole number from 2 to 4096.`,
  );
}

/** A flag of model_index.json under one of halfstep's own keys. */
export function ownFlag(folder: Folder, { options }: ModelIndex, name: string, usual: boolean): boolean {
  const own = options[name] ?? usual;
  if (typeof own === "boolean") return own;
  throw new ConfigError(`${folder.name}/model_index.json: "${name}" is not true or false.`);
}

/** The default guidance interval: `_guidance_interval` of model_index.json, or all steps. */
export function ownGuidanceInterval(folder: Folder, { options }: ModelIndex): GuidanceInterval {
  const { _guidance_interval: own = EVERY_STEP } = options;
  const at = `${folder.name}/model_index.json: "_guidance_interval"`;
  if (!Array.isArray(own) || !own.every((share) => typeof share === "number")) {
    throw new ConfigError(`${at} is not a list of two numbers.`);
  }
  try {
    checkGuidanceInterval(own as unknown as GuidanceInterval);
  } catch (cause) {
    throw new ConfigError(`${at}: ${(cause as Error).message}`, { cause });
  }
  return own as unknown as GuidanceInterval;
}
