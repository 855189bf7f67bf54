/**
 * A picture to videos with Stable Video Diffusion (Blattmann et al. 2023, arXiv 2311.15127), after diffusers'
 * StableVideoDiffusionPipeline: the picture as CLIP sees it and as the autoencoder codes it, guidance that grows from frame to
 * frame, a solver over all frames, a decoder that looks along time.
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
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { callback, number, whole } from "../checks.ts";
import {
  Component,
  forNetworks,
  type InWorker,
  type LoadingOptions,
  openPipeline,
  type PipelineOptions,
  pipelineOptions,
  readLoadingOptions,
} from "../components/components.ts";
import { type DecodeOptions, decodeFrames } from "../components/decode-video.ts";
import { expected } from "../components/expected-class.ts";
import { ImageEncoder } from "../components/image-encoder.ts";
import { clippingNotes, readSchedulerConfig, type Solver, solverOf, stepsCheck } from "../components/solver.ts";
import { ConfigError } from "../errors.ts";
import { type Animation, toFrames } from "../media/animation.ts";
import { checkPicture, type Picture } from "../media/picture.ts";
import { RawImage } from "../media/raw-image.ts";
import { resample } from "../media/resample.ts";
import { type AutoencoderKLConfig, spatialFactor } from "../models/autoencoder-kl.ts";
import { autoencoderKLTemporalDecoder } from "../models/autoencoder-kl-temporal-decoder.ts";
import { type UNetSpatioTemporalConfig, unetSpatioTemporal } from "../models/unet-spatio-temporal.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { Turns } from "../platform/run-queue.ts";
import { withProvider, workingProvider } from "../runtime/provider.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Denoiser } from "../sampling/denoiser.ts";
import { guidanceScaleCheck, guideFrames, joinChannels, repeatRow, rows, stack } from "../sampling/guidance.ts";
import { checkFinite, type SamplerStep, sample } from "../sampling/sampler.ts";
import { seededNoise, seedsOf } from "../sampling/seeds.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import { openInWorker } from "../worker/client.ts";
import { farFromTraining } from "./picture-size.ts";
import {
  checkPixels,
  checkSide,
  countCheck,
  framesCheck,
  type SamplingOptions,
  samplingOptions,
  sideCheck,
} from "./settings.ts";

export interface ImageToVideoOptions
  extends Omit<SamplingOptions, "accelerate">,
    StreamlinedOptions,
    Pick<DecodeOptions, "onDecode"> {
  /** Solver steps, 25 unless given. */
  steps?: number;
  /** How far to go from what the model gives without the picture: on the first frame (1 unless given), and on the last (3). */
  minGuidanceScale?: number;
  maxGuidanceScale?: number;
  /** How many videos, made together. */
  count?: number;
  /** Frames of a video; what the model was trained with unless given. */
  frames?: number;
  /** Frames a second, 7 unless given: the model is told, and the video is shown so. */
  fps?: number;
  /** How much is to move, 127 unless given; up to 255 in training. */
  motionBucketId?: number;
  /** How much noise is added to the picture, 0.02 unless given: more lets the video go further from it. */
  noiseAugStrength?: number;
  /** Frames that are decoded together, all (or as many as `memory` allows) unless given. Fewer take less memory and flicker more. */
  decodeChunkSize?: number;
  /** In pixels; 1024 x 576, as Stable Video Diffusion was trained, or what a model of another size was made for. */
  width?: number;
  height?: number;
}

export const imageToVideoOptions: OptionTable<ImageToVideoOptions> = {
  ...samplingOptions,
  ...streamlinedOptions,
  onDecode: callback,
  steps: stepsCheck,
  minGuidanceScale: guidanceScaleCheck,
  maxGuidanceScale: guidanceScaleCheck,
  count: countCheck,
  frames: framesCheck,
  fps: whole(1, 1000),
  motionBucketId: whole(0, 1023),
  noiseAugStrength: number(0, 10),
  decodeChunkSize: framesCheck,
  width: sideCheck,
  height: sideCheck,
};

export interface ImageToVideoResult extends VideoActions {
  videos: Animation<RawImage>[];
  /** Of each video. */
  seeds: number[];
  /** What a user should know: a size far from training. */
  warnings: string[];
}

/** What the loop needs, once the picture is coded; tensors as in diffusers' calls. */
export interface SampleImageVideoOptions extends Solver {
  minGuidanceScale: number;
  maxGuidanceScale: number;
  /** Standard normal noise [batch, frames, channels, height, width]. */
  noise: FloatTensor;
  /** The picture as CLIP sees it, [batch, 1, width]. */
  imageEmbeds: FloatTensor;
  /** The picture as the autoencoder codes it, [batch, channels, height, width], not scaled. */
  imageLatents: FloatTensor;
  fps: number;
  motionBucketId: number;
  noiseAugStrength: number;
  /** All steps in full unless given. */
  denoiser?: Denoiser;
  drawNoise?: () => FloatTensor;
  signal?: AbortSignal;
  onStep?: (step: SamplerStep) => void | Promise<void>;
}

/** With `worker`: what of a pipeline is not in the worker's memory. Every ImageToVideo is one too. */
export type ImageToVideoInWorker = Pick<
  ImageToVideoPipeline,
  "name" | "className" | "schedulerConfig" | "generate" | "release"
> &
  ((input: Picture, options?: ImageToVideoOptions) => Promise<ImageToVideoResult>);

/** `const { videos } = await pipe(picture)` is short for `pipe.generate(picture)`. */
export type ImageToVideo = ImageToVideoPipeline &
  ((picture: Picture, options?: ImageToVideoOptions) => Promise<ImageToVideoResult>);

export const imageToVideoClass = "StableVideoDiffusionPipeline";

type Parts = Pick<
  ImageToVideoPipeline,
  "name" | "className" | "unet" | "encoder" | "decoder" | "imageEncoder" | "schedulerConfig"
>;

export class ImageToVideoPipeline {
  readonly name: string;
  readonly className: string;
  readonly unet: Component<UNetSpatioTemporalConfig>;
  /** The autoencoder's two networks. */
  readonly encoder: Component<AutoencoderKLConfig>;
  readonly decoder: Component<AutoencoderKLConfig>;
  /** Null in a folder without one: only `codeImage`, `sampleLatents` and `decode` work then. */
  readonly imageEncoder: ImageEncoder | null;
  readonly schedulerConfig: RawConfig;
  /** The denoiser: as it is, or by a plan. */
  readonly streamlined: Streamlined<UNetSpatioTemporalConfig>;

  readonly #turns: Turns;

  private constructor(parts: Parts) {
    this.name = parts.name;
    this.#turns = new Turns(parts.name);
    this.className = parts.className;
    this.unet = parts.unet;
    this.encoder = parts.encoder;
    this.decoder = parts.decoder;
    this.imageEncoder = parts.imageEncoder;
    this.schedulerConfig = parts.schedulerConfig;
    this.streamlined = new Streamlined(parts.unet, unetSpatioTemporal);
  }

  /** `model`: a folder in diffusers' layout, or a Hub id. */
  static fromPretrained(model: string, options: LoadingOptions & InWorker): Promise<ImageToVideoInWorker>;
  static fromPretrained(model: string, options?: LoadingOptions): Promise<ImageToVideo>;
  static async fromPretrained(
    model: string,
    given: LoadingOptions & Partial<InWorker> = {},
  ): Promise<ImageToVideoInWorker> {
    const pipeline = "ImageToVideoPipeline";
    const { worker, ...options } = readLoadingOptions(given, pipeline);
    if (worker) return openInWorker({ pipeline, model, worker, loading: options, options: imageToVideoOptions });
    await workingProvider(platform.runtime, options.provider);
    const folder = await platform.resolveModel(model, options);
    return ImageToVideoPipeline.fromFolder(folder, platform.runtime, forNetworks(options));
  }

  /** Reads configurations and the headers of the weights. Throws CheckpointError and ConfigError. */
  static async fromFolder(folder: Folder, runtime: Runtime, given: PipelineOptions = {}): Promise<ImageToVideo> {
    const options = await withProvider(
      readOptions(given, pipelineOptions, { of: "ImageToVideoPipeline.fromFolder" }),
      runtime,
    );
    const index = await openPipeline(folder, [imageToVideoClass]);
    const { className, components } = index;
    const scheduler = await readSchedulerConfig(folder, index);
    const parts = { unet: folder.sub("unet"), vae: folder.sub("vae"), scheduler };
    const imageEncoder = components.has("image_encoder") ? await ImageEncoder.open(folder, runtime, options) : null;
    return ImageToVideoPipeline.fromParts(folder.name, className, parts, imageEncoder, runtime, options);
  }

  /** Of folders that need not lie together. */
  static async fromParts(
    name: string,
    className: string,
    parts: Readonly<Record<"unet" | "vae", Folder>> & { readonly scheduler: RawConfig },
    imageEncoder: ImageEncoder | null,
    runtime: Runtime,
    options: PipelineOptions = {},
  ): Promise<ImageToVideo> {
    const vae = (network: "encoder" | "decoder") =>
      Component.open(parts.vae, expected(autoencoderKLTemporalDecoder[network]), runtime, options);
    const pipeline = new ImageToVideoPipeline({
      name,
      className,
      unet: await Component.open(parts.unet, expected(unetSpatioTemporal), runtime, options),
      encoder: await vae("encoder"),
      decoder: await vae("decoder"),
      imageEncoder,
      schedulerConfig: parts.scheduler,
    });
    return callable(pipeline, (picture: Picture, settings?: ImageToVideoOptions) =>
      pipeline.generate(picture, settings),
    );
  }

  /**
   * Videos that begin at a picture, which is brought to their size. Throws ArgumentError for settings outside their range,
   * BudgetError for a budget of memory that cannot be kept, NumericError if the model gives something that is not a number,
   * and the signal's reason when it is aborted.
   */
  async generate(picture: Picture, options: ImageToVideoOptions = {}): Promise<ImageToVideoResult> {
    const read = readOptions(options, imageToVideoOptions, { of: "ImageToVideoPipeline.generate", self: this });
    checkPicture(picture);
    return this.#turns.take(() => this.#generate(picture, this.#turns.guarded(read)), read.signal);
  }

  async #generate(picture: Picture, options: ImageToVideoOptions): Promise<ImageToVideoResult> {
    const settings = this.#settings(options);
    const { count, frames, fps, height, width, noiseAugStrength, decodeChunkSize } = settings;
    const { signal, onStep, onDecode } = options;
    signal?.throwIfAborted();
    if (!this.imageEncoder) {
      throw new ConfigError(`${this.name}: has no image encoder, which shows the model the picture that it begins at.`);
    }
    const solver = solverOf(this.schedulerConfig, options, 25);
    const seeds = seedsOf(count, options, "videos");
    // As in diffusers each video's generator gives the picture's noise first, then that of the latents.
    const draw = seededNoise(seeds);

    const factor = spatialFactor(this.decoder.config);
    const [latentHeight, latentWidth] = [height / factor, width / factor];
    const guided = settings.maxGuidanceScale > 1;
    const batch = guided ? 2 * count : count;
    const size = { batch, guided, frames, height: latentHeight, width: latentWidth, tokens: 1 };
    // What cannot be done is said before anything is.
    this.streamlined.check(size, options);
    const room = decodingIn(
      this.decoder,
      { frames: decodeChunkSize ?? frames, height: latentHeight, width: latentWidth },
      options.memory,
    );

    const imageEmbeds = repeatRow(await this.imageEncoder.embed(picture), 0, count);
    signal?.throwIfAborted();
    const image = repeatRow(toPlanes(resample(picture, width, height, "lanczos")), 0, count);
    const imageLatents = await this.codeImage(image, draw([1, 3, height, width]), noiseAugStrength);
    signal?.throwIfAborted();
    // Each network has the budget to itself.
    if (options.memory !== undefined) await Promise.all([this.imageEncoder.release(), this.encoder.release()]);
    const denoiser = await this.streamlined.openDenoiser(
      { ...size, tokens: imageEmbeds.shape[1]! },
      abortable(options),
    );
    const [, channels, high, wide] = imageLatents.shape as [number, number, number, number];
    const shape = [1, frames, channels, high, wide];
    const latents = await this.sampleLatents({
      ...settings,
      ...solver,
      noise: draw(shape),
      drawNoise: () => draw(shape),
      imageEmbeds,
      imageLatents,
      denoiser,
      ...(signal ? { signal } : {}),
      ...(onStep ? { onStep } : {}),
    });
    if (options.memory !== undefined) await Promise.all([this.streamlined.release(), this.unet.release()]);
    const decoded = await this.decode(latents, {
      chunk: room.frames,
      ...(room.tile ? { tile: room.tile } : {}),
      ...(signal ? { signal } : {}),
      ...(onDecode ? { onDecode } : {}),
    });
    const videos = toFrames(decoded).map((frames) => ({ frames: frames.map((frame) => new RawImage(frame)), fps }));
    signal?.throwIfAborted();
    const warnings = [...settings.notes, ...clippingNotes(this.schedulerConfig, options.scheduler, solver.scheduler)];
    return { videos, seeds, warnings, ...videoActions(denoiser) };
  }

  /**
   * The autoencoder's mean code, not scaled, of pictures [batch, 3, height, width] in [0, 1] with noise of that shape on them.
   */
  async codeImage(image: FloatTensor, noise: FloatTensor, strength: number): Promise<FloatTensor> {
    this.#turns.checkOpen();
    const [batch, , height, width] = image.shape as [number, number, number, number];
    const noisy = image.data.map((value, i) => 2 * value - 1 + strength * noise.data[i]!);
    const session = await this.encoder.session({ batch, height, width });
    const mean = (await session.run({ image: floatTensor(image.shape, noisy) }))["mean"] as FloatTensor;
    checkFinite(mean, "the autoencoder's code of the picture");
    return mean;
  }

  /** The sampling loop with guidance that grows along the frames: noise to latents [batch, frames, channels, h, w]. */
  async sampleLatents(options: SampleImageVideoOptions): Promise<FloatTensor> {
    this.#turns.checkOpen();
    const { imageEmbeds, imageLatents, minGuidanceScale, maxGuidanceScale, ...loop } = options;
    const { noise, fps, motionBucketId, noiseAugStrength } = loop;
    const [batch, frames, , height, width] = noise.shape as [number, number, number, number, number];
    const guided = maxGuidanceScale > 1;
    // Without the picture: zeros in its place.
    const withNothing = (tensor: FloatTensor) => (guided ? stack(floatTensor(tensor.shape), tensor) : tensor);
    const total = guided ? 2 * batch : batch;
    const conditions = {
      encoderHiddenStates: withNothing(imageEmbeds),
      // The model was told one frame a second less than there were.
      addedTimeIds: floatTensor(
        [total, 3],
        Float32Array.from({ length: 3 * total }, (_, i) => [fps - 1, motionBucketId, noiseAugStrength][i % 3]!),
      ),
    };
    const picture = withNothing(imageLatents);
    const scales = Array.from(
      { length: frames },
      (_, i) => minGuidanceScale + ((maxGuidanceScale - minGuidanceScale) * i) / Math.max(1, frames - 1),
    );
    const tokens = imageEmbeds.shape[1]!;
    const denoiser =
      options.denoiser ?? (await this.streamlined.openDenoiser({ batch: total, frames, height, width, tokens }));
    return sample({
      ...loop,
      denoise: async (latents, step) => {
        const feeds = {
          sample: joinChannels(guided ? stack(latents, latents) : latents, picture),
          timestep: floatTensor([total], new Float32Array(total).fill(step.timestep)),
          ...conditions,
        };
        const output = await denoiser.run(feeds, step);
        if (!guided) return output;
        return guideFrames(rows(output, 0, batch), rows(output, batch, total), scales);
      },
    });
  }

  /** Latents to decoded values [batch, 3, frames, height, width], not clamped; `chunk` frames together, all unless given. */
  async decode(
    latents: FloatTensor,
    { chunk = latents.shape[1]!, ...options }: DecodeOptions & { chunk?: number } = {},
  ): Promise<FloatTensor> {
    this.#turns.checkOpen();
    return decodeFrames(this.decoder, latents, { chunk, sizes: (count) => ({ batch: 1, frames: count }) }, options);
  }

  /** Frees memory and threads when the calls before it are done; later calls are refused with StateError. */
  release(): Promise<void> {
    return this.#turns.close(async () => {
      const parts = [this.unet, this.streamlined, this.encoder, this.decoder, this.imageEncoder];
      await Promise.all(parts.map((part) => part?.release()));
    });
  }

  /** Checked, and with defaults. */
  #settings(options: ImageToVideoOptions) {
    const { sampleSize, numFrames } = this.unet.config;
    const factor = spatialFactor(this.decoder.config);
    // Stable Video Diffusion's configuration says 96, a square that it was not trained on.
    const published = { width: 1024, height: 576 };
    const known = sampleSize !== undefined && sampleSize !== 96;
    const usual = known ? { width: sampleSize * factor, height: sampleSize * factor } : published;
    const {
      minGuidanceScale = 1,
      maxGuidanceScale = 3,
      count = 1,
      frames = numFrames,
      fps = 7,
      motionBucketId = 127,
      noiseAugStrength = 0.02,
      decodeChunkSize,
      width = usual.width,
      height = usual.height,
    } = options;
    for (const [name, pixels] of Object.entries({ width, height })) checkSide(name, pixels, factor);
    checkPixels(count * frames, width, height);
    // A configuration without a size does not say what the model was trained on.
    const notes = sampleSize === undefined ? [] : farFromTraining({ width, height }, usual);
    return {
      notes,
      minGuidanceScale,
      maxGuidanceScale,
      count,
      frames,
      fps,
      motionBucketId,
      noiseAugStrength,
      decodeChunkSize,
      width,
      height,
    };
  }
}

/** 8-bit pixels, row by row, to [1, 3, height, width] in [0, 1]. */
function toPlanes({ width, height, data }: Picture): FloatTensor {
  const area = width * height;
  const planes = Float32Array.from({ length: 3 * area }, (_, i) => data[3 * (i % area) + Math.floor(i / area)]! / 255);
  return floatTensor([1, 3, height, width], planes);
}
