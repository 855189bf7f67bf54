/**
 * Stable Diffusion 3 and 3.5, after diffusers' StableDiffusion3Pipeline: a transformer that attends to the states of CLIP's two
 * text towers and of T5, one after the other, and is told the towers' pooled states. Latents are shifted as well as scaled.
 */
import { Streamlined } from "../acceleration/streamlined.ts";
import { componentFolder, hasConfig, type ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ClipPromptEncoder, plannedEncoders } from "../components/clip-prompt-encoder.ts";
import { Component } from "../components/components.ts";
import { expected } from "../components/expected-class.ts";
import type { PipelineOptions } from "../components/loading.ts";
import { ownSequenceLength } from "../components/pipeline-index.ts";
import { T5PromptEncoder } from "../components/t5-prompt-encoder.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import { clipTextWithProjection } from "../models/clip-text.ts";
import { type SD3Config, sd3 } from "../models/sd3.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Feeds } from "../sampling/denoiser.ts";
import { floatTensor } from "../tensor.ts";
import { afterEachOther, beside, pooledBeside } from "./text-states.ts";
import type { EmbedOptions, TextEmbeddings, TextEncoder, Texts, TextToImageFamily } from "./text-to-image-family.ts";

export const stableDiffusion3Classes = [
  "StableDiffusion3Pipeline",
  "StableDiffusion3Img2ImgPipeline",
  "StableDiffusion3InpaintPipeline",
] as const;

/** Tokens of T5 that diffusers' pipeline takes at most. */
const MOST_TOKENS = 512;

type Parts = Pick<
  StableDiffusion3,
  "denoiser" | "latentChannels" | "first" | "second" | "third" | "maxSequenceLength" | "notes"
>;

export class StableDiffusion3 implements TextToImageFamily {
  readonly denoiser: Component<SD3Config>;
  readonly streamlined: Streamlined<SD3Config>;
  readonly latentChannels: number;
  /** CLIP's two towers. */
  readonly first: ClipPromptEncoder;
  readonly second: ClipPromptEncoder;
  /** T5; null in a folder without it, where zeros take the place of its states. */
  readonly third: T5PromptEncoder | null;
  /** Tokens of T5, which come after CLIP's. */
  readonly maxSequenceLength: number;
  readonly notes: readonly string[];

  readonly network = "transformer";
  readonly usual = { steps: 28, stepsFromImage: 50, strength: 0.6, maskedStrength: 0.6 };
  readonly takes = [
    "maxSequenceLength",
    "clipSkip",
    "prompt2",
    "negativePrompt2",
    "prompt3",
    "negativePrompt3",
  ] as const;
  readonly pooled = "pooledProjections";
  readonly cleanCaption = false;
  readonly shiftsLatents = true;
  readonly roundsStepsUp = true;

  private constructor(parts: Parts) {
    this.denoiser = parts.denoiser;
    this.streamlined = new Streamlined(parts.denoiser, sd3);
    this.latentChannels = parts.latentChannels;
    this.first = parts.first;
    this.second = parts.second;
    this.third = parts.third;
    this.maxSequenceLength = parts.maxSequenceLength;
    this.notes = parts.notes;
  }

  /** Throws ConfigError for a folder without CLIP's two towers, and for parts that are not of one model. */
  static async open(
    folder: Folder,
    index: ModelIndex,
    runtime: Runtime,
    options: PipelineOptions,
    latentChannels: number,
  ): Promise<StableDiffusion3> {
    await checkTowers(folder, index);
    const tower = async (suffix: "" | "_2") =>
      (await ClipPromptEncoder.open(folder, index, suffix, clipTextWithProjection, runtime, options))!;
    const third = await T5PromptEncoder.open(folder, index, "_3", runtime, options);
    const family = new StableDiffusion3({
      denoiser: await Component.open(componentFolder(folder, index, "transformer"), expected(sd3), runtime, options),
      latentChannels,
      first: await tower(""),
      second: await tower("_2"),
      third,
      maxSequenceLength: ownSequenceLength(folder, index, 256),
      notes:
        third || !index.components.has("text_encoder_3")
          ? []
          : ["The model's T5 (text_encoder_3) is not in its folder; prompts are told to CLIP alone."],
    });
    family.#check(folder.name);
    return family;
  }

  /** Throws ConfigError for encoders and an autoencoder that are not as wide as the transformer reads them. */
  #check(name: string): void {
    const { jointAttentionDim, pooledProjectionDim, inChannels } = this.denoiser.config;
    const [one, two] = [this.first.encoder.config, this.second.encoder.config];
    const width = one.width + two.width;
    const t5Width = this.third?.encoder.config.width ?? jointAttentionDim;
    if (width > jointAttentionDim || t5Width !== jointAttentionDim) {
      throw new ConfigError(
        `${name}: its transformer reads states of ${jointAttentionDim} values a token (joint_attention_dim); CLIP's two text towers ` +
          `give ${one.width} + ${two.width}, which may be at most as many, and T5 ${t5Width}. These parts are of different models.`,
      );
    }
    const pooled = one.projectionWidth + two.projectionWidth;
    if (pooled !== pooledProjectionDim) {
      throw new ConfigError(
        `${name}: its transformer reads a pooled text of ${pooledProjectionDim} values (pooled_projection_dim); CLIP's two text ` +
          `towers give ${one.projectionWidth} + ${two.projectionWidth} (projection_dim). These parts are of different models.`,
      );
    }
    if (inChannels !== this.latentChannels && inChannels !== 2 * this.latentChannels + 1) {
      throw new ConfigError(
        `${name}: its transformer reads ${inChannels} channels; the autoencoder's latents have ${this.latentChannels}, so it has to ` +
          `be ${this.latentChannels}, or ${2 * this.latentChannels + 1} for inpainting.`,
      );
    }
  }

  get inChannels(): number {
    return this.denoiser.config.inChannels;
  }

  get sampleSize(): number {
    return this.denoiser.config.sampleSize;
  }

  get patchSize(): number {
    return this.denoiser.config.patchSize;
  }

  get mostSide(): number {
    const { posEmbedMaxSize, patchSize } = this.denoiser.config;
    return posEmbedMaxSize * patchSize;
  }

  /** CLIP's. */
  get tokensBefore(): number {
    return this.first.tokens;
  }

  get encoders(): readonly TextEncoder[] {
    const { third, tokensBefore } = this;
    const towers = plannedEncoders("penultimate", [this.first, this.second]);
    if (!third) return towers;
    const planned: TextEncoder["planned"] = (texts, budget, tokens) =>
      third.planned(texts, budget, tokens - tokensBefore);
    return [...towers, { planned, release: () => third.release() }];
  }

  guided(guidanceScale: number): boolean {
    return guidanceScale > 1;
  }

  async embed(
    { texts, second = texts, third, negatives = 0 }: Texts,
    { maxSequenceLength: tokens = this.maxSequenceLength, clipSkip: skip, signal, budget }: EmbedOptions,
  ): Promise<{ embeddings: TextEmbeddings; warnings: string[] }> {
    if (tokens > MOST_TOKENS) {
      throw new ArgumentError(`maxSequenceLength is ${tokens}; of Stable Diffusion 3 it is at most ${MOST_TOKENS}.`);
    }
    const settings = { states: "penultimate", skip, negatives, signal, budget } as const;
    const one = await this.first.embed(texts, settings);
    const two = await this.second.embed(second, settings);
    const three = await this.third?.embed(third ?? texts, { tokens, signal, budget });
    const unheard = third ? ["prompt3 and negativePrompt3 have no effect: this model has no T5 (text_encoder_3)."] : [];
    const zeros = () => floatTensor([texts.length, tokens, this.denoiser.config.jointAttentionDim]);
    return {
      embeddings: {
        encoderHiddenStates: afterEachOther(beside(one.states, two.states), three?.states ?? zeros()),
        pooledProjections: pooledBeside(one.pooled!, two.pooled!),
      },
      warnings: [...new Set([...one.warnings, ...two.warnings, ...(three?.warnings ?? unheard)])],
    };
  }

  conditions(embeddings: TextEmbeddings): Feeds {
    return embeddings;
  }

  release(): Promise<void> {
    return releaseAll([this.denoiser, this.streamlined, this.first, this.second, this.third]);
  }
}

/** Throws ConfigError unless CLIP's two text towers are there, each with its tokenizer. */
async function checkTowers(folder: Folder, index: ModelIndex): Promise<void> {
  const names = ["text_encoder", "text_encoder_2"];
  const there = await Promise.all(
    names.map(async (name) => index.components.has(name) && hasConfig(componentFolder(folder, index, name))),
  );
  const lacking = names.filter((_, i) => !there[i]);
  if (lacking.length === 0) return;
  throw new ConfigError(
    `${folder.name}: has no ${lacking.join(" and no ")}. A ${index.className} needs both of CLIP's text towers, text_encoder and ` +
      "text_encoder_2, with tokenizer and tokenizer_2: take them from the model's repository, and list them in model_index.json. Only " +
      "T5 (text_encoder_3) may be left out.",
  );
}
