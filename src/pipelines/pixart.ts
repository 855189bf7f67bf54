/** PixArt-alpha and PixArt-sigma, after diffusers' PixArtAlphaPipeline and PixArtSigmaPipeline: T5's states with a mask. */
import { Streamlined } from "../acceleration/streamlined.ts";
import type { ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { Component } from "../components/components.ts";
import { expected } from "../components/expected-class.ts";
import type { PipelineOptions } from "../components/loading.ts";
import { ownFlag, ownSequenceLength } from "../components/pipeline-index.ts";
import { STREAM_ABOVE, warningsOf } from "../components/prompt-encoder.ts";
import { encodePrompts, PromptTokenizer } from "../components/prompts.ts";
import { ConfigError } from "../errors.ts";
import { type PixArtConfig, pixart } from "../models/pixart.ts";
import { type T5Config, t5 } from "../models/t5.ts";
import { releaseAll } from "../runtime/open-all.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Feeds } from "../sampling/denoiser.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import { captionText } from "../tokenizers/captions/caption-text.ts";
import type {
  ConditionOptions,
  EmbedOptions,
  TextEmbeddings,
  Texts,
  TextToImageFamily,
} from "./text-to-image-family.ts";

export const pixartClasses = ["PixArtSigmaPipeline", "PixArtAlphaPipeline"] as const;

export class PixArt implements TextToImageFamily {
  readonly denoiser: Component<PixArtConfig>;
  readonly streamlined: Streamlined<PixArtConfig>;
  /** Null in a folder without one: only `sampleLatents` and `decode` work then. */
  readonly textEncoder: Component<T5Config> | null;
  readonly tokenizer: PromptTokenizer | null;
  readonly maxSequenceLength: number;
  readonly cleanCaption: boolean;

  readonly network = "transformer";
  readonly usual = { steps: 20, strength: 0.8, maskedStrength: 1 };
  readonly takes = ["maxSequenceLength", "cleanCaption"] as const;
  readonly notes = [];
  readonly #name: string;

  private constructor(
    name: string,
    parts: Pick<PixArt, "denoiser" | "textEncoder" | "tokenizer" | "maxSequenceLength" | "cleanCaption">,
  ) {
    this.#name = name;
    this.denoiser = parts.denoiser;
    this.streamlined = new Streamlined(parts.denoiser, pixart);
    this.textEncoder = parts.textEncoder;
    this.tokenizer = parts.tokenizer;
    this.maxSequenceLength = parts.maxSequenceLength;
    this.cleanCaption = parts.cleanCaption;
  }

  static async open(folder: Folder, index: ModelIndex, runtime: Runtime, options: PipelineOptions): Promise<PixArt> {
    const { className, components } = index;
    return new PixArt(folder.name, {
      denoiser: await Component.open(folder.sub("transformer"), expected(pixart), runtime, options),
      textEncoder: components.has("text_encoder")
        ? await Component.open(folder.sub("text_encoder"), expected(t5), runtime, options, {
            streamAbove: STREAM_ABOVE,
          })
        : null,
      tokenizer: components.has("tokenizer") ? await PromptTokenizer.open(folder.sub("tokenizer")) : null,
      maxSequenceLength: ownSequenceLength(folder, index, className === "PixArtAlphaPipeline" ? 120 : 300),
      cleanCaption: ownFlag(folder, index, "_clean_caption", true),
    });
  }

  get inChannels(): number {
    return this.denoiser.config.inChannels;
  }

  get latentChannels(): number {
    return this.inChannels;
  }

  get sampleSize(): number {
    return this.denoiser.config.sampleSize;
  }

  get patchSize(): number {
    return this.denoiser.config.patchSize;
  }

  get encoders() {
    const { textEncoder } = this;
    if (!textEncoder) return [];
    return [
      {
        planned: (batch: number, budget: number, tokens: number) => textEncoder.planned({ batch, tokens }, budget),
        release: () => textEncoder.release(),
      },
    ];
  }

  guided(guidanceScale: number): boolean {
    return guidanceScale > 1;
  }

  async embed({ texts }: Texts, options: EmbedOptions): Promise<{ embeddings: TextEmbeddings; warnings: string[] }> {
    const {
      maxSequenceLength: length = this.maxSequenceLength,
      cleanCaption: clean = this.cleanCaption,
      signal,
      budget,
    } = options;
    const { tokenizer, textEncoder } = this;
    if (!tokenizer || !textEncoder) {
      throw new ConfigError(`${this.#name}: has no text encoder and tokenizer, which turn a prompt into embeddings.`);
    }
    // Only where it is asked for: HTML's entities are a tenth of a page's code.
    const text = clean ? (await import("../tokenizers/captions/clean-caption.ts")).cleanCaption : captionText;
    const tokenized = texts.map((prompt) => tokenizer.encode(text(prompt), length));
    const embeddings = await encodePrompts(tokenized, textEncoder, { signal, budget });
    return { embeddings, warnings: warningsOf(tokenized, length) };
  }

  conditions(embeddings: TextEmbeddings, { height, width }: ConditionOptions): Feeds {
    if (!this.denoiser.config.useAdditionalConditions) return embeddings;
    return { ...embeddings, ...sizeConditions(embeddings.encoderHiddenStates.shape[0]!, height, width) };
  }

  release(): Promise<void> {
    return releaseAll([this.denoiser, this.streamlined, this.textEncoder]);
  }
}

/** PixArt-alpha's micro-conditions: height and width in pixels, and their ratio (section 2.4 of its appendix). */
function sizeConditions(batch: number, height: number, width: number): Record<string, FloatTensor> {
  const pixels = [height, width];
  return {
    resolution: floatTensor(
      [batch, 2],
      Float32Array.from({ length: 2 * batch }, (_, i) => pixels[i % 2]!),
    ),
    aspectRatio: floatTensor([batch, 1], new Float32Array(batch).fill(height / width)),
  };
}
