/**
 * Text to images, and images with a text to images, after diffusers' pipelines of PixArt and Stable Diffusion: prompts
 * embedded, guidance between the negative prompt and the prompt, a solver, the autoencoder's decoder. What differs from family
 * to family is in `text-to-image-family.ts`.
 */
import { platform } from "#platform";
import {
  type Acceleration,
  checkAcceleration,
  checkNetwork,
  openDenoiser,
  reportOf,
} from "../acceleration/acceleration.ts";
import { type FeedbackComponent, openFeedback } from "../acceleration/feedback-component.ts";
import { callable } from "../callable.ts";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { anObject } from "../checks.ts";
import { type AutoencoderChoice, openAutoencoder } from "../components/autoencoder.ts";
import type { Component } from "../components/components.ts";
import { decodeLatents } from "../components/decode.ts";
import { checkDecoded } from "../components/decoded-size.ts";
import type { InWorker, PipelineOptions } from "../components/loading.ts";
import type { PictureEncoder, TileSize } from "../components/picture-encoder.ts";
import { ownGuidance, ownGuidanceInterval } from "../components/pipeline-index.ts";
import { pickPrompts, stackPrompts } from "../components/prompts.ts";
import { clippingNotes, readSchedulerConfig, solverOf } from "../components/solver.ts";
import { ArgumentError } from "../errors.ts";
import { type AutoencoderConfig, latentFactor } from "../models/autoencoder.ts";
import type { PixArtConfig } from "../models/pixart.ts";
import { defined } from "../options/defined.ts";
import type { ResolveOptions } from "../platform/platform.ts";
import { RunQueue } from "../platform/run-queue.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Denoiser } from "../sampling/denoiser.ts";
import { indexTo } from "../sampling/denoising-range.ts";
import { beginning, type PictureLatents, withMask } from "../sampling/from-picture.ts";
import { type GuidanceInterval, guidedDenoise } from "../sampling/guidance.ts";
import { sample } from "../sampling/sampler.ts";
import { seededNoise, seedsOf } from "../sampling/seeds.ts";
import { dynamicShift } from "../schedulers/dynamic-shift.ts";
import type { FloatTensor } from "../tensor.ts";
import { isLatents, sizeOfLatents } from "./given-latents.ts";
import { fromPretrained, openFolder } from "./opening.ts";
import {
  decodePlanned,
  openPlanned,
  type PictureCall,
  type PicturePlan,
  planNotes,
  planPictures,
  usualFeedback,
} from "./picture-plan.ts";
import { pictureSizes, type Sizes, sizeNotes } from "./picture-size.ts";
import { type PictureSource, pictureInputs, sizeOfImage } from "./picture-source.ts";
import { type PictureLoopOptions, toImages } from "./pictures.ts";
import { PixArt } from "./pixart.ts";
import { resizeAndCrop } from "./resolution-bins.ts";
import { makeRoom } from "./run-plan.ts";
import { promptListCheck } from "./settings.ts";
import { openFamily, textToImageClasses } from "./text-to-image-families.ts";
import {
  type ConditionOptions,
  type EmbedOptions,
  microConditions,
  type TextEmbeddings,
  type TextToImageFamily,
} from "./text-to-image-family.ts";
import {
  checkFamilyOptions,
  type TextToImageOptions,
  type TextToImageResult,
  textsOf,
  textToImageOptions,
} from "./text-to-image-options.ts";

/** What the loop needs, once prompts are embedded; tensors as in diffusers' calls. `noise`: [batch, channels, height, width]. */
export interface SampleLatentsOptions
  extends PictureLoopOptions,
    Omit<ConditionOptions, "guidanceScale" | "negatives" | "height" | "width"> {
  /** One row a picture. */
  prompt: TextEmbeddings;
  /** Counts where guidance runs the denoiser twice only. */
  negative: TextEmbeddings | null;
  /** Takes away deviation that guidance adds: 0, none, unless given. */
  guidanceRescale?: number;
  /** Where the run ends: a share of the way from noise to an image. */
  denoisingEnd?: number;
  /** Of an image to begin at, and of a mask. */
  picture?: PictureLatents;
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

/** How the networks are opened, and which autoencoder there is. */
export type TextToImageSource<Vae = Folder> = PipelineOptions & AutoencoderChoice<Vae>;

/** What `fromPretrained` takes. */
export type TextToImageLoading = TextToImageSource<string> & ResolveOptions;

const kind = { name: "TextToImagePipeline", options: textToImageOptions, otherModels: ["vae"] };

/** Images of prompts with PixArt and Stable Diffusion. `fromPretrained` opens one; what it gives can be called. */
export class TextToImagePipeline {
  readonly name: string;
  readonly className: string;
  /** The denoiser, the text encoders, and what they need: of PixArt, or of Stable Diffusion 1, 2, XL or 3. */
  readonly family: TextToImageFamily;
  readonly vae: Component<AutoencoderConfig>;
  /** For `accelerate: "ilf"`; null in a folder without one. */
  readonly feedback: FeedbackComponent | null;
  readonly schedulerConfig: RawConfig;
  /** What prompts are followed with unless a call says otherwise: `_guidance_scale` of model_index.json, or diffusers' default. */
  readonly guidanceScale: number;
  /** In which of the steps: `_guidance_interval` of model_index.json, or in all. */
  readonly guidanceInterval: GuidanceInterval;

  readonly #encoder: PictureEncoder;
  readonly #queue: RunQueue;

  private constructor(parts: Pick<TextToImagePipeline, PartName>, encoder: PictureEncoder) {
    this.name = parts.name;
    this.#queue = new RunQueue(parts.name);
    this.className = parts.className;
    this.family = parts.family;
    this.vae = parts.vae;
    this.#encoder = encoder;
    this.feedback = parts.feedback;
    this.schedulerConfig = parts.schedulerConfig;
    this.guidanceScale = parts.guidanceScale;
    this.guidanceInterval = parts.guidanceInterval;
  }

  /** `model`, and `vae`: the name of an embedded model ("fluent-emoji"), a folder in diffusers' layout, a file, or a Hub id. */
  static fromPretrained(model: string, options: TextToImageLoading & InWorker): Promise<TextToImageInWorker>;
  static fromPretrained(model: string, options?: TextToImageLoading): Promise<TextToImage>;
  static fromPretrained(
    model: string,
    given: TextToImageLoading & Partial<InWorker> = {},
  ): Promise<TextToImageInWorker> {
    return fromPretrained(model, given, kind, (folder, options, { vae }) =>
      TextToImagePipeline.fromFolder(folder, platform.runtime, { ...options, vae }),
    );
  }

  /** Reads configurations and the headers of the weights. Throws CheckpointError and ConfigError. */
  static async fromFolder(folder: Folder, runtime: Runtime, given: TextToImageSource = {}): Promise<TextToImage> {
    const { options: read, index } = await openFolder(folder, runtime, given, {
      name: kind.name,
      classes: textToImageClasses,
      more: { vae: anObject },
    });
    const { vae: chosen, ...options } = read;
    const { vae, encoder } = await openAutoencoder(folder, index, runtime, options, chosen);
    const { family, guidanceScale } = await openFamily(folder, index, runtime, options, vae.config.latentChannels);
    const pipeline = new TextToImagePipeline(
      {
        name: folder.name,
        className: index.className,
        family,
        vae,
        feedback: family.network === "transformer" ? await openFeedback(folder, family.denoiser) : null,
        schedulerConfig: await readSchedulerConfig(folder, index),
        guidanceScale: ownGuidance(folder, index, guidanceScale),
        guidanceInterval: ownGuidanceInterval(folder, index),
      },
      encoder,
    );
    return callable(pipeline);
  }

  /** PixArt's denoiser. Throws ArgumentError for a model of another family, whose denoiser is `family.denoiser`. */
  get transformer(): Component<PixArtConfig> {
    if (this.family instanceof PixArt) return this.family.denoiser;
    throw new ArgumentError(`${this.name}: a ${this.className} has no PixArt transformer.`);
  }

  /** Most tokens of a prompt: `_max_sequence_length` of model_index.json, or what diffusers' pipeline has. */
  get maxSequenceLength(): number {
    return this.family.maxSequenceLength;
  }

  /** Whether prompts are cleaned. */
  get cleanCaption(): boolean {
    return this.family.cleanCaption;
  }

  /** Side of an image in pixels, unless another size is asked for. */
  get side(): number {
    return this.family.sampleSize * latentFactor(this.vae.config);
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
    const { signal, onStep } = options;
    signal?.throwIfAborted();
    const { family } = this;
    checkFamilyOptions(this.className, family, options);
    const { list, texts } = textsOf(prompt, options, { count, guided: family.guided(guidanceScale) });
    const pictures = list.prompts.length;
    const acceleration = checkAcceleration(options.accelerate, usualFeedback(this.feedback, options), family.network);
    const source = pictureInputs(this.className, family, latentFactor(this.vae.config), options);
    const size = this.#sizes(pictures, options);
    const { height, width } = size.latent;
    const steps = (source && family.usual.stepsFromImage) ?? family.usual.steps;
    const solver = solverOf(this.schedulerConfig, options, steps, this.#patches(height, width));
    const seeds = seedsOf(pictures, options);
    const guided = list.negatives !== null;
    const encodes = options.image !== undefined && !isLatents(options.image);
    // Weights count from the empty text, which is encoded too.
    const counts = { pictures, guided, texts: texts.texts.length + (options.promptWeights ? 1 : 0), encodes };
    const plan = await this.#plan({ ...counts, ...size.latent }, acceleration, options);
    const { maxSequenceLength: tokens = family.maxSequenceLength } = options;
    const geometry = { batch: "batch", ...size.latent, tokens };
    if (!plan) checkNetwork(family.denoiser, geometry, acceleration, this.feedback);

    const { budget } = plan ?? {};
    if (plan) await makeRoom(plan, [family, this.vae, this.#encoder, this.feedback]);
    const { embeddings, warnings } = await this.#embed(texts, { ...options, budget });
    const draw = seededNoise(seeds);
    const shape = [1, family.latentChannels, height, width];
    const { noise, picture } = source
      ? await this.encodePicture(source(size.drawn, pictures), () => draw(shape), plan?.encoding?.tile)
      : { noise: draw(shape), picture: undefined };
    signal?.throwIfAborted();
    if (plan) await makeRoom(plan, [...family.encoders, this.#encoder]);
    const denoiser = plan
      ? await openPlanned(family.streamlined, plan, signal)
      : await this.openDenoiser({ height, width, tokens: embeddings.encoderHiddenStates.shape[1]! }, acceleration);
    const latents = await this.sampleLatents({
      ...solver,
      noise,
      drawNoise: () => draw(shape),
      denoiser,
      guidanceScale,
      guidanceInterval,
      guidanceRescale: options.guidanceRescale,
      denoisingEnd: options.denoisingEnd,
      ...microConditions(options),
      prompt: pickPrompts(embeddings, list.prompts),
      negative: list.negatives && pickPrompts(embeddings, list.negatives),
      picture,
      signal,
      onStep,
    });
    warnings.push(...family.notes, ...sizeNotes(size), ...(plan ? planNotes(plan) : []));
    warnings.push(...clippingNotes(this.schedulerConfig, options.scheduler, solver.scheduler));
    const planned = plan ? { planned: plan.parts } : {};
    const report = { seeds, warnings, ...planned, ...reportOf(acceleration.method, denoiser) };
    if (plan) await makeRoom(plan, [family.streamlined, family.denoiser]);
    if (options.outputType === "latent") return { images: [], latents, ...report };
    const decoded = plan
      ? await decodePlanned(this.vae, latents, plan, { signal, shift: this.#shift })
      : await this.decode(latents);
    const images = toImages(resizeAndCrop(decoded, size));
    signal?.throwIfAborted();
    return { images, ...report };
  }

  /** How a call with a budget of memory runs; null without one. Throws ArgumentError and BudgetError. */
  async #plan(
    call: Omit<PictureCall, "guidanceInterval"> & { encodes: boolean },
    acceleration: Acceleration,
    { memory, guidanceInterval = this.guidanceInterval, maxSequenceLength }: TextToImageOptions,
  ): Promise<PicturePlan | null> {
    if (memory === undefined) return null;
    const { streamlined, denoiser, encoders: textEncoders } = this.family;
    const imageEncoder = call.encodes ? this.#encoder : undefined;
    const networks = { streamlined, denoiser, decoder: this.vae, textEncoders, imageEncoder };
    const { tokensBefore = 0, maxSequenceLength: usual } = this.family;
    const tokens = tokensBefore + (maxSequenceLength ?? usual);
    const size = { ...call, guidanceInterval, tokens, timeIds: this.family.timeIds };
    return planPictures(networks, size, acceleration, memory);
  }

  /**
   * What the warnings of a result will say of a size, before it is drawn. Throws ArgumentError for a size that cannot be, or that takes more
   * memory than there is.
   */
  sizeWarnings(
    options: Pick<TextToImageOptions, "width" | "height" | "useResolutionBinning" | "count" | "image"> = {},
  ): string[] {
    return sizeNotes(this.#sizes(options.count ?? 1, options));
  }

  /** A denoiser for one run of the sampler on latents of this size. */
  openDenoiser(
    { height, width, tokens }: { height: number; width: number; tokens: number },
    acceleration: Acceleration,
  ): Promise<Denoiser> {
    this.#queue.checkOpen();
    const geometry = { batch: "batch", height, width, tokens, ...defined({ timeIds: this.family.timeIds }) };
    return openDenoiser(this.family.denoiser, geometry, acceleration, this.feedback);
  }

  /** Prompts as the text encoder sees them, one row each. */
  async embed(prompts: readonly string[], options: EmbedOptions = {}) {
    promptListCheck(prompts, "The prompts");
    for (const name of ["maxSequenceLength", "clipSkip", "promptWeights"] as const) {
      if (options[name] !== undefined) textToImageOptions[name](options[name], name);
    }
    return this.#embed({ texts: prompts }, options);
  }

  #embed(texts: Parameters<TextToImageFamily["embed"]>[0], options: EmbedOptions) {
    this.#queue.checkOpen();
    return this.family.embed(texts, options);
  }

  /**
   * An image, and a mask with it, as `sampleLatents` begins at them, and the noise: `draw` is called in diffusers' order, for the
   * image's latent where it counts, the noise, and the masked image's latent. `tile`: of the latent, where memory is short.
   */
  async encodePicture(
    source: PictureSource,
    draw: () => FloatTensor,
    tile?: TileSize,
  ): Promise<{ noise: FloatTensor; picture: PictureLatents }> {
    this.#queue.checkOpen();
    return source.encode({
      draw,
      encode: (image) => this.#encoder.encode(image, tile),
      scalingFactor: this.vae.config.scalingFactor,
      shift: this.#shift,
    });
  }

  /** The sampling loop with guidance: noise to latents (scaled as the denoiser has them). */
  async sampleLatents(options: SampleLatentsOptions): Promise<FloatTensor> {
    const { scheduler, prompt, negative, picture, guidanceScale, denoisingEnd } = options;
    const { family } = this;
    const [, channels, height, width] = options.noise.shape as [number, number, number, number];
    const tokens = prompt.encoderHiddenStates.shape[1]!;
    const factor = latentFactor(this.vae.config);
    const sizes = { ...microConditions(options), height: height * factor, width: width * factor };
    const conditionsOf = (embeddings: TextEmbeddings, negatives = 0) =>
      family.conditions(embeddings, { ...sizes, guidanceScale, negatives });
    const both = family.guided(guidanceScale) && negative;
    const mu = dynamicShift(scheduler, this.#patches(height, width));
    const begun = beginning({ ...options, mu }, picture, family);
    const { mask, maskedLatents } = picture ?? {};
    return sample({
      ...options,
      mu,
      ...begun,
      end: denoisingEnd === undefined ? undefined : indexTo(scheduler, denoisingEnd, begun.start?.index ?? 0),
      denoise: guidedDenoise({
        denoiser: options.denoiser ?? (await this.openDenoiser({ height, width, tokens }, { method: "none" })),
        input: family.denoiser.latent,
        channels,
        guidanceScale,
        guidanceInterval: options.guidanceInterval,
        guidanceRescale: options.guidanceRescale,
        prepare: mask && maskedLatents && ((latents) => withMask(latents, mask, maskedLatents)),
        conditions: conditionsOf(prompt),
        // The negative prompt first, as diffusers has it.
        bothConditions: both ? conditionsOf(stackPrompts(both, prompt), both.encoderHiddenStates.shape[0]!) : null,
      }),
    });
  }

  /** Latents to decoded values [batch, 3, height, width], not clamped. */
  async decode(latents: FloatTensor): Promise<FloatTensor> {
    this.#queue.checkOpen();
    return decodeLatents(this.vae, latents, this.#shift);
  }

  /** Frees memory and threads once all calls before it are done. Later calls reject with StateError. */
  release(): Promise<void> {
    return this.#queue.close(() => releaseAll([this.family, this.vae, this.#encoder, this.feedback]));
  }

  /** Of the autoencoder, added to latents where the family does that. */
  get #shift(): number {
    return this.family.shiftsLatents ? this.vae.config.shiftFactor : 0;
  }

  /** Of an image, from its latent's sides. */
  #patches(height: number, width: number): number {
    return (height * width) / this.family.patchSize ** 2;
  }

  #sizes(pictures: number, options: TextToImageOptions): Sizes {
    const { sampleSize, patchSize, mostSide = Number.POSITIVE_INFINITY } = this.family;
    const factor = latentFactor(this.vae.config);
    const unit = factor * patchSize;
    const { image, width, height } = options;
    const given = image && (isLatents(image) ? sizeOfLatents(image, factor) : sizeOfImage(image, unit));
    const own = given && { ...given, ...defined({ width, height }), useResolutionBinning: false };
    const sizes = pictureSizes({ pipeline: this.className, sampleSize, patchSize, factor }, pictures, own ?? options);
    for (const [name, pixels] of Object.entries(sizes.drawn)) {
      if (pixels <= mostSide * factor) continue;
      throw new ArgumentError(`${name} is ${pixels}; this model draws at most ${mostSide * factor} pixels on a side.`);
    }
    // Within a budget one at a time, if need be.
    const together = options.memory === undefined ? pictures : 1;
    const decoded = { count: pictures, together, size: sizes.drawn, unit, memory: platform.memory() };
    checkDecoded(this.vae.config, decoded);
    return sizes;
  }
}

type PartName =
  | "name"
  | "className"
  | "family"
  | "vae"
  | "feedback"
  | "schedulerConfig"
  | "guidanceScale"
  | "guidanceInterval";
