/**
 * Text to pictures with PixArt-alpha and PixArt-sigma, after diffusers' PixArtAlphaPipeline and PixArtSigmaPipeline:
 * prompt embeddings from T5, guidance between the negative prompt and the prompt, a solver, the autoencoder's decoder.
 */
import { platform } from "#platform";
import {
  type Acceleration,
  type AccelerationReport,
  checkAcceleration,
  openDenoiser,
  reportOf,
} from "../acceleration/acceleration.ts";
import { type FeedbackComponent, openFeedback } from "../acceleration/feedback-steps.ts";
import { callable } from "../callable.ts";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { flag, whole } from "../checks.ts";
import {
  Component,
  forNetworks,
  type InWorker,
  type LoadingOptions,
  openPipeline,
  ownFlag,
  ownGuidance,
  ownGuidanceInterval,
  ownSequenceLength,
  type PipelineOptions,
  pipelineOptions,
  readLoadingOptions,
} from "../components/components.ts";
import { decodeLatents } from "../components/decode.ts";
import { checkDecoded } from "../components/decoded-size.ts";
import { type Expected, expected } from "../components/expected-class.ts";
import { encodePrompts, type PromptEmbeddings, PromptTokenizer, pickPrompts } from "../components/prompts.ts";
import { clippingNotes, readSchedulerConfig, type Solver, solverOf, stepsCheck } from "../components/solver.ts";
import { ConfigError } from "../errors.ts";
import { toPictures } from "../media/picture.ts";
import { RawImage } from "../media/raw-image.ts";
import { type AutoencoderKLConfig, autoencoderKL, spatialFactor } from "../models/autoencoder-kl.ts";
import { type PixArtConfig, pixart } from "../models/pixart.ts";
import { type T5Config, t5 } from "../models/t5.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { Turns } from "../platform/run-queue.ts";
import { withProvider, workingProvider } from "../runtime/provider.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Denoiser } from "../sampling/denoiser.ts";
import {
  EVERY_STEP,
  type GuidanceInterval,
  guidanceIntervalCheck,
  guidanceScaleCheck,
  guidedDenoise,
  stack,
} from "../sampling/guidance.ts";
import { type SamplerStep, sample } from "../sampling/sampler.ts";
import { seededNoise, seedsOf } from "../sampling/seeds.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import { captionText } from "../tokenizers/captions/caption-text.ts";
import { cleanCaption } from "../tokenizers/captions/clean-caption.ts";
import { openInWorker } from "../worker/client.ts";
import { pictureSizes, type Sizes, sizeNotes } from "./picture-size.ts";
import { promptList } from "./prompt-list.ts";
import { resizeAndCrop } from "./resolution-bins.ts";
import {
  countCheck,
  promptCheck,
  promptListCheck,
  type SamplingOptions,
  samplingOptions,
  sideCheck,
} from "./settings.ts";

export interface TextToImageOptions extends SamplingOptions {
  /** One for all prompts, or one for each. */
  negativePrompt?: string | readonly string[];
  /** Solver steps, 20 unless given. */
  steps?: number;
  /** How far to go from what the negative prompt gives; at most 1 does without it, in half the time. The model's own unless given. */
  guidanceScale?: number;
  /** Between which shares of the steps, [0, 1] for all. The model's own unless given. */
  guidanceInterval?: GuidanceInterval;
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
  ...samplingOptions,
  negativePrompt: promptCheck,
  steps: stepsCheck,
  guidanceScale: guidanceScaleCheck,
  guidanceInterval: guidanceIntervalCheck,
  count: countCheck,
  width: sideCheck,
  height: sideCheck,
  maxSequenceLength: whole(2, MOST_TOKENS),
  cleanCaption: flag,
  useResolutionBinning: flag,
};

export interface TextToImageResult extends AccelerationReport {
  /** All pictures of the first prompt, then those of the second. */
  images: RawImage[];
  /** Of each picture. */
  seeds: number[];
  /** What a user should know: a prompt that was cut, words that the model never saw. */
  warnings: string[];
}

/** What the loop needs, once prompts are embedded; tensors as in diffusers' calls. */
export interface SampleLatentsOptions extends Solver {
  guidanceScale: number;
  /** [0, 1], all steps, unless given. */
  guidanceInterval?: GuidanceInterval;
  /** Standard normal noise [batch, channels, height, width]. */
  noise: FloatTensor;
  /** One row a picture. */
  prompt: PromptEmbeddings;
  /** Counts at a guidance scale above 1 only. */
  negative: PromptEmbeddings | null;
  /** All steps in full unless given. */
  denoiser?: Denoiser;
  drawNoise?: () => FloatTensor;
  signal?: AbortSignal;
  onStep?: (step: SamplerStep) => void | Promise<void>;
}

/** With `worker`: what of a pipeline is not in the worker's memory. Every TextToImage is one too. */
export type TextToImageInWorker = Pick<
  TextToImagePipeline,
  "name" | "className" | "guidanceScale" | "guidanceInterval" | "schedulerConfig" | "generate" | "release"
> &
  ((input: string | readonly string[], options?: TextToImageOptions) => Promise<TextToImageResult>);

/** `const { images } = await pipe("a cat")` is short for `pipe.generate("a cat")`. */
export type TextToImage = TextToImagePipeline &
  ((prompt: string | readonly string[], options?: TextToImageOptions) => Promise<TextToImageResult>);

export const textToImageClasses = ["PixArtSigmaPipeline", "PixArtAlphaPipeline"] as const;
/** T5-XXL is eight times as large as the transformer it serves, and runs once a prompt: it goes through in parts. */
const STREAM_ABOVE = 512 * 2 ** 20;

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

  readonly #turns: Turns;

  private constructor(parts: Pick<TextToImagePipeline, PartName>) {
    this.name = parts.name;
    this.#turns = new Turns(parts.name);
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
  static async fromPretrained(
    model: string,
    given: LoadingOptions & Partial<InWorker> = {},
  ): Promise<TextToImageInWorker> {
    const pipeline = "TextToImagePipeline";
    const { worker, ...options } = readLoadingOptions(given, pipeline);
    if (worker) return openInWorker({ pipeline, model, worker, loading: options, options: textToImageOptions });
    await workingProvider(platform.runtime, options.provider);
    const folder = await platform.resolveModel(model, options);
    return TextToImagePipeline.fromFolder(folder, platform.runtime, forNetworks(options));
  }

  /** Reads configurations and the headers of the weights. Throws CheckpointError and ConfigError. */
  static async fromFolder(folder: Folder, runtime: Runtime, given: PipelineOptions = {}): Promise<TextToImage> {
    const options = await withProvider(
      readOptions(given, pipelineOptions, { of: "TextToImagePipeline.fromFolder" }),
      runtime,
    );
    const index = await openPipeline(folder, textToImageClasses);
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
    return callable(pipeline, (prompt: string | readonly string[], settings?: TextToImageOptions) =>
      pipeline.generate(prompt, settings),
    );
  }

  /**
   * Pictures of a prompt, or of each of several: the same as one call a prompt gives with their seeds. Throws ArgumentError
   * for settings outside their range, NumericError if the model gives something that is not a number, and the signal's
   * reason when it is aborted.
   */
  async generate(prompt: string | readonly string[], options: TextToImageOptions = {}): Promise<TextToImageResult> {
    const read = readOptions(options, textToImageOptions, { of: "TextToImagePipeline.generate", self: this });
    return this.#turns.take(() => this.#generate(prompt, this.#turns.guarded(read)), read.signal);
  }

  async #generate(prompt: string | readonly string[], options: TextToImageOptions): Promise<TextToImageResult> {
    const { guidanceScale = this.guidanceScale, count = 1, signal, onStep } = options;
    const { guidanceInterval = this.guidanceInterval } = options;
    signal?.throwIfAborted();
    const guided = guidanceScale > 1;
    const list = promptList(prompt, options.negativePrompt ?? "", { count, guided });
    const pictures = list.prompts.length;
    const acceleration = checkAcceleration(options.accelerate, this.feedback);
    const size = this.#sizes(pictures, options);
    const solver = solverOf(this.schedulerConfig, options, 20);
    const seeds = seedsOf(pictures, options);
    const noise = seededNoise(seeds);
    const draw = () => noise([1, this.transformer.config.inChannels, size.latent.height, size.latent.width]);
    const { embeddings, warnings } = await this.embed(list.texts, options);
    const tokens = embeddings.encoderHiddenStates.shape[1]!;
    const denoiser = await this.openDenoiser({ ...size.latent, tokens }, acceleration);
    const latents = await this.sampleLatents({
      ...solver,
      denoiser,
      guidanceScale,
      guidanceInterval,
      noise: draw(),
      drawNoise: draw,
      prompt: pickPrompts(embeddings, list.prompts),
      negative: list.negatives && pickPrompts(embeddings, list.negatives),
      ...(signal ? { signal } : {}),
      ...(onStep ? { onStep } : {}),
    });
    const decoded = resizeAndCrop(await this.decode(latents), size);
    const images = toPictures(decoded).map((picture) => new RawImage(picture));
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
    this.#turns.checkOpen();
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
    this.#turns.checkOpen();
    promptListCheck(prompts, "The prompts");
    if (maxSequenceLength !== undefined) textToImageOptions.maxSequenceLength(maxSequenceLength, "maxSequenceLength");
    const { tokenizer, textEncoder } = this;
    if (!tokenizer || !textEncoder) {
      throw new ConfigError(`${this.name}: has no text encoder and tokenizer, which turn a prompt into embeddings.`);
    }
    const length = maxSequenceLength ?? this.maxSequenceLength;
    const text = clean ? cleanCaption : captionText;
    const tokenized = prompts.map((prompt) => tokenizer.encode(text(prompt), length));
    const warnings = tokenized.flatMap(({ truncated, unknown }) => [
      ...(truncated ? [`The prompt is longer than ${length} tokens; this was left out: "${truncated}".`] : []),
      ...(unknown.length > 0 ? [`Words that the model does not know: ${unknown.join(", ")}.`] : []),
    ]);
    return { embeddings: await encodePrompts(tokenized, textEncoder, signal), warnings };
  }

  /** The sampling loop with guidance: noise to latents (scaled as the denoiser has them). */
  async sampleLatents(options: SampleLatentsOptions): Promise<FloatTensor> {
    const { prompt, guidanceScale, guidanceInterval = EVERY_STEP, negative: given, ...loop } = options;
    const { noise } = loop;
    const negative = guidanceScale > 1 ? given : null;
    const { config } = this.transformer;
    const [, channels, height, width] = noise.shape as [number, number, number, number];
    const tokens = prompt.encoderHiddenStates.shape[1]!;
    const denoiser = options.denoiser ?? (await this.openDenoiser({ height, width, tokens }, { method: "none" }));
    const conditionsOf = ({ encoderHiddenStates, encoderAttentionMask }: PromptEmbeddings) => ({
      encoderHiddenStates,
      encoderAttentionMask,
      ...(config.useAdditionalConditions
        ? sizeConditions(encoderHiddenStates.shape[0]!, height, width, spatialFactor(this.vae.config))
        : {}),
    });
    return sample({
      ...loop,
      denoise: guidedDenoise({
        ...{ denoiser, channels, guidanceScale, guidanceInterval },
        conditions: conditionsOf(prompt),
        // The negative prompt first, as diffusers has it.
        bothConditions: negative ? conditionsOf(stackPrompts(negative, prompt)) : null,
      }),
    });
  }

  /** Latents to decoded values [batch, 3, height, width], not clamped. */
  async decode(latents: FloatTensor): Promise<FloatTensor> {
    this.#turns.checkOpen();
    return decodeLatents(this.vae, latents);
  }

  /** Frees memory and threads when the calls before it are done; later calls are refused with StateError. */
  release(): Promise<void> {
    return this.#turns.close(async () => {
      await Promise.all([
        this.transformer.release(),
        this.vae.release(),
        this.textEncoder?.release(),
        this.feedback?.release(),
      ]);
    });
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

const stackPrompts = (first: PromptEmbeddings, second: PromptEmbeddings): PromptEmbeddings => ({
  encoderHiddenStates: stack(first.encoderHiddenStates, second.encoderHiddenStates),
  encoderAttentionMask: stack(first.encoderAttentionMask, second.encoderAttentionMask),
});

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
