/** Prompts to the text encoder's states. */
import { Tokenizer } from "@huggingface/tokenizers";
import { expectObject, type Folder } from "../checkpoints/files.ts";
import { ArgumentError, CheckpointError, HalfstepError } from "../errors.ts";
import type { CLIPTextConfig } from "../models/clip-text.ts";
import type { T5Config } from "../models/t5.ts";
import { pickRows } from "../sampling/guidance.ts";
import { type FloatTensor, floatTensor, int64Tensor } from "../tensor.ts";
import { clipTokenizer, hasMerges } from "./clip-tokenizer.ts";
import type { Component } from "./components.ts";
import { sentencePieceTokenizer, tokenText } from "./sentencepiece.ts";

export interface TokenizedPrompt {
  /** Padded to the length that was asked for. */
  ids: number[];
  /** 1 for text, 0 for padding. */
  mask: number[];
  /** What was cut off because the prompt was too long; empty if nothing was. */
  truncated: string;
  /** Words that the vocabulary does not have. */
  unknown: string[];
}

const CLIP_END = "<|endoftext|>";

export class PromptTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #pad: number;
  readonly #unknown: number | undefined;
  /** Tokens that start and that end every prompt. */
  readonly #prefix: readonly number[];
  readonly #suffix: readonly number[];
  /** Most tokens of a prompt, these included. */
  readonly maxLength: number;

  private constructor(tokenizer: Tokenizer, config: Readonly<Record<string, unknown>>) {
    this.#tokenizer = tokenizer;
    // CLIP's tokenizers pad with the token that ends a text where they do not say otherwise.
    const pad = tokenText(config["pad_token"]) ?? (config["tokenizer_class"] === "CLIPTokenizer" ? CLIP_END : "<pad>");
    this.#pad = tokenizer.token_to_id(pad) ?? 0;
    this.#unknown = tokenizer.token_to_id(tokenText(config["unk_token"]) ?? "<unk>");
    // An empty prompt is what starts every prompt and what ends it; only the first is where "a" has it too.
    const [none, some] = ["", "a"].map((text) => tokenizer.encode(text).ids) as [number[], number[]];
    const shared = none.findIndex((id, i) => id !== some[i]);
    this.#prefix = none.slice(0, shared < 0 ? none.length : shared);
    this.#suffix = none.slice(this.#prefix.length);
    const length = config["model_max_length"];
    // transformers writes 1e30 where it knows no limit.
    this.maxLength = typeof length === "number" && length > 0 && length < 1e6 ? length : Number.POSITIVE_INFINITY;
  }

  /**
   * Reads `tokenizer.json`, or else `spiece.model`, the only one that T5's published checkpoints have, or else `vocab.json`
   * and `merges.txt`, as Stable Diffusion's have them, and `tokenizer_config.json`. Throws CheckpointError if there is none
   * of these or they cannot be read.
   */
  static async open(folder: Folder): Promise<PromptTokenizer> {
    const settings = async (file: string) =>
      (await folder.has(file)) ? expectObject(await folder.json(file), `${folder.name}/${file}`) : {};
    const config = { ...(await settings("special_tokens_map.json")), ...(await settings("tokenizer_config.json")) };
    try {
      if (await folder.has("tokenizer.json")) {
        const json = expectObject(await folder.json("tokenizer.json"), `${folder.name}/tokenizer.json`);
        return new PromptTokenizer(new Tokenizer(json, config), config);
      }
      if (await folder.has("spiece.model")) {
        return new PromptTokenizer(await sentencePieceTokenizer(await folder.source("spiece.model"), config), config);
      }
      if (await hasMerges(folder)) {
        const settled = { tokenizer_class: "CLIPTokenizer", ...config };
        return new PromptTokenizer(await clipTokenizer(folder, settled), settled);
      }
    } catch (cause) {
      if (cause instanceof HalfstepError) throw cause;
      // the library takes the files' word for the types of what is in them
      throw new CheckpointError(`${folder.name}: is not a usable tokenizer: ${(cause as Error).message}`, { cause });
    }
    throw new CheckpointError(
      `${folder.name}: has neither tokenizer.json nor spiece.model, nor vocab.json with merges.txt. Tokenizers in other ` +
        "formats can be converted with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...) writes a tokenizer.json.",
    );
  }

  /** Tokens of a prompt, cut and padded to `length`; lower case and trimmed, as the PixArt pipelines have it. */
  encode(prompt: string, length: number): TokenizedPrompt {
    const text = prompt.toLowerCase().trim();
    const all = this.#tokenizer.encode(text).ids;
    const room = length - this.#prefix.length - this.#suffix.length;
    if (room < 1) throw new ArgumentError(`a prompt of ${length} tokens has no room for text`);
    const body = this.#body(all);
    const kept = [...this.#prefix, ...body.slice(0, room), ...this.#suffix];
    const truncated = body.length > room ? this.#tokenizer.decode(body.slice(room)) : "";
    const unknown = text.split(/\s+/).filter((word) => word !== "" && this.#isUnknown(word));
    const padding = length - kept.length;
    return {
      ids: [...kept, ...new Array<number>(padding).fill(this.#pad)],
      mask: [...new Array<number>(kept.length).fill(1), ...new Array<number>(padding).fill(0)],
      truncated,
      unknown,
    };
  }

  /** A text's tokens without those that start and end every one. */
  #body(ids: readonly number[]): number[] {
    return ids.slice(this.#prefix.length, ids.length - this.#suffix.length);
  }

  /** Out of the vocabulary, or of letters only: no model has learned a word from its single letters. */
  #isUnknown(word: string): boolean {
    const ids = this.#body(this.#tokenizer.encode(word).ids);
    if (this.#unknown !== undefined && ids.includes(this.#unknown)) return true;
    const letters = [...word].filter((character) => /\p{L}/u.test(character));
    const pieces = ids.map((id) => (this.#tokenizer.id_to_token(id) ?? "").replace(/^(##|\u2581)|<\/w>$/g, ""));
    return letters.length > 2 && pieces.every((piece) => [...piece].length <= 1);
  }
}

export interface PromptEmbeddings {
  /** [prompts, tokens, width] */
  encoderHiddenStates: FloatTensor;
  /** [prompts, tokens] of 1 and 0. */
  encoderAttentionMask: FloatTensor;
}

/** Some rows of embeddings, in this order. */
export function pickPrompts(
  { encoderHiddenStates, encoderAttentionMask }: PromptEmbeddings,
  indices: readonly number[],
): PromptEmbeddings {
  return {
    encoderHiddenStates: pickRows(encoderHiddenStates, indices),
    encoderAttentionMask: pickRows(encoderAttentionMask, indices),
  };
}

/** Row `index` of some embeddings, once for each picture. */
export const repeatPrompt = (embeddings: PromptEmbeddings, index: number, count: number): PromptEmbeddings =>
  pickPrompts(embeddings, new Array<number>(count).fill(index));

/** Runs the text encoder on a batch of prompts. */
export async function encodePrompts(
  tokenized: readonly TokenizedPrompt[],
  encoder: Component<T5Config>,
  signal?: AbortSignal,
): Promise<PromptEmbeddings> {
  const tokens = tokenized[0]!.ids.length;
  const shape = [tokenized.length, tokens];
  const mask = floatTensor(shape, Float32Array.from(tokenized.flatMap((prompt) => prompt.mask)));
  const session = await encoder.session({ batch: "batch", tokens });
  const ids = int64Tensor(
    shape,
    tokenized.flatMap((prompt) => prompt.ids),
  );
  const { lastHiddenState } = await session.run({ inputIds: ids, attentionMask: mask }, {}, signal);
  return { encoderHiddenStates: lastHiddenState as FloatTensor, encoderAttentionMask: mask };
}

/** Prompts as CLIP's text tower sees them: its last states, [prompts, tokens, width]. Padding is not hidden from anything. */
export async function encodeClipPrompts(
  tokenized: readonly TokenizedPrompt[],
  encoder: Component<CLIPTextConfig>,
): Promise<FloatTensor> {
  const tokens = tokenized[0]!.ids.length;
  const session = await encoder.session({ batch: "batch", tokens });
  const { lastHiddenState } = await session.run({
    inputIds: int64Tensor(
      [tokenized.length, tokens],
      tokenized.flatMap(({ ids }) => ids),
    ),
  });
  return lastHiddenState as FloatTensor;
}
