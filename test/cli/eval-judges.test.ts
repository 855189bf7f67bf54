import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { describeOwnScores, OwnJudges } from "../../src/cli/eval-judges.ts";
import { ArgumentError } from "../../src/errors.ts";
import { encodePng, type Picture } from "../../src/media/picture.ts";
import { ClipJudge, clipScore } from "../../src/metrics/clip-score.ts";
import { evaluate } from "../../src/metrics/evaluate.ts";
import { frechetDistanceOf } from "../../src/metrics/frechet.ts";
import { Inception } from "../../src/metrics/inception.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { fidInception } from "../../src/models/fid-inception.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { drawn, drawWeights } from "../support/drawn.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { openJudge, writeTinyJudge } from "../support/tiny-judge.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

const signal = new AbortController().signal;
const session = { threads: 1 };
let folder: string;
let clip: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  clip = join(folder, "clip");
  await cp(fixture("clip-score").path, clip, { recursive: true });
  for (const file of ["vocab.json", "merges.txt"])
    await cp(join(fixture("clip-tokenizer").path, file), join(clip, file));
  const raw = JSON.parse(await readFile(join(clip, "config.json"), "utf8"));
  await writeSafetensors(join(clip, "model.safetensors"), drawWeights(raw));
});

const picture = (seed: number): Picture => ({
  width: 20,
  height: 13,
  data: Uint8Array.from({ length: 3 * 20 * 13 }, (_, i) => (i * i * seed + i * 31) % 256),
});

describe("networks that the user brings", () => {
  it("see every picture that eval makes, with its caption", async () => {
    const pipeline = await writeTinyPipeline(await temporaryFolder(), "pixart");
    const pipe = await TextToImagePipeline.fromFolder(pipeline, nodeRuntime, session);
    const judge = await openJudge(await writeTinyJudge(await temporaryFolder()));
    const own = await OwnJudges.open({ clip }, session, signal);
    const seen: { pictures: Picture[]; captions: string[] } = { pictures: [], captions: [] };
    await evaluate(pipe, judge, {
      samples: 5,
      steps: 1,
      batch: 2,
      onPictures: async (pictures, captions) => {
        seen.pictures.push(...pictures);
        seen.captions.push(...captions);
        await own.see(pictures, captions);
      },
    });
    expect([seen.pictures.length, seen.captions.length]).toEqual([5, 5]);
    const whole = await ClipJudge.open(new NodeFolder(clip), nodeRuntime, session);
    const expected = clipScore(await whole.embedPictures(seen.pictures), await whole.embedCaptions(seen.captions));
    expect(own.scores()).toEqual({ clipScore: expect.closeTo(expected, 3) });
    await Promise.all([own.release(), whole.release(), pipe.release()]);
  });

  it("hold them against real pictures", async () => {
    const inception = join(folder, "inception");
    const real = join(folder, "real");
    await Promise.all([mkdir(inception), mkdir(real)]);
    await writeSafetensors(
      join(inception, "model.safetensors"),
      drawn(weightShapes(fidInception.model({}, { batch: 1 }))),
    );
    for (const i of [2, 3, 5]) await writeFile(join(real, `${i}.png`), encodePng(picture(i)));
    await writeFile(join(real, "notes.txt"), "no picture");
    const own = await OwnJudges.open({ inception, real }, session, signal);
    await own.see([picture(7), picture(9)], ["a", "b"]);
    await own.see([picture(11)], ["c"]);
    const network = await Inception.open(new NodeFolder(inception), nodeRuntime, session);
    const [made, originals] = [
      await network.features([7, 9, 11].map(picture)),
      await network.features([2, 3, 5].map(picture)),
    ];
    const fid = frechetDistanceOf(made, originals);
    expect(own.scores()).toEqual({ fid: expect.closeTo(fid, 3), realPictures: 3 });
    await Promise.all([own.release(), network.release()]);
  });

  it.each<[object, string]>([
    [{ inception: "x" }, "--inception and --real go together"],
    [{ real: "x" }, "--inception and --real go together"],
    [{ inception: "x", real: "none" }, "--real none: cannot be read"],
    [{ inception: "x", real: "test/fixtures/t5" }, "has 0 pictures; a Fréchet distance needs at least two"],
  ])("are refused as %o", async (options, message) => {
    const opened = OwnJudges.open(options, session, signal);
    await expect(opened).rejects.toThrow(ArgumentError);
    await expect(opened).rejects.toThrow(message);
  });

  it("say what their figures are", () => {
    expect(describeOwnScores({}, 5)).toEqual([]);
    const [score, fid] = describeOwnScores({ clipScore: 27.316, fid: 12.3, realPictures: 900 }, 512);
    expect(score).toBe("CLIP score: 27.32 (100 times the mean cosine of picture and caption)");
    expect(fid).toMatch(/^FID: 12.30 \(512 pictures against 900 real ones; .* larger\)$/);
  });
});
