/**
 * The embedded model's tokenizer: a Hugging Face tokenizer.json made of the captions' own words.
 * Run after prepare-data.ts: `npx tsx training/tokenizer.ts` writes training/data/tokenizer/ and prints its figures.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { Tokenizer } from "@huggingface/tokenizers";
import { ArgumentError } from "../src/errors.ts";
import type { EmojiEntry } from "./data.ts";

/** Ids as in T5: the text encoder pads with 0 and ends with 1. */
const specialTokens = ["<pad>", "</s>", "<unk>"] as const;
const [pad, end, unknown] = specialTokens;

const characters = [..."abcdefghijklmnopqrstuvwxyz0123456789"];
const punctuation = [...".,:;!?'\"()-&/+*#%$@"];
// "kittens" is "kitten" + "##s" for a model that has only seen "kitten"
const suffixes = ["s", "es", "ed", "ing", "er", "est", "y", "ly", "ish", "ness", "like", "ful", "less"];
/** Suffixes that rare words are split at even if they were seen whole, so that the pieces are trained. */
const learntSuffixes = ["s", "es", "ed", "ing"];

export interface TokenizerFiles {
  /** tokenizer.json */
  tokenizer: TokenizerJson;
  /** tokenizer_config.json */
  config: Record<string, unknown>;
}

/** The parts of tokenizer.json that are read again here. */
export interface TokenizerJson extends Record<string, unknown> {
  model: { type: "WordPiece"; vocab: Record<string, number> } & Record<string, unknown>;
}

/**
 * WordPiece over whole words. Every word of the captions is a token of its own, except rare forms of a known word
 * ("cupcakes" is "cupcake" + "##s"); single characters and common suffixes are there so that no word of plain letters is
 * unknown. `captionSets` has one list of captions a picture: what counts is in how many pictures' captions a word is.
 */
export function buildTokenizer(captionSets: readonly (readonly string[])[], maxLength: number): TokenizerFiles {
  const counts = new Map<string, number>();
  for (const captions of captionSets) {
    for (const word of new Set(captions.flatMap(wordsOf))) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const isRareForm = (word: string, count: number) =>
    count < 3 &&
    learntSuffixes.some((suffix) => {
      const stem = word.slice(0, -suffix.length);
      return word.endsWith(suffix) && stem.length >= 3 && counts.has(stem);
    });
  const words = [...counts]
    .filter(([word, count]) => word.length > 1 && !isRareForm(word, count))
    .sort(([a, countA], [b, countB]) => countB - countA || (a < b ? -1 : 1))
    .map(([word]) => word);
  const continuations = [...characters, ...suffixes.filter((suffix) => suffix.length > 1)].map((piece) => `##${piece}`);
  const tokens = [...new Set([...specialTokens, ...punctuation, ...characters, ...continuations, ...words])];
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  return { tokenizer: tokenizerJson(vocab), config: tokenizerConfig(maxLength) };
}

/** As the tokenizer's normalizer and pre-tokenizer do it: lower case, no accents, words apart from punctuation. */
function wordsOf(text: string): string[] {
  return (
    text
      .toLowerCase()
      .normalize("NFD")
      .replace(/\p{Mn}/gu, "")
      .match(/[a-z0-9]+/g) ?? []
  );
}

function tokenizerJson(vocab: Record<string, number>): TokenizerJson {
  const replace = (from: string, to: string) => ({ type: "Replace", pattern: { String: from }, content: to });
  const sequence = (id: "A" | "B") => ({ Sequence: { id, type_id: 0 } });
  const ending = { SpecialToken: { id: end, type_id: 0 } };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: "Sequence",
      normalizers: [
        // What phones type for ' and "
        ...["‘", "’"].map((quote) => replace(quote, "'")),
        ...["“", "”"].map((quote) => replace(quote, '"')),
        { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, strip_accents: true, lowercase: true },
      ],
    },
    pre_tokenizer: { type: "BertPreTokenizer" },
    post_processor: {
      type: "TemplateProcessing",
      single: [sequence("A"), ending],
      pair: [sequence("A"), ending, sequence("B"), ending],
      special_tokens: { [end]: { id: end, ids: [vocab[end]], tokens: [end] } },
    },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: {
      type: "WordPiece",
      unk_token: unknown,
      continuing_subword_prefix: "##",
      max_input_chars_per_word: 40,
      vocab,
    },
  };
}

function tokenizerConfig(maxLength: number): Record<string, unknown> {
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    model_max_length: maxLength,
    pad_token: pad,
    eos_token: end,
    unk_token: unknown,
    padding_side: "right",
    truncation_side: "right",
    clean_up_tokenization_spaces: true,
  };
}

export interface TokenizerFigures {
  vocabulary: number;
  captions: number;
  tokens: number;
  /** Tokens that are <unk>, and words that are in more pieces than one. */
  unknown: number;
  split: number;
  /** Number of captions by length, with the ending token. */
  lengths: number[];
  /** Tokens of the vocabulary that no caption has. */
  unused: string[];
}

/** Encodes all captions with the package that the pipelines use. */
export function measureTokenizer({ tokenizer, config }: TokenizerFiles, captions: readonly string[]): TokenizerFigures {
  const encoder = new Tokenizer(tokenizer, config);
  const { vocab } = tokenizer.model;
  const seen = new Set<string>();
  const figures = { vocabulary: Object.keys(vocab).length, captions: captions.length, tokens: 0, unknown: 0, split: 0 };
  const lengths: number[] = [];
  for (const caption of captions) {
    const { ids, tokens } = encoder.encode(caption);
    if (ids.at(-1) !== vocab[end])
      throw new ArgumentError(`"${caption}" does not end with ${end}: ${tokens.join(" ")}`);
    figures.tokens += ids.length;
    lengths[ids.length] = (lengths[ids.length] ?? 0) + 1;
    for (const [i, token] of tokens.entries()) {
      seen.add(token);
      if (token === unknown) figures.unknown++;
      if (token.startsWith("##") && !tokens[i - 1]?.startsWith("##")) figures.split++;
    }
  }
  return {
    ...figures,
    lengths: Array.from(lengths, (count) => count ?? 0),
    unused: Object.keys(vocab).filter((token) => !seen.has(token)),
  };
}

async function main(): Promise<void> {
  const data = fileURLToPath(new URL("./data/", import.meta.url));
  const entries = JSON.parse(await readFile(path.join(data, "captions.json"), "utf8")) as EmojiEntry[];
  const captionSets = entries.map(({ captions }) => captions.map(({ text }) => text));
  const files = buildTokenizer(captionSets, 24);
  const target = path.join(data, "tokenizer");
  await mkdir(target, { recursive: true });
  await writeFile(path.join(target, "tokenizer.json"), `${JSON.stringify(files.tokenizer, null, 2)}\n`);
  await writeFile(path.join(target, "tokenizer_config.json"), `${JSON.stringify(files.config, null, 2)}\n`);

  const figures = measureTokenizer(files, captionSets.flat());
  const percent = (count: number) => `${count} (${((100 * count) / figures.tokens).toFixed(2)} %)`;
  console.log(`vocabulary ${figures.vocabulary}, of which no caption has ${figures.unused.length}`);
  console.log(`${figures.captions} captions, ${figures.tokens} tokens`);
  console.log(`unknown ${percent(figures.unknown)}, words in pieces ${percent(figures.split)}`);
  console.log(
    `captions by length: ${figures.lengths
      .map((count, length) => `${length}:${count}`)
      .slice(2)
      .join(" ")}`,
  );
  console.log(`unused: ${figures.unused.join(" ")}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
