/**
 * Text to videos with AnimateDiff (Guo et al. 2023, arXiv 2307.04725), after diffusers' AnimateDiffPipeline: prompt embeddings
 * from CLIP, guidance between the negative prompt and the prompt, a solver over all frames, the autoencoder frame by frame.
 */
import { platform } from "#platform";
import {
  abortable,
  decodingIn,
  Streamlined,
  type StreamlinedOptions,
  streamlinedOptions,
  type VideoActions,
  videoActions,
} from "../acceleration/streamlined.ts";
import { callable } from "../callable.ts";
import { componentFolder, type RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { anObject, callback, number, text, whole } from "../checks.ts";
import {
  Component,
  forNetworks,
  type InWorker,
  openPipeline,
  ownGuidance,
  type PipelineOptions,
  pipelineOptions,
  readLoadingOptions,
} from "../components/components.ts";
import { type DecodeOptions, decodeFrames, exchangeFrames } from "../components/decode-video.ts";
import { expected } from "../components/expected-class.ts";
import { openPromptEncoder, type PromptEncoder } from "../components/prompt-encoder.ts";
import { clippingNotes, readSchedulerConfig, type Solver, solverOf, stepsCheck } from "../components/solver.ts";
import { openMotionUNet } from "../components/video-unet.ts";
import { ConfigError } from "../errors.ts";
import { type Animation, toFrames } from "../media/animation.ts";
import { RawImage } from "../media/raw-image.ts";
import { type AutoencoderKLConfig, autoencoderKL, spatialFactor } from "../models/autoencoder-kl.ts";
import { type UNetMotionConfig, unetMotion } from "../models/unet-motion.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import type { ResolveOptions } from "../platform/platform.ts";
import { Turns } from "../platform/run-queue.ts";
import { withProvider, workingProvider } from "../runtime/provider.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Denoiser } from "../sampling/denoiser.ts";
import { guidanceScaleCheck, guideHalves, pickRows, stack } from "../sampling/guidance.ts";
import { type SamplerStep, sample } from "../sampling/sampler.ts";
import { seededNoise, seedsOf } from "../sampling/seeds.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import { openInWorker } from "../worker/client.ts";
import { farFromTraining } from "./picture-size.ts";
import { promptList } from "./prompt-list.ts";
import {
  checkPixels,
  checkSide,
  countCheck,
  framesCheck,
  promptCheck,
  promptListCheck,
  type SamplingOptions,
  samplingOptions,
  sideCheck,
} from "./settings.ts";

export interface TextToVideoOptions
  extends Omit<SamplingOptions, "accelerate">,
    StreamlinedOptions,
    Pick<DecodeOptions, "onDecode"> {
  /** One for all prompts, or one for each. */
  negativePrompt?: string | readonly string[];
  /** Solver steps, 25 unless given. */
  steps?: number;
  /** How far to go from what the negative prompt gives; at most 1 does without it, in half the time. The model's own, or 7.5. */
  guidanceScale?: number;
  /** How many videos of each prompt, made together. */
  count?: number;
  /** Frames of a video, 16 unless given: what AnimateDiff was trained with. */
  frames?: number;
  /** Frames a second when it is shown, 8 unless given. The model does not know of it. */
  fps?: number;
  /** In pixels; what the model was made for unless given. */
  width?: number;
  height?: number;
}

export const textToVideoOptions: OptionTable<TextToVideoOptions> = {
  ...samplingOptions,
  ...streamlinedOptions,
  onDecode: callback,
  negativePrompt: promptCheck,
  steps: stepsCheck,
  guidanceScale: guidanceScaleCheck,
  count: countCheck,
  frames: framesCheck,
  fps: number(Number.MIN_VALUE, 1000),
  width: sideCheck,
  height: sideCheck,
};

export interface TextToVideoResult extends VideoActions {
  /** All videos of the first prompt, then those of the second. */
  videos: Animation<RawImage>[];
  /** Of each video. */
  seeds: number[];
  /** What a user should know: a prompt that was cut, words that the model never saw, a size far from training. */
  warnings: string[];
}

/** What the loop needs, once prompts are embedded; tensors as in diffusers' calls. */
export interface SampleVideoOptions extends Solver {
  guidanceScale: number;
  /** Standard normal noise [batch, channels, frames, height, width]. */
  noise: FloatTensor;
  /** [batch, tokens, width], one row a video. */
  prompt: FloatTensor;
  /** Counts at a guidance scale above 1 only. */
  negative: FloatTensor | null;
  /** All steps in full unless given. */
  denoiser?: Denoiser;
  drawNoise?: () => FloatTensor;
  signal?: AbortSignal;
  onStep?: (step: SamplerStep) => void | Promise<void>;
}

export type TextToVideoLoading = TextToVideoSource<string> & ResolveOptions;

/** With `worker`: what of a pipeline is not in the worker's memory. Every TextToVideo is one too. */
export type TextToVideoInWorker = Pick<
  TextToVideoPipeline,
  "name" | "className" | "guidanceScale" | "schedulerConfig" | "generate" | "release"
> &
  ((input: string | readonly string[], options?: TextToVideoOptions) => Promise<TextToVideoResult>);

/** `const { videos } = await pipe("a party popper")` is short for `pipe.generate("a party popper")`. */
export type TextToVideo = TextToVideoPipeline &
  ((prompt: string | readonly string[], options?: TextToVideoOptions) => Promise<TextToVideoResult>);

export interface TextToVideoSource<Adapter = Folder> extends PipelineOptions {
  /** Motion modules (diffusers' MotionAdapter) for a Stable Diffusion pipeline, or instead of the folder's own adapter. */
  motionAdapter?: Adapter;
}

/** A Stable Diffusion pipeline becomes one of videos with a motion adapter. */
export const textToVideoClasses = ["AnimateDiffPipeline", "StableDiffusionPipeline"] as const;

/** Four frames of 8 x 8 are decoded in an eighth less time together than one by one; more of them, or larger ones, are not. */
const framesTogether = (height: number, width: number) => Math.max(1, Math.floor(256 / (height * width)));

type PartName = "name" | "className" | "unet" | "vae" | "prompts" | "schedulerConfig" | "guidanceScale";

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
  /** The denoiser: as it is, or by a plan. */
  readonly streamlined: Streamlined<UNetMotionConfig>;

  readonly #turns: Turns;

  private constructor(parts: Pick<TextToVideoPipeline, PartName>) {
    this.name = parts.name;
    this.#turns = new Turns(parts.name);
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
  static async fromPretrained(
    model: string,
    given: TextToVideoLoading & Partial<InWorker> = {},
  ): Promise<TextToVideoInWorker> {
    const pipeline = "TextToVideoPipeline";
    const { worker, ...loading } = readLoadingOptions<TextToVideoLoading>(given, pipeline, { motionAdapter: text });
    if (worker) {
      const own = loading.motionAdapter;
      const adapter = own === undefined ? {} : { motionAdapter: platform.modelAddress(own) };
      return openInWorker({
        pipeline,
        model,
        worker,
        loading: { ...loading, ...adapter },
        options: textToVideoOptions,
      });
    }
    const { motionAdapter, ...options } = loading;
    await workingProvider(platform.runtime, options.provider);
    const folder = await platform.resolveModel(model, options);
    // They are of `model`; an adapter need not have them.
    const { revision: _, variant: __, ...forAdapter } = options;
    const adapter = motionAdapter === undefined ? undefined : await platform.resolveModel(motionAdapter, forAdapter);
    return TextToVideoPipeline.fromFolder(folder, platform.runtime, {
      ...forNetworks(options),
      ...(adapter ? { motionAdapter: adapter } : {}),
    });
  }

  /** Reads configurations and the headers of the weights. Throws CheckpointError and ConfigError. */
  static async fromFolder(folder: Folder, runtime: Runtime, given: TextToVideoSource = {}): Promise<TextToVideo> {
    const table = { ...pipelineOptions, motionAdapter: anObject };
    const read = readOptions<TextToVideoSource>(given, table, { of: "TextToVideoPipeline.fromFolder" });
    const { motionAdapter, ...options } = await withProvider(read, runtime);
    const index = await openPipeline(folder, textToVideoClasses);
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
    return callable(pipeline, (prompt: string | readonly string[], settings?: TextToVideoOptions) =>
      pipeline.generate(prompt, settings),
    );
  }

  /**
   * Videos of a prompt, or of each of several: the same as one call a prompt gives with their seeds. Throws ArgumentError
   * for settings outside their range, BudgetError for a budget of memory that cannot be kept, NumericError if the model
   * gives something that is not a number, and the signal's reason when it is aborted.
   */
  async generate(prompt: string | readonly string[], options: TextToVideoOptions = {}): Promise<TextToVideoResult> {
    const read = readOptions(options, textToVideoOptions, { of: "TextToVideoPipeline.generate", self: this });
    return this.#turns.take(() => this.#generate(prompt, this.#turns.guarded(read)), read.signal);
  }

  async #generate(prompt: string | readonly string[], options: TextToVideoOptions): Promise<TextToVideoResult> {
    const { guidanceScale = this.guidanceScale, count = 1, frames = 16, fps = 8 } = options;
    const { signal, onStep, onDecode } = options;
    signal?.throwIfAborted();
    const guided = guidanceScale > 1;
    const list = promptList(prompt, options.negativePrompt ?? "", { count, guided });
    const total = list.prompts.length;
    // More have no place in the motion modules' tables.
    whole(1, this.unet.config.motionMaxSeqLength)(frames, "frames");
    const { height, width, notes } = this.#latentSize(total * frames, options);
    const solver = solverOf(this.schedulerConfig, options, 25);
    const shape = [1, this.unet.config.inChannels, frames, height, width];
    const seeds = seedsOf(total, options, "videos");
    const noise = seededNoise(seeds);
    const draw = () => noise(shape);
    const batch = guided ? 2 * total : total;
    const size = { batch, guided, frames, height, width, tokens: this.prompts?.tokens ?? 0 };
    // What cannot be done is said before anything is.
    this.streamlined.check(size, options);
    const decoding = decodingIn(this.vae, { frames: framesTogether(height, width), height, width }, options.memory);
    const { embeddings, warnings } = await this.embed(list.texts, options);
    // Each network has the budget to itself.
    if (options.memory !== undefined) await Promise.all([this.prompts?.release(), this.vae.release()]);
    const denoiser = await this.streamlined.openDenoiser({ ...size, tokens: embeddings.shape[1]! }, abortable(options));
    const latents = await this.sampleLatents({
      ...solver,
      guidanceScale,
      noise: draw(),
      drawNoise: draw,
      prompt: pickRows(embeddings, list.prompts),
      negative: list.negatives && pickRows(embeddings, list.negatives),
      denoiser,
      ...(signal ? { signal } : {}),
      ...(onStep ? { onStep } : {}),
    });
    if (options.memory !== undefined) await Promise.all([this.streamlined.release(), this.unet.release()]);
    const decoded = await this.decode(latents, {
      chunk: decoding.frames,
      ...(decoding.tile ? { tile: decoding.tile } : {}),
      ...(signal ? { signal } : {}),
      ...(onDecode ? { onDecode } : {}),
    });
    const videos = toFrames(decoded).map((frames) => ({ frames: frames.map((frame) => new RawImage(frame)), fps }));
    signal?.throwIfAborted();
    warnings.push(...notes, ...clippingNotes(this.schedulerConfig, options.scheduler, solver.scheduler));
    return { videos, seeds, warnings, ...videoActions(denoiser) };
  }

  /** Prompts as the text encoder sees them: [prompts, tokens, width]. */
  async embed(
    prompts: readonly string[],
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<{ embeddings: FloatTensor; warnings: string[] }> {
    this.#turns.checkOpen();
    promptListCheck(prompts, "The prompts");
    if (this.prompts) return this.prompts.embed(prompts, signal);
    throw new ConfigError(`${this.name}: has no text encoder and tokenizer, which turn a prompt into embeddings.`);
  }

  /** The sampling loop with guidance: noise to latents (scaled as the denoiser has them). */
  async sampleLatents(options: SampleVideoOptions): Promise<FloatTensor> {
    this.#turns.checkOpen();
    const { prompt, guidanceScale, negative: given, ...loop } = options;
    const { noise } = loop;
    const negative = guidanceScale > 1 ? given : null;
    const [, , frames, height, width] = noise.shape as [number, number, number, number, number];
    const tokens = prompt.shape[1]!;
    // The negative prompt first, as diffusers has it.
    const encoderHiddenStates = negative ? stack(negative, prompt) : prompt;
    const total = encoderHiddenStates.shape[0]!;
    const denoiser =
      options.denoiser ?? (await this.streamlined.openDenoiser({ batch: total, frames, height, width, tokens }));
    return sample({
      ...loop,
      denoise: async (latents, step) => {
        const feeds = {
          sample: negative ? stack(latents, latents) : latents,
          timestep: floatTensor([total], new Float32Array(total).fill(step.timestep)),
          encoderHiddenStates,
        };
        const output = await denoiser.run(feeds, step);
        return negative ? guideHalves(output, guidanceScale) : output;
      },
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
    this.#turns.checkOpen();
    return decodeFrames(this.vae, exchangeFrames(latents), { chunk, sizes: () => ({ batch: "batch" }) }, options);
  }

  /** Frees memory and threads when the calls before it are done; later calls are refused with StateError. */
  release(): Promise<void> {
    return this.#turns.close(async () => {
      const parts = [this.unet, this.streamlined, this.vae, this.prompts];
      await Promise.all(parts.map((part) => part?.release()));
    });
  }

  /** Of the latent, from pixels, and what a user should know about it. */
  #latentSize(pictures: number, options: TextToVideoOptions) {
    const factor = spatialFactor(this.vae.config);
    const { sampleSize } = this.unet.config;
    const side = (sampleSize ?? 64) * factor;
    const { width = side, height = side } = options;
    for (const [name, pixels] of Object.entries({ width, height })) checkSide(name, pixels, factor);
    checkPixels(pictures, width, height);
    // A configuration without a size does not say what the model was trained on.
    const notes = sampleSize === undefined ? [] : farFromTraining({ width, height }, { width: side, height: side });
    return { width: width / factor, height: height / factor, notes };
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
