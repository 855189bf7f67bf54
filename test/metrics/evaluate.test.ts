/** `evaluate` on a tiny pipeline with a tiny judge, both random: what is compared with what, and that nothing is mixed up. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Matrix, pseudoInverse } from "ml-matrix";
import { beforeAll, describe, expect, it } from "vitest";
import { ArgumentError, CheckpointError, ConfigError } from "../../src/errors.ts";
import type { Picture } from "../../src/media/picture.ts";
import { captionsFor, evaluate, evaluateCeilings } from "../../src/metrics/evaluate.ts";
import type { Judge } from "../../src/metrics/judge.ts";
import { type TextToImage, TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";
import { temporaryFolder } from "../support/models.ts";
import { openJudge, tinyAlignWeights, tinyCaptions, writeTinyJudge } from "../support/tiny-judge.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

let pipe: TextToImage;
let judge: Judge;
beforeAll(async () => {
  pipe = await TextToImagePipeline.fromFolder(await writeTinyPipeline(await temporaryFolder(), "pixart"), nodeRuntime, {
    threads: 1,
  });
  judge = await openJudge(await writeTinyJudge(await temporaryFolder()));
});

const settings = { samples: 6, steps: 2, seed: 4 };

describe("evaluate", () => {
  it("gives a row for the model and the two that show the ceiling, and says how far it is", async () => {
    const progress: number[] = [];
    const onProgress = ({ done, total }: { done: number; total: number }) => {
      expect(total).toBe(6);
      progress.push(done);
    };
    const result = await evaluate(pipe, judge, { ...settings, batch: 4, onProgress });
    expect(progress).toEqual([0, 4, 6]);
    for (const scores of [result, result.real, result.roundTrip]) {
      expect(scores.samples).toBe(6);
      expect(scores.fdData).toBeGreaterThanOrEqual(0);
      expect(Math.abs(scores.alignment)).toBeLessThanOrEqual(1);
      expect(scores.retrievalTop5).toBeGreaterThanOrEqual(scores.retrievalTop1);
      expect(scores.retrievalTop5).toBe(1); // of three captions
    }
    expect(await evaluateCeilings(judge, 6)).toEqual({ real: result.real, roundTrip: result.roundTrip });
  });

  it("judges the pictures that `generate` makes with the same seeds, however many are made together", async () => {
    const images: Picture[] = [];
    for (const [i, caption] of captionsFor({ captions: tinyCaptions }, 6).entries()) {
      const { images: made } = await pipe(tinyCaptions[caption]!.text, { steps: 2, seed: 4 + i });
      images.push(made[0]!);
    }
    const seen: number[] = [];
    const watching = Object.create(judge) as Judge;
    watching.embedCaptions = (captions) => judge.embedCaptions(captions);
    watching.reference = () => judge.reference();
    watching.judgePictures = (pictures) => {
      for (const { data } of pictures) {
        const expected = images[seen.length]!.data;
        seen.push(Math.max(...data.map((value, i) => Math.abs(value - expected[i]!))));
      }
      return judge.judgePictures(pictures);
    };
    await evaluate(pipe, watching, { ...settings, batch: 4 });
    expect(seen).toHaveLength(6);
    // Values on the edge between two bytes may fall to either side.
    for (const difference of seen) expect(difference).toBeLessThanOrEqual(1);
  });

  it("works without guidance too", async () => {
    const result = await evaluate(pipe, judge, { ...settings, guidanceScale: 1 });
    expect(result.alignment).not.toBe((await evaluate(pipe, judge, settings)).alignment);
  });

  it("stops when it is told to", async () => {
    const abort = new AbortController();
    const stopped = evaluate(pipe, judge, {
      ...settings,
      batch: 1,
      signal: abort.signal,
      onProgress: ({ done }) => done === 2 && abort.abort(new ArgumentError("enough")),
    });
    await expect(stopped).rejects.toThrow("enough");
  });

  it("refuses one picture, and batches of none", async () => {
    await expect(evaluate(pipe, judge, { samples: 1 })).rejects.toThrow(ArgumentError);
    await expect(evaluate(pipe, judge, { batch: 0 })).rejects.toThrow(ArgumentError);
  });
});

it("captions are spread evenly, and gone through again where there are more pictures than captions", () => {
  const captions = new Array(10).fill(tinyCaptions[0]);
  expect(captionsFor({ captions }, 4)).toEqual([0, 2, 5, 7]);
  expect(captionsFor({ captions }, 12)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
});

/** Features that the picture tower's last stage turns into these directions. */
function featuresOf(directions: FloatTensor): FloatTensor {
  const { data: matrix, shape } = tinyAlignWeights().get("image.projection.weight")!;
  const [width, inner] = shape as [number, number];
  const projection = new Matrix(
    Array.from({ length: width }, (_, i) => Array.from(matrix.subarray(i * inner, (i + 1) * inner))),
  );
  const rows = Array.from({ length: directions.shape[0]! }, (_, i) =>
    Array.from(directions.data.subarray(i * width, (i + 1) * width)),
  );
  const features = new Matrix(rows).mmul(pseudoInverse(projection).transpose());
  return floatTensor([rows.length, inner], Float32Array.from(features.to1DArray()));
}

describe("the ceiling rows", () => {
  it("are perfect where pictures and captions are the same directions", async () => {
    const captions = [0, 1, 2].map((picture) => ({ text: tinyCaptions[picture]!.text, picture, belongsTo: [picture] }));
    const texts = await judge.embedCaptions(captions.map(({ text }) => text));
    const features = featuresOf(texts);
    // The round trip has the pictures in another order: what it gives is the right set, under wrong captions.
    const moved = floatTensor([3, 8], Float32Array.from([...features.data.slice(8), ...features.data.slice(0, 8)]));
    const folder = await writeTinyJudge(await temporaryFolder(), {
      captions,
      features: { real: features, round_trip: moved },
    });
    const { real, roundTrip } = await evaluateCeilings(await openJudge(folder), 3);
    expect(real).toMatchObject({ retrievalTop1: 1, alignment: expect.closeTo(1, 4), fdData: expect.closeTo(0, 4) });
    expect(roundTrip).toMatchObject({ retrievalTop1: 0, fdData: expect.closeTo(0, 4) });
  });

  it("count the caption of another picture that is right for this one too", async () => {
    // Caption 1 belongs to pictures 0 and 1, so captions 0 and 1 are both right for a picture of either.
    const texts = await judge.embedCaptions(tinyCaptions.map(({ text }) => text));
    const row = (i: number) => texts.data.slice(5 * i, 5 * (i + 1));
    const swapped = floatTensor([3, 5], Float32Array.from([...row(1), ...row(0), ...row(2)]));
    const folder = await writeTinyJudge(await temporaryFolder(), { features: { real: featuresOf(swapped) } });
    expect((await evaluateCeilings(await openJudge(folder), 3)).real.retrievalTop1).toBe(1);
  });
});

describe("a judge's folder", () => {
  it("gives the stored pictures the directions that the network gives them", async () => {
    const { images } = await pipe("a red cat", { steps: 1, seed: 1, count: 3 });
    const { features, embeds } = await judge.judgePictures(images);
    const folder = await writeTinyJudge(await temporaryFolder(), { features: { real: features } });
    const { real } = await (await openJudge(folder)).reference();
    expect(real.features).toEqual(features);
    real.embeds.data.forEach((value, i) => {
      expect(value).toBeCloseTo(embeds.data[i]!, 5);
    });
  });

  it("that is another pipeline is refused", async () => {
    await expect(openJudge(await writeTinyPipeline(await temporaryFolder(), "pixart"))).rejects.toThrow(ConfigError);
  });

  it.each([
    ["no captions", { captions: [] }],
    ["captions of pictures that are not there", { captions: [{ text: "a cat", picture: 3, belongsTo: [3] }] }],
    ["captions that do not belong to their own picture", { captions: [{ text: "a cat", picture: 0, belongsTo: [1] }] }],
    ["captions without text", { captions: [{ picture: 0, belongsTo: [0] }] }],
    ["features of another width", { features: { round_trip: floatTensor([3, 4]) } }],
    ["features of fewer pictures", { features: { round_trip: floatTensor([2, 8]) } }],
  ])("with %s is refused", async (_, changes) => {
    const broken = await openJudge(await writeTinyJudge(await temporaryFolder(), changes));
    await expect(broken.reference()).rejects.toThrow(CheckpointError);
  });

  it("without its reference is refused when that is asked for", async () => {
    const folder = await writeTinyJudge(await temporaryFolder());
    await writeFile(join(folder.path, "reference/captions.json"), "[]");
    await expect((await openJudge(folder)).reference()).rejects.toThrow(CheckpointError);
  });
});
