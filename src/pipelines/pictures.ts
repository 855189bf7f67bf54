/** What the pipelines for pictures have in common: their options, and what a call gives. */
import type { AccelerationReport } from "../acceleration/acceleration.ts";
import { stepsCheck } from "../components/solver.ts";
import { toPictures } from "../media/picture.ts";
import { RawImage } from "../media/raw-image.ts";
import type { OptionTable } from "../options/options.ts";
import { type GuidanceInterval, guidanceIntervalCheck, guidanceScaleCheck } from "../sampling/guidance.ts";
import { memoryCheck } from "../streamlined/bytes.ts";
import type { FloatTensor } from "../tensor.ts";
import type { PlannedPart } from "./run-plan.ts";
import { type LoopOptions, type SamplingOptions, samplingOptions } from "./settings.ts";

/** Options that calls of both image pipelines have. */
export interface PictureOptions extends SamplingOptions {
  /** Inference steps; 20 unless given, of a class-to-image model 50. */
  steps?: number;
  /**
   * How far to go from what the model gives for the negative prompt, or for no class; at most 1 does without it, in half the time. The
   * model's own unless given (of a class-to-image model 4).
   */
  guidanceScale?: number;
  /** Between which shares of the steps, [0, 1] for all. The model's own unless given. */
  guidanceInterval?: GuidanceInterval;
  /** How much memory the whole process may take, in bytes or as "6GB"; no limit unless given. Then the default of `accelerate` is "none". */
  memory?: number | string;
}

export const pictureOptions: OptionTable<PictureOptions> = {
  ...samplingOptions,
  steps: stepsCheck,
  guidanceScale: guidanceScaleCheck,
  guidanceInterval: guidanceIntervalCheck,
  memory: memoryCheck,
};

export interface PictureResult extends AccelerationReport {
  /** All pictures of the first prompt, then those of the second; or one for each class. */
  images: RawImage[];
  /** Of each picture. */
  seeds: number[];
  /** With a budget of memory: what each part of the call was predicted to take. They run one after the other. */
  planned?: readonly PlannedPart[];
}

/** What the loop needs, once prompts are embedded. `noise`: [batch, channels, height, width]. */
export interface PictureLoopOptions extends LoopOptions {
  guidanceScale: number;
  /** [0, 1], all steps, unless given. */
  guidanceInterval?: GuidanceInterval;
}

/** Decoded values [batch, 3, height, width] as 8-bit pixels. */
export const toImages = (decoded: FloatTensor): RawImage[] =>
  toPictures(decoded).map((picture) => new RawImage(picture));
