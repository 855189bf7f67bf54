/** Prompts to the text encoder's states. */
import { Tokenizer } from "@huggingface/tokenizers";
import { expectObject, type Folder } from "../checkpoints/files.ts";
import { ArgumentError, CheckpointError, HalfstepError } from "../errors.ts";
import type { T5Config } from "../models/t5.ts";
import { type FloatTensor, floatTensor, int64Tensor } from "../tensor.ts";
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

export class PromptTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #pad: number;
  readonly #unknown: number | undefined;
  /** Tokens that end every prompt. */
  readonly #suffix: readonly number[];
  /** Most tokens of a prompt, these included. */
  readonly maxLength: number;

  private constructor(tokenizer: Tokenizer, config: Readonly<Record<string, unknown>>) {
    this.#tokenizer = tokenizer;
    this.#pad = tokenizer.token_to_id(tokenText(config["pad_token"]) ?? "<pad>") ?? 0;
    this.#unknown = tokenizer.token_to_id(tokenText(config["unk_token"]) ?? "<unk>");
    this.#suffix = tokenizer.encode("").ids;
    const length = config["model_max_length"];
    // transformers writes 1e30 where it knows no limit.
    this.maxLength = typeof length === "number" && length > 0 && length < 1e6 ? length : Number.POSITIVE_INFINITY;
  }

  /**
   * Reads `tokenizer.json`, or else `spiece.model`, the only one that T5's published checkpoints have, and
   * `tokenizer_config.json`. Throws CheckpointError if there is neither or they cannot be read.
   */
  static async open(folder: Folder): Promise<PromptTokenizer> {
    const config = (await folder.has("tokenizer_config.json"))
      ? expectObject(await folder.json("tokenizer_config.json"), `${folder.name}/tokenizer_config.json`)
      : {};
    try {
      if (await folder.has("tokenizer.json")) {
        const json = expectObject(await folder.json("tokenizer.json"), `${folder.name}/tokenizer.json`);
        return new PromptTokenizer(new Tokenizer(json, config), config);
      }
      if (await folder.has("spiece.model")) {
        return new PromptTokenizer(await sentencePieceTokenizer(await folder.source("spiece.model"), config), config);
      }
    } catch (cause) {
      if (cause instanceof HalfstepError) throw cause;
      // the library takes the files' word for the types of what is in them
      throw new CheckpointError(`${folder.name}: is not a usable tokenizer: ${(cause as Error).message}`, { cause });
    }
    throw new CheckpointError(
      `${folder.name}: has neither tokenizer.json nor spiece.model. Tokenizers in other formats can be converted with ` +
        "transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...) writes a tokenizer.json.",
    );
  }

  /** Tokens of a prompt, cut and padded to `length`; lower case and trimmed, as the PixArt pipelines have it. */
  encode(prompt: string, length: number): TokenizedPrompt {
    const text = prompt.toLowerCase().trim();
    const all = this.#tokenizer.encode(text).ids;
    const room = length - this.#suffix.length;
    if (room < 1) throw new ArgumentError(`a prompt of ${length} tokens has no room for text`);
    const body = all.slice(0, all.length - this.#suffix.length);
    const kept = [...body.slice(0, room), ...this.#suffix];
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

  /** Out of the vocabulary, or of letters only: no model has learned a word from its single letters. */
  #isUnknown(word: string): boolean {
    const ids = this.#tokenizer.encode(word).ids.slice(0, -this.#suffix.length || undefined);
    if (this.#unknown !== undefined && ids.includes(this.#unknown)) return true;
    const letters = [...word].filter((character) => /\p{L}/u.test(character));
    const pieces = ids.map((id) => (this.#tokenizer.id_to_token(id) ?? "").replace(/^(##|\u2581)/, ""));
    return letters.length > 2 && pieces.every((piece) => [...piece].length <= 1);
  }
}

export interface PromptEmbeddings {
  /** [prompts, tokens, width] */
  encoderHiddenStates: FloatTensor;
  /** [prompts, tokens] of 1 and 0. */
  encoderAttentionMask: FloatTensor;
}

/** Runs the text encoder on a batch of prompts. */
export async function encodePrompts(
  tokenized: readonly TokenizedPrompt[],
  encoder: Component<T5Config>,
): Promise<PromptEmbeddings> {
  const tokens = tokenized[0]!.ids.length;
  const shape = [tokenized.length, tokens];
  const mask = floatTensor(shape, Float32Array.from(tokenized.flatMap((prompt) => prompt.mask)));
  const session = await encoder.session({ batch: "batch", tokens });
  const { lastHiddenState } = await session.run({
    inputIds: int64Tensor(
      shape,
      tokenized.flatMap((prompt) => prompt.ids),
    ),
    attentionMask: mask,
  });
  return { encoderHiddenStates: lastHiddenState as FloatTensor, encoderAttentionMask: mask };
}
