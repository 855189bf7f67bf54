/**
 * Tokenizers out of a tokenizer.json, whose contents are checked before `@huggingface/tokenizers` takes them at their word: the ids,
 * the counts, and how much work the parts make of a prompt.
 */
import { Tokenizer, type Unigram } from "@huggingface/tokenizers";
import { describe, expectObject, quote } from "../checkpoints/files.ts";
import { isObject } from "../checks.ts";
import { CheckpointError } from "../errors.ts";
import { TokenizerBudget } from "./budget.ts";
import { readNormalizer } from "./normalizers.ts";
import { unigramPieces } from "./sentencepiece.ts";
import { readSplitter } from "./splitters.ts";

type Raw = Readonly<Record<string, unknown>>;

/** Tokens with their ids. Published vocabularies have up to 262,144 (Gemma 3). */
const maxTokens = 400_000;
const maxId = 2 ** 20;
const maxMerges = 600_000;
/** Published tokenizers have up to some thousands. */
const maxAddedTokens = 20_000;
/** Characters of an added token, and of a piece that may stand anywhere in a text. SentencePiece's have up to 16. */
const maxPiece = 128;
/** Published ones have 100. */
const maxWord = 200;

/** `config` is tokenizer_config.json. Throws CheckpointError for a file that is damaged, too large or of a kind that is not supported. */
export function tokenizerFromJson(json: Raw, config: Raw, name: string): Tokenizer {
  const budget = new TokenizerBudget(name);
  const normalizer = readNormalizer(json["normalizer"], name, budget);
  const splitter = readSplitter(json["pre_tokenizer"], name, budget);
  const model = checkModel(json["model"], name);
  const added = addedTokens(json["added_tokens"], name).flatMap((token) => {
    // A token that is looked for after normalizing is looked for as the normalizer makes it.
    const { content, special, normalized = !special } = token;
    const found = normalized && normalizer ? normalizer.normalize(content) : content;
    if (found.length > maxPiece * 4) {
      throw new CheckpointError(
        `${name}: its normalizer makes ${found.length} characters of the token ${quote(content)}.`,
      );
    }
    return found === content || found === "" ? [token] : [{ ...token, content: found }, token];
  });
  const tokenizer = new Tokenizer(
    {
      added_tokens: added,
      // An identity, so that the library keeps those tokens apart: its own normalizers are not used.
      normalizer: { type: "Sequence", normalizers: [] },
      pre_tokenizer: null,
      post_processor: checkPostProcessor(json["post_processor"], name, budget),
      decoder: checkDecoder(json["decoder"], name, budget),
      model,
    },
    textsOf(config),
  );
  tokenizer.normalizer = normalizer;
  tokenizer.pre_tokenizer = splitter;
  if (model["type"] === "Unigram") {
    const unigram = tokenizer.model as Unigram;
    // The pieces are fused already. The library does that over again for every character.
    unigram.fuse_unk = false;
    unigram.encode = (texts) => texts.flatMap((text) => unigramPieces(unigram, text, (x) => x));
  }
  return tokenizer;
}

/** What the library asks of tokenizer_config.json. */
function textsOf(config: Raw): Raw {
  const { eos_token, clean_up_tokenization_spaces } = config;
  return {
    ...(typeof eos_token === "string" && { eos_token }),
    ...(typeof clean_up_tokenization_spaces === "boolean" && { clean_up_tokenization_spaces }),
  };
}

function checkModel(raw: unknown, name: string): Raw {
  const model = expectObject(raw, `${name}: "model"`);
  const type = model["type"] ?? guessedType(model);
  if (type === "Unigram" && model["byte_fallback"]) {
    throw new CheckpointError(`${name}: is a Unigram model with byte_fallback, which is not supported.`);
  }
  if (type === "Unigram") return { ...model, type, vocab: scoredPieces(model, name) };
  if (type !== "BPE" && type !== "WordPiece") {
    throw new CheckpointError(
      `${name}: has a model of type ${describe(type)}; supported are BPE, WordPiece and Unigram.`,
    );
  }
  const vocab = checkVocabulary(model["vocab"], `${name}: "vocab"`);
  for (const key of ["unk_token", "continuing_subword_prefix", "end_of_word_suffix"]) {
    const value = model[key];
    if (value === undefined || value === null || (typeof value === "string" && value.length <= maxPiece)) continue;
    throw new CheckpointError(
      `${name}: "${key}" must be a text of at most ${maxPiece} characters, not ${describe(value)}.`,
    );
  }
  if (type === "BPE") return { ...model, type, vocab, merges: checkMerges(model["merges"], name) };
  const { max_input_chars_per_word: longest = 100, unk_token: unknown } = model;
  if (!isWhole(longest, maxWord)) {
    throw new CheckpointError(
      `${name}: "max_input_chars_per_word" must be a whole number up to ${maxWord}, not ${describe(longest)}.`,
    );
  }
  if (typeof unknown !== "string" || !Object.hasOwn(vocab, unknown)) {
    throw new CheckpointError(`${name}: its unk_token ${describe(unknown)} is not in the vocabulary.`);
  }
  // The library writes "undefined" in front of a word's later pieces where there is no prefix.
  return { ...model, type, vocab, continuing_subword_prefix: model["continuing_subword_prefix"] ?? "##" };
}

/** Files of early versions do not say which model they have. */
function guessedType(model: Raw): string | undefined {
  if (Array.isArray(model["vocab"])) return "Unigram";
  if (Array.isArray(model["merges"])) return "BPE";
  return "max_input_chars_per_word" in model ? "WordPiece" : undefined;
}

/** Tokens and their ids. Throws CheckpointError for an id that is none. */
export function checkVocabulary(raw: unknown, where: string): Readonly<Record<string, number>> {
  const vocab = expectObject(raw, where);
  const tokens = Object.keys(vocab);
  if (tokens.length > maxTokens) {
    throw new CheckpointError(`${where} has ${tokens.length} tokens; ${maxTokens} is the limit.`);
  }
  for (const token of tokens) checkId(vocab[token], where, token);
  return vocab as Record<string, number>;
}

function checkId(id: unknown, where: string, token: string): asserts id is number {
  if (isWhole(id, maxId)) return;
  throw new CheckpointError(
    `${where}: the token ${quote(token)} has the id ${describe(id)}; ids are whole numbers from 0 to ${maxId}.`,
  );
}

const isWhole = (value: unknown, most: number): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= most;

/** A byte-pair encoding's merges: "a b" or ["a", "b"], all in one way. */
export function checkMerges(raw: unknown, name: string): [string, string][] {
  if (!Array.isArray(raw) || raw.length > maxMerges) {
    throw new CheckpointError(`${name}: "merges" must be a list of at most ${maxMerges}, not ${describe(raw)}.`);
  }
  return raw.map((merge: unknown, i) => {
    const pair: unknown = typeof merge === "string" ? merge.split(" ") : merge;
    if (Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === "string" && part !== "")) {
      return pair as [string, string];
    }
    throw new CheckpointError(`${name}: merge ${i} is ${describe(merge)}, not two tokens.`);
  });
}

function scoredPieces(model: Raw, name: string): [string, number][] {
  const { vocab, unk_id: unknown } = model;
  if (!Array.isArray(vocab) || vocab.length === 0 || vocab.length > maxTokens) {
    throw new CheckpointError(`${name}: "vocab" must be a list of 1 to ${maxTokens} pieces, not ${describe(vocab)}.`);
  }
  if (!isWhole(unknown, vocab.length - 1)) {
    throw new CheckpointError(`${name}: "unk_id" must be one of its ${vocab.length} pieces, not ${describe(unknown)}.`);
  }
  for (const [id, entry] of vocab.entries()) {
    const [piece, score] = (Array.isArray(entry) ? entry : []) as unknown[];
    if (typeof piece !== "string" || typeof score !== "number" || !Number.isFinite(score)) {
      throw new CheckpointError(`${name}: piece ${id} is ${describe(entry)}, not a text with a finite score.`);
    }
    if (piece.length > maxPiece) {
      throw new CheckpointError(`${name}: piece ${id} has ${piece.length} characters; ${maxPiece} is the limit.`);
    }
  }
  return vocab as [string, number][];
}

interface Added {
  id: number;
  content: string;
  special: boolean;
  normalized?: boolean;
}

function addedTokens(raw: unknown, name: string): Added[] {
  if (raw === undefined || raw === null) return [];
  if (!Array.isArray(raw) || raw.length > maxAddedTokens) {
    throw new CheckpointError(
      `${name}: "added_tokens" must be a list of at most ${maxAddedTokens}, not ${describe(raw)}.`,
    );
  }
  return raw.map((token: unknown, i) => {
    const { content, id, special = false } = isObject(token) ? token : ({} as Raw);
    if (typeof content !== "string" || content === "" || content.length > maxPiece) {
      throw new CheckpointError(
        `${name}: added token ${i} has the content ${describe(content)}, not a text of 1 to ${maxPiece} characters.`,
      );
    }
    checkId(id, name, content);
    return { ...(token as Added), content, id, special: special === true };
  });
}

/** What ends and starts a text. Only what is about one text, because prompts come one by one. */
function checkPostProcessor(raw: unknown, name: string, budget: TokenizerBudget): Raw | null {
  if (raw === undefined || raw === null) return null;
  const config = expectObject(raw, `${name}: "post_processor"`);
  budget.part();
  switch (config["type"]) {
    case "ByteLevel":
      return { type: "ByteLevel" };
    case "BertProcessing":
    case "RobertaProcessing": {
      for (const key of ["sep", "cls"]) {
        const [token, id] = budget.list(config[key], key);
        if (typeof token !== "string")
          throw new CheckpointError(`${name}: "${key}" must start with a token, not ${describe(token)}.`);
        checkId(id, name, token);
      }
      return config;
    }
    case "Sequence": {
      const processors = budget.list(config["processors"], "processors");
      return { type: "Sequence", processors: processors.map((part) => checkPostProcessor(part, name, budget)) };
    }
    case "TemplateProcessing": {
      const single = budget.list(config["single"], "single");
      let texts = 0;
      for (const item of single) {
        const { SpecialToken: special, Sequence: sequence } = isObject(item) ? item : ({} as Raw);
        if (isObject(sequence) && sequence["id"] === "A") texts++;
        else if (!isObject(special) || typeof special["id"] !== "string") {
          throw new CheckpointError(
            `${name}: its template has ${describe(item)}, which is neither a token nor the text.`,
          );
        }
      }
      if (texts === 1) return config;
      throw new CheckpointError(`${name}: its template has the text ${texts} times, expected once.`);
    }
    default:
      throw new CheckpointError(
        `${name}: has a post-processor of type ${describe(config["type"])}, which is not supported.`,
      );
  }
}

/** The library's own. What they are given is short: a prompt's tokens beyond the limit, for a warning. */
const decoders: ReadonlySet<unknown> = new Set([
  "ByteLevel",
  "WordPiece",
  "Metaspace",
  "BPEDecoder",
  "Sequence",
  "Replace",
  "Fuse",
  "Strip",
  "ByteFallback",
]);

function checkDecoder(raw: unknown, name: string, budget: TokenizerBudget): Raw | null {
  if (raw === undefined || raw === null) return null;
  const config = expectObject(raw, `${name}: "decoder"`);
  budget.part();
  const { type } = config;
  if (!decoders.has(type)) {
    throw new CheckpointError(`${name}: has a decoder of type ${describe(type)}, which is not supported.`);
  }
  if (type === "Sequence") {
    const parts = budget.list(config["decoders"], "decoders").map((part) => checkDecoder(part, name, budget));
    return { type, decoders: parts };
  }
  for (const key of ["prefix", "suffix", "replacement", "content"]) budget.text(config[key], key);
  // To replace the empty text doubles a token, and parts come one after the other.
  const replaced = { BPEDecoder: config["suffix"] ?? "", Metaspace: config["replacement"] ?? "\u2581" }[String(type)];
  if (replaced === "")
    throw new CheckpointError(`${name}: a decoder of type ${describe(type)} replaces the empty text.`);
  for (const key of ["start", "stop"]) {
    const count = config[key] ?? 0;
    if (!isWhole(count, maxPiece)) {
      throw new CheckpointError(
        `${name}: a decoder's "${key}" must be a whole number up to ${maxPiece}, not ${describe(count)}.`,
      );
    }
  }
  if (type !== "Replace") return config;
  const pattern = budget.pattern(config["pattern"]);
  if (
    "String" in pattern &&
    pattern.String !== "" &&
    budget.text(config["content"], "content").length <= pattern.String.length
  ) {
    return { ...config, pattern };
  }
  throw new CheckpointError(
    `${name}: a decoder's "Replace" must have a text as its pattern, and nothing longer in its place.`,
  );
}
