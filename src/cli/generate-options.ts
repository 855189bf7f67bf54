/** The options of `generate`. */
import { defined } from "../options/defined.ts";
import type { GuidanceInterval } from "../sampling/guidance.ts";
import type { LoadingOptions, Memory, OutputOptions, SamplerOptions, SizeOptions } from "./options.ts";

/** In addition there are `--accelerate` and its options, which `methodOf` reads. */
export interface GenerateOptions extends LoadingOptions, SamplerOptions, SizeOptions, OutputOptions {
  cleanCaption: boolean;
  resolutionBinning: boolean;
  out: string;
  prompts?: string;
  class?: string[];
  negative: string;
  memory?: Memory;
  image?: string;
  mask?: string;
  strength?: number;
  clipSkip?: number;
  guidanceRescale?: number;
  guidanceInterval?: GuidanceInterval;
  count: number;
  sheet: boolean;
}

/** Settings that apply only to images from prompts. Those that are on by default are left to the model. */
export function ofPrompt({ negative, cleanCaption, resolutionBinning, ...options }: GenerateOptions) {
  const { strength, clipSkip, guidanceRescale } = options;
  return {
    negativePrompt: negative,
    ...defined({ strength, clipSkip, guidanceRescale }),
    ...(!cleanCaption && { cleanCaption }),
    ...(!resolutionBinning && { useResolutionBinning: false }),
  };
}
