/** SentencePiece's normalizer, from the table that every SentencePiece model brings along. */
import { Normalizer } from "@huggingface/tokenizers";
import { CheckpointError } from "../errors.ts";

/** NormalizerSpec of sentencepiece_model.proto. */
export interface NormalizerSpec {
  /** What becomes of which characters; empty where the model leaves them alone. */
  charsmap: Uint8Array;
  addDummyPrefix: boolean;
  removeExtraWhitespaces: boolean;
  escapeWhitespaces: boolean;
}

/** The longest that one match may become. NFKC's longest has 33 bytes; more would let a file make prompts explode. */
const maxReplacement = 256;

/** Characters of the longest key that is looked for. NFKC's have up to 4; a damaged trie may go round in circles. */
const maxKey = 32;

const encoder = new TextEncoder();

/** Normalizes as SentencePiece does: table, spaces and all. */
export class SentencePieceNormalizer extends Normalizer {
  readonly #spec: NormalizerSpec;
  readonly #charsmap: Charsmap | undefined;
  readonly #protected: ReadonlySet<string>;
  /** Characters of the longest protected string. */
  readonly #longest: number;

  /** `userDefined`: strings that are pieces whatever is around them, and are kept as they are. */
  constructor(spec: NormalizerSpec, userDefined: readonly string[], name: string) {
    super({ type: "Precompiled", precompiled_charsmap: "" });
    this.#spec = spec;
    this.#charsmap = spec.charsmap.length > 0 ? new Charsmap(spec.charsmap, name) : undefined;
    this.#protected = new Set(userDefined);
    this.#longest = userDefined.reduce((longest, piece) => Math.max(longest, Array.from(piece).length), 0);
  }

  /** Normalizer::Normalize of SentencePiece's normalizer.cc. */
  override normalize(text: string): string {
    const { addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces } = this.#spec;
    const space = escapeWhitespaces ? "\u2581" : " ";
    const chars = Array.from(text);
    let at = 0;
    let [next, length] = this.#prefix(chars, at);
    while (removeExtraWhitespaces && length > 0 && next === " ") {
      at += length;
      [next, length] = this.#prefix(chars, at);
    }
    if (length === 0) return "";
    let normalized = addDummyPrefix ? space : "";
    let afterSpace = removeExtraWhitespaces;
    while (length > 0) {
      const part = afterSpace ? next.replace(/^ +/, "") : next;
      normalized += part.replaceAll(" ", space);
      // what becomes nothing leaves the state as it was
      if (part !== "") afterSpace = part.endsWith(" ");
      if (!removeExtraWhitespaces) afterSpace = false;
      at += length;
      [next, length] = this.#prefix(chars, at);
    }
    if (removeExtraWhitespaces) while (normalized.endsWith(space)) normalized = normalized.slice(0, -space.length);
    return normalized;
  }

  /** What stands at `at`, normalized, and how many characters it was; 0 at the end. */
  #prefix(chars: readonly string[], at: number): [normalized: string, length: number] {
    if (at >= chars.length) return ["", 0];
    for (let length = Math.min(this.#longest, chars.length - at); length > 0; length--) {
      const candidate = chars.slice(at, at + length).join("");
      if (this.#protected.has(candidate)) return [candidate, length];
    }
    return this.#charsmap?.longest(chars, at) ?? [chars[at]!, 1];
  }
}

/**
 * precompiled_charsmap, the same in spiece.model and in tokenizer.json's "Precompiled" normalizer: the length of a trie in bytes, the trie, and the strings that its values point to, each with a
 * NUL at its end. The trie is a double array over UTF-8 as darts-clone lays it out, 32 bits a unit:
 *
 *     bit 31 and 0-7  label    bit 8  has a value    bit 9  offset counts in 256    bits 10-30  offset
 */
export class Charsmap {
  readonly #units: DataView;
  readonly #strings: Uint8Array;
  readonly #name: string;

  constructor(bytes: Uint8Array, name: string) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const trieBytes = bytes.length >= 4 ? view.getUint32(0, true) : 0;
    if (trieBytes < 4 || trieBytes % 4 !== 0 || trieBytes > bytes.length - 4) {
      throw new CheckpointError(
        `${name}: the normalizer's table has ${bytes.length} bytes, which cannot hold a trie of ${trieBytes} bytes.`,
      );
    }
    this.#units = new DataView(bytes.buffer, bytes.byteOffset + 4, trieBytes);
    this.#strings = bytes.subarray(4 + trieBytes);
    this.#name = name;
  }

  /** A whole text, the longest key first at every place. */
  normalize(text: string): string {
    const chars = Array.from(text);
    let normalized = "";
    for (let at = 0; at < chars.length; ) {
      const [part, length] = this.longest(chars, at) ?? [chars[at]!, 1];
      normalized += part;
      at += length;
    }
    return normalized;
  }

  /** The longest key that starts at `at`: what it becomes and its length in characters. Undefined if there is none. */
  longest(chars: readonly string[], at: number): [normalized: string, length: number] | undefined {
    let found: [value: number, length: number] | undefined;
    let node = offset(this.#unit(0));
    for (let i = at; i < Math.min(chars.length, at + maxKey); i++) {
      for (const byte of encoder.encode(chars[i])) {
        node ^= byte;
        const unit = this.#unit(node);
        if ((unit & 0x800000ff) >>> 0 !== byte) return found && [this.#string(found[0]), found[1]];
        node ^= offset(unit);
        if (unit & 0x100) found = [this.#unit(node) & 0x7fffffff, i - at + 1];
      }
    }
    return found && [this.#string(found[0]), found[1]];
  }

  #unit(index: number): number {
    if (index * 4 < this.#units.byteLength) return this.#units.getUint32(index * 4, true);
    throw this.#damaged(`its trie has ${this.#units.byteLength / 4} units, and one of them points to unit ${index}`);
  }

  #string(start: number): string {
    const end = this.#strings.subarray(start, start + maxReplacement + 1).indexOf(0);
    if (end < 0) throw this.#damaged(`no string of at most ${maxReplacement} bytes is at ${start}`);
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
        this.#strings.subarray(start, start + end),
      );
    } catch {
      throw this.#damaged(`the string at ${start} is not UTF-8`);
    }
  }

  #damaged(what: string): CheckpointError {
    return new CheckpointError(`${this.#name}: the normalizer's table is damaged: ${what}.`);
  }
}

/** Non-negative: at most 21 bits, shifted by 8 at most. */
function offset(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}
