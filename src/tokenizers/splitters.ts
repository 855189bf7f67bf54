/**
 * The pre-tokenizers of a tokenizer.json as Hugging Face's tokenizers (written in Rust) has them. Spaces are Unicode's, as in Rust:
 * JavaScript's \s has the byte-order mark and lacks U+0085.
 */
import { ByteLevelPreTokenizer, PreTokenizer, SplitPreTokenizer } from "@huggingface/tokenizers";
import { describe, expectObject } from "../checkpoints/files.ts";
import { CheckpointError } from "../errors.ts";
import type { TokenizerBudget } from "./budget.ts";

type Raw = Readonly<Record<string, unknown>>;
/** `first`: whether the text is at the start of the prompt. */
type Split = (text: string, first: boolean) => readonly string[];

const punctuation = "\\p{P}\\u0021-\\u002F\\u003A-\\u0040\\u005B-\\u0060\\u007B-\\u007E";
const letters = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";

/** What stays of a text, by type. */
const patterns: ReadonlyMap<unknown, RegExp> = new Map([
  ["BertPreTokenizer", new RegExp(`[^\\p{White_Space}${punctuation}]+|[${punctuation}]`, "gu")],
  ["Whitespace", new RegExp(`[${letters}]+|[^${letters}\\p{White_Space}]+`, "gu")],
  ["WhitespaceSplit", /\P{White_Space}+/gu],
]);

/** GPT-2's: words and numbers with a space in front, signs, spaces. */
const byteLevel =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

export class Splitter extends PreTokenizer {
  readonly #splits: readonly Split[];

  constructor(splits: readonly Split[]) {
    super();
    this.#splits = splits;
  }

  override pre_tokenize_text(text: string, options?: { section_index?: number }): string[] {
    let parts: string[] = [text];
    for (const split of this.#splits) {
      parts = parts.flatMap((part, i) => split(part, i === 0 && (options?.section_index ?? 0) === 0));
    }
    return parts;
  }
}

/** Null where a file has none. Throws CheckpointError for a pre-tokenizer that is not known. */
export function readSplitter(raw: unknown, name: string, budget: TokenizerBudget): Splitter | null {
  const splits = splitsOf(raw, name, budget);
  return splits.length > 0 ? new Splitter(splits) : null;
}

function splitsOf(raw: unknown, name: string, budget: TokenizerBudget): Split[] {
  if (raw === null || raw === undefined) return [];
  const config = expectObject(raw, `${name}: a pre-tokenizer`);
  budget.part();
  const { type } = config;
  const unsupported = (what: string) =>
    new CheckpointError(`${name}: has a pre-tokenizer of type ${describe(type)}${what}, which is not supported.`);
  const pattern = patterns.get(type);
  if (pattern) return [matches(pattern)];
  switch (type) {
    case "Sequence":
      return budget.list(config["pretokenizers"], "pretokenizers").flatMap((part) => splitsOf(part, name, budget));
    case "Metaspace":
      return [metaspace(config, budget)];
    case "ByteLevel":
      return [bytes(config)];
    case "Digits":
      return [matches(config["individual_digits"] === true ? /\P{N}+|\p{N}/gu : /\P{N}+|\p{N}+/gu)];
    case "Punctuation": {
      const together = { Isolated: "", Contiguous: "+" }[String(config["behavior"] ?? "Isolated")];
      if (together === undefined) throw unsupported(` and behavior ${describe(config["behavior"])}`);
      return [matches(new RegExp(`[^${punctuation}]+|[${punctuation}]${together}`, "gu"))];
    }
    case "Split": {
      const { behavior, invert = false } = config;
      const known = behavior === "Removed" || (behavior === "Isolated" && invert === false);
      if (!known || typeof invert !== "boolean")
        throw unsupported(`, behavior ${describe(behavior)} and invert ${describe(invert)}`);
      const split = new SplitPreTokenizer({
        type,
        pattern: budget.pattern(config["pattern"]),
        behavior,
        invert,
      } as never);
      return [(text) => split.pre_tokenize_text(text)];
    }
    default:
      throw unsupported("");
  }
}

const matches =
  (pattern: RegExp): Split =>
  (text) =>
    text.match(pattern) ?? [];

/** Spaces become a sign, one stands before the first word, and each word is by itself. */
function metaspace(config: Raw, budget: TokenizerBudget): Split {
  const sign = budget.text(config["replacement"] ?? "\u2581", "replacement");
  const scheme = config["prepend_scheme"] ?? (config["add_prefix_space"] === false ? "never" : "always");
  const split = config["split"] !== false;
  return (text, first) => {
    let whole = text.replaceAll(" ", () => sign);
    if ((scheme === "always" || (scheme === "first" && first)) && !whole.startsWith(sign)) whole = sign + whole;
    if (!split || sign === "") return [whole];
    const words = whole.split(sign);
    const [before, ...others] = words;
    return [...(before ? [before] : []), ...others.map((word) => sign + word)];
  };
}

function bytes(config: Raw): Split {
  const { add_prefix_space = false, use_regex = true } = config;
  const split = new ByteLevelPreTokenizer({ type: "ByteLevel", add_prefix_space, use_regex } as never);
  split.pattern = byteLevel;
  return (text) => split.pre_tokenize_text(text);
}
