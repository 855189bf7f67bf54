/**
 * Stable Diffusion XL and SDXL-Turbo, after diffusers' StableDiffusionXLPipeline: a UNet that attends to the states of two text
 * towers before their last layers, and is told the second one's pooled state and what size the image is to look like.
 */
import { Streamlined } from "../acceleration/streamlined.ts";
import { componentFolder, type ModelIndex, readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ClipPromptEncoder, plannedEncoders } from "../components/clip-prompt-encoder.ts";
import type { Component } from "../components/components.ts";
import type { PipelineOptions } from "../components/loading.ts";
import { ownFlag } from "../components/pipeline-index.ts";
import { ConfigError } from "../errors.ts";
import { clipText, clipTextWithProjection } from "../models/clip-text.ts";
import { type UNet2DConditionConfig, unet2DCondition } from "../models/unet-2d-condition.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Feeds } from "../sampling/denoiser.ts";
import { rows } from "../sampling/guidance.ts";
import { floatTensor } from "../tensor.ts";
import { guidanceCondition, openUNet } from "./stable-diffusion.ts";
import { beside } from "./text-states.ts";
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

type Flag = "forceZerosForEmptyPrompt" | "requiresAestheticsScore";

const scoredOptions = ["aestheticScore", "negativeAestheticScore"] as const;
/** Original size, crop and score. */
const SCORED_IDS = 5;

export class StableDiffusionXL implements TextToImageFamily {
  readonly denoiser: Component<UNet2DConditionConfig>;
  readonly streamlined: Streamlined<UNet2DConditionConfig>;
  readonly latentChannels: number;
  /** Null in a folder that has the second alone, as refiners do. */
  readonly first: ClipPromptEncoder | null;
  /** Null in a folder without one: only `sampleLatents` and `decode` work then. */
  readonly second: ClipPromptEncoder | null;
  /** Whether a negative prompt that is not given is zeros rather than an empty text. */
  readonly forceZerosForEmptyPrompt: boolean;
  /** Whether its UNet is told how beautiful an image is to look instead of a target size: of refiners. */
  readonly requiresAestheticsScore: boolean;

  readonly network = "unet";
  readonly usual = { steps: 50, strength: 0.3, maskedStrength: 0.9999 };
  readonly takes: readonly FamilyOption[];
  readonly timeIds?: number;
  readonly notes = [];
  readonly patchSize = 1;
  readonly pooled = "textEmbeds";
  readonly cleanCaption = false;
  readonly #name: string;

  private constructor(
    name: string,
    parts: Pick<StableDiffusionXL, "denoiser" | "latentChannels" | "first" | "second" | Flag>,
  ) {
    this.#name = name;
    this.denoiser = parts.denoiser;
    this.streamlined = new Streamlined(parts.denoiser, unet2DCondition);
    this.latentChannels = parts.latentChannels;
    this.first = parts.first;
    this.second = parts.second;
    this.forceZerosForEmptyPrompt = parts.forceZerosForEmptyPrompt;
    this.requiresAestheticsScore = parts.requiresAestheticsScore;
    const own = this.requiresAestheticsScore ? scoredOptions : (["targetSize"] as const);
    this.takes = ["clipSkip", "prompt2", "negativePrompt2", "originalSize", "cropsCoordsTopLeft", ...own];
    if (this.requiresAestheticsScore) this.timeIds = SCORED_IDS;
  }

  static async open(
    folder: Folder,
    index: ModelIndex,
    runtime: Runtime,
    options: PipelineOptions,
    latentChannels: number,
  ): Promise<StableDiffusionXL> {
    const denoiser = await openUNet(folder, index, runtime, options, latentChannels);
    if (!denoiser.config.textTime) {
      throw new ConfigError(
        `${folder.name}: is a ${index.className}, but its UNet's addition_embed_type is not "text_time", as Stable Diffusion XL's is.`,
      );
    }
    const { latents_mean: mean } = await readConfig(componentFolder(folder, index, "vae"));
    if (mean !== undefined && mean !== null) {
      throw new ConfigError(
        `${folder.name}/vae: has latents_mean, by which latents are normalised (Playground 2.5); that is not supported.`,
      );
    }
    return new StableDiffusionXL(folder.name, {
      denoiser,
      latentChannels,
      first: await ClipPromptEncoder.open(folder, index, "", clipText, runtime, options),
      second: await ClipPromptEncoder.open(folder, index, "_2", clipTextWithProjection, runtime, options),
      forceZerosForEmptyPrompt: ownFlag(folder, index, "force_zeros_for_empty_prompt", true),
      requiresAestheticsScore: ownFlag(folder, index, "requires_aesthetics_score", false),
    });
  }

  get inChannels(): number {
    return this.denoiser.config.inChannels;
  }

  get sampleSize(): number {
    return this.denoiser.config.sampleSize ?? 128;
  }

  get maxSequenceLength(): number {
    return this.second?.tokens ?? 77;
  }

  get encoders() {
    return plannedEncoders("penultimate", [this.first, this.second]);
  }

  guided(guidanceScale: number): boolean {
    return guidanceScale > 1 && this.denoiser.config.timeCondProjDim === null;
  }

  async embed(
    { texts, second = texts, negatives = 0, omitted = false }: Texts,
    { clipSkip: skip, signal, budget }: EmbedOptions,
  ): Promise<{ embeddings: TextEmbeddings; warnings: string[] }> {
    if (!this.second) {
      throw new ConfigError(
        `${this.#name}: has no text_encoder_2 and tokenizer_2, which turn a prompt into embeddings.`,
      );
    }
    const settings = { states: "penultimate", skip, negatives, signal, budget } as const;
    const one = await this.first?.embed(texts, settings);
    const two = await this.second.embed(second, settings);
    const embeddings = {
      encoderHiddenStates: one ? beside(one.states, two.states) : two.states,
      textEmbeds: two.pooled!,
    };
    if (this.forceZerosForEmptyPrompt && omitted) {
      for (const tensor of Object.values(embeddings)) rows(tensor, 0, negatives).data.fill(0);
    }
    return { embeddings, warnings: [...new Set([...(one?.warnings ?? []), ...two.warnings])] };
  }

  conditions(embeddings: TextEmbeddings, options: ConditionOptions): Feeds {
    const { height, width, guidanceScale, negatives = 0 } = options;
    const { originalSize = [height, width], cropsCoordsTopLeft = [0, 0], targetSize = [height, width] } = options;
    const { aestheticScore = 6, negativeAestheticScore = 2.5 } = options;
    const count = embeddings.encoderHiddenStates.shape[0]!;
    const last = (row: number) => {
      if (!this.requiresAestheticsScore) return targetSize;
      return [row < negatives ? negativeAestheticScore : aestheticScore];
    };
    const ids = Array.from({ length: count }, (_, row) => [...originalSize, ...cropsCoordsTopLeft, ...last(row)]);
    return {
      ...embeddings,
      timeIds: floatTensor([count, ids[0]!.length], Float32Array.from(ids.flat())),
      ...guidanceCondition(this.denoiser.config, embeddings, guidanceScale),
    };
  }

  release(): Promise<void> {
    return releaseAll([this.denoiser, this.streamlined, this.first, this.second]);
  }
}
