/**
 * A picture to videos with Stable Video Diffusion (Blattmann et al. 2023, arXiv 2311.15127), after diffusers'
 * StableVideoDiffusionPipeline: the picture as CLIP sees it and as the autoencoder codes it, guidance that grows from frame to
 * frame, a solver over all frames, a decoder that looks along time.
 */

import { platform } from "#platform";
import { Streamlined } from "../acceleration/streamlined.ts";
import { callable } from "../callable.ts";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { number, whole } from "../checks.ts";
import { Component } from "../components/components.ts";
import { type DecodeOptions, decodeFrames } from "../components/decode-video.ts";
import { checkDecoded } from "../components/decoded-size.ts";
import { expected } from "../components/expected-class.ts";
import { ImageEncoder } from "../components/image-encoder.ts";
import type { InWorker, LoadingOptions, PipelineOptions } from "../components/loading.ts";
import { clippingNotes, readSchedulerConfig, solverOf } from "../components/solver.ts";
import { ConfigError } from "../errors.ts";
import { checkPicture, type Picture } from "../media/picture.ts";
import { resample } from "../media/resample.ts";
import { type AutoencoderKLConfig, spatialFactor } from "../models/autoencoder-kl.ts";
import { autoencoderKLTemporalDecoder } from "../models/autoencoder-kl-temporal-decoder.ts";
import { type UNetSpatioTemporalConfig, unetSpatioTemporal } from "../models/unet-spatio-temporal.ts";
import type { OptionTable } from "../options/options.ts";
import { RunQueue } from "../platform/run-queue.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { guidanceScaleCheck, guidedDenoise, joinChannels, repeatRow, stack } from "../sampling/guidance.ts";
import { checkFinite, sample } from "../sampling/sampler.ts";
import { seededNoise, seedsOf } from "../sampling/seeds.ts";
import { type FloatTensor, floatOf, floatTensor } from "../tensor.ts";
import { fromPretrained, openFolder } from "./opening.ts";
import { listenersOf, makeRoom, planRun } from "./run-plan.ts";
import { framesCheck, type LoopOptions } from "./settings.ts";
import { toVideos, type VideoOptions, type VideoResult, videoActions, videoOptions, videoSize } from "./videos.ts";

/** Options of a call: size, frames, steps, guidance, seeds, memory, acceleration. */
export interface ImageToVideoOptions extends VideoOptions {
  /** How far to go from what the model gives without the picture: on the first frame (1 unless given), and on the last (3). */
  minGuidanceScale?: number;
  maxGuidanceScale?: number;
  /** Frames a second, 7 unless given: the model is told, and the video is shown so. */
  fps?: number;
  /** How much motion there is to be, 127 unless given; up to 255 in training. */
  motionBucketId?: number;
  /** How much noise is added to the picture, 0.02 unless given: more lets the video go further from it. */
  noiseAugStrength?: number;
  /** Frames that are decoded together, all (or as many as `memory` allows) unless given. Fewer take less memory and flicker more. */
  decodeChunkSize?: number;
}

export const imageToVideoOptions: OptionTable<ImageToVideoOptions> = {
  ...videoOptions,
  minGuidanceScale: guidanceScaleCheck,
  maxGuidanceScale: guidanceScaleCheck,
  fps: whole(1, 1000),
  motionBucketId: whole(0, 1023),
  noiseAugStrength: number(0, 10),
  decodeChunkSize: framesCheck,
};

/** What a call gives. */
export type ImageToVideoResult = VideoResult;

/** What the loop needs, once the picture is coded; tensors as in diffusers' calls. `noise`: [batch, frames, channels, height, width]. */
export interface SampleImageVideoOptions extends LoopOptions {
  minGuidanceScale: number;
  maxGuidanceScale: number;
  /** The picture as CLIP sees it, [batch, 1, width]. */
  imageEmbeds: FloatTensor;
  /** The picture as the autoencoder codes it, [batch, channels, height, width], not scaled. */
  imageLatents: FloatTensor;
  fps: number;
  motionBucketId: number;
  noiseAugStrength: number;
}

/** A pipeline that was opened with `worker`: what can be used without its networks. Every ImageToVideo is one too. */
export type ImageToVideoInWorker = Pick<
  ImageToVideoPipeline,
  "name" | "className" | "schedulerConfig" | "generate" | "release"
> &
  ((input: Picture, options?: ImageToVideoOptions) => Promise<ImageToVideoResult>);

/** `const { videos } = await pipe(picture)` is short for `pipe.generate(picture)`. */
export type ImageToVideo = ImageToVideoPipeline &
  ((picture: Picture, options?: ImageToVideoOptions) => Promise<ImageToVideoResult>);

const kind = { name: "ImageToVideoPipeline", options: imageToVideoOptions };
export const imageToVideoClass = "StableVideoDiffusionPipeline";

type Parts = Pick<
  ImageToVideoPipeline,
  "name" | "className" | "unet" | "encoder" | "decoder" | "imageEncoder" | "schedulerConfig"
>;

/**
 * Videos that begin at an image, with Stable Video Diffusion. `fromPretrained` opens one; what it gives can be called.
 */
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
  /** Opens the denoiser, by a plan where one is needed. */
  readonly streamlined: Streamlined<UNetSpatioTemporalConfig>;

  readonly #queue: RunQueue;

  private constructor(parts: Parts) {
    this.name = parts.name;
    this.#queue = new RunQueue(parts.name);
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
  static fromPretrained(model: string, given: LoadingOptions & Partial<InWorker> = {}): Promise<ImageToVideoInWorker> {
    return fromPretrained(model, given, kind, (folder, options) =>
      ImageToVideoPipeline.fromFolder(folder, platform.runtime, options),
    );
  }

  /** Reads configurations and the headers of the weights. Throws CheckpointError and ConfigError. */
  static async fromFolder(folder: Folder, runtime: Runtime, given: PipelineOptions = {}): Promise<ImageToVideo> {
    const { name } = kind;
    const { options, index } = await openFolder(folder, runtime, given, { name, classes: [imageToVideoClass] });
    const { className, components } = index;
    const scheduler = await readSchedulerConfig(folder, index);
    const parts = { unet: folder.sub("unet"), vae: folder.sub("vae"), scheduler };
    const imageEncoder = components.has("image_encoder") ? await ImageEncoder.open(folder, runtime, options) : null;
    return ImageToVideoPipeline.fromParts(folder.name, className, parts, imageEncoder, runtime, options);
  }

  /** From folders that need not be in one place. */
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
    return callable(pipeline);
  }

  /**
   * Videos that begin at a picture, which is brought to their size. Throws ArgumentError for settings outside their range,
   * BudgetError for a budget of memory that cannot be kept, NumericError if the model gives something that is not a number,
   * and the signal's reason when it is aborted.
   */
  async generate(picture: Picture, options: ImageToVideoOptions = {}): Promise<ImageToVideoResult> {
    checkPicture(picture);
    const of = { of: "ImageToVideoPipeline.generate", self: this };
    return this.#queue.call(options, imageToVideoOptions, of, (read) => this.#generate(picture, read));
  }

  async #generate(picture: Picture, options: ImageToVideoOptions): Promise<ImageToVideoResult> {
    const {
      count = 1,
      frames = this.unet.config.numFrames,
      fps = 7,
      minGuidanceScale = 1,
      maxGuidanceScale = 3,
    } = options;
    const {
      motionBucketId = 127,
      noiseAugStrength = 0.02,
      decodeChunkSize = frames,
      signal,
      onStep,
      onDecode,
    } = options;
    signal?.throwIfAborted();
    if (!this.imageEncoder) {
      throw new ConfigError(`${this.name}: has no image encoder, which shows the model the picture that it begins at.`);
    }
    const { width, height, latent, notes } = this.#size(count * frames, options);
    const solver = solverOf(this.schedulerConfig, options, 25);
    const seeds = seedsOf(count, options, "videos");
    // Errors about sizes and memory come before anything runs.
    const guided = maxGuidanceScale > 1;
    const size = { batch: guided ? 2 * count : count, guided, frames, ...latent, tokens: this.imageEncoder.tokens };
    const plan = planRun(this, size, decodeChunkSize, options);

    const imageEmbeds = repeatRow(await this.imageEncoder.embed(picture), 0, count);
    signal?.throwIfAborted();
    const image = repeatRow(toPlanes(resample(picture, width, height, "lanczos")), 0, count);
    // As in diffusers each video's generator gives the picture's noise first, then that of the latents.
    const draw = seededNoise(seeds);
    const imageLatents = await this.codeImage(image, draw([1, 3, height, width]), noiseAugStrength);
    signal?.throwIfAborted();
    await makeRoom(plan, [this.imageEncoder, this.encoder]);
    const denoiser = await this.streamlined.open(plan.denoiser, listenersOf(options));
    const shape = [1, frames, imageLatents.shape[1]!, latent.height, latent.width];
    const latents = await this.sampleLatents({
      ...solver,
      noise: draw(shape),
      drawNoise: () => draw(shape),
      denoiser,
      ...{ minGuidanceScale, maxGuidanceScale, imageEmbeds, imageLatents, fps, motionBucketId, noiseAugStrength },
      signal,
      onStep,
    });
    await makeRoom(plan, [this.streamlined, this.unet]);
    const { frames: chunk, tile } = plan.decoding;
    const videos = toVideos(await this.decode(latents, { chunk, tile, signal, onDecode }), fps);
    signal?.throwIfAborted();
    const warnings = [...notes, ...clippingNotes(this.schedulerConfig, options.scheduler, solver.scheduler)];
    return { videos, seeds, warnings, ...videoActions(denoiser) };
  }

  /**
   * The autoencoder's mean code, not scaled, of pictures [batch, 3, height, width] in [0, 1] with noise of that shape on them.
   */
  async codeImage(image: FloatTensor, noise: FloatTensor, strength: number): Promise<FloatTensor> {
    this.#queue.checkOpen();
    const [batch, , height, width] = image.shape as [number, number, number, number];
    const noisy = image.data.map((value, i) => 2 * value - 1 + strength * noise.data[i]!);
    const session = await this.encoder.session({ batch, height, width });
    const mean = floatOf(await session.run({ image: floatTensor(image.shape, noisy) }), "mean");
    checkFinite(mean, "the autoencoder's code of the picture");
    return mean;
  }

  /** The sampling loop with guidance that grows along the frames: noise to latents [batch, frames, channels, h, w]. */
  async sampleLatents(options: SampleImageVideoOptions): Promise<FloatTensor> {
    this.#queue.checkOpen();
    const { imageEmbeds, imageLatents, minGuidanceScale, maxGuidanceScale, ...rest } = options;
    const { fps, motionBucketId, noiseAugStrength, ...loop } = rest;
    const [, frames, , height, width] = loop.noise.shape as [number, number, number, number, number];
    const guided = maxGuidanceScale > 1;
    // In training the model was told one frame a second less than the video had.
    const timeIds = [fps - 1, motionBucketId, noiseAugStrength];
    const conditionsOf = (encoderHiddenStates: FloatTensor) => ({
      encoderHiddenStates,
      addedTimeIds: repeatRow(floatTensor([1, 3], Float32Array.from(timeIds)), 0, encoderHiddenStates.shape[0]!),
    });
    // The half without the picture has zeros in its place.
    const withNothing = (tensor: FloatTensor) => stack(floatTensor(tensor.shape), tensor);
    const pictures = guided ? withNothing(imageLatents) : imageLatents;
    const size = { batch: pictures.shape[0]!, frames, height, width, tokens: imageEmbeds.shape[1]! };
    return sample({
      ...loop,
      denoise: guidedDenoise({
        denoiser: loop.denoiser ?? (await this.streamlined.openDenoiser(size)),
        input: this.unet.latent,
        prepare: (latents) => joinChannels(latents, pictures),
        guidanceScale: Array.from(
          { length: frames },
          (_, i) => minGuidanceScale + ((maxGuidanceScale - minGuidanceScale) * i) / Math.max(1, frames - 1),
        ),
        conditions: conditionsOf(imageEmbeds),
        bothConditions: guided ? conditionsOf(withNothing(imageEmbeds)) : null,
      }),
    });
  }

  /** Latents to decoded values [batch, 3, frames, height, width], not clamped; `chunk` frames together, all unless given. */
  async decode(
    latents: FloatTensor,
    { chunk = latents.shape[1]!, ...options }: DecodeOptions & { chunk?: number } = {},
  ): Promise<FloatTensor> {
    this.#queue.checkOpen();
    return decodeFrames(this.decoder, latents, { chunk, sizes: (count) => ({ batch: 1, frames: count }) }, options);
  }

  /** Frees memory and threads once all calls before it are done. Later calls reject with StateError. */
  release(): Promise<void> {
    const parts = [this.unet, this.streamlined, this.encoder, this.decoder, this.imageEncoder];
    return this.#queue.close(() => releaseAll(parts));
  }

  #size(pictures: number, options: ImageToVideoOptions) {
    const { sampleSize } = this.unet.config;
    const factor = spatialFactor(this.decoder.config);
    // The configuration of Stable Video Diffusion says 96, but it was not trained on squares of that size.
    const published = { width: 1024, height: 576 };
    const known = sampleSize !== undefined && sampleSize !== 96;
    const usual = known ? { width: sampleSize * factor, height: sampleSize * factor } : published;
    // A configuration without a size does not say what the model was trained on.
    const size = videoSize(pictures, { factor, usual, trained: sampleSize === undefined ? null : usual }, options);
    const { memory, frames = this.unet.config.numFrames, decodeChunkSize = frames } = options;
    const together = memory === undefined ? decodeChunkSize : 1;
    checkDecoded(this.decoder.config, { count: pictures, together, size, unit: factor, memory: platform.memory() });
    return size;
  }
}

/** 8-bit pixels, row by row, to [1, 3, height, width] in [0, 1]. */
function toPlanes({ width, height, data }: Picture): FloatTensor {
  const area = width * height;
  const planes = Float32Array.from({ length: 3 * area }, (_, i) => data[3 * (i % area) + Math.floor(i / area)]! / 255);
  return floatTensor([1, 3, height, width], planes);
}
