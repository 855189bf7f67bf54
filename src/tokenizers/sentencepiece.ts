/** T5's tokenizer from `spiece.model`, for the checkpoints that have no tokenizer.json. */
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Tokenizer, type Unigram } from "@huggingface/tokenizers";
import { type ByteSource, describe, quote } from "../checkpoints/files.ts";
import { CheckpointError } from "../errors.ts";
import { type NormalizerSpec, SentencePieceNormalizer } from "./sentencepiece-normalizer.ts";

/** SentencePiece.Type of sentencepiece_model.proto. */
const PieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

export interface Piece {
  piece: string;
  /** Log probability. */
  score: number;
  type: number;
}

/** What encoding needs of a ModelProto. */
export interface SentencePieceModel {
  /** In order of their ids. */
  pieces: Piece[];
  normalizer: NormalizerSpec;
}

/** Published models have at most 5 MB (XLM-R's); a tokenizer takes many times its file's length in memory. */
const maxBytes = 8 * 2 ** 20;
const maxExtraIds = 10_000;
/** Characters of a piece. They are looked for at every place of a text. SentencePiece's own limit is 16 unless one asks for more. */
const maxPiece = 128;

/**
 * transformers' T5Tokenizer: SentencePiece's unigram model, with the end token after every text, and the extra ids.
 * `config` is tokenizer_config.json. Throws CheckpointError if the file is damaged or is another kind of model.
 */
export async function sentencePieceTokenizer(
  source: ByteSource,
  config: Readonly<Record<string, unknown>> = {},
): Promise<Tokenizer> {
  if (source.size > maxBytes) {
    throw new CheckpointError(
      `${source.name}: has ${source.size} bytes; SentencePiece models of more than ${maxBytes} are not read.`,
    );
  }
  const model = readSentencePiece(await source.read(0, source.size), source.name);
  const tokenizer = new Tokenizer(tokenizerJson(model, config, source.name), config);
  const userDefined = model.pieces.filter(({ type }) => type === PieceType.userDefined).map(({ piece }) => piece);
  const unigram = tokenizer.model as Unigram;
  // SentencePiece's own sums are floats.
  unigram.fuse_unk = false;
  unigram.encode = (texts) => texts.flatMap((text) => unigramPieces(unigram, text, Math.fround));
  tokenizer.normalizer = new SentencePieceNormalizer(model.normalizer, userDefined, source.name);
  return tokenizer;
}

/** Reads and checks a ModelProto. */
export function readSentencePiece(bytes: Uint8Array, name: string): SentencePieceModel {
  // the schema's defaults
  const trainer = { modelType: 1, whitespaceAsSuffix: false };
  const normalizer = { charsmap: new Uint8Array(0), addDummyPrefix: true, removeExtraWhitespaces: true };
  const spec: NormalizerSpec = { ...normalizer, escapeWhitespaces: true };
  const pieces: Piece[] = [];
  const { Varint, LengthDelimited } = WireType;
  try {
    eachField(bytes, {
      1: [LengthDelimited, (reader) => pieces.push(readPiece(reader.bytes()))],
      2: [
        LengthDelimited,
        (reader) =>
          eachField(reader.bytes(), {
            3: [Varint, (field) => (trainer.modelType = field.int32())],
            24: [Varint, (field) => (trainer.whitespaceAsSuffix = field.bool())],
          }),
      ],
      3: [
        LengthDelimited,
        (reader) =>
          eachField(reader.bytes(), {
            2: [LengthDelimited, (field) => (spec.charsmap = field.bytes())],
            3: [Varint, (field) => (spec.addDummyPrefix = field.bool())],
            4: [Varint, (field) => (spec.removeExtraWhitespaces = field.bool())],
            5: [Varint, (field) => (spec.escapeWhitespaces = field.bool())],
          }),
      ],
    });
  } catch (cause) {
    throw new CheckpointError(`${name}: not a SentencePiece model: ${(cause as Error).message}.`, { cause });
  }
  if (trainer.modelType !== 1) {
    const kind = { 2: "BPE", 3: "word", 4: "character" }[trainer.modelType] ?? trainer.modelType;
    throw new CheckpointError(
      `${name}: is a ${kind} model; of SentencePiece's models only unigram ones are supported.`,
    );
  }
  if (trainer.whitespaceAsSuffix) {
    throw new CheckpointError(
      `${name}: has spaces at the end of its pieces (treat_whitespace_as_suffix), which is not supported.`,
    );
  }
  checkPieces(pieces, name);
  return { pieces, normalizer: spec };
}

type Field = [wireType: WireType, read: (reader: BinaryReader) => unknown];

/** Calls what `fields` has for each field's number. Others, and known ones of another wire type, are passed over. */
function eachField(bytes: Uint8Array, fields: Readonly<Record<number, Field>>): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const [expected, read] = fields[number] ?? [];
    if (read && wireType === expected) read(reader);
    else reader.skip(wireType, number);
    if (reader.pos > reader.len) throw new RangeError("premature EOF");
  }
}

function readPiece(bytes: Uint8Array): Piece {
  const piece: Piece = { piece: "", score: 0, type: PieceType.normal };
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  eachField(bytes, {
    1: [WireType.LengthDelimited, (reader) => (piece.piece = text.decode(reader.bytes()))],
    2: [WireType.Bit32, (reader) => (piece.score = reader.float())],
    3: [WireType.Varint, (reader) => (piece.type = reader.int32())],
  });
  return piece;
}

function checkPieces(pieces: readonly Piece[], name: string): void {
  const seen = new Set<string>();
  for (const [id, { piece, score, type }] of pieces.entries()) {
    const where = `${name}: piece ${id} (${quote(piece)})`;
    if (piece === "") throw new CheckpointError(`${where} is empty.`);
    if (piece.length > maxPiece) throw new CheckpointError(`${where} has more than ${maxPiece} characters.`);
    if (seen.has(piece)) throw new CheckpointError(`${where} is there twice.`);
    if (!Number.isFinite(score)) throw new CheckpointError(`${where} has the score ${score}.`);
    if (type === PieceType.byte || type === PieceType.unused || type < PieceType.normal || type > PieceType.byte) {
      const kind = { [PieceType.byte]: "a byte", [PieceType.unused]: "unused" }[type] ?? `of type ${type}`;
      throw new CheckpointError(`${where} is ${kind}; models with such pieces are not supported.`);
    }
    seen.add(piece);
  }
  const unknown = pieces.filter(({ type }) => type === PieceType.unknown).length;
  if (unknown !== 1) throw new CheckpointError(`${name}: has ${unknown} pieces for unknown characters, expected one.`);
}

/** The parts of a tokenizer.json. Its normalizer is left out: no normalizer of that format can be made to match. */
export function tokenizerJson(
  model: SentencePieceModel,
  config: Readonly<Record<string, unknown>>,
  name: string,
): object {
  const { pieces } = model;
  const end = tokenText(config["eos_token"]) ?? "</s>";
  const endId = pieces.findIndex(({ piece }) => piece === end);
  if (endId < 0) throw new CheckpointError(`${name}: has no piece ${quote(end)}, the tokenizer's eos_token.`);
  const special = pieces.flatMap(({ piece, type }, id) =>
    type === PieceType.control || type === PieceType.unknown ? [addedToken(piece, id, false)] : [],
  );
  const sequence = (id: "A" | "B") => ({ Sequence: { id, type_id: 0 } });
  const ending = { SpecialToken: { id: end, type_id: 0 } };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [...special, ...extraTokens(pieces, config, name)],
    normalizer: null,
    // The normalizer has written the spaces and the one in front already.
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [sequence("A"), ending],
      pair: [sequence("A"), ending, sequence("B"), ending],
      special_tokens: { [end]: { id: end, ids: [endId], tokens: [end] } },
    },
    decoder: { type: "Metaspace", replacement: "\u2581", prepend_scheme: "always" },
    model: {
      type: "Unigram",
      unk_id: pieces.findIndex(({ type }) => type === PieceType.unknown),
      vocab: scored(pieces),
      byte_fallback: false,
    },
  };
}

/** Their scores, except that a user-defined piece is certain: SentencePiece selects it whatever its score. */
function scored(pieces: readonly Piece[]): [piece: string, score: number][] {
  return pieces.map(({ piece, score, type }) => [piece, type === PieceType.userDefined ? 0 : score]);
}

/**
 * The most probable pieces of a normalized text, and what is not known between two of them in one: Model::EncodeOptimized of
 * SentencePiece's unigram_model.cc. `round`: what sums are
 * rounded to. It shows where letters repeat: "eee" is "ee" + "e" or "e" + "ee", equally probable, and rounding decides.
 */
export function unigramPieces(model: Unigram, text: string, round: (sum: number) => number): string[] {
  const chars = Array.from(text);
  const best = new Float64Array(chars.length + 1);
  const starts = new Int32Array(chars.length + 1).fill(-1);
  const extend = (start: number, end: number, score: number) => {
    const total = round(best[start]! + round(score));
    if (starts[end]! >= 0 && total <= best[end]!) return;
    best[end] = total;
    starts[end] = start;
  };
  for (let start = 0; start < chars.length; start++) {
    let known = false;
    for (const piece of model.trie.common_prefix_search(chars, start)) {
      const length = Array.from(piece).length;
      extend(start, start + length, model.scores[model.tokens_to_ids.get(piece)!]!);
      known ||= length === 1;
    }
    if (!known) extend(start, start + 1, model.unk_score);
  }
  const found: string[] = [];
  let unknown = chars.length; // where the unknown characters end that are before `end`
  for (let end = chars.length; end > 0; end = starts[end]!) {
    const piece = chars.slice(starts[end], end).join("");
    if (model.tokens_to_ids.has(piece)) {
      if (unknown > end) found.push(chars.slice(end, unknown).join(""));
      found.push(piece);
      unknown = starts[end]!;
    }
  }
  if (unknown > 0) found.push(chars.slice(0, unknown).join(""));
  return found.reverse();
}

/** T5's sentinels: <extra_id_99> has the first id after the pieces, <extra_id_0> the last one. */
function extraTokens(pieces: readonly Piece[], config: Readonly<Record<string, unknown>>, name: string): object[] {
  const count = config["extra_ids"] ?? 100;
  if (typeof count !== "number" || !Number.isInteger(count) || count < 0 || count > maxExtraIds) {
    const found = describe(count);
    throw new CheckpointError(`${name}: tokenizer_config.json has extra_ids ${found}, expected 0 to ${maxExtraIds}.`);
  }
  return Array.from({ length: count }, (_, i) => addedToken(`<extra_id_${count - 1 - i}>`, pieces.length + i, true));
}

/** `strip`: whether the token takes the spaces around it, as transformers' T5Tokenizer has it for the extra ids. */
function addedToken(content: string, id: number, strip: boolean): object {
  return { id, content, single_word: false, lstrip: strip, rstrip: strip, normalized: false, special: true };
}

/** A token in tokenizer_config.json: its text, or an object with its text as `content`. */
export function tokenText(token: unknown): string | undefined {
  if (typeof token === "string") return token;
  if (typeof token === "object" && token !== null && "content" in token) return String(token.content);
  return undefined;
}
