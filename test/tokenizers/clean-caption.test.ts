import { decode } from "fast-png";
import { describe, expect, it } from "vitest";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { cleanCaption } from "../../src/tokenizers/captions/clean-caption.ts";
import { fixture } from "../support/golden.ts";

// diffusers' PixArtSigmaPipeline._text_preprocessing: test/fixtures/captions.py.
const reference = Object.entries((await fixture("").json("captions.json")) as Record<string, string>);

describe("prompts are cleaned", () => {
  it(`as diffusers does it, ${reference.length} of them`, () => {
    const wrong = reference
      .map(([prompt, expected]) => ({ prompt, expected, cleaned: cleanCaption(prompt) }))
      .filter(({ expected, cleaned }) => cleaned !== expected);
    expect(wrong).toEqual([]);
  });

  it("has nothing left to clean of the captions that the embedded model was trained on", async () => {
    const file = new URL("../../checkpoints/emoji-align/reference/captions.json", import.meta.url);
    const captions = JSON.parse(await (await import("node:fs/promises")).readFile(file, "utf8")) as unknown;
    const names = [...JSON.stringify(captions).matchAll(/"([^"\\]+)"/g)].map(([, name]) => name!);
    expect(names.length).toBeGreaterThan(1000);
    expect(names.filter((name) => cleanCaption(name) !== name.toLowerCase().trim())).toEqual([]);
  });

  it.each([
    ["one address after another", "a.co.".repeat(200_000)],
    ["spaces", " ".repeat(1_000_000)],
    ["tags that never end", "<a b='".repeat(170_000)],
    ["references that never end", "&a".repeat(500_000)],
    ["letters and numbers", "a1".repeat(500_000)],
    ["signs", "%C3".repeat(330_000)],
  ])("a megabyte of %s takes no longer than a moment", (_, prompt) => {
    const start = performance.now();
    cleanCaption(prompt);
    // 0.1 to 0.7 s alone on one core; a pattern that ran over all of it would take hours.
    expect(performance.now() - start).toBeLessThan(30_000);
  });

  it("and give diffusers' picture", async () => {
    const pipe = await TextToImagePipeline.fromPretrained("fluent-emoji");
    const options = { seed: 7, guidanceScale: 3, accelerate: "none" } as const;
    const { images } = await pipe("a red apple (green leaf)", options);
    const right = decode(await (await fixture("cases").source("pixart-clean-caption.png")).read(0, 5099));
    const off = right.data.map((value, i) => Math.abs(value - images[0]!.data[i]!));
    expect(Math.max(...off)).toBeLessThanOrEqual(1);
    await pipe.release();
  });

  it("what is beyond 8192 characters is left as it is", () => {
    const cleaned = cleanCaption(`${"cat ".repeat(2048)}(DOG)`);
    expect(cleaned.endsWith("(dog)")).toBe(true);
    expect(cleaned.length).toBeGreaterThan(8190);
  });
});
