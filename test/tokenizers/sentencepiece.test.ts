import { readFile } from "node:fs/promises";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryFolder, memorySource } from "../../src/checkpoints/files.ts";
import { PromptTokenizer } from "../../src/components/prompts.ts";
import { CheckpointError } from "../../src/errors.ts";
import { sentencePieceTokenizer } from "../../src/tokenizers/sentencepiece.ts";

const folder = "test/fixtures/sentencepiece";
const spiece = new Uint8Array(await readFile(`${folder}/spiece.model`));
const plain = new Uint8Array(await readFile(`${folder}/plain.model`));
// Made by sentencepiece itself, with make.py in the same folder
const expected = JSON.parse(await readFile(`${folder}/expected.json`, "utf8")) as Record<
  string,
  { text: string; ids: number[] }[]
>;

const open = (bytes: Uint8Array, config?: Record<string, unknown>) =>
  sentencePieceTokenizer(memorySource("tokenizer/spiece.model", bytes), config);

describe("a tokenizer from spiece.model", () => {
  it.each([
    ["spiece", spiece],
    ["plain", plain],
  ] as const)("gives the ids that sentencepiece gives, for %s.model", async (name, bytes) => {
    const tokenizer = await open(bytes);
    const cases = expected[name]!;
    expect(cases.length).toBeGreaterThan(100);
    const found = cases.map(({ text }) => ({ text, ids: tokenizer.encode(text).ids }));
    expect(found).toEqual(cases);
  });

  it("has T5's extra ids after the pieces, the last one first, and special tokens in the middle of a text", async () => {
    const tokenizer = await open(spiece);
    expect(tokenizer.token_to_id("<extra_id_99>")).toBe(300);
    expect(tokenizer.token_to_id("<extra_id_0>")).toBe(399);
    const [cat, fox] = ["a cat", "fox"].map((text) => tokenizer.encode(text).ids.slice(0, -1));
    // each part is a text of its own, without spaces at its ends: transformers' T5Tokenizer in legacy behaviour
    expect(tokenizer.encode("a cat <extra_id_7> fox").ids).toEqual([...cat!, 392, ...fox!, 1]);
    expect(tokenizer.encode("a cat </s>fox").ids).toEqual([...cat!, 1, ...fox!, 1]);
    expect((await open(spiece, { extra_ids: 0 })).token_to_id("<extra_id_0>")).toBeUndefined();
  });

  it("decodes what it encodes", async () => {
    const tokenizer = await open(spiece);
    const text = "Three astronomers, 35mm, don't stop!";
    expect(tokenizer.decode(tokenizer.encode(text).ids, { skip_special_tokens: true })).toBe(text);
  });
});

describe("PromptTokenizer", () => {
  const config = JSON.stringify({ eos_token: "</s>", pad_token: { content: "<pad>" }, model_max_length: 120 });
  const files = new Map<string, Uint8Array | string>([
    ["tokenizer/spiece.model", spiece],
    ["tokenizer/tokenizer_config.json", config],
  ]);
  const tokenizer = (more: Iterable<[string, Uint8Array | string]> = []) =>
    PromptTokenizer.open(new MemoryFolder("pixart", new Map([...files, ...more])).sub("tokenizer"));

  it("opens a folder as PixArt's are published", async () => {
    const prompts = await tokenizer();
    expect(prompts.maxLength).toBe(120);
    const ids = expected["spiece"]!.find(({ text }) => text === "a smiling cat with heart eyes")!.ids;
    const { ids: padded, mask, truncated, unknown } = prompts.encode(" a smiling cat with heart eyes ", 40);
    expect(padded).toEqual([...ids, ...new Array<number>(40 - ids.length).fill(0)]);
    expect(mask).toEqual(padded.map((_, i) => (i < ids.length ? 1 : 0)));
    expect([truncated, unknown]).toEqual(["", []]);
    expect(prompts.encode("a 大 cat", 40).unknown).toEqual(["大"]);
    expect(prompts.encode("a smiling cat with heart eyes", ids.length - 2).truncated).toBe(
      (await open(spiece)).decode(ids.slice(-3, -1)),
    );
  });

  it("prefers tokenizer.json, and says so if there is neither", async () => {
    const json = {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
      model: { type: "WordPiece", unk_token: "<unk>", vocab: { "<pad>": 0, "<unk>": 1, cat: 2 } },
    };
    const prompts = await tokenizer([["tokenizer/tokenizer.json", JSON.stringify(json)]]);
    expect(prompts.encode("cat", 2).ids).toEqual([2, 0]);
    const empty = new MemoryFolder("pixart/tokenizer", new Map());
    await expect(PromptTokenizer.open(empty)).rejects.toThrow(
      /pixart\/tokenizer: has neither tokenizer.json nor spiece/,
    );
  });
});

it.each([
  ["tokenizer/tokenizer.json", "{}"],
  ["tokenizer/tokenizer.json", "[]"],
  ["tokenizer/tokenizer_config.json", "[]"],
  ["tokenizer/tokenizer_config.json", '{"additional_special_tokens": 5}'],
])("%s with %s is a CheckpointError", async (path, text) => {
  const folder = new MemoryFolder(
    "pixart",
    new Map<string, Uint8Array | string>([
      ["tokenizer/spiece.model", spiece],
      [path, text],
    ]),
  );
  await expect(PromptTokenizer.open(folder.sub("tokenizer"))).rejects.toThrow(CheckpointError);
});

describe("a file that is not as it should be", () => {
  const texts = ["a cat", "  \ufb01ne cre\u0300me \u2460", "[fox] \u5927\u732b"];

  /** Opens and uses it. Anything but a CheckpointError that names the file is a failure. */
  async function survives(bytes: Uint8Array): Promise<void> {
    try {
      const tokenizer = await open(bytes);
      for (const text of texts) tokenizer.encode(text);
    } catch (error) {
      expect(error).toBeInstanceOf(CheckpointError);
      expect((error as Error).message).toMatch(/^tokenizer\/spiece\.model: /);
    }
  }

  it.each([
    ["spiece", spiece, 60],
    ["plain", plain, 300],
  ] as const)("is a CheckpointError at worst, wherever %s.model is changed or cut", async (_, bytes, numRuns) => {
    // half of the changes where there is more than the table of characters: near the start and the end
    const edge = Math.min(bytes.length, 6000);
    const position = fc.oneof(
      fc.nat(bytes.length - 1),
      fc.nat(edge - 1),
      fc.nat(edge - 1).map((fromEnd) => bytes.length - 1 - fromEnd),
    );
    const changes = fc.array(fc.tuple(position, fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 8 });
    const property = fc.asyncProperty(changes, fc.option(position), async (changed, cut) => {
      const mutated = bytes.slice(0, cut ?? bytes.length);
      for (const [at, byte] of changed) if (at < mutated.length) mutated[at] = byte;
      await survives(mutated);
    });
    await fc.assert(property, { numRuns });
  });

  it("is a CheckpointError at worst if it is no model at all", () =>
    fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), survives)));

  const field = (number: number, bytes: Uint8Array) => new BinaryWriter().tag(number, 2).bytes(bytes).finish();
  const piece = (text: string, type = 1, score = -1) =>
    field(1, new BinaryWriter().tag(1, 2).string(text).tag(2, 5).float(score).tag(3, 0).int32(type).finish());
  const special = [piece("<pad>", 3), piece("</s>", 3), piece("<unk>", 2)];
  const model = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat([...special, ...parts]));
  const normalizer = (charsmap: readonly number[]) =>
    field(3, new BinaryWriter().tag(2, 2).bytes(Uint8Array.from(charsmap)).finish());
  /** A trie that leads from "a" to the string at `value`. */
  const trieOfA = (value: number) => {
    const units = new Uint32Array(128);
    units[0] = 1 << 10;
    units[0x60] = 0x61 | 0x100 | (1 << 10);
    units[0x61] = value;
    return [...new Uint8Array(Uint32Array.of(512).buffer), ...new Uint8Array(units.buffer)];
  };

  it.each<[string, Uint8Array, RegExp]>([
    ["is empty", new Uint8Array(0), /has 0 pieces for unknown characters/],
    ["is JSON", new TextEncoder().encode('{"version": "1.0"}'), /not a SentencePiece model/],
    ["is cut off", spiece.slice(0, 1000), /not a SentencePiece model: premature EOF/],
    ["has a piece twice", model(piece("a"), piece("a")), /piece 4 \("a"\) is there twice/],
    ["has an empty piece", model(piece("")), /piece 3 \(""\) is empty/],
    ["has a score that is no number", model(piece("a", 1, Number.NaN)), /piece 3 \("a"\) has the score NaN/],
    ["has bytes as pieces", model(piece("<0x41>", 6)), /is a byte; models with such pieces are not supported/],
    ["is a BPE model", model(field(2, Uint8Array.of(3 << 3, 2))), /is a BPE model; .* only unigram/],
    ["ends words with spaces", model(field(2, Uint8Array.of(0xc0, 1, 1))), /treat_whitespace_as_suffix/],
    ["has no end token", piece("<unk>", 2), /has no piece "<\/s>"/],
    ["has a table that is too short", model(normalizer([255, 0, 0, 0, 1])), /cannot hold a trie of 255 bytes/],
    ["has a trie that leaves the table", model(normalizer([4, 0, 0, 0, 0, 252, 255, 255])), /points to unit/],
    ["has a trie to no string", model(normalizer([...trieOfA(9), 98, 0])), /no string of at most 256 bytes is at 9/],
    ["makes one character very long", model(normalizer([...trieOfA(0), ...new Array(300).fill(98), 0])), /at most 256/],
    ["has a string that is not UTF-8", model(normalizer([...trieOfA(0), 255, 0])), /string at 0 is not UTF-8/],
  ])("%s: the error says it", async (_, bytes, message) => {
    const use = async () => (await open(bytes)).encode("a");
    await expect(use()).rejects.toThrow(CheckpointError);
    await expect(use()).rejects.toThrow(message);
  });

  it("is not read at all if it is far too large", async () => {
    const read = () => Promise.reject(new Error("was read"));
    const source = { name: "tokenizer/spiece.model", size: 2 ** 33, read };
    await expect(sentencePieceTokenizer(source)).rejects.toThrow(/has 8589934592 bytes/);
  });

  it("has a normalizer's table that is followed", async () => {
    const bytes = model(piece("\u2581"), piece("b"), normalizer([...trieOfA(0), 98, 0]));
    expect((await open(bytes)).encode("ab").tokens).toEqual(["\u2581", "b", "b", "</s>"]);
  });

  it.each([-1, 1.5, 1e9, "100"])("extra_ids %s are refused", async (extra_ids) => {
    await expect(open(spiece, { extra_ids })).rejects.toThrow(/extra_ids .* expected 0 to 10000/);
  });
});
