/** Options of video pipelines for speed and memory. */
import { callback } from "../checks.ts";
import type { OptionTable } from "../options/options.ts";
import { memoryCheck } from "../streamlined/bytes.ts";
import type { Listeners } from "../streamlined/rehash.ts";
import {
  type MethodFor,
  type MethodSettings,
  methodCheck,
  methodsFor,
  namesOf,
  type OfferedMethod,
} from "./methods.ts";
import type { RehashSettings } from "./rehash.ts";
import type { ReuseSettings } from "./reuse.ts";

const methods = methodsFor("video-unet");

/** Step Rehash and its settings. */
export interface RehashOptions extends RehashSettings {
  method: "rehash";
}

/** Uses the prediction of the last full step again: the baseline that Step Rehash has to beat. */
export interface ReuseOptions extends ReuseSettings {
  method: "reuse";
}

/** Names that `accelerate` of a video takes. */
export const videoAccelerations = namesOf(methods) as readonly OfferedMethod<"video-unet">[];
/** A method's name, or it with settings of its own. "none" unless given. */
export type VideoAccelerate = OfferedMethod<"video-unet"> | MethodSettings<"video-unet">;

const videoAccelerateCheck = methodCheck(methods);

/** How a video's denoiser runs: within how much memory, and which steps in part. */
export interface StreamlinedOptions extends Listeners {
  /** How much memory the whole process may take, in bytes or as "6GB"; no limit unless given. */
  memory?: number | string;
  /** The method for steps in part. With `onFeatures` all steps are full, since it gets the features of all cuts. */
  accelerate?: VideoAccelerate;
}

export const streamlinedOptions: OptionTable<StreamlinedOptions> = {
  memory: memoryCheck,
  accelerate: videoAccelerateCheck,
  onGroup: callback,
  onFeatures: callback,
};

/** A method of the table, with its settings. */
export interface ChosenMethod {
  readonly method: MethodFor<"video-unet">;
  readonly settings: Omit<MethodSettings<"video-unet">, "method">;
}

/** The method's entry, with its settings. Throws ArgumentError for a method or a setting that there is not. */
export function videoMethodOf(accelerate: VideoAccelerate = "none"): ChosenMethod {
  videoAccelerateCheck(accelerate, "accelerate");
  const { method, ...settings } = typeof accelerate === "string" ? { method: accelerate } : accelerate;
  return { method: methods.find(({ name }) => name === method)!, settings };
}
