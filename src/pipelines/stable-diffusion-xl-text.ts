/**
 * The text side of Stable Diffusion XL, for images and for videos: the states of two text towers before their last layers, and the
 * second one's pooled state, with what size the image is to look like.
 */
import type { ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ClipPromptEncoder, plannedEncoders } from "../components/clip-prompt-encoder.ts";
import type { PipelineOptions } from "../components/loading.ts";
import { ownFlag } from "../components/pipeline-index.ts";
import { ConfigError } from "../errors.ts";
import { clipText, clipTextWithProjection } from "../models/clip-text.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Feeds } from "../sampling/denoiser.ts";
import { rows } from "../sampling/guidance.ts";
import { floatTensor } from "../tensor.ts";
import { beside } from "./text-states.ts";
import type {
  ConditionOptions,
  EmbedOptions,
  FamilyOption,
  TextConditions,
  TextEmbeddings,
  Texts,
} from "./text-to-image-family.ts";

type Flag = "forceZerosForEmptyPrompt" | "requiresAestheticsScore";

const options = [
  "clipSkip",
  "promptWeights",
  "prompt2",
  "negativePrompt2",
  "originalSize",
  "cropsCoordsTopLeft",
  "negativeOriginalSize",
  "negativeCropsCoordsTopLeft",
] as const;
const targetOptions = ["targetSize", "negativeTargetSize"] as const;
const scoredOptions = ["aestheticScore", "negativeAestheticScore"] as const;

export class StableDiffusionXLText implements TextConditions {
  /** Null in a folder that has the second alone, as refiners do. */
  readonly first: ClipPromptEncoder | null;
  /** Null in a folder without one: no text can be embedded then. */
  readonly second: ClipPromptEncoder | null;
  /** Whether a negative prompt that is not given is zeros rather than an empty text. */
  readonly forceZerosForEmptyPrompt: boolean;
  /** Whether its UNet is told how beautiful an image is to look instead of a target size: of refiners. */
  readonly requiresAestheticsScore: boolean;
  readonly takes: readonly FamilyOption[];
  /** Original size, crop, and target size or a score. */
  readonly timeIds: number;
  readonly pooled = "textEmbeds";
  readonly #name: string;

  private constructor(name: string, parts: Pick<StableDiffusionXLText, "first" | "second" | Flag>) {
    this.#name = name;
    this.first = parts.first;
    this.second = parts.second;
    this.forceZerosForEmptyPrompt = parts.forceZerosForEmptyPrompt;
    this.requiresAestheticsScore = parts.requiresAestheticsScore;
    this.takes = [...options, ...(this.requiresAestheticsScore ? scoredOptions : targetOptions)];
    this.timeIds = this.requiresAestheticsScore ? 5 : 6;
  }

  static async open(
    folder: Folder,
    index: ModelIndex,
    runtime: Runtime,
    options: PipelineOptions,
  ): Promise<StableDiffusionXLText> {
    return new StableDiffusionXLText(folder.name, {
      first: await ClipPromptEncoder.open(folder, index, "", clipText, runtime, options),
      second: await ClipPromptEncoder.open(folder, index, "_2", clipTextWithProjection, runtime, options),
      forceZerosForEmptyPrompt: ownFlag(folder, index, "force_zeros_for_empty_prompt", true),
      requiresAestheticsScore: ownFlag(folder, index, "requires_aesthetics_score", false),
    });
  }

  get maxSequenceLength(): number {
    return this.second?.tokens ?? 77;
  }

  get encoders() {
    return plannedEncoders("penultimate", [this.first, this.second]);
  }

  async embed(
    { texts, second = texts, negatives = 0, omitted = false }: Texts,
    { clipSkip: skip, promptWeights: weighted, signal, budget }: EmbedOptions,
  ): Promise<{ embeddings: TextEmbeddings; warnings: string[] }> {
    if (!this.second) {
      throw new ConfigError(
        `${this.#name}: has no text_encoder_2 and tokenizer_2, which turn a prompt into embeddings.`,
      );
    }
    const settings = { states: "penultimate", skip, weighted, negatives, signal, budget } as const;
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
    const { negatives = 0 } = options;
    const count = embeddings.encoderHiddenStates.shape[0]!;
    const [own, negative] = timeIds(options, this.requiresAestheticsScore);
    const ids = Array.from({ length: count }, (_, row) => (row < negatives ? negative : own));
    return { ...embeddings, timeIds: floatTensor([count, own.length], Float32Array.from(ids.flat())) };
  }
}

/** What the UNet is told of sizes, for the prompt and for the negative prompt. */
function timeIds(given: ConditionOptions, scored: boolean): [own: number[], negative: number[]] {
  const { height, width } = given;
  const { originalSize = [height, width], cropsCoordsTopLeft = [0, 0], targetSize = [height, width] } = given;
  const { negativeOriginalSize = originalSize, negativeTargetSize = targetSize } = given;
  // In diffusers the prompt's, but of a refiner, and where the negative prompt has sizes of its own, none.
  const apart = given.negativeOriginalSize !== undefined && given.negativeTargetSize !== undefined;
  const { negativeCropsCoordsTopLeft = scored || apart ? [0, 0] : cropsCoordsTopLeft } = given;
  const { aestheticScore = 6, negativeAestheticScore = 2.5 } = given;
  return [
    [...originalSize, ...cropsCoordsTopLeft, ...(scored ? [aestheticScore] : targetSize)],
    [
      ...negativeOriginalSize,
      ...negativeCropsCoordsTopLeft,
      ...(scored ? [negativeAestheticScore] : negativeTargetSize),
    ],
  ];
}
