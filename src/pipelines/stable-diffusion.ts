/**
 * Stable Diffusion 1 and 2 and what was distilled from them (Turbo, LCM), after diffusers' StableDiffusionPipeline and
 * LatentConsistencyModelPipeline: a UNet that attends to the states of CLIP's text tower.
 */
import { Streamlined } from "../acceleration/streamlined.ts";
import { componentFolder, type ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ClipPromptEncoder, plannedEncoders } from "../components/clip-prompt-encoder.ts";
import { Component } from "../components/components.ts";
import { expected } from "../components/expected-class.ts";
import type { PipelineOptions } from "../components/loading.ts";
import { ConfigError } from "../errors.ts";
import { clipText } from "../models/clip-text.ts";
import { type UNet2DConditionConfig, unet2DCondition } from "../models/unet-2d-condition.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Feeds } from "../sampling/denoiser.ts";
import { guidanceEmbedding } from "./guidance-embedding.ts";
import type {
  ConditionOptions,
  EmbedOptions,
  TextEmbeddings,
  Texts,
  TextToImageFamily,
} from "./text-to-image-family.ts";

/** Which call a checkpoint was saved for makes no difference: what is drawn depends on whether there is an image, and a mask. */
export const stableDiffusionClasses = [
  "StableDiffusionPipeline",
  "StableDiffusionImg2ImgPipeline",
  "StableDiffusionInpaintPipeline",
  "LatentConsistencyModelPipeline",
  "LatentConsistencyModelImg2ImgPipeline",
] as const;

export class StableDiffusion implements TextToImageFamily {
  readonly denoiser: Component<UNet2DConditionConfig>;
  readonly streamlined: Streamlined<UNet2DConditionConfig>;
  readonly latentChannels: number;
  /** Null in a folder without one: only `sampleLatents` and `decode` work then. */
  readonly prompts: ClipPromptEncoder | null;

  readonly network = "unet";
  readonly usual;
  readonly takes = ["clipSkip", "promptWeights"] as const;
  readonly notes: readonly string[];
  readonly patchSize = 1;
  readonly cleanCaption = false;
  readonly #name: string;
  /** Consistency models are distilled with guidance: the pipeline of theirs never runs a network twice. */
  readonly #consistency: boolean;

  private constructor(
    folder: Folder,
    { className, components }: ModelIndex,
    parts: Pick<StableDiffusion, "denoiser" | "prompts" | "latentChannels">,
  ) {
    this.#name = folder.name;
    this.#consistency = className.startsWith("LatentConsistency");
    this.usual = { steps: this.#consistency ? 4 : 50, strength: 0.8, maskedStrength: 1 };
    this.notes = components.has("safety_checker") ? ["The model's safety checker is not run."] : [];
    this.denoiser = parts.denoiser;
    this.streamlined = new Streamlined(parts.denoiser, unet2DCondition);
    this.latentChannels = parts.latentChannels;
    this.prompts = parts.prompts;
  }

  static async open(
    folder: Folder,
    index: ModelIndex,
    runtime: Runtime,
    options: PipelineOptions,
    latentChannels: number,
  ): Promise<StableDiffusion> {
    const denoiser = await openUNet(folder, index, runtime, options, latentChannels);
    if (denoiser.config.textTime) {
      throw new ConfigError(`${folder.name}: is a ${index.className}, but its UNet is Stable Diffusion XL's.`);
    }
    const prompts = await ClipPromptEncoder.open(folder, index, "", clipText, runtime, options);
    return new StableDiffusion(folder, index, { denoiser, prompts, latentChannels });
  }

  get inChannels(): number {
    return this.denoiser.config.inChannels;
  }

  get sampleSize(): number {
    return this.denoiser.config.sampleSize ?? 64;
  }

  get maxSequenceLength(): number {
    return this.prompts?.tokens ?? 77;
  }

  get encoders() {
    return plannedEncoders("last", [this.prompts]);
  }

  get spacedByStrength(): boolean {
    return this.#consistency;
  }

  guided(guidanceScale: number): boolean {
    return guidanceScale > 1 && !this.#consistency && this.denoiser.config.timeCondProjDim === null;
  }

  async embed(
    { texts, negatives }: Texts,
    { clipSkip: skip, promptWeights: weighted, signal, budget }: EmbedOptions,
  ): Promise<{ embeddings: TextEmbeddings; warnings: string[] }> {
    if (!this.prompts) {
      throw new ConfigError(`${this.#name}: has no text encoder and tokenizer, which turn a prompt into embeddings.`);
    }
    const settings = { states: "last", skip, weighted, negatives, signal, budget } as const;
    const { states, warnings } = await this.prompts.embed(texts, settings);
    return { embeddings: { encoderHiddenStates: states }, warnings };
  }

  conditions(embeddings: TextEmbeddings, { guidanceScale }: ConditionOptions): Feeds {
    return { ...embeddings, ...guidanceCondition(this.denoiser.config, embeddings, guidanceScale) };
  }

  release(): Promise<void> {
    return releaseAll([this.denoiser, this.streamlined, this.prompts]);
  }
}

/** Throws ConfigError for a UNet whose input is neither a latent nor a latent with a mask and the masked image's latent. */
export async function openUNet(
  folder: Folder,
  index: ModelIndex,
  runtime: Runtime,
  options: PipelineOptions,
  latentChannels: number,
): Promise<Component<UNet2DConditionConfig>> {
  const unet = await Component.open(
    componentFolder(folder, index, "unet"),
    expected(unet2DCondition),
    runtime,
    options,
  );
  const { inChannels, classEmbedding } = unet.config;
  if (classEmbedding) {
    throw new ConfigError(
      `${folder.name}: its UNet has a class embedding (class_embed_type), which pipelines of images do not give.`,
    );
  }
  if (inChannels === latentChannels || inChannels === 2 * latentChannels + 1) return unet;
  throw new ConfigError(
    `${folder.name}: its UNet reads ${inChannels} channels; the autoencoder's latents have ${latentChannels}, so it has to be ` +
      `${latentChannels}, or ${2 * latentChannels + 1} for inpainting.`,
  );
}

/** The guidance scale as a distilled UNet is told of it; nothing for others. */
export const guidanceCondition = (
  { timeCondProjDim }: Pick<UNet2DConditionConfig, "timeCondProjDim">,
  { encoderHiddenStates }: TextEmbeddings,
  guidanceScale: number,
): Feeds =>
  timeCondProjDim === null
    ? {}
    : { timestepCond: guidanceEmbedding(guidanceScale, timeCondProjDim, encoderHiddenStates.shape[0]!) };
