/**
 * Text to videos with AnimateDiff (Guo et al. 2023, arXiv 2307.04725), after diffusers' AnimateDiffPipeline and
 * AnimateDiffSDXLPipeline: prompt embeddings from CLIP, guidance between the negative prompt and the prompt, a solver over all
 * frames, the autoencoder frame by frame.
 */

import { platform } from "#platform";
import { Streamlined } from "../acceleration/streamlined.ts";
import { callable } from "../callable.ts";
import { componentFolder, type RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { anObject, number, whole } from "../checks.ts";
import { Component, type RunningOptions } from "../components/components.ts";
import { type DecodeOptions, decodeFrames, exchangeFrames } from "../components/decode-video.ts";
import { checkDecoded } from "../components/decoded-size.ts";
import { expectedFirst } from "../components/expected-class.ts";
import type { InWorker, PipelineOptions } from "../components/loading.ts";
import { ownGuidance } from "../components/pipeline-index.ts";
import { pickPrompts, stackPrompts } from "../components/prompts.ts";
import { clippingNotes, readSchedulerConfig, solverOf } from "../components/solver.ts";
import { openMotionUNet } from "../components/video-unet.ts";
import { ConfigError } from "../errors.ts";
import { type AutoencoderConfig, imageDecoders, latentFactor } from "../models/autoencoder.ts";
import { type UNetMotionConfig, unetMotion } from "../models/unet-motion.ts";
import type { OptionTable } from "../options/options.ts";
import type { ResolveOptions } from "../platform/platform.ts";
import { RunQueue } from "../platform/run-queue.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Feeds } from "../sampling/denoiser.ts";
import { guidanceScaleCheck, guidedDenoise } from "../sampling/guidance.ts";
import { sample } from "../sampling/sampler.ts";
import { seedsOf } from "../sampling/seeds.ts";
import type { FloatTensor } from "../tensor.ts";
import { fromPretrained, openFolder } from "./opening.ts";
import type { PictureSize } from "./resolution-bins.ts";
import { earlierTexts, listenersOf, makeRoom, planRun } from "./run-plan.ts";
import { type LoopOptions, noiseFor, promptCheck, promptListCheck } from "./settings.ts";
import { guidanceCondition } from "./stable-diffusion.ts";
import { checkLatents, checkTextTime } from "./stable-diffusion-xl.ts";
import {
  type EmbedOptions,
  type FamilyOptions,
  type MicroConditions,
  microConditions,
  type TextConditions,
  type TextEmbeddings,
} from "./text-to-image-family.ts";
import { checkFamilyOptions, textsOf, textToImageOptions } from "./text-to-image-options.ts";
import { openVideoText } from "./video-text.ts";
import { toVideos, type VideoOptions, type VideoResult, videoActions, videoOptions, videoSize } from "./videos.ts";

/** Options of a call: size, frames, steps, guidance, seeds, memory, acceleration. */
export interface TextToVideoOptions
  extends VideoOptions,
    Pick<
      FamilyOptions,
      | "clipSkip"
      | "promptWeights"
      | "prompt2"
      | "negativePrompt2"
      | "originalSize"
      | "cropsCoordsTopLeft"
      | "targetSize"
      | "negativeOriginalSize"
      | "negativeCropsCoordsTopLeft"
      | "negativeTargetSize"
    > {
  /** One for all prompts, or one for each. */
  negativePrompt?: string | readonly string[];
  /**
   * How far to go from what the negative prompt gives; at most 1 does without it, in half the time. The model's own, or 7.5
   * (Stable Diffusion XL: 5).
   */
  guidanceScale?: number;
  /** How much of the deviation that guidance adds is taken away again, from 0 (none, the default) to 1. */
  guidanceRescale?: number;
  /** Frames a second when it is shown, 8 unless given. The model does not know of it. */
  fps?: number;
}

export const textToVideoOptions: OptionTable<TextToVideoOptions> = {
  ...videoOptions,
  negativePrompt: promptCheck,
  guidanceScale: guidanceScaleCheck,
  guidanceRescale: textToImageOptions.guidanceRescale,
  clipSkip: textToImageOptions.clipSkip,
  promptWeights: textToImageOptions.promptWeights,
  prompt2: promptCheck,
  negativePrompt2: promptCheck,
  originalSize: textToImageOptions.originalSize,
  cropsCoordsTopLeft: textToImageOptions.cropsCoordsTopLeft,
  targetSize: textToImageOptions.targetSize,
  negativeOriginalSize: textToImageOptions.negativeOriginalSize,
  negativeCropsCoordsTopLeft: textToImageOptions.negativeCropsCoordsTopLeft,
  negativeTargetSize: textToImageOptions.negativeTargetSize,
  fps: number(Number.MIN_VALUE, 1000),
};

/** What a call gives. */
export type TextToVideoResult = VideoResult;

/** What the loop needs, once prompts are embedded; tensors as in diffusers' calls. `noise`: [batch, channels, frames, height, width]. */
export interface SampleVideoOptions extends LoopOptions, MicroConditions {
  guidanceScale: number;
  guidanceRescale?: number;
  /** One row a video. */
  prompt: TextEmbeddings;
  /** Counts where guidance runs the denoiser twice only. */
  negative: TextEmbeddings | null;
}

/** What `fromPretrained` takes. */
export type TextToVideoLoading = TextToVideoSource<string> & ResolveOptions;

/** A pipeline that was opened with `worker`: what can be used without its networks. Every TextToVideo is one too. */
export type TextToVideoInWorker = Pick<
  TextToVideoPipeline,
  "name" | "className" | "guidanceScale" | "schedulerConfig" | "generate" | "release"
> &
  ((input: string | readonly string[], options?: TextToVideoOptions) => Promise<TextToVideoResult>);

/** `const { videos } = await pipe("a party popper")` is short for `pipe.generate("a party popper")`. */
export type TextToVideo = TextToVideoPipeline &
  ((prompt: string | readonly string[], options?: TextToVideoOptions) => Promise<TextToVideoResult>);

/** How the networks are opened, and where the motion modules come from. */
export interface TextToVideoSource<Adapter = Folder> extends PipelineOptions {
  /** Motion modules (diffusers' MotionAdapter) for a Stable Diffusion pipeline, or instead of the folder's own adapter. */
  motionAdapter?: Adapter;
}

const kind = { name: "TextToVideoPipeline", options: textToVideoOptions, otherModels: ["motionAdapter"] };
/** A Stable Diffusion pipeline becomes one of videos with a motion adapter. */
export const textToVideoClasses = [
  "AnimateDiffPipeline",
  "AnimateDiffSDXLPipeline",
  "StableDiffusionPipeline",
  "StableDiffusionXLPipeline",
  "LatentConsistencyModelPipeline",
] as const;
const isXL = (className: string) => /XLPipeline$/.test(className);

/** Four frames of 8 x 8 are decoded in an eighth less time together than one by one; more of them, or larger ones, are not. */
const framesTogether = ({ height, width }: PictureSize) => Math.max(1, Math.floor(256 / (height * width)));

type PartName = "name" | "className" | "unet" | "vae" | "text" | "schedulerConfig" | "guidanceScale";

/** Videos of prompts with AnimateDiff. `fromPretrained` opens one; what it gives can be called. */
export class TextToVideoPipeline {
  readonly name: string;
  readonly className: string;
  readonly unet: Component<UNetMotionConfig>;
  readonly vae: Component<AutoencoderConfig>;
  /** In a folder without text encoder only `sampleLatents` and `decode` work. */
  readonly text: TextConditions;
  readonly schedulerConfig: RawConfig;
  /** How closely prompts are followed unless a call says otherwise: the model's own, or diffusers' 7.5, and 5 of XL. */
  readonly guidanceScale: number;
  /** Opens the denoiser, by a plan where one is needed. */
  readonly streamlined: Streamlined<UNetMotionConfig>;

  readonly #queue: RunQueue;

  private constructor(parts: Pick<TextToVideoPipeline, PartName>) {
    this.name = parts.name;
    this.#queue = new RunQueue(parts.name);
    this.className = parts.className;
    this.unet = parts.unet;
    this.vae = parts.vae;
    this.text = parts.text;
    this.schedulerConfig = parts.schedulerConfig;
    this.guidanceScale = parts.guidanceScale;
    this.streamlined = new Streamlined(parts.unet, unetMotion);
  }

  /** `model`, and `motionAdapter`: the name of an embedded model, a folder in diffusers' layout, or a Hub id. */
  static fromPretrained(model: string, options: TextToVideoLoading & InWorker): Promise<TextToVideoInWorker>;
  static fromPretrained(model: string, options?: TextToVideoLoading): Promise<TextToVideo>;
  static fromPretrained(
    model: string,
    given: TextToVideoLoading & Partial<InWorker> = {},
  ): Promise<TextToVideoInWorker> {
    return fromPretrained(model, given, kind, (folder, options, { motionAdapter }) =>
      TextToVideoPipeline.fromFolder(folder, platform.runtime, { ...options, motionAdapter }),
    );
  }

  /** Reads configurations and the headers of the weights. Throws CheckpointError and ConfigError. */
  static async fromFolder(folder: Folder, runtime: Runtime, given: TextToVideoSource = {}): Promise<TextToVideo> {
    const { options: read, index } = await openFolder(folder, runtime, given, {
      name: kind.name,
      classes: textToVideoClasses,
      more: { motionAdapter: anObject },
    });
    const { motionAdapter, ...options } = read;
    const xl = isXL(index.className);
    const unet = await openMotionUNet(folder, index, motionAdapter, runtime, options);
    if (xl) {
      checkTextTime(folder, index, unet.config);
      await checkLatents(folder, index);
    } else if (unet.config.textTime) {
      throw new ConfigError(
        `${folder.name}: is a ${index.className}, but its UNet is Stable Diffusion XL's; that of an AnimateDiffSDXLPipeline.`,
      );
    }
    const pipeline = new TextToVideoPipeline({
      name: folder.name,
      className: index.className,
      unet,
      vae: await Component.open(
        componentFolder(folder, index, "vae"),
        expectedFirst(...imageDecoders),
        runtime,
        options,
      ),
      text: await openVideoText(folder, index, runtime, options, { xl }),
      schedulerConfig: forMotion(index.className, await readSchedulerConfig(folder, index)),
      guidanceScale: ownGuidance(folder, index, xl ? 5 : 7.5),
    });
    return callable(pipeline);
  }

  /**
   * Videos of a prompt, or of each of several: the same as one call a prompt gives with their seeds. Throws ArgumentError
   * for settings outside their range, BudgetError for a budget of memory that cannot be kept, NumericError if the model
   * gives something that is not a number, and the signal's reason when it is aborted.
   */
  async generate(prompt: string | readonly string[], options: TextToVideoOptions = {}): Promise<TextToVideoResult> {
    const of = { of: "TextToVideoPipeline.generate", self: this };
    return this.#queue.call(options, textToVideoOptions, of, (read) => this.#generate(prompt, read));
  }

  async #generate(prompt: string | readonly string[], options: TextToVideoOptions): Promise<TextToVideoResult> {
    const { guidanceScale = this.guidanceScale, count = 1, frames = 16, fps = 8, signal, onStep, onDecode } = options;
    signal?.throwIfAborted();
    checkFamilyOptions(this.className, this.text, options);
    const guided = this.guided(guidanceScale);
    const { list, texts } = textsOf(prompt, options, { count, guided });
    const total = list.prompts.length;
    // The motion modules have position embeddings for so many frames.
    whole(1, this.unet.config.motionMaxSeqLength)(frames, "frames");
    const { latent, notes } = this.#size(total * frames, options);
    const solver = solverOf(this.schedulerConfig, options, 25);
    const seeds = seedsOf(total, options, "videos");
    // Errors about sizes and memory come before anything runs.
    const tokens = this.text.maxSequenceLength;
    const size = { batch: guided ? 2 * total : total, guided, frames, ...latent, tokens };
    const earlier = earlierTexts(this.text.encoders, { texts: texts.texts.length, tokens });
    const parts = { streamlined: this.streamlined, decoder: this.vae, earlier };
    const plan = planRun(parts, size, framesTogether(latent), options);
    await makeRoom(plan, [this.streamlined, this.unet, this.vae]);

    const { embeddings, warnings } = await this.text.embed(texts, { ...options, budget: plan.budget });
    await makeRoom(plan, this.text.encoders);
    const denoiser = await this.streamlined.open(plan.denoiser, listenersOf(options));
    const latents = await this.sampleLatents({
      ...solver,
      ...noiseFor(seeds, [1, this.unet.config.inChannels, frames, latent.height, latent.width]),
      denoiser,
      guidanceScale,
      guidanceRescale: options.guidanceRescale,
      ...microConditions(options),
      prompt: pickPrompts(embeddings, list.prompts),
      negative: list.negatives && pickPrompts(embeddings, list.negatives),
      signal,
      onStep,
    });
    await makeRoom(plan, [this.streamlined, this.unet]);
    const { frames: chunk, tile } = plan.decoding;
    const videos = toVideos(await this.decode(latents, { chunk, tile, signal, onDecode }), fps);
    signal?.throwIfAborted();
    warnings.push(...notes, ...clippingNotes(this.schedulerConfig, options.scheduler, solver.scheduler));
    return { videos, seeds, warnings, ...videoActions(denoiser) };
  }

  /** Prompts as the text encoders see them, one row each. */
  async embed(
    prompts: readonly string[],
    options: Pick<EmbedOptions, "clipSkip" | "promptWeights"> & RunningOptions = {},
  ): Promise<{ embeddings: TextEmbeddings; warnings: string[] }> {
    this.#queue.checkOpen();
    promptListCheck(prompts, "The prompts");
    if (options.clipSkip !== undefined) textToVideoOptions.clipSkip(options.clipSkip, "clipSkip");
    return this.text.embed({ texts: prompts }, options);
  }

  /** Whether such guidance runs the denoiser with and without the prompt. One that was distilled with guidance is told of it instead. */
  guided(guidanceScale: number): boolean {
    return guidanceScale > 1 && this.unet.config.timeCondProjDim === null;
  }

  /** The sampling loop with guidance: noise to latents (scaled as the denoiser has them). */
  async sampleLatents(options: SampleVideoOptions): Promise<FloatTensor> {
    this.#queue.checkOpen();
    const { prompt, negative, guidanceScale, guidanceRescale, ...loop } = options;
    const [batch, , frames, height, width] = loop.noise.shape as [number, number, number, number, number];
    const factor = latentFactor(this.vae.config);
    const told = { ...microConditions(options), guidanceScale, height: height * factor, width: width * factor };
    const conditionsOf = (embeddings: TextEmbeddings, negatives = 0): Feeds => ({
      ...this.text.conditions(embeddings, { ...told, negatives }),
      ...guidanceCondition(this.unet.config, embeddings, guidanceScale),
    });
    const both = this.guided(guidanceScale) && negative ? stackPrompts(negative, prompt) : null;
    const tokens = prompt.encoderHiddenStates.shape[1]!;
    const size = { batch: both ? 2 * batch : batch, frames, height, width, tokens };
    return sample({
      ...loop,
      denoise: guidedDenoise({
        denoiser: loop.denoiser ?? (await this.streamlined.openDenoiser(size)),
        input: this.unet.latent,
        guidanceScale,
        guidanceRescale,
        conditions: conditionsOf(prompt),
        // The negative prompt first, as diffusers has it.
        bothConditions: both && conditionsOf(both, batch),
      }),
    });
  }

  /**
   * Latents to decoded values [batch, 3, frames, height, width], not clamped; `chunk` frames together, one unless given, which
   * takes the least memory.
   */
  async decode(
    latents: FloatTensor,
    { chunk = 1, ...options }: DecodeOptions & { chunk?: number } = {},
  ): Promise<FloatTensor> {
    this.#queue.checkOpen();
    return decodeFrames(this.vae, exchangeFrames(latents), { chunk, sizes: () => ({ batch: "batch" }) }, options);
  }

  /** Frees memory and threads once all calls before it are done. Later calls reject with StateError. */
  release(): Promise<void> {
    return this.#queue.close(() => releaseAll([this.unet, this.streamlined, this.vae, ...this.text.encoders]));
  }

  #size(pictures: number, options: TextToVideoOptions) {
    const factor = latentFactor(this.vae.config);
    const { sampleSize } = this.unet.config;
    const side = (sampleSize ?? (isXL(this.className) ? 128 : 64)) * factor;
    const usual = { width: side, height: side };
    const size = videoSize(pictures, { factor, usual, trained: sampleSize === undefined ? null : usual }, options);
    const together = options.memory === undefined ? framesTogether(size.latent) : 1;
    checkDecoded(this.vae.config, { count: pictures, together, size, unit: factor, memory: platform.memory() });
    return size;
  }
}

/**
 * A Stable Diffusion folder's solver knows nothing of motion modules, which were trained on evenly growing noise
 * (`noise_scheduler_kwargs` of AnimateDiff's training): DDIM for that, as diffusers' documentation has it, or LCM for a latent
 * consistency model.
 */
function forMotion(className: string, own: RawConfig): RawConfig {
  if (className.startsWith("AnimateDiff")) return own;
  const kept = ["beta_start", "beta_end", "num_train_timesteps", "prediction_type"];
  const consistency = own["_class_name"] === "LCMScheduler";
  if (consistency) kept.push("original_inference_steps", "timestep_scaling");
  return {
    ...Object.fromEntries(kept.filter((key) => own[key] !== undefined).map((key) => [key, own[key]])),
    _class_name: consistency ? "LCMScheduler" : "DDIMScheduler",
    beta_schedule: "linear",
    clip_sample: false,
    steps_offset: 1,
    timestep_spacing: "linspace",
  };
}
