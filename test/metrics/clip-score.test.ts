import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { ConfigError } from "../../src/errors.ts";
import type { Picture } from "../../src/media/picture.ts";
import { ClipJudge, clipScore } from "../../src/metrics/clip-score.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { floatTensor } from "../../src/tensor.ts";
import { drawWeights } from "../support/drawn.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";

// What transformers gives with the same weights: make.py in the fixture's folder.
const source = fixture("clip-score").path;
const expected = JSON.parse(await readFile(join(source, "expected.json"), "utf8")) as {
  sizes: [number, number][];
  captions: string[];
  cosines: number[];
  first: number[];
};
const pictures = expected.sizes.map(
  ([width, height], k): Picture => ({
    width,
    height,
    data: Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * i * (7 + k) + i * 31) % 256),
  }),
);

let judge: ClipJudge;
beforeAll(async () => {
  const path = await temporaryFolder();
  await cp(source, path, { recursive: true });
  for (const file of ["vocab.json", "merges.txt"])
    await cp(join(fixture("clip-tokenizer").path, file), join(path, file));
  const raw = JSON.parse(await readFile(join(path, "config.json"), "utf8"));
  await writeSafetensors(join(path, "model.safetensors"), drawWeights(raw));
  judge = await ClipJudge.open(new NodeFolder(path), nodeRuntime, { threads: 1 });
});

describe("a CLIP of the user's", () => {
  it("prepares pictures as transformers does: shorter side, middle, mean and deviation", () => {
    const values = judge.pixelValues(pictures[0]!);
    expect(values).toHaveLength(expected.first.length);
    for (const [i, value] of expected.first.entries()) expect(values[i]).toBeCloseTo(value, 5);
  });

  it("sees pictures of every size and captions of every length as transformers does", async () => {
    const [seen, read] = [await judge.embedPictures(pictures), await judge.embedCaptions(expected.captions)];
    const cosine = (row: number) => {
      const width = seen.shape[1]!;
      return seen.data
        .subarray(row * width, (row + 1) * width)
        .reduce((sum, value, i) => sum + value * read.data[row * width + i]!, 0);
    };
    for (const [i, value] of expected.cosines.entries()) expect(cosine(i)).toBeCloseTo(value, 5);
    const mean = expected.cosines.reduce((a, b) => a + b) / expected.cosines.length;
    expect(clipScore(seen, read)).toBeCloseTo(Math.max(0, 100 * mean), 3);
    await judge.release();
  });

  it("stops when it is aborted", async () => {
    const reason = new Error("enough");
    await expect(judge.embedPictures(pictures, AbortSignal.abort(reason))).rejects.toBe(reason);
    await expect(judge.embedCaptions(["a cat"], AbortSignal.abort(reason))).rejects.toBe(reason);
  });

  it("is no other model", async () => {
    await expect(ClipJudge.open(fixture("t5"), nodeRuntime)).rejects.toThrow(ConfigError);
    const path = await temporaryFolder();
    await writeFile(join(path, "config.json"), JSON.stringify({ architectures: ["CLIPTextModel"] }));
    await expect(ClipJudge.open(new NodeFolder(path), nodeRuntime)).rejects.toThrow("a CLIP score needs a CLIPModel");
  });
});

it("the score is 100 times the mean cosine, and never below zero", () => {
  const a = floatTensor([2, 2], Float32Array.of(1, 0, 0.6, 0.8));
  expect(clipScore(a, floatTensor([2, 2], Float32Array.of(0.6, 0.8, 1, 0)))).toBeCloseTo(60, 5);
  expect(clipScore(a, floatTensor([2, 2], Float32Array.of(-1, 0, -0.6, -0.8)))).toBe(0);
});
