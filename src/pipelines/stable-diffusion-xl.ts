/**
 * Stable Diffusion XL and SDXL-Turbo, after diffusers' StableDiffusionXLPipeline: a UNet that attends to the states of two text
 * towers before their last layers, and is told the second one's pooled state and what size the image is to look like.
 */
import { Streamlined } from "../acceleration/streamlined.ts";
import { componentFolder, type ModelIndex, readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import type { Component } from "../components/components.ts";
import type { PipelineOptions } from "../components/loading.ts";
import { ConfigError } from "../errors.ts";
import { type UNet2DConditionConfig, unet2DCondition } from "../models/unet-2d-condition.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Feeds } from "../sampling/denoiser.ts";
import { guidanceCondition, openUNet } from "./stable-diffusion.ts";
import { StableDiffusionXLText } from "./stable-diffusion-xl-text.ts";
import type {
  ConditionOptions,
  EmbedOptions,
  FamilyOption,
  TextEmbeddings,
  Texts,
  TextToImageFamily,
} from "./text-to-image-family.ts";

export const stableDiffusionXLClasses = [
  "StableDiffusionXLPipeline",
  "StableDiffusionXLImg2ImgPipeline",
  "StableDiffusionXLInpaintPipeline",
] as const;

export class StableDiffusionXL implements TextToImageFamily {
  readonly denoiser: Component<UNet2DConditionConfig>;
  readonly streamlined: Streamlined<UNet2DConditionConfig>;
  readonly latentChannels: number;
  /** The text encoders. */
  readonly text: StableDiffusionXLText;

  readonly network = "unet";
  readonly usual = { steps: 50, strength: 0.3, maskedStrength: 0.9999 };
  readonly notes = [];
  readonly patchSize = 1;
  readonly cleanCaption = false;

  private constructor(parts: Pick<StableDiffusionXL, "denoiser" | "latentChannels" | "text">) {
    this.denoiser = parts.denoiser;
    this.streamlined = new Streamlined(parts.denoiser, unet2DCondition);
    this.latentChannels = parts.latentChannels;
    this.text = parts.text;
  }

  static async open(
    folder: Folder,
    index: ModelIndex,
    runtime: Runtime,
    options: PipelineOptions,
    latentChannels: number,
  ): Promise<StableDiffusionXL> {
    const denoiser = await openUNet(folder, index, runtime, options, latentChannels);
    checkTextTime(folder, index, denoiser.config);
    await checkLatents(folder, index);
    const text = await StableDiffusionXLText.open(folder, index, runtime, options);
    checkPooled(folder, denoiser.config, text);
    return new StableDiffusionXL({ denoiser, latentChannels, text });
  }

  get takes(): readonly FamilyOption[] {
    return [...this.text.takes, "denoisingStart", "denoisingEnd"];
  }

  get refines(): boolean {
    return this.text.requiresAestheticsScore;
  }

  get pooled(): "textEmbeds" {
    return this.text.pooled;
  }

  get timeIds(): number | undefined {
    return this.text.timeIds;
  }

  get inChannels(): number {
    return this.denoiser.config.inChannels;
  }

  get sampleSize(): number {
    return this.denoiser.config.sampleSize ?? 128;
  }

  get maxSequenceLength(): number {
    return this.text.maxSequenceLength;
  }

  get encoders() {
    return this.text.encoders;
  }

  guided(guidanceScale: number): boolean {
    return guidanceScale > 1 && this.denoiser.config.timeCondProjDim === null;
  }

  embed(texts: Texts, options: EmbedOptions): Promise<{ embeddings: TextEmbeddings; warnings: string[] }> {
    return this.text.embed(texts, options);
  }

  conditions(embeddings: TextEmbeddings, options: ConditionOptions): Feeds {
    return {
      ...this.text.conditions(embeddings, options),
      ...guidanceCondition(this.denoiser.config, embeddings, options.guidanceScale),
    };
  }

  release(): Promise<void> {
    return releaseAll([this.denoiser, this.streamlined, ...this.encoders]);
  }
}

/** Throws ConfigError for a UNet that is not told of pooled text and sizes. */
export function checkTextTime(
  folder: Folder,
  { className }: ModelIndex,
  { textTime }: Pick<UNet2DConditionConfig, "textTime">,
): void {
  if (textTime) return;
  throw new ConfigError(
    `${folder.name}: is a ${className}, but its UNet's addition_embed_type is not "text_time", as Stable Diffusion XL's is.`,
  );
}

/** Throws ConfigError for a second text encoder whose pooled text is not what the UNet reads. */
function checkPooled(
  folder: Folder,
  { textTime }: Pick<UNet2DConditionConfig, "textTime">,
  { second, timeIds }: StableDiffusionXLText,
): void {
  const { inputs, timeWidth } = textTime!;
  const reads = inputs - timeIds * timeWidth;
  const gives = second?.encoder.config.projectionWidth ?? reads;
  if (gives === reads) return;
  throw new ConfigError(
    `${folder.name}: its UNet reads a pooled text of ${reads} numbers beside ${timeIds} of sizes, and its text_encoder_2 gives ` +
      `${gives}. Whether there are 5 or 6 of sizes is what "requires_aesthetics_score" in model_index.json says.`,
  );
}

/** Throws ConfigError for an autoencoder whose latents are normalised with a mean of their own. */
export async function checkLatents(folder: Folder, index: ModelIndex): Promise<void> {
  const { latents_mean: mean } = await readConfig(componentFolder(folder, index, "vae"));
  if (mean === undefined || mean === null) return;
  throw new ConfigError(
    `${folder.name}/vae: has latents_mean, by which latents are normalised (Playground 2.5); that is not supported.`,
  );
}
