/** The options of `animate`, as the pipelines take them. */
import type { VideoAccelerate } from "../acceleration/video-options.ts";
import { defined } from "../options/defined.ts";
import type { TextToVideoOptions } from "../pipelines/text-to-video.ts";
import type { Bars } from "./animate-progress.ts";
import {
  type LoadingOptions,
  loadingOf,
  type Memory,
  type OutputOptions,
  type SamplerOptions,
  type SizeOptions,
  samplerOf,
} from "./options.ts";
import { promptOptions } from "./prompt-options.ts";

type PromptOptions = Pick<TextToVideoOptions, (typeof promptOptions)[number]>;

/** Those that were given. */
export const ofPrompt = (options: AnimateOptions) =>
  defined(Object.fromEntries(promptOptions.map((name) => [name, options[name]]))) as PromptOptions;

/** In addition there are `--accelerate` and its options, which `methodOf` reads. */
export interface AnimateOptions extends LoadingOptions, SamplerOptions, SizeOptions, OutputOptions, PromptOptions {
  out: string;
  adapter?: string;
  image?: string;
  prompts?: string;
  count: number;
  negative: string;
  frames?: number;
  fps?: number;
  motion?: number;
  noise?: number;
  memory?: Memory;
  accelerate?: string;
}

/** What a run is given beside its options. */
export interface Run {
  readonly accelerate: VideoAccelerate | undefined;
  readonly bars: Bars;
  readonly signal: AbortSignal;
}

/** The options for opening a pipeline. */
export const openingOf = (options: AnimateOptions, { bars, signal }: Run) => ({
  ...loadingOf(options),
  signal,
  onDownload: bars.onDownload,
});

/** Options of a call that both pipelines have. */
export const callOf = (options: AnimateOptions, { accelerate, bars, signal }: Run, seed: number) => ({
  ...samplerOf({ ...options, seed }),
  ...{ width: options.width, height: options.height, memory: options.memory?.bytes, accelerate },
  onGroup: bars.onGroup,
  signal,
  onStep: bars.onStep,
  onDecode: bars.onDecode,
});

/** The options for memory and steps, as settings that are stored with the video. */
export const chosenOf = (
  { memory, accelerate }: AnimateOptions,
  { fullSteps, rehashSteps }: { fullSteps: number; rehashSteps: number },
) => ({
  ...defined({ memory: memory?.text }),
  ...(accelerate !== undefined && accelerate !== "none" && { accelerate, fullSteps, rehashSteps }),
});
