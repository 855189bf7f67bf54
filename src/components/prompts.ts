/** Prompts to the text encoder's states. */
import type { Tokenizer } from "@huggingface/tokenizers";
import { describe, expectObject, type Folder } from "../checkpoints/files.ts";
import { ArgumentError, CheckpointError, HalfstepError } from "../errors.ts";
import type { Geometry } from "../models/architecture.ts";
import type { CLIPTextConfig } from "../models/clip-text.ts";
import type { T5Config } from "../models/t5.ts";
import { pickRows, stack } from "../sampling/guidance.ts";
import { type FloatTensor, floatOf, floatTensor, int64Tensor, type Tensor } from "../tensor.ts";
import { clipTokenizer, hasMerges } from "../tokenizers/clip-tokenizer.ts";
import type { WeightedText } from "../tokenizers/prompt-weights.ts";
import { sentencePieceTokenizer, tokenText } from "../tokenizers/sentencepiece.ts";
import { tokenizerFromJson } from "../tokenizers/tokenizer-json.ts";
import type { Component, RunningOptions } from "./components.ts";

export type { WeightedText } from "../tokenizers/prompt-weights.ts";

/** A prompt as token ids. */
export interface TokenizedPrompt {
  /** Padded to the length that was asked for. */
  ids: number[];
  /** 1 for text, 0 for padding. */
  mask: number[];
  /** What was cut off because the prompt was too long; empty if nothing was. */
  truncated: string;
  /** Words that the vocabulary does not have. */
  unknown: string[];
  /** How much each token counts, of a prompt with weights: 1 for those that start, end and pad it. */
  weights?: number[];
}

const CLIP_END = "<|endoftext|>";

/** How much of a prompt is read, in UTF-16 units: more than any number of tokens that an encoder takes. */
const LONGEST_READ = 2 ** 17;
/** What is read of it first, for each token that is wanted. */
const READ_PER_TOKEN = 32;
/** Of what was left out, how many tokens are shown, and how many words are looked at for unknown ones. */
const SHOWN_TOKENS = 200;
const SHOWN_WORDS = 1000;

/** A pipeline's tokenizer: prompts to token ids of one length. */
export class PromptTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #pad: number;
  readonly #unknown: number | undefined;
  /** Tokens that start and that end every prompt. */
  readonly #prefix: readonly number[];
  readonly #suffix: readonly number[];
  /** Most tokens of a prompt, these included. */
  readonly maxLength: number;

  readonly #name: string;

  private constructor(tokenizer: Tokenizer, config: Readonly<Record<string, unknown>>, name: string) {
    this.#tokenizer = tokenizer;
    this.#name = name;
    // CLIP's tokenizers pad with the token that ends a text where they do not say otherwise.
    const pad = tokenText(config["pad_token"]) ?? (config["tokenizer_class"] === "CLIPTokenizer" ? CLIP_END : "<pad>");
    this.#pad = tokenizer.token_to_id(pad) ?? 0;
    this.#unknown = tokenizer.token_to_id(tokenText(config["unk_token"]) ?? "<unk>");
    // An empty prompt is what starts every prompt and what ends it; only the first is where "a" has it too.
    const [none, some] = ["", "a"].map((text) => this.#ids(text)) as [number[], number[]];
    const shared = none.findIndex((id, i) => id !== some[i]);
    this.#prefix = none.slice(0, shared < 0 ? none.length : shared);
    this.#suffix = none.slice(this.#prefix.length);
    this.maxLength = maxLengthOf(config["model_max_length"], name);
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
        return new PromptTokenizer(
          tokenizerFromJson(json, config, `${folder.name}/tokenizer.json`),
          config,
          folder.name,
        );
      }
      if (await folder.has("spiece.model")) {
        const source = await folder.source("spiece.model");
        return new PromptTokenizer(await sentencePieceTokenizer(source, config), config, folder.name);
      }
      if (await hasMerges(folder)) {
        const settled = { tokenizer_class: "CLIPTokenizer", ...config };
        return new PromptTokenizer(await clipTokenizer(folder, settled), settled, folder.name);
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

  /**
   * Tokens of a prompt, cut and padded to `length`. Of a long one only as much is read as these tokens need, and at most 131,072
   * characters. Throws ArgumentError for a prompt that the tokenizer makes too much of.
   */
  encode(prompt: string, length: number): TokenizedPrompt {
    const { weights: _, ...encoded } = this.encodeParts([{ text: prompt, weight: 1 }], length);
    return encoded;
  }

  /** The same for a prompt in parts, each of which is tokenized by itself, with `weights`. Throws ArgumentError. */
  encodeParts(parts: readonly WeightedText[], length: number): TokenizedPrompt {
    const room = length - this.#prefix.length - this.#suffix.length;
    if (!(room >= 1)) throw new ArgumentError(`a prompt of ${length} tokens has no room for text`);
    const [body, weights, read]: [number[], number[], string[]] = [[], [], []];
    let more = false;
    for (const { text: whole, weight } of parts) {
      more ||= body.length >= 2 * room;
      if (more) break;
      const { body: own, text } = this.#beginning(whole, room);
      more = text.length < whole.length;
      for (const id of own) {
        body.push(id);
        weights.push(weight);
      }
      read.push(text);
    }
    const kept = [...this.#prefix, ...body.slice(0, room), ...this.#suffix];
    const padding = length - kept.length;
    const ones = (count: number) => new Array<number>(count).fill(1);
    return {
      ids: [...kept, ...new Array<number>(padding).fill(this.#pad)],
      mask: [...ones(kept.length), ...new Array<number>(padding).fill(0)],
      truncated: this.#shown(body.slice(room), more),
      unknown: wordsOf(read.join(" ")).filter((word) => this.#isUnknown(word)),
      weights: [...ones(this.#prefix.length), ...weights.slice(0, room), ...ones(this.#suffix.length + padding)],
    };
  }

  /** The tokens that a prompt starts with: at least `room` of them, and some more to be sure of the last, or all that there are. */
  #beginning(prompt: string, room: number): { body: number[]; text: string } {
    for (let size = Math.max(4096, room * READ_PER_TOKEN); ; size *= 2) {
      const text = cutAtSpace(prompt, Math.min(size, LONGEST_READ));
      const body = this.#body(this.#ids(text));
      if (text.length === prompt.length || body.length >= 2 * room || size >= LONGEST_READ) return { body, text };
    }
  }

  #shown(ids: number[], more: boolean): string {
    if (ids.length === 0) return more ? "..." : "";
    const text = this.#tokenizer.decode(ids.slice(0, SHOWN_TOKENS));
    return more || ids.length > SHOWN_TOKENS ? `${text}...` : text;
  }

  /** Throws CheckpointError where the files give a text something that is not a token. */
  #ids(text: string): number[] {
    const { ids } = this.#tokenizer.encode(text);
    const wrong = ids.find((id) => !Number.isInteger(id));
    if (ids.every((id) => Number.isInteger(id))) return ids;
    throw new CheckpointError(
      `${this.#name}: gives a token that has no id (${String(wrong)}); its special tokens must be in the vocabulary.`,
    );
  }

  /** A text's tokens without those that start and end every one. */
  #body(ids: readonly number[]): number[] {
    return ids.slice(this.#prefix.length, ids.length - this.#suffix.length);
  }

  /** Out of the vocabulary, or of letters only: no model has learned a word from its single letters. */
  #isUnknown(word: string): boolean {
    const ids = this.#body(this.#ids(word));
    if (this.#unknown !== undefined && ids.includes(this.#unknown)) return true;
    const letters = [...word].filter((character) => /\p{L}/u.test(character));
    const pieces = ids.map((id) => (this.#tokenizer.id_to_token(id) ?? "").replace(/^(##|\u2581)|<\/w>$/g, ""));
    return letters.length > 2 && pieces.every((piece) => [...piece].length <= 1);
  }
}

/** Tokens of a prompt at most, from tokenizer_config.json. */
function maxLengthOf(raw: unknown, name: string): number {
  if (raw === undefined || raw === null) return Number.POSITIVE_INFINITY;
  // transformers writes 1e30 where it knows no limit.
  if (typeof raw === "number" && raw >= 1e6) return Number.POSITIVE_INFINITY;
  if (typeof raw === "number" && Number.isInteger(raw) && raw > 0) return raw;
  throw new CheckpointError(
    `${name}/tokenizer_config.json: model_max_length must be a whole number from 1, not ${describe(raw)}.`,
  );
}

/** The start of a text, up to a space where there is one in the second half of it. */
function cutAtSpace(text: string, length: number): string {
  if (text.length <= length) return text;
  const space = text.lastIndexOf(" ", length);
  const end = space >= length / 2 ? space : length;
  // Not within a pair of surrogates.
  const within = /[\ud800-\udbff]/.test(text[end - 1]!) && space < length / 2;
  return text.slice(0, within ? end - 1 : end);
}

/** Different words, of which no one is as long as a text. */
function wordsOf(text: string): string[] {
  const words = new Set(text.slice(0, 2 ** 16).split(/\s+/));
  return [...words].filter((word) => word !== "" && word.length <= 100).slice(0, SHOWN_WORDS);
}

/** Prompts after the text encoder, one row each. */
export type PromptEmbeddings = {
  /** [prompts, tokens, width] */
  encoderHiddenStates: FloatTensor;
  /** [prompts, tokens] of 1 and 0. */
  encoderAttentionMask: FloatTensor;
};

/** What a network is told of prompts, under its inputs' names, one row a prompt. */
type Embeddings<E> = { readonly [Name in keyof E]: FloatTensor };

const mapped = <E extends Embeddings<E>>(
  embeddings: E,
  change: (tensor: FloatTensor, name: keyof E) => FloatTensor,
): E =>
  Object.fromEntries(
    Object.entries<FloatTensor>(embeddings).map(([name, tensor]) => [name, change(tensor, name as keyof E)]),
  ) as E;

/** Some rows of embeddings, in this order. */
export const pickPrompts = <E extends Embeddings<E>>(embeddings: E, indices: readonly number[]): E =>
  mapped(embeddings, (tensor) => pickRows(tensor, indices));

/** Row `index` of some embeddings, once for each picture. */
export const repeatPrompt = <E extends Embeddings<E>>(embeddings: E, index: number, count: number): E =>
  pickPrompts(embeddings, new Array<number>(count).fill(index));

/** The rows of two embeddings one after the other. */
export const stackPrompts = <E extends Embeddings<E>>(first: E, second: E): E =>
  mapped(first, (tensor, name) => stack(tensor, second[name]));

/** Runs the text encoder on a batch of prompts. */
export async function encodePrompts(
  tokenized: readonly TokenizedPrompt[],
  encoder: Component<T5Config>,
  options?: RunningOptions,
): Promise<PromptEmbeddings> {
  const tokens = tokenized[0]!.ids.length;
  const shape = [tokenized.length, tokens];
  const mask = floatTensor(shape, Float32Array.from(tokenized.flatMap((prompt) => prompt.mask)));
  const feeds = { inputIds: int64Tensor(shape, idsOf(tokenized, encoder)), attentionMask: mask };
  const outputs = await encoder.run({ batch: tokenized.length, tokens }, feeds, options);
  return { encoderHiddenStates: floatOf(outputs, "lastHiddenState"), encoderAttentionMask: mask };
}

/** All ids, row by row. Throws CheckpointError for one that the encoder has no row for: its tokenizer is another model's. */
function idsOf(tokenized: readonly TokenizedPrompt[], { config }: Component<{ vocabSize: number }>): number[] {
  const ids = tokenized.flatMap((prompt) => prompt.ids);
  const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < config.vocabSize));
  if (wrong === undefined) return ids;
  throw new CheckpointError(
    `The tokenizer gives the id ${wrong}, but the text encoder has ${config.vocabSize} tokens (vocab_size); ` +
      "the two are not of one model.",
  );
}

/** What CLIP's text tower gives of prompts. Padding is not hidden from anything. `more`: states and layers of its geometry. */
export async function runClipText(
  tokenized: readonly TokenizedPrompt[],
  encoder: Component<CLIPTextConfig>,
  more: Pick<Geometry, "hiddenStates" | "skippedLayers"> = {},
  options?: RunningOptions,
): Promise<Record<string, Tensor>> {
  const tokens = tokenized[0]!.ids.length;
  const batch = tokenized.length;
  const inputIds = int64Tensor([batch, tokens], idsOf(tokenized, encoder));
  return encoder.run({ batch, tokens, ...more }, { inputIds }, options);
}
