import { readFile } from "node:fs/promises";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryFolder, memorySource } from "../../src/checkpoints/files.ts";
import { PromptTokenizer } from "../../src/components/prompts.ts";
import { CheckpointError, HalfstepError } from "../../src/errors.ts";
import { regexCost } from "../../src/tokenizers/regex.ts";
import { readSentencePiece, sentencePieceTokenizer } from "../../src/tokenizers/sentencepiece.ts";
import { tokenizerFromJson } from "../../src/tokenizers/tokenizer-json.ts";

const folder = "test/fixtures/sentencepiece";
const spiece = new Uint8Array(await readFile(`${folder}/spiece.model`));
// What transformers' T5Tokenizer gives for the file below; made with make.py in the same folder
const expected = (
  JSON.parse(await readFile(`${folder}/expected.json`, "utf8")) as Record<string, { text: string; ids: number[] }[]>
)["tokenizer.json"]!;

/** T5's tokenizer.json as transformers writes it, of the pieces and the table in spiece.model. */
function t5Json(bytes: Uint8Array) {
  const { pieces, normalizer } = readSentencePiece(bytes, "spiece.model");
  const vocab = pieces.map(({ piece, score }): [string, number] => [piece, score]);
  for (let i = 99; i >= 0; i--) vocab.push([`<extra_id_${i}>`, 0]);
  const added = [0, 1, 2, ...Array.from({ length: 100 }, (_, i) => pieces.length + i)];
  return {
    version: "1.0",
    added_tokens: added.map((id) => ({ id, content: vocab[id]![0], normalized: false, special: true })),
    normalizer: { type: "Precompiled", precompiled_charsmap: Buffer.from(normalizer.charsmap).toString("base64") },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [{ type: "WhitespaceSplit" }, { type: "Metaspace", replacement: "\u2581", split: true }],
    },
    post_processor: {
      type: "TemplateProcessing",
      single: [{ Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: "</s>", type_id: 0 } }],
      pair: [],
      special_tokens: { "</s>": { id: "</s>", ids: [1], tokens: ["</s>"] } },
    },
    decoder: { type: "Metaspace", replacement: "\u2581", prepend_scheme: "always" },
    model: { type: "Unigram", unk_id: 2, vocab, byte_fallback: false },
  };
}

const json = t5Json(spiece);

describe("T5 from tokenizer.json", () => {
  const tokenizer = tokenizerFromJson(json, {}, "tokenizer.json");

  it("gives the ids of Hugging Face's tokenizers", () => {
    expect(expected.length).toBeGreaterThan(100);
    expect(expected.map(({ text }) => ({ text, ids: tokenizer.encode(text).ids }))).toEqual(expected);
  });

  it("normalizes as spiece.model does: what a text becomes is the same for both", async () => {
    const other = await sentencePieceTokenizer(memorySource("spiece.model", spiece));
    // tokenizers 0.23 drops the second mark, SentencePiece does not
    for (const text of ["e\u0301\u0323", "\ufb01\u0301"]) {
      expect(tokenizer.encode(text).ids).toEqual(other.encode(text).ids);
    }
    // one space between words: spaces are what the two formats leave to others
    const words = fc.array(fc.string({ unit: "grapheme", minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 4 });
    const texts = words.map((parts) => parts.join(" "));
    fc.assert(
      fc.property(texts, (text) => {
        const plain = other.normalizer!.normalize(text).replaceAll("\u2581", " ").trim();
        expect(tokenizer.normalizer!.normalize(text).replace(/ +/g, " ").trim()).toBe(plain);
      }),
      { numRuns: 300 },
    );
  });
});

const small = {
  added_tokens: [],
  normalizer: null,
  pre_tokenizer: { type: "BertPreTokenizer" },
  post_processor: null,
  decoder: null,
  model: { type: "WordPiece", unk_token: "<unk>", vocab: { "<pad>": 0, "<unk>": 1, cat: 2, "##s": 3 } },
};
const open = (tokenizer: object, config: object = {}) =>
  PromptTokenizer.open(
    new MemoryFolder(
      "model/tokenizer",
      new Map([
        ["tokenizer.json", JSON.stringify(tokenizer)],
        ["tokenizer_config.json", JSON.stringify(config)],
      ]),
    ),
  );
const replace = (regex: string, content = "") => ({ type: "Replace", pattern: { Regex: regex }, content });
const bpe = { type: "BPE", vocab: { a: 0, b: 1, ab: 2 }, merges: [["a", "b"]] };
const unigram = { type: "Unigram", unk_id: 0, vocab: [["<unk>", 0]] };

describe("a tokenizer.json that is not as it should be", () => {
  it.each<[string, object, RegExp]>([
    [
      "a negative id",
      { model: { ...small.model, vocab: { "<unk>": 1, cat: -2 } } },
      /"cat" has the id -2; ids are whole/,
    ],
    ["a fractional id", { model: { ...small.model, vocab: { "<unk>": 1, cat: 0.5 } } }, /has the id 0.5/],
    ["a huge id", { model: { ...small.model, vocab: { "<unk>": 1, cat: 2 ** 31 } } }, /from 0 to 1048576/],
    ["a text as an id", { model: { ...small.model, vocab: { "<unk>": "1" } } }, /has the id "1"/],
    ["an added token with a negative id", { added_tokens: [{ id: -1, content: "<a>" }] }, /"<a>" has the id -1/],
    ["an unknown token that is none", { model: { ...small.model, unk_token: "toString" } }, /unk_token "toString"/],
    [
      "words without a limit",
      { model: { ...small.model, max_input_chars_per_word: 1e9 } },
      /up to 200, not 1000000000/,
    ],
    ["a merge of three", { model: { ...bpe, merges: ["a b", "a b c"] } }, /merge 1 is "a b c", not two tokens/],
    ["no merges", { model: { ...bpe, merges: 5 } }, /"merges" must be a list/],
    [
      "a score that is null",
      { model: { ...unigram, vocab: [["a", null]] } },
      /piece 0 is \["a",null\], not a text with/,
    ],
    ["no unknown piece", { model: { ...unigram, unk_id: 7 } }, /"unk_id" must be one of its 1 pieces, not 7/],
    ["a long piece", { model: { ...unigram, vocab: [["a".repeat(129), 0]] } }, /has 129 characters; 128 is the limit/],
    ["a model of another type", { model: { type: "__proto__", vocab: {} } }, /model of type "__proto__"/],
    ["a normalizer of another type", { normalizer: { type: "constructor" } }, /normalizer of type "constructor"/],
    [
      "nothing to split",
      { pre_tokenizer: { type: "FixedLength", length: 0 } },
      /"FixedLength", which is not supported/,
    ],
    ["a long replacement", { normalizer: replace("a", "a".repeat(65)) }, /"content" must be a text of at most 64/],
    [
      "many parts",
      { normalizer: { type: "Sequence", normalizers: Array(65).fill({ type: "NFC" }) } },
      /list of at most 64/,
    ],
    ["a table that is not base64", { normalizer: { type: "Precompiled", precompiled_charsmap: "%%" } }, /not base64/],
    [
      "a template that repeats the text",
      { post_processor: { type: "TemplateProcessing", single: Array(2).fill({ Sequence: { id: "A" } }) } },
      /has the text 2 times, expected once/,
    ],
    [
      "a decoder that doubles",
      { decoder: { type: "Replace", pattern: { String: "a" }, content: "aa" } },
      /nothing longer in its place/,
    ],
    ["a decoder that replaces nothing", { decoder: { type: "BPEDecoder", suffix: "" } }, /replaces the empty text/],
    [
      "a template with a token that is none",
      {
        post_processor: {
          type: "TemplateProcessing",
          single: [{ SpecialToken: { id: "</s>" } }, { Sequence: { id: "A" } }],
        },
        model: bpe,
      },
      /gives a token that has no id/,
    ],
  ])("%s is refused", async (_, change, message) => {
    const opened = open({ ...small, ...change });
    await expect(opened).rejects.toThrow(CheckpointError);
    await expect(opened).rejects.toThrow(message);
  });

  it.each([-1, 0, 77.5, "77", true])("model_max_length %j is refused", async (model_max_length) => {
    await expect(open(small, { model_max_length })).rejects.toThrow(/model_max_length must be a whole number from 1/);
  });

  it.each([
    "(a+)+$",
    "(?:a|a)*b",
    "(a|aa)+$",
    "a*a*a*b",
    "\\s+$",
    "(?=.*b)a",
    "a?".repeat(30),
    "(?:a|b)".repeat(30),
    "a{1,1000}",
    "(a{64}){64}",
    "(a)\\1",
    "[[a-z]&&[b]]+",
    "(?<=a+)b",
    "a".repeat(501),
    "[a",
    "(a",
    "a)",
    "+",
  ])("the regular expression %s is not run", (regex) => {
    expect(() => regexCost(regex, "tokenizer.json")).toThrow(CheckpointError);
  });

  it.each([
    "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+",
    "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    " {2,}",
    "\\s+",
    "[\\r\\n]",
    "\\p{N}{1,3}",
  ])("the published one %s is", (regex) => {
    expect(regexCost(regex, "tokenizer.json")).toBeGreaterThan(0);
  });

  it("makes a text only so much longer", async () => {
    const doubling = { type: "Sequence", normalizers: Array(60).fill(replace("a", "aa")) };
    const tokenizer = await open({ ...small, normalizer: doubling, model: { ...bpe, unk_token: "a" } }).catch((e) => e);
    expect(tokenizer).toBeInstanceOf(HalfstepError);
    expect(tokenizer.message).toMatch(/makes a text of 524288 characters out of the prompt; 262144 is the limit/);
  });

  it("takes a replacement as it is written", () => {
    const tokenizer = tokenizerFromJson({ ...small, normalizer: replace("x", "$&$1") }, {}, "tokenizer.json");
    expect(tokenizer.normalizer!.normalize("axb")).toBe("a$&$1b");
  });
});

describe("a prompt of a million characters", () => {
  const long = 2 ** 20;
  const texts: [string, string][] = [
    ["words", "a smiling cat ".repeat(long / 14)],
    ["one word", "a".repeat(long)],
    ["different words", Array.from({ length: long / 8 }, (_, i) => `w${i}`).join(" ")],
    ["spaces", " ".repeat(long)],
    ["ideographs", "\u732b".repeat(long)],
    ["surrogates", "\ud83d\ude3a".repeat(long / 2)],
    ["what one character becomes 18 of", "\ufdfa".repeat(long)],
  ];

  it.each(texts)("of %s is cut to the tokens that are wanted", async (_, text) => {
    const clip = await PromptTokenizer.open(
      new MemoryFolder(
        "clip",
        new Map(
          await Promise.all(
            ["vocab.json", "merges.txt", "tokenizer_config.json"].map(
              async (file): Promise<[string, string]> => [
                file,
                await readFile(`test/fixtures/clip-tokenizer/${file}`, "utf8"),
              ],
            ),
          ),
        ),
      ),
    );
    const tokenizers = [
      clip,
      await open(json),
      await open({ ...json, model: small.model, normalizer: { type: "BertNormalizer" }, post_processor: null }),
    ];
    for (const tokenizer of tokenizers) {
      const { ids, truncated } = tokenizer.encode(text, 77);
      expect(ids.length).toBe(77);
      expect(ids.every((id) => Number.isInteger(id))).toBe(true);
      expect(truncated.length).toBeLessThan(10_000);
    }
  });

  it("has the tokens that the beginning has", async () => {
    const tokenizer = await open(json);
    const text = "a smiling cat with heart eyes. ";
    expect(tokenizer.encode(text.repeat(long / text.length), 300).ids).toEqual(
      tokenizer.encode(text.repeat(100), 300).ids,
    );
  });
});

// Reads the pieces by hand, as a check of what the tests above build on.
it("has as many pieces as the model file has fields of them", () => {
  const reader = new BinaryReader(spiece);
  let pieces = 0;
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (field === 1) pieces++;
    reader.skip(wire, field);
  }
  expect(json.model.vocab.length).toBe(pieces + 100);
});
