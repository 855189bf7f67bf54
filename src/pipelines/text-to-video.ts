/**
 * Text to videos with AnimateDiff (Guo et al. 2023, arXiv 2307.04725), after diffusers' AnimateDiffPipeline: prompt embeddings
 * from CLIP, guidance between the negative prompt and the prompt, a solver over all frames, the autoencoder frame by frame.
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
import { expected } from "../components/expected-class.ts";
import type { InWorker, PipelineOptions } from "../components/loading.ts";
import { ownGuidance } from "../components/pipeline-index.ts";
import { openPromptEncoder, type PromptEncoder } from "../components/prompt-encoder.ts";
import { clippingNotes, readSchedulerConfig, solverOf } from "../components/solver.ts";
import { openMotionUNet } from "../components/video-unet.ts";
import { ConfigError } from "../errors.ts";
import { type AutoencoderKLConfig, autoencoderKL, spatialFactor } from "../models/autoencoder-kl.ts";
import { type UNetMotionConfig, unetMotion } from "../models/unet-motion.ts";
import type { OptionTable } from "../options/options.ts";
import type { ResolveOptions } from "../platform/platform.ts";
import { RunQueue } from "../platform/run-queue.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { guidanceScaleCheck, guidedDenoise, pickRows, stack } from "../sampling/guidance.ts";
import { sample } from "../sampling/sampler.ts";
import { seedsOf } from "../sampling/seeds.ts";
import type { FloatTensor } from "../tensor.ts";
import { fromPretrained, openFolder } from "./opening.ts";
import { promptList } from "./prompt-list.ts";
import type { PictureSize } from "./resolution-bins.ts";
import { listenersOf, makeRoom, planRun } from "./run-plan.ts";
import { type LoopOptions, noiseFor, promptCheck, promptListCheck } from "./settings.ts";
import { toVideos, type VideoOptions, type VideoResult, videoActions, videoOptions, videoSize } from "./videos.ts";

/** Options of a call: size, frames, steps, guidance, seeds, memory, acceleration. */
export interface TextToVideoOptions extends VideoOptions {
  /** One for all prompts, or one for each. */
  negativePrompt?: string | readonly string[];
  /** How far to go from what the negative prompt gives; at most 1 does without it, in half the time. The model's own, or 7.5. */
  guidanceScale?: number;
  /** Frames a second when it is shown, 8 unless given. The model does not know of it. */
  fps?: number;
}

export const textToVideoOptions: OptionTable<TextToVideoOptions> = {
  ...videoOptions,
  negativePrompt: promptCheck,
  guidanceScale: guidanceScaleCheck,
  fps: number(Number.MIN_VALUE, 1000),
};

/** What a call gives. */
export type TextToVideoResult = VideoResult;

/** What the loop needs, once prompts are embedded; tensors as in diffusers' calls. `noise`: [batch, channels, frames, height, width]. */
export interface SampleVideoOptions extends LoopOptions {
  guidanceScale: number;
  /** [batch, tokens, width], one row a video. */
  prompt: FloatTensor;
  /** Counts at a guidance scale above 1 only. */
  negative: FloatTensor | null;
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
export const textToVideoClasses = ["AnimateDiffPipeline", "StableDiffusionPipeline"] as const;

/** Four frames of 8 x 8 are decoded in an eighth less time together than one by one; more of them, or larger ones, are not. */
const framesTogether = ({ height, width }: PictureSize) => Math.max(1, Math.floor(256 / (height * width)));

type PartName = "name" | "className" | "unet" | "vae" | "prompts" | "schedulerConfig" | "guidanceScale";

/** Videos of prompts with AnimateDiff. `fromPretrained` opens one; what it gives can be called. */
export class TextToVideoPipeline {
  readonly name: string;
  readonly className: string;
  readonly unet: Component<UNetMotionConfig>;
  readonly vae: Component<AutoencoderKLConfig>;
  /** Null in a folder without text encoder: only `sampleLatents` and `decode` work then. */
  readonly prompts: PromptEncoder | null;
  readonly schedulerConfig: RawConfig;
  /** How closely prompts are followed unless a call says otherwise: the model's own, or AnimateDiff's 7.5. */
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
    this.prompts = parts.prompts;
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
    const pipeline = new TextToVideoPipeline({
      name: folder.name,
      className: index.className,
      unet: await openMotionUNet(folder, index, motionAdapter, runtime, options),
      vae: await Component.open(
        componentFolder(folder, index, "vae"),
        expected(autoencoderKL.decoder),
        runtime,
        options,
      ),
      prompts: await openPromptEncoder(folder, index, runtime, options),
      schedulerConfig: forMotion(index.className, await readSchedulerConfig(folder, index)),
      guidanceScale: ownGuidance(folder, index, 7.5),
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
    const guided = guidanceScale > 1;
    const list = promptList(prompt, options.negativePrompt ?? "", { count, guided });
    const total = list.prompts.length;
    // The motion modules have position embeddings for so many frames.
    whole(1, this.unet.config.motionMaxSeqLength)(frames, "frames");
    const { latent, notes } = this.#size(total * frames, options);
    const solver = solverOf(this.schedulerConfig, options, 25);
    const seeds = seedsOf(total, options, "videos");
    // Errors about sizes and memory come before anything runs.
    const { tokens } = this.#promptEncoder;
    const size = { batch: guided ? 2 * total : total, guided, frames, ...latent, tokens };
    const encoder = this.#promptEncoder;
    const texts = {
      name: "text encoder",
      peak: (budget: number) => encoder.planned(list.texts.length, budget).prediction.peak,
    };
    const parts = { streamlined: this.streamlined, decoder: this.vae, earlier: [texts] };
    const plan = planRun(parts, size, framesTogether(latent), options);
    await makeRoom(plan, [this.streamlined, this.unet, this.vae]);

    const { embeddings, warnings } = await this.embed(list.texts, { signal, budget: plan.budget });
    await makeRoom(plan, [this.prompts]);
    const denoiser = await this.streamlined.open(plan.denoiser, listenersOf(options));
    const latents = await this.sampleLatents({
      ...solver,
      ...noiseFor(seeds, [1, this.unet.config.inChannels, frames, latent.height, latent.width]),
      denoiser,
      guidanceScale,
      prompt: pickRows(embeddings, list.prompts),
      negative: list.negatives && pickRows(embeddings, list.negatives),
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

  /** Prompts as the text encoder sees them: [prompts, tokens, width]. */
  async embed(
    prompts: readonly string[],
    options: RunningOptions = {},
  ): Promise<{ embeddings: FloatTensor; warnings: string[] }> {
    this.#queue.checkOpen();
    promptListCheck(prompts, "The prompts");
    return this.#promptEncoder.embed(prompts, options);
  }

  get #promptEncoder(): PromptEncoder {
    if (this.prompts) return this.prompts;
    throw new ConfigError(`${this.name}: has no text encoder and tokenizer, which turn a prompt into embeddings.`);
  }

  /** The sampling loop with guidance: noise to latents (scaled as the denoiser has them). */
  async sampleLatents(options: SampleVideoOptions): Promise<FloatTensor> {
    this.#queue.checkOpen();
    const { prompt, guidanceScale, negative, ...loop } = options;
    const [batch, , frames, height, width] = loop.noise.shape as [number, number, number, number, number];
    const both = guidanceScale > 1 && negative ? stack(negative, prompt) : null;
    const size = { batch: both ? 2 * batch : batch, frames, height, width, tokens: prompt.shape[1]! };
    return sample({
      ...loop,
      denoise: guidedDenoise({
        denoiser: loop.denoiser ?? (await this.streamlined.openDenoiser(size)),
        input: this.unet.latent,
        guidanceScale,
        conditions: { encoderHiddenStates: prompt },
        // The negative prompt first, as diffusers has it.
        bothConditions: both && { encoderHiddenStates: both },
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
    return this.#queue.close(() => releaseAll([this.unet, this.streamlined, this.vae, this.prompts]));
  }

  #size(pictures: number, options: TextToVideoOptions) {
    const factor = spatialFactor(this.vae.config);
    const { sampleSize } = this.unet.config;
    const side = (sampleSize ?? 64) * factor;
    const usual = { width: side, height: side };
    const size = videoSize(pictures, { factor, usual, trained: sampleSize === undefined ? null : usual }, options);
    const together = options.memory === undefined ? framesTogether(size.latent) : 1;
    checkDecoded(this.vae.config, { count: pictures, together, size, unit: factor, memory: platform.memory() });
    return size;
  }
}

/**
 * A Stable Diffusion folder's solver knows nothing of motion modules, which were trained on evenly growing noise
 * (`noise_scheduler_kwargs` of AnimateDiff's training): DDIM for that, as diffusers' documentation has it.
 */
function forMotion(className: string, own: RawConfig): RawConfig {
  if (className === "AnimateDiffPipeline") return own;
  const kept = ["beta_start", "beta_end", "num_train_timesteps", "prediction_type"];
  return {
    ...Object.fromEntries(kept.filter((key) => own[key] !== undefined).map((key) => [key, own[key]])),
    _class_name: "DDIMScheduler",
    beta_schedule: "linear",
    clip_sample: false,
    steps_offset: 1,
    timestep_spacing: "linspace",
  };
}
