/**
 * Limits for a tokenizer.json: its parts, their texts and their regular expressions are counted while they are read.
 */
import { describe } from "../checkpoints/files.ts";
import { isObject } from "../checks.ts";
import { CheckpointError } from "../errors.ts";
import { regexCost } from "./regex.ts";

export type Pattern = { String: string } | { Regex: string };

/** Normalizers, pre-tokenizers, post-processors and decoders, in sequences and by themselves. */
const maxParts = 64;
/** Of a replacement, a prefix or a separator. */
const maxText = 64;
/** Steps for each character of a text, all regular expressions together. CLIP's take about 1000. */
const maxRegexSteps = 20_000;

export class TokenizerBudget {
  readonly #name: string;
  #parts = 0;
  #steps = 0;

  constructor(name: string) {
    this.#name = name;
  }

  /** One part more. */
  part(): void {
    if (++this.#parts <= maxParts) return;
    throw new CheckpointError(`${this.#name}: has more than ${maxParts} normalizers, pre-tokenizers and decoders.`);
  }

  /** Parts of a sequence. */
  list(value: unknown, key: string): unknown[] {
    if (Array.isArray(value) && value.length <= maxParts) return value;
    throw new CheckpointError(`${this.#name}: "${key}" must be a list of at most ${maxParts}, not ${describe(value)}.`);
  }

  /** A short text; the empty one where there is none. */
  text(value: unknown, key: string): string {
    if (value === undefined || value === null) return "";
    if (typeof value === "string" && value.length <= maxText) return value;
    throw new CheckpointError(
      `${this.#name}: "${key}" must be a text of at most ${maxText} characters, not ${describe(value)}.`,
    );
  }

  /** What is replaced or split at. */
  pattern(value: unknown): Pattern {
    const { String: text, Regex: regex } = isObject(value) ? value : ({} as Record<string, unknown>);
    if (typeof text === "string" && regex === undefined) return { String: this.text(text, "pattern") };
    if (typeof regex !== "string") {
      throw new CheckpointError(`${this.#name}: a pattern must have a text as "String" or as "Regex".`);
    }
    this.#steps += regexCost(regex, this.#name);
    if (this.#steps <= maxRegexSteps) return { Regex: regex };
    throw new CheckpointError(
      `${this.#name}: its regular expressions together take more than ${maxRegexSteps} steps a character.`,
    );
  }
}
