/**
 * The normalizers of a tokenizer.json as Hugging Face's tokenizers (written in Rust) has them. Those of `@huggingface/tokenizers` go by
 * JavaScript's notion of a space, which has the byte-order mark and lacks U+0085, lower-case a word's last sigma in another
 * way, and have the engine's NFKC where the file brings its own table.
 */
import { Normalizer, ReplaceNormalizer } from "@huggingface/tokenizers";
import { describe, expectObject } from "../checkpoints/files.ts";
import { ArgumentError, CheckpointError } from "../errors.ts";
import type { TokenizerBudget } from "./budget.ts";
import { Charsmap } from "./sentencepiece-normalizer.ts";

type Raw = Readonly<Record<string, unknown>>;
type Step = (text: string) => string;

/** The longest text that a normalizer may make, in UTF-16 units. Half as much again as the longest that is given to one. */
const maxNormalized = 2 ** 18;

/** Steps one after the other; each may make its text only so long. */
export class BoundedNormalizer extends Normalizer {
  readonly #steps: readonly Step[];

  constructor(steps: readonly Step[]) {
    super({ type: "Sequence", normalizers: [] });
    this.#steps = steps;
  }

  override normalize(text: string): string {
    for (const step of this.#steps) {
      text = step(text);
      if (text.length <= maxNormalized) continue;
      throw new ArgumentError(
        `The tokenizer makes a text of ${text.length} characters out of the prompt; ${maxNormalized} is the limit.`,
      );
    }
    return text;
  }
}

/** Null where a file has none. Throws CheckpointError for a normalizer that is not known. */
export function readNormalizer(raw: unknown, name: string, budget: TokenizerBudget): BoundedNormalizer | null {
  const steps = stepsOf(raw, name, budget);
  return steps.length > 0 ? new BoundedNormalizer(steps) : null;
}

const forms: ReadonlySet<unknown> = new Set(["NFC", "NFD", "NFKC", "NFKD"]);

function stepsOf(raw: unknown, name: string, budget: TokenizerBudget): Step[] {
  if (raw === null || raw === undefined) return [];
  const config = expectObject(raw, `${name}: a normalizer`);
  budget.part();
  const { type } = config;
  if (forms.has(type)) return [(text) => text.normalize(type as string)];
  switch (type) {
    case "Sequence":
      return budget.list(config["normalizers"], "normalizers").flatMap((part) => stepsOf(part, name, budget));
    case "Precompiled":
      return precompiled(config, name);
    case "Lowercase":
      return [lowerCase];
    case "BertNormalizer":
      return [bert(config)];
    case "Strip":
      return [strip(config)];
    case "StripAccents":
      return [(text) => text.replace(/\p{M}/gu, "")];
    case "Prepend": {
      const prefix = budget.text(config["prepend"], "prepend");
      return [(text) => (text === "" ? text : prefix + text)];
    }
    case "Replace":
      return [replace(config, budget)];
    default:
      throw new CheckpointError(`${name}: has a normalizer of type ${describe(type)}, which is not supported.`);
  }
}

/** SentencePiece's table, of which the longest entry counts, as with SentencePiece itself. */
function precompiled(config: Raw, name: string): Step[] {
  const table = config["precompiled_charsmap"];
  if (table === null || table === undefined || table === "") return [];
  if (typeof table !== "string" || table.length > maxCharsmap) {
    throw new CheckpointError(
      `${name}: precompiled_charsmap must be a text of at most ${maxCharsmap} characters, not ${describe(table).slice(0, 100)}.`,
    );
  }
  let bytes: Uint8Array;
  try {
    bytes = Uint8Array.from(atob(table), (char) => char.charCodeAt(0));
  } catch (cause) {
    throw new CheckpointError(`${name}: precompiled_charsmap is not base64.`, { cause });
  }
  const charsmap = new Charsmap(bytes, name);
  return [(text) => charsmap.normalize(text)];
}

/** T5's has 316,720. */
const maxCharsmap = 4 * 2 ** 20;

/** Each character by itself, so a word's last sigma is not another than the one within. */
export const lowerCase: Step = (text) => {
  // The last sigma is the one thing in which JavaScript looks at what is around a character.
  const lower = text.toLowerCase();
  return lower.includes("\u03c2") ? Array.from(text, (char) => char.toLowerCase()).join("") : lower;
};

function strip(config: Raw): Step {
  const left = config["strip_left"] === true;
  const right = config["strip_right"] === true;
  return (text) => {
    if (left) text = text.replace(/^\p{White_Space}+/u, "");
    if (!right) return text;
    let end = text.length;
    while (end > 0 && /\p{White_Space}/u.test(text[end - 1]!)) end--;
    return text.slice(0, end);
  };
}

/** The ideographs between which BERT puts spaces. */
const ideograph =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

function bert(config: Raw): Step {
  const lower = config["lowercase"] === true;
  const accents = config["strip_accents"] ?? lower;
  return (text) => {
    if (config["clean_text"]) {
      text = text.replace(/[\0\ufffd]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu, "").replace(/\p{White_Space}/gu, " ");
    }
    if (config["handle_chinese_chars"]) text = text.replace(ideograph, " $& ");
    if (accents) text = text.normalize("NFD").replace(/\p{Mn}/gu, "");
    return lower ? lowerCase(text) : text;
  };
}

function replace(config: Raw, budget: TokenizerBudget): Step {
  const pattern = budget.pattern(config["pattern"]);
  const content = budget.text(config["content"], "content");
  // A replacement is what it is: the library would read "$&" in it.
  if ("String" in pattern) {
    const from = pattern.String;
    return (text) => text.replaceAll(from, () => content);
  }
  const normalizer = new ReplaceNormalizer({
    type: "Replace",
    pattern,
    content: content.replaceAll("$", "$$$$"),
  } as never);
  return (text) => normalizer.normalize(text);
}
