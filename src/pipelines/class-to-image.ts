/** Class to pictures with DiT (Peebles & Xie 2023), after diffusers' DiTPipeline. */

import { platform } from "#platform";
import { type Acceleration, checkAcceleration, openDenoiser, reportOf } from "../acceleration/acceleration.ts";
import { type FeedbackComponent, openFeedback } from "../acceleration/feedback-component.ts";
import { Streamlined } from "../acceleration/streamlined.ts";
import { callable } from "../callable.ts";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { anObject, listOf, whole } from "../checks.ts";
import { type AutoencoderChoice, openAutoencoder } from "../components/autoencoder.ts";
import { Component } from "../components/components.ts";
import { decodeLatents } from "../components/decode.ts";
import { checkDecoded } from "../components/decoded-size.ts";
import { expected } from "../components/expected-class.ts";
import type { InWorker, PipelineOptions } from "../components/loading.ts";
import { ownGuidanceInterval } from "../components/pipeline-index.ts";
import { readSchedulerConfig, solverOf } from "../components/solver.ts";
import { type AutoencoderConfig, latentFactor } from "../models/autoencoder.ts";
import { type DiTConfig, dit } from "../models/dit.ts";
import type { ResolveOptions } from "../platform/platform.ts";
import { RunQueue } from "../platform/run-queue.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Denoiser } from "../sampling/denoiser.ts";
import { type GuidanceInterval, guidedDenoise } from "../sampling/guidance.ts";
import { sample } from "../sampling/sampler.ts";
import { MOST_PICTURES, seedsOf } from "../sampling/seeds.ts";
import { type FloatTensor, int64Tensor } from "../tensor.ts";
import { type ClassLabels, classByName, readClassLabels } from "./class-labels.ts";
import { fromPretrained, openFolder } from "./opening.ts";
import { decodePlanned, openPlanned, planPictures, usualFeedback } from "./picture-plan.ts";
import {
  type PictureLoopOptions,
  type PictureOptions,
  type PictureResult,
  pictureOptions,
  toImages,
} from "./pictures.ts";
import { makeRoom } from "./run-plan.ts";
import { checkPixels, noiseFor } from "./settings.ts";

/** Options of a call: scheduler, steps, guidance, seeds, acceleration. */
export type ClassToImageOptions = PictureOptions;
export const classToImageOptions = pictureOptions;
/** What a call gives. */
export type ClassToImageResult = PictureResult;

/** What the loop needs. `noise`: [batch, channels, height, width]. */
export interface SampleClassLatentsOptions extends PictureLoopOptions {
  classes: readonly number[];
}

/** A pipeline that was opened with `worker`: what can be used without its networks. Every ClassToImage is one too. */
export type ClassToImageInWorker = Pick<
  ClassToImagePipeline,
  "name" | "guidanceInterval" | "schedulerConfig" | "labels" | "generate" | "release"
> &
  ((input: readonly number[], options?: ClassToImageOptions) => Promise<ClassToImageResult>);

/** `const { images } = await pipe([207])` is short for `pipe.generate([207])`. */
export type ClassToImage = ClassToImagePipeline &
  ((classes: readonly number[], options?: ClassToImageOptions) => Promise<ClassToImageResult>);

/** DiTPipeline's null class, also where the table is larger; a smaller table has its last row for that. */
const NULL_CLASS = 1000;

/** How the networks are opened, and which autoencoder there is. */
export type ClassToImageSource<Vae = Folder> = PipelineOptions & AutoencoderChoice<Vae>;

/** What `fromPretrained` takes. */
export type ClassToImageLoading = ClassToImageSource<string> & ResolveOptions;

const kind = { name: "ClassToImagePipeline", options: classToImageOptions, otherModels: ["vae"] };

/** Images of classes with DiT. `fromPretrained` opens one; what it gives can be called. */
export class ClassToImagePipeline {
  readonly name: string;
  readonly transformer: Component<DiTConfig>;
  /** Runs the transformer within a budget of memory. */
  readonly streamlined: Streamlined<DiTConfig>;
  readonly vae: Component<AutoencoderConfig>;
  /** For `accelerate: "ilf"`; null in a folder without one. */
  readonly feedback: FeedbackComponent | null;
  readonly schedulerConfig: RawConfig;
  /** In which of the steps there is guidance: `_guidance_interval` of model_index.json, or in all. */
  readonly guidanceInterval: GuidanceInterval;
  /** Names of the classes, where the checkpoint has them. */
  readonly labels: ClassLabels;

  readonly #queue: RunQueue;

  private constructor(
    parts: Pick<
      ClassToImagePipeline,
      "name" | "transformer" | "vae" | "feedback" | "schedulerConfig" | "guidanceInterval" | "labels"
    >,
  ) {
    this.name = parts.name;
    this.#queue = new RunQueue(parts.name);
    this.transformer = parts.transformer;
    this.streamlined = new Streamlined(parts.transformer, dit);
    this.vae = parts.vae;
    this.feedback = parts.feedback;
    this.schedulerConfig = parts.schedulerConfig;
    this.guidanceInterval = parts.guidanceInterval;
    this.labels = parts.labels;
  }

  /** `model`, and `vae`: a folder in diffusers' layout, or a Hub id. */
  static fromPretrained(model: string, options: ClassToImageLoading & InWorker): Promise<ClassToImageInWorker>;
  static fromPretrained(model: string, options?: ClassToImageLoading): Promise<ClassToImage>;
  static fromPretrained(
    model: string,
    given: ClassToImageLoading & Partial<InWorker> = {},
  ): Promise<ClassToImageInWorker> {
    return fromPretrained(model, given, kind, (folder, options, { vae }) =>
      ClassToImagePipeline.fromFolder(folder, platform.runtime, { ...options, vae }),
    );
  }

  /** Reads configurations and the headers of the weights. Throws CheckpointError and ConfigError. */
  static async fromFolder(folder: Folder, runtime: Runtime, given: ClassToImageSource = {}): Promise<ClassToImage> {
    const { options: read, index } = await openFolder(folder, runtime, given, {
      name: kind.name,
      classes: ["DiTPipeline"],
      more: { vae: anObject },
    });
    const { vae: chosen, ...options } = read;
    const transformer = await Component.open(folder.sub("transformer"), expected(dit), runtime, options);
    const pipeline = new ClassToImagePipeline({
      name: folder.name,
      transformer,
      feedback: await openFeedback(folder, transformer),
      vae: (await openAutoencoder(folder, index, runtime, options, chosen)).vae,
      schedulerConfig: await readSchedulerConfig(folder, index),
      guidanceInterval: ownGuidanceInterval(folder, index),
      labels: readClassLabels(folder, index),
    });
    return callable(pipeline);
  }

  /**
   * The number of a class by its name, or by one of several that it has ("tench, Tinca tinca"), in small or capital letters. Throws
   * ArgumentError if none or several match.
   */
  classNumber(name: string): number {
    return classByName(this.labels, name);
  }

  /**
   * One picture for each class number. Throws ArgumentError for a class that the model does not have and for settings
   * outside their range, NumericError if the model gives something that is not a number, and the signal's reason when
   * it is aborted.
   */
  async generate(classes: readonly number[], options: ClassToImageOptions = {}): Promise<ClassToImageResult> {
    const of = { of: "ClassToImagePipeline.generate", self: this };
    return this.#queue.call(options, classToImageOptions, of, (read) => this.#generate(classes, read));
  }

  async #generate(classes: readonly number[], options: ClassToImageOptions): Promise<ClassToImageResult> {
    const { guidanceScale = 4, guidanceInterval = this.guidanceInterval, signal, onStep } = options;
    signal?.throwIfAborted();
    const solver = solverOf(this.schedulerConfig, options, 50);
    const { numClasses, inChannels, sampleSize } = this.transformer.config;
    listOf(whole(0, numClasses - 1), { least: 1, most: MOST_PICTURES })(classes, "classes");
    const side = sampleSize * latentFactor(this.vae.config);
    checkPixels(classes.length, side, side);
    this.#checkMemory(classes.length, side, options);
    const seeds = seedsOf(classes.length, options, "classes");
    const acceleration = checkAcceleration(options.accelerate, usualFeedback(this.feedback, options));
    const size = { height: sampleSize, width: sampleSize };
    const call = { pictures: classes.length, guided: guidanceScale > 1, guidanceInterval, ...size };
    const networks = { streamlined: this.streamlined, denoiser: this.transformer, decoder: this.vae };
    const { memory } = options;
    const plan = memory === undefined ? null : await planPictures(networks, call, acceleration, memory);

    if (plan) await makeRoom(plan, [this.transformer, this.vae, this.feedback]);
    const denoiser = plan
      ? await openPlanned(this.streamlined, plan, signal)
      : await this.openDenoiser(size, acceleration);
    const latents = await this.sampleLatents({
      ...solver,
      ...noiseFor(seeds, [1, inChannels, sampleSize, sampleSize]),
      denoiser,
      guidanceScale,
      guidanceInterval,
      classes,
      signal,
      onStep,
    });
    if (plan) await makeRoom(plan, [this.streamlined, this.transformer]);
    const decoded = plan ? await decodePlanned(this.vae, latents, plan, { signal }) : await this.decode(latents);
    signal?.throwIfAborted();
    const planned = plan ? { planned: plan.parts } : {};
    return { images: toImages(decoded), seeds, ...planned, ...reportOf(acceleration.method, denoiser) };
  }

  #checkMemory(count: number, side: number, { memory }: ClassToImageOptions): void {
    const together = memory === undefined ? count : 1;
    const unit = latentFactor(this.vae.config) * this.transformer.config.patchSize;
    const size = { width: side, height: side };
    checkDecoded(this.vae.config, { count, together, size, unit, memory: platform.memory() });
  }

  /** A denoiser for one run of the sampler on latents of this size. */
  openDenoiser(size: { height: number; width: number }, acceleration: Acceleration): Promise<Denoiser> {
    this.#queue.checkOpen();
    return openDenoiser(this.transformer, { batch: "batch", ...size }, acceleration, this.feedback);
  }

  /**
   * The sampling loop, with guidance on the latent's channels: a variance is dropped. The null class comes first, as the
   * negative prompt does in text-to-image (DiTPipeline has it second), since distillation tells the halves apart.
   */
  async sampleLatents(options: SampleClassLatentsOptions): Promise<FloatTensor> {
    const { classes, guidanceScale, guidanceInterval, ...loop } = options;
    const [batch, channels, height, width] = loop.noise.shape as [number, number, number, number];
    const conditionsOf = (labels: readonly number[]) => ({ classLabels: int64Tensor([labels.length], labels) });
    const nullClass = Math.min(NULL_CLASS, this.transformer.config.numClasses);
    const nothing = new Array<number>(batch).fill(nullClass);
    return sample({
      ...loop,
      denoise: guidedDenoise({
        denoiser: loop.denoiser ?? (await this.openDenoiser({ height, width }, { method: "none" })),
        input: this.transformer.latent,
        channels,
        guidanceScale,
        guidanceInterval,
        conditions: conditionsOf(classes),
        bothConditions: guidanceScale > 1 ? conditionsOf([...nothing, ...classes]) : null,
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
    return this.#queue.close(() => releaseAll([this.transformer, this.streamlined, this.vae, this.feedback]));
  }
}
