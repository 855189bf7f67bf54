/** What a caller of a video pipeline says about speed and memory. */
import { type Check, callback, isObject, oneOf, text, textOr, whole } from "../checks.ts";
import { type OptionTable, settings } from "../options/options.ts";
import { type StepChoice, stepChoiceCheck } from "../sampling/step-policy.ts";
import { memoryCheck } from "../streamlined/bytes.ts";
import type { Listeners } from "../streamlined/rehash.ts";

export const guidanceStepsChoices = ["full", "all"] as const;

/** Step Rehash, with what it needs to know. */
export interface RehashOptions {
  method: "rehash";
  /** Which steps are full: of 25 the first seven and every third after them unless given, of others the same share. */
  schedule?: StepChoice;
  /** The feature after which a rehash step comes back in: after the first layer of the last block unless given. */
  cut?: string;
  /** How many features of the way down a rehash step works out anew, 1 unless given: the first convolution. */
  fresh?: number;
  /**
   * The steps at which guidance works out the network with and without the condition: "full" ones unless given. At the others
   * the difference of the last full step serves, and they cost half as much.
   */
  guidanceSteps?: (typeof guidanceStepsChoices)[number];
}

/** The noise that the last full step predicted, again: what Step Rehash has to be better than. */
export interface ReuseOptions {
  method: "reuse";
  schedule?: StepChoice;
}

export const videoAccelerations = ["none", "rehash"] as const;
/** "none" unless given. */
export type VideoAccelerate = (typeof videoAccelerations)[number] | RehashOptions | ReuseOptions;

const rehashTable: OptionTable<RehashOptions> = {
  method: oneOf(["rehash"]),
  schedule: stepChoiceCheck,
  cut: text,
  fresh: whole(0, 4096),
  guidanceSteps: oneOf(guidanceStepsChoices),
};
const reuseTable: OptionTable<ReuseOptions> = { method: oneOf(["reuse"]), schedule: stepChoiceCheck };

const videoAccelerateCheck: Check = textOr(oneOf(videoAccelerations), (value, name) => {
  const reuses = isObject(value) && value["method"] === "reuse";
  (reuses ? settings(reuseTable) : settings(rehashTable))(value, name);
});

export interface StreamlinedOptions extends Listeners {
  /** What the whole process may take, as bytes or "6GB"; as much as it likes unless given. */
  memory?: number | string;
  /** With `onFeatures` all steps are full: it is given the features at all places where they could be cut. */
  accelerate?: VideoAccelerate;
}

export const streamlinedOptions: OptionTable<StreamlinedOptions> = {
  memory: memoryCheck,
  accelerate: videoAccelerateCheck,
  onGroup: callback,
  onFeatures: callback,
};

/** With the settings of its method, if any. Throws ArgumentError for a method or a setting that there is not. */
export function checkVideoAcceleration(
  accelerate: VideoAccelerate = "none",
): { method: "none" } | RehashOptions | ReuseOptions {
  videoAccelerateCheck(accelerate, "accelerate");
  return typeof accelerate === "string" ? { method: accelerate } : accelerate;
}
