/**
 * Text to pictures with PixArt-alpha and PixArt-sigma, after diffusers' PixArtAlphaPipeline and PixArtSigmaPipeline:
 * prompt embeddings from T5, guidance between the negative prompt and the prompt, a solver, the autoencoder's decoder.
 */
import { platform } from "#platform";
import { type Acceleration, checkAcceleration, openDenoiser, reportOf } from "../acceleration/acceleration.ts";
import { type FeedbackComponent, openFeedback } from "../acceleration/feedback-component.ts";
import { callable } from "../callable.ts";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { flag, whole } from "../checks.ts";
import { Component } from "../components/components.ts";
import { decodeLatents } from "../components/decode.ts";
import { checkDecoded } from "../components/decoded-size.ts";
import { type Expected, expected } from "../components/expected-class.ts";
import type { InWorker, LoadingOptions, PipelineOptions } from "../components/loading.ts";
import { ownFlag, ownGuidance, ownGuidanceInterval, ownSequenceLength } from "../components/pipeline-index.ts";
import { STREAM_ABOVE, warningsOf } from "../components/prompt-encoder.ts";
import {
  encodePrompts,
  type PromptEmbeddings,
  PromptTokenizer,
  pickPrompts,
  stackPrompts,
} from "../components/prompts.ts";
import { clippingNotes, readSchedulerConfig, solverOf } from "../components/solver.ts";
import { ConfigError } from "../errors.ts";
import { type AutoencoderKLConfig, autoencoderKL, spatialFactor } from "../models/autoencoder-kl.ts";
import { type PixArtConfig, pixart } from "../models/pixart.ts";
import { type T5Config, t5 } from "../models/t5.ts";
import type { OptionTable } from "../options/options.ts";
import { RunQueue } from "../platform/run-queue.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Denoiser } from "../sampling/denoiser.ts";
import { type GuidanceInterval, guidedDenoise } from "../sampling/guidance.ts";
import { sample } from "../sampling/sampler.ts";
import { seedsOf } from "../sampling/seeds.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import { captionText } from "../tokenizers/captions/caption-text.ts";
import { cleanCaption } from "../tokenizers/captions/clean-caption.ts";
import { fromPretrained, openFolder } from "./opening.ts";
import { pictureSizes, type Sizes, sizeNotes } from "./picture-size.ts";
import {
  type PictureLoopOptions,
  type PictureOptions,
  type PictureResult,
  pictureOptions,
  toImages,
} from "./pictures.ts";
import { promptList } from "./prompt-list.ts";
import { resizeAndCrop } from "./resolution-bins.ts";
import { countCheck, noiseFor, promptCheck, promptListCheck, sideCheck } from "./settings.ts";

/** Options of a call: size, steps, guidance, seeds, acceleration. */
export interface TextToImageOptions extends PictureOptions {
  /** One for all prompts, or one for each. */
  negativePrompt?: string | readonly string[];
  /** How many pictures of each prompt, made together. */
  count?: number;
  /** In pixels; what the model was made for unless given. */
  width?: number;
  height?: number;
  /** Most tokens of a prompt: the model's own, or 120 for PixArt-alpha and 300 for sigma. */
  maxSequenceLength?: number;
  /** Whether prompts are cleaned of addresses, markup, brackets and the like, as diffusers does; the model's own, or true. */
  cleanCaption?: boolean;
  /**
   * Whether to draw at the trained size with the nearest aspect ratio and fit the picture to the size that was asked for, as diffusers
   * does: true for a model of 256, 512, 1024 or (sigma) 2048 pixels, which have such sizes.
   */
  useResolutionBinning?: boolean;
}

/** More than any checkpoint was trained with. */
const MOST_TOKENS = 4096;

export const textToImageOptions: OptionTable<TextToImageOptions> = {
  ...pictureOptions,
  negativePrompt: promptCheck,
  count: countCheck,
  width: sideCheck,
  height: sideCheck,
  maxSequenceLength: whole(2, MOST_TOKENS),
  cleanCaption: flag,
  useResolutionBinning: flag,
};

export interface TextToImageResult extends PictureResult {
  /** What a user should know: a prompt that was cut, words that the model never saw. */
  warnings: string[];
}

/** What the loop needs, once prompts are embedded; tensors as in diffusers' calls. `noise`: [batch, channels, height, width]. */
export interface SampleLatentsOptions extends PictureLoopOptions {
  /** One row a picture. */
  prompt: PromptEmbeddings;
  /** Counts at a guidance scale above 1 only. */
  negative: PromptEmbeddings | null;
}

/** A pipeline that was opened with `worker`: what can be used without its networks. Every TextToImage is one too. */
export type TextToImageInWorker = Pick<
  TextToImagePipeline,
  "name" | "className" | "guidanceScale" | "guidanceInterval" | "schedulerConfig" | "generate" | "release"
> &
  ((input: string | readonly string[], options?: TextToImageOptions) => Promise<TextToImageResult>);

/** `const { images } = await pipe("a cat")` is short for `pipe.generate("a cat")`. */
export type TextToImage = TextToImagePipeline &
  ((prompt: string | readonly string[], options?: TextToImageOptions) => Promise<TextToImageResult>);

export const textToImageClasses = ["PixArtSigmaPipeline", "PixArtAlphaPipeline"] as const;
const kind = { name: "TextToImagePipeline", options: textToImageOptions };

/** Images of prompts with PixArt-alpha and PixArt-sigma. `fromPretrained` opens one; what it gives can be called. */
export class TextToImagePipeline {
  readonly name: string;
  readonly className: string;
  readonly transformer: Component<PixArtConfig>;
  readonly vae: Component<AutoencoderKLConfig>;
  /** For `accelerate: "ilf"`; null in a folder without one. */
  readonly feedback: FeedbackComponent | null;
  /** Null in a folder without one: only `sampleLatents` and `decode` work then. */
  readonly textEncoder: Component<T5Config> | null;
  readonly tokenizer: PromptTokenizer | null;
  readonly schedulerConfig: RawConfig;
  /** What prompts are followed with unless a call says otherwise: `_guidance_scale` of model_index.json, or PixArt's 4.5. */
  readonly guidanceScale: number;
  /** In which of the steps: `_guidance_interval` of model_index.json, or in all. */
  readonly guidanceInterval: GuidanceInterval;
  /** Most tokens of a prompt: `_max_sequence_length` of model_index.json, or what diffusers' pipeline has. */
  readonly maxSequenceLength: number;
  /** Whether prompts are cleaned: `_clean_caption` of model_index.json, or true. */
  readonly cleanCaption: boolean;

  readonly #queue: RunQueue;

  private constructor(parts: Pick<TextToImagePipeline, PartName>) {
    this.name = parts.name;
    this.#queue = new RunQueue(parts.name);
    this.className = parts.className;
    this.transformer = parts.transformer;
    this.vae = parts.vae;
    this.feedback = parts.feedback;
    this.textEncoder = parts.textEncoder;
    this.tokenizer = parts.tokenizer;
    this.schedulerConfig = parts.schedulerConfig;
    this.guidanceScale = parts.guidanceScale;
    this.guidanceInterval = parts.guidanceInterval;
    this.maxSequenceLength = parts.maxSequenceLength;
    this.cleanCaption = parts.cleanCaption;
  }

  /** `model`: the name of an embedded model ("fluent-emoji"), a folder in diffusers' layout, or a Hub id. */
  static fromPretrained(model: string, options: LoadingOptions & InWorker): Promise<TextToImageInWorker>;
  static fromPretrained(model: string, options?: LoadingOptions): Promise<TextToImage>;
  static fromPretrained(model: string, given: LoadingOptions & Partial<InWorker> = {}): Promise<TextToImageInWorker> {
    return fromPretrained(model, given, kind, (folder, options) =>
      TextToImagePipeline.fromFolder(folder, platform.runtime, options),
    );
  }

  /** Reads configurations and the headers of the weights. Throws CheckpointError and ConfigError. */
  static async fromFolder(folder: Folder, runtime: Runtime, given: PipelineOptions = {}): Promise<TextToImage> {
    const { options, index } = await openFolder(folder, runtime, given, {
      name: kind.name,
      classes: textToImageClasses,
    });
    const { className, components } = index;
    const open = <C>(name: string, expected: Expected<C>, limits = {}) =>
      Component.open(folder.sub(name), expected, runtime, options, limits);
    const transformer = await open("transformer", expected(pixart));
    const pipeline = new TextToImagePipeline({
      name: folder.name,
      className,
      transformer,
      feedback: await openFeedback(folder, transformer),
      vae: await open("vae", expected(autoencoderKL.decoder)),
      textEncoder: components.has("text_encoder")
        ? await open("text_encoder", expected(t5), { streamAbove: STREAM_ABOVE })
        : null,
      tokenizer: components.has("tokenizer") ? await PromptTokenizer.open(folder.sub("tokenizer")) : null,
      schedulerConfig: await readSchedulerConfig(folder, index),
      guidanceScale: ownGuidance(folder, index, 4.5),
      guidanceInterval: ownGuidanceInterval(folder, index),
      maxSequenceLength: ownSequenceLength(folder, index, className === "PixArtAlphaPipeline" ? 120 : 300),
      cleanCaption: ownFlag(folder, index, "_clean_caption", true),
    });
    return callable(pipeline);
  }

  /**
   * Pictures of a prompt, or of each of several: the same as one call a prompt gives with their seeds. Throws ArgumentError
   * for settings outside their range, NumericError if the model gives something that is not a number, and the signal's
   * reason when it is aborted.
   */
  async generate(prompt: string | readonly string[], options: TextToImageOptions = {}): Promise<TextToImageResult> {
    const of = { of: "TextToImagePipeline.generate", self: this };
    return this.#queue.call(options, textToImageOptions, of, (read) => this.#generate(prompt, read));
  }

  async #generate(prompt: string | readonly string[], options: TextToImageOptions): Promise<TextToImageResult> {
    const { guidanceScale = this.guidanceScale, guidanceInterval = this.guidanceInterval, count = 1 } = options;
    const { negativePrompt = "", signal, onStep } = options;
    signal?.throwIfAborted();
    const list = promptList(prompt, negativePrompt, { count, guided: guidanceScale > 1 });
    const pictures = list.prompts.length;
    const acceleration = checkAcceleration(options.accelerate, this.feedback);
    const size = this.#sizes(pictures, options);
    const { height, width } = size.latent;
    const solver = solverOf(this.schedulerConfig, options, 20);
    const seeds = seedsOf(pictures, options);

    const { embeddings, warnings } = await this.embed(list.texts, options);
    const tokens = embeddings.encoderHiddenStates.shape[1]!;
    const denoiser = await this.openDenoiser({ height, width, tokens }, acceleration);
    const latents = await this.sampleLatents({
      ...solver,
      ...noiseFor(seeds, [1, this.transformer.config.inChannels, height, width]),
      denoiser,
      guidanceScale,
      guidanceInterval,
      prompt: pickPrompts(embeddings, list.prompts),
      negative: list.negatives && pickPrompts(embeddings, list.negatives),
      signal,
      onStep,
    });
    const images = toImages(resizeAndCrop(await this.decode(latents), size));
    signal?.throwIfAborted();
    warnings.push(...sizeNotes(size), ...clippingNotes(this.schedulerConfig, options.scheduler, solver.scheduler));
    return { images, seeds, warnings, ...reportOf(acceleration.method, denoiser) };
  }

  /**
   * What the warnings of a result will say of a size, before it is drawn. Throws ArgumentError for a size that cannot be, or that takes more
   * memory than there is.
   */
  sizeWarnings(
    options: Pick<TextToImageOptions, "width" | "height" | "useResolutionBinning" | "count"> = {},
  ): string[] {
    return sizeNotes(this.#sizes(options.count ?? 1, options));
  }

  /** A denoiser for one run of the sampler on latents of this size. */
  openDenoiser(
    { height, width, tokens }: { height: number; width: number; tokens: number },
    acceleration: Acceleration,
  ): Promise<Denoiser> {
    this.#queue.checkOpen();
    return openDenoiser(this.transformer, { batch: "batch", height, width, tokens }, acceleration, this.feedback);
  }

  /** Prompts as the text encoder sees them, one row each. */
  async embed(
    prompts: readonly string[],
    {
      maxSequenceLength,
      cleanCaption: clean = this.cleanCaption,
      signal,
    }: Pick<TextToImageOptions, "maxSequenceLength" | "cleanCaption" | "signal"> = {},
  ) {
    this.#queue.checkOpen();
    promptListCheck(prompts, "The prompts");
    if (maxSequenceLength !== undefined) textToImageOptions.maxSequenceLength(maxSequenceLength, "maxSequenceLength");
    const { tokenizer, textEncoder } = this;
    if (!tokenizer || !textEncoder) {
      throw new ConfigError(`${this.name}: has no text encoder and tokenizer, which turn a prompt into embeddings.`);
    }
    const length = maxSequenceLength ?? this.maxSequenceLength;
    const text = clean ? cleanCaption : captionText;
    const tokenized = prompts.map((prompt) => tokenizer.encode(text(prompt), length));
    return { embeddings: await encodePrompts(tokenized, textEncoder, signal), warnings: warningsOf(tokenized, length) };
  }

  /** The sampling loop with guidance: noise to latents (scaled as the denoiser has them). */
  async sampleLatents(options: SampleLatentsOptions): Promise<FloatTensor> {
    const { prompt, guidanceScale, guidanceInterval, negative, ...loop } = options;
    const { config } = this.transformer;
    const [, channels, height, width] = loop.noise.shape as [number, number, number, number];
    const tokens = prompt.encoderHiddenStates.shape[1]!;
    const conditionsOf = (embeddings: PromptEmbeddings) => ({
      ...embeddings,
      ...(config.useAdditionalConditions &&
        sizeConditions(embeddings.encoderHiddenStates.shape[0]!, height, width, spatialFactor(this.vae.config))),
    });
    return sample({
      ...loop,
      denoise: guidedDenoise({
        denoiser: loop.denoiser ?? (await this.openDenoiser({ height, width, tokens }, { method: "none" })),
        input: this.transformer.latent,
        channels,
        guidanceScale,
        guidanceInterval,
        conditions: conditionsOf(prompt),
        // The negative prompt first, as diffusers has it.
        bothConditions: guidanceScale > 1 && negative ? conditionsOf(stackPrompts(negative, prompt)) : null,
      }),
    });
  }

  /** Latents to decoded values [batch, 3, height, width], not clamped. */
  async decode(latents: FloatTensor): Promise<FloatTensor> {
    this.#queue.checkOpen();
    return decodeLatents(this.vae, latents);
  }

  /** Frees memory and threads once all calls before it are done. Later calls reject with StateError. */
  release(): Promise<void> {
    return this.#queue.close(() => releaseAll([this.transformer, this.vae, this.textEncoder, this.feedback]));
  }

  #sizes(pictures: number, options: TextToImageOptions): Sizes {
    const { sampleSize, patchSize } = this.transformer.config;
    const factor = spatialFactor(this.vae.config);
    const sizes = pictureSizes({ pipeline: this.className, sampleSize, patchSize, factor }, pictures, options);
    const decoded = { count: pictures, size: sizes.drawn, unit: factor * patchSize, memory: platform.memory() };
    checkDecoded(this.vae.config, decoded);
    return sizes;
  }
}

type PartName =
  | "name"
  | "className"
  | "transformer"
  | "vae"
  | "feedback"
  | "textEncoder"
  | "tokenizer"
  | "schedulerConfig"
  | "guidanceScale"
  | "guidanceInterval"
  | "maxSequenceLength"
  | "cleanCaption";

/** PixArt-alpha's micro-conditions: height and width in pixels, and their ratio (section 2.4 of its appendix). */
function sizeConditions(batch: number, height: number, width: number, factor: number): Record<string, FloatTensor> {
  const pixels = [height * factor, width * factor];
  return {
    resolution: floatTensor(
      [batch, 2],
      Float32Array.from({ length: 2 * batch }, (_, i) => pixels[i % 2]!),
    ),
    aspectRatio: floatTensor([batch, 1], new Float32Array(batch).fill(height / width)),
  };
}
