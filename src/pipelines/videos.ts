/** What the video pipelines have in common: their options, their size, and what a call gives. */
import { type StreamlinedOptions, streamlinedOptions } from "../acceleration/video-options.ts";
import { callback } from "../checks.ts";
import type { DecodeOptions } from "../components/decode-video.ts";
import { stepsCheck } from "../components/solver.ts";
import { type Animation, toFrames } from "../media/animation.ts";
import { RawImage } from "../media/raw-image.ts";
import type { OptionTable } from "../options/options.ts";
import type { Denoiser } from "../sampling/denoiser.ts";
import type { FloatTensor } from "../tensor.ts";
import { farFromTraining } from "./picture-size.ts";
import type { PictureSize } from "./resolution-bins.ts";
import {
  checkPixels,
  checkSide,
  countCheck,
  framesCheck,
  type SamplingOptions,
  samplingOptions,
  sideCheck,
} from "./settings.ts";

/** Options that calls of both video pipelines have. */
export interface VideoOptions
  extends Omit<SamplingOptions, "accelerate">,
    StreamlinedOptions,
    Pick<DecodeOptions, "onDecode"> {
  /** Inference steps, 25 unless given. */
  steps?: number;
  /** How many videos of each prompt or picture, made together. */
  count?: number;
  /** Of a video; what the model was trained with unless given (AnimateDiff: 16). */
  frames?: number;
  /** In pixels; what the model was made for unless given. Stable Video Diffusion was trained on 1024 x 576. */
  width?: number;
  height?: number;
}

export const videoOptions: OptionTable<VideoOptions> = {
  ...samplingOptions,
  ...streamlinedOptions,
  onDecode: callback,
  steps: stepsCheck,
  count: countCheck,
  frames: framesCheck,
  width: sideCheck,
  height: sideCheck,
};

/** How many steps were done in full, and how many in part. */
export interface VideoActions {
  fullSteps: number;
  rehashSteps: number;
}

export interface VideoResult extends VideoActions {
  /** All videos of the first prompt, then those of the second. */
  videos: Animation<RawImage>[];
  /** Of each video. */
  seeds: number[];
  /** What a user should know: a prompt that was cut, words that the model never saw, a size far from training. */
  warnings: string[];
}

export function videoActions({ actions }: Denoiser): VideoActions {
  const fullSteps = actions.filter((action) => action === "full").length;
  return { fullSteps, rehashSteps: actions.length - fullSteps };
}

/** Decoded values [batch, 3, frames, height, width] as videos of 8-bit pixels. */
export const toVideos = (decoded: FloatTensor, fps: number): Animation<RawImage>[] =>
  toFrames(decoded).map((frames) => ({ frames: frames.map((frame) => new RawImage(frame)), fps }));

export interface VideoSize extends PictureSize {
  readonly latent: PictureSize;
  /** What a user should know about it. */
  readonly notes: string[];
}

/**
 * The size that was asked for, or the model's own. `factor`: how many times the latent is smaller; `trained`: what the model was made
 * for, null where its configuration does not say. Throws ArgumentError for sides that are no multiple of the factor, and for more
 * pixels than one call makes.
 */
export function videoSize(
  frames: number,
  { factor, usual, trained }: { factor: number; usual: PictureSize; trained: PictureSize | null },
  { width = usual.width, height = usual.height }: Pick<VideoOptions, "width" | "height">,
): VideoSize {
  checkSide("width", width, factor);
  checkSide("height", height, factor);
  checkPixels(frames, width, height);
  const notes = trained ? farFromTraining({ width, height }, trained) : [];
  return { width, height, latent: { width: width / factor, height: height / factor }, notes };
}
