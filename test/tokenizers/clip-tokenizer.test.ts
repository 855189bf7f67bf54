import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { type Folder, MemoryFolder } from "../../src/checkpoints/files.ts";
import { PromptTokenizer } from "../../src/components/prompts.ts";
import { CheckpointError } from "../../src/errors.ts";
import { clipTokenizer } from "../../src/tokenizers/clip-tokenizer.ts";
import { fixture } from "../support/golden.ts";

const folder = fixture("clip-tokenizer");
const read = (file: string) => readFile(`${folder.path}/${file}`, "utf8");
// What transformers' CLIPTokenizer gives; made with make.py in the same folder.
const expected = JSON.parse(await read("expected.json")) as { text: string; ids: number[] }[];
const [start, end] = [611, 612];

const copy = async (files: readonly string[], more: Iterable<[string, string]> = []): Promise<Folder> => {
  const contents = files.map(async (file): Promise<[string, string]> => [file, await read(file)]);
  return new MemoryFolder("tokenizer", new Map([...(await Promise.all(contents)), ...more]));
};
const merged = ["vocab.json", "merges.txt", "tokenizer_config.json"];

describe("CLIP's tokenizer", () => {
  it("gives transformers' ids from vocab.json and merges.txt", async () => {
    const tokenizer = await clipTokenizer(folder, {});
    expect(expected.length).toBeGreaterThan(20);
    expect(expected.map(({ text }) => ({ text, ids: tokenizer.encode(text).ids }))).toEqual(expected);
  });

  it.each([[merged], [["tokenizer.json", "tokenizer_config.json"]], [["vocab.json", "merges.txt"]]])(
    "pads to 77 tokens with the one that ends a text, with %j",
    async (files) => {
      const prompts = await PromptTokenizer.open(await copy(files));
      for (const { text, ids } of expected) {
        const { ids: found, mask, truncated } = prompts.encode(text, 77);
        expect(found, text).toEqual([...ids, ...new Array<number>(77 - ids.length).fill(end)]);
        expect(mask.indexOf(0)).toBe(ids.length);
        expect(truncated).toBe("");
      }
    },
  );

  it("pads with what the files say: Stable Diffusion 2 has another", async () => {
    const config = JSON.stringify({ ...JSON.parse(await read("tokenizer_config.json")), pad_token: "!" });
    const files = merged.slice(0, 2);
    const said = await PromptTokenizer.open(await copy(files, [["tokenizer_config.json", config]]));
    expect(said.encode("a cat", 8).ids).toEqual([start, 320, 521, end, 0, 0, 0, 0]);
    const map = JSON.stringify({ pad_token: { content: "!" } });
    const mapped = await PromptTokenizer.open(await copy(files, [["special_tokens_map.json", map]]));
    expect(mapped.encode("a cat", 6).ids).toEqual([start, 320, 521, end, 0, 0]);
  });

  it("cuts a prompt that is too long, keeps its start and its end, and says what it left out", async () => {
    const prompts = await PromptTokenizer.open(folder);
    expect(prompts.maxLength).toBe(77);
    const { ids, mask, truncated, unknown } = prompts.encode("a smiling cat with heart eyes", 5);
    expect(ids).toEqual([start, 320, 539, 521, end]);
    expect(mask).toEqual([1, 1, 1, 1, 1]);
    expect(truncated.trim()).toBe("with heart eyes");
    expect(unknown).toEqual([]);
    expect(prompts.encode("a cat zqvx", 8).unknown).toEqual(["zqvx"]);
  });

  it.each<[string, [string, string][], string]>([
    [
      "another vocabulary",
      [["vocab.json", '{"a": 0}']],
      'has no token "<|startoftext|>", so it is not CLIP\'s vocabulary',
    ],
    ["a damaged list", [["merges.txt", "#version: 0.2\na b c\n"]], '"a b c" is not two tokens'],
  ])("refuses %s", async (_, more, message) => {
    const error = await PromptTokenizer.open(await copy(merged, more)).catch((thrown: Error) => thrown);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toContain(message);
  });
});
