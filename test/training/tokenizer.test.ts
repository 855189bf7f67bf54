import { Tokenizer } from "@huggingface/tokenizers";
import { describe, expect, it } from "vitest";
import { buildTokenizer, measureTokenizer } from "../../training/tokenizer.ts";

const captionSets = [
  ["smiling cat with heart-eyes", "a smiling cat with heart eyes"],
  ["piñata", "a woman’s piñata"],
  ["cupcake", "two cupcakes"],
];
const files = buildTokenizer(captionSets, 24);
const tokenizer = new Tokenizer(files.tokenizer, files.config);
const tokensOf = (text: string) => tokenizer.encode(text).tokens;

describe("the embedded model's tokenizer", () => {
  it("has T5's ids for padding and the end", () => {
    expect(["<pad>", "</s>", "<unk>"].map((token) => tokenizer.token_to_id(token))).toEqual([0, 1, 2]);
    expect(tokenizer.encode("").ids).toEqual([1]);
  });

  it("keeps words whole, whatever their case, accents and punctuation", () => {
    expect(tokensOf("A smiling CAT with heart-eyes")).toEqual([
      "a",
      "smiling",
      "cat",
      "with",
      "heart",
      "-",
      "eyes",
      "</s>",
    ]);
    expect(tokensOf("Pinata")).toEqual(tokensOf("piñata"));
    expect(tokensOf("woman’s")).toEqual(tokensOf("woman's"));
  });

  it("splits a rare form of a known word at its suffix, and so a form that it never saw", () => {
    expect(tokensOf("cupcakes")).toEqual(["cupcake", "##s", "</s>"]);
    expect(tokensOf("cats")).toEqual(["cat", "##s", "</s>"]);
  });

  it("spells unknown words and calls only unknown characters unknown", () => {
    expect(tokensOf("zqx")).toEqual(["z", "##q", "##x", "</s>"]);
    expect(tokensOf("cat 猫")).toEqual(["cat", "<unk>", "</s>"]);
  });

  it("measures what it covers", () => {
    const figures = measureTokenizer(files, captionSets.flat());
    expect(figures).toMatchObject({ captions: 6, unknown: 0, split: 1 });
    expect(figures.lengths.reduce((sum, count) => sum + count)).toBe(6);
    expect(figures.unused).toContain("<unk>");
    expect(figures.unused).not.toContain("cat");
  });
});
