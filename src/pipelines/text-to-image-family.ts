/** What tells one family of text-to-image models from another: its denoiser, and how texts and sizes become what that reads. */

import type { PictureKind } from "../acceleration/acceleration.ts";
import type { Streamlined } from "../acceleration/streamlined.ts";
import type { Component, RunningOptions } from "../components/components.ts";
import type { Releasable } from "../runtime/open-all.ts";
import type { Feeds } from "../sampling/denoiser.ts";
import type { PlannedRun } from "../streamlined/planner.ts";
import type { FloatTensor } from "../tensor.ts";

/** What a denoiser is told of texts, under the names of its inputs, one row a text. */
export type TextEmbeddings = Readonly<Record<string, FloatTensor>> & { readonly encoderHiddenStates: FloatTensor };

/** Settings that only some families have. Sizes are [height, width] in pixels. */
export interface FamilyOptions {
  /**
   * Most tokens of a prompt (PixArt; Stable Diffusion 3: of T5 alone, at most 512): the model's own, or 120 for PixArt-alpha, 300 for
   * sigma and 256 for Stable Diffusion 3.
   */
  maxSequenceLength?: number;
  /** Whether prompts are cleaned of addresses, markup, brackets and the like (PixArt), as diffusers does; the model's own, or true. */
  cleanCaption?: boolean;
  /**
   * How many of the text encoder's last layers are left out (Stable Diffusion). Of XL's and of 3's CLIP, which leave out one, these come on
   * top.
   */
  clipSkip?: number;
  /**
   * Whether prompts have weights in them, as web interfaces write them (Stable Diffusion 1, 2, XL): (a) for 1.1 times as much, [a] for
   * 1.1 times less, (a:1.3) for 1.3 times as much, and a backslash before a bracket that is text. False unless given.
   */
  promptWeights?: boolean;
  /** What the second text encoder is told instead of the prompt (Stable Diffusion XL and 3): one for all, or one for each. */
  prompt2?: string | readonly string[];
  negativePrompt2?: string | readonly string[];
  /** What the third one, T5, is told instead (Stable Diffusion 3). */
  prompt3?: string | readonly string[];
  negativePrompt3?: string | readonly string[];
  /** What an image is to look like it was scaled from (Stable Diffusion XL); its own size unless given. */
  originalSize?: readonly [height: number, width: number];
  /** Where it is to look like it was cropped (Stable Diffusion XL); [0, 0] unless given. */
  cropsCoordsTopLeft?: readonly [top: number, left: number];
  /** What size it is to look like it has (Stable Diffusion XL); its own unless given. */
  targetSize?: readonly [height: number, width: number];
  /** The same for the negative prompt; as for the prompt unless given. */
  negativeOriginalSize?: readonly [height: number, width: number];
  negativeCropsCoordsTopLeft?: readonly [top: number, left: number];
  negativeTargetSize?: readonly [height: number, width: number];
  /** How beautiful it is to look (refiners of Stable Diffusion XL), about 1 to 10: 6 unless given. */
  aestheticScore?: number;
  /** The same for the negative prompt: 2.5 unless given. */
  negativeAestheticScore?: number;
  /**
   * Where this run goes on with `image`, the latents of a run that ended there (Stable Diffusion XL): a share of the way from noise
   * to an image, above 0 and below 1. It takes the place of `strength`.
   */
  denoisingStart?: number;
  /** Where this run ends, for another model to go on (Stable Diffusion XL); with `outputType: "latent"`. */
  denoisingEnd?: number;
}

/** What Stable Diffusion XL's UNet is told of an image beside the prompt. */
export type MicroConditions = Pick<
  FamilyOptions,
  | "originalSize"
  | "cropsCoordsTopLeft"
  | "targetSize"
  | "negativeOriginalSize"
  | "negativeCropsCoordsTopLeft"
  | "negativeTargetSize"
  | "aestheticScore"
  | "negativeAestheticScore"
>;

/** Those of some options. */
export const microConditions = (options: MicroConditions): MicroConditions => ({
  originalSize: options.originalSize,
  cropsCoordsTopLeft: options.cropsCoordsTopLeft,
  targetSize: options.targetSize,
  negativeOriginalSize: options.negativeOriginalSize,
  negativeCropsCoordsTopLeft: options.negativeCropsCoordsTopLeft,
  negativeTargetSize: options.negativeTargetSize,
  aestheticScore: options.aestheticScore,
  negativeAestheticScore: options.negativeAestheticScore,
});

/** Name of a setting that only some families have. */
export type FamilyOption = keyof FamilyOptions;

/** Texts for the encoders. */
export interface Texts {
  readonly texts: readonly string[];
  /** What the second encoder is given, and the third; the same unless given. */
  readonly second?: readonly string[];
  readonly third?: readonly string[];
  /** How many of the first are negative prompts. */
  readonly negatives?: number;
  /** Whether the caller did not give them. */
  readonly omitted?: boolean;
}

/** How texts are embedded. */
export type EmbedOptions = Pick<FamilyOptions, "maxSequenceLength" | "cleanCaption" | "clipSkip" | "promptWeights"> &
  RunningOptions;

/** A text encoder whose memory can be planned. */
export interface TextEncoder extends Releasable {
  /**
   * How a run for so many texts, of so many tokens where it has no own number, keeps to a budget in bytes. Throws BudgetError.
   * @internal
   */
  planned(texts: number, budget: number, tokens: number): PlannedRun;
}

/** What conditions depend on beside the texts. */
export type ConditionOptions = MicroConditions & {
  guidanceScale: number;
  /** How many rows are of negative prompts; they come first. */
  negatives?: number;
  /** Of the image, in pixels. */
  height: number;
  width: number;
};

/** The text side of a family, of images or of videos: what a denoiser is told of texts and sizes. */
export interface TextConditions {
  /** The text encoders, which have done their work when sampling begins. */
  readonly encoders: readonly TextEncoder[];
  /** Which of the settings it has that only some families have. */
  readonly takes: readonly FamilyOption[];
  /** Most tokens of a prompt unless a call says otherwise. */
  readonly maxSequenceLength: number;
  /** Name of the pooled state of texts among the denoiser's inputs; none unless given. */
  readonly pooled?: "textEmbeds" | "pooledProjections";
  /** How many numbers the denoiser is told of sizes and the like, where that is not what its class usually is told. */
  readonly timeIds?: number | undefined;
  /** Texts as the text encoders see them. Throws ConfigError in a folder without. */
  embed(texts: Texts, options: EmbedOptions): Promise<{ embeddings: TextEmbeddings; warnings: string[] }>;
  /** All that the denoiser reads beside latent and timestep. */
  conditions(embeddings: TextEmbeddings, options: ConditionOptions): Feeds;
}

/** A family of models as the pipeline sees it. */
export interface TextToImageFamily extends TextConditions {
  readonly denoiser: Component<unknown>;
  /** Runs the denoiser within a memory budget. */
  readonly streamlined: Streamlined<unknown>;
  readonly network: PictureKind;
  /** Settings of a call unless it or the model says otherwise, as in diffusers. */
  readonly usual: {
    readonly steps: number;
    /** Of a call that begins at an image, if they are others. */
    readonly stepsFromImage?: number;
    readonly strength: number;
    readonly maskedStrength: number;
  };
  /** Channels of a latent, and of the denoiser's input: one that sees a mask has more. */
  readonly latentChannels: number;
  readonly inChannels: number;
  /** Height and width of the latent that it was made for. */
  readonly sampleSize: number;
  /** Whether it only draws on: a refiner, which needs an image. */
  readonly refines?: boolean;
  /** A latent's sides are multiples of it. */
  readonly patchSize: number;
  /** The largest side of a latent, where there is a limit. */
  readonly mostSide?: number;
  /** Whether latents are shifted by the autoencoder's shift_factor, beside being scaled. */
  readonly shiftsLatents?: boolean;
  /** Whether a part of a step that `strength` leaves is done as a whole one; it is not done unless given. */
  readonly roundsStepsUp?: boolean;
  /** Tokens that the denoiser sees before those that `maxSequenceLength` counts; none unless given. */
  readonly tokensBefore?: number;
  readonly cleanCaption: boolean;
  /** Whether `strength` says how the steps are spaced instead of how many of them are done: of latent consistency models. */
  readonly spacedByStrength?: boolean;
  /** What a user should know of the model, whatever it draws. */
  readonly notes: readonly string[];
  /** Whether such guidance runs the denoiser with and without the prompt. */
  guided(guidanceScale: number): boolean;
  /** Frees memory and threads. */
  release(): Promise<void>;
}
