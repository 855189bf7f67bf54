import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { buildModel, type Features } from "../../src/models/architecture.ts";
import { unet2DCondition } from "../../src/models/unet-2d-condition.ts";
import { unetMotion } from "../../src/models/unet-motion.ts";
import { parameterWeights } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";
import { Parameters } from "../../src/training/parameters.ts";
import { frameCount, framesInTime, matchAnimations, movement } from "../../training/animations.ts";
import type { EmojiData, EmojiEntry } from "../../training/data.ts";
import { startMotion, startUNet } from "../../training/initial-values.ts";
import { asPictures, loadMotionData } from "../../training/motion-data.ts";
import { textDifference } from "../../training/text-difference.ts";
import {
  countParameters,
  isMotion,
  motionParameterSource,
  motionUNetConfig,
  parameterShapes,
  positionTables,
  unetConfig,
  unetShapes,
  videoShape,
} from "../../training/unet-model.ts";

describe("framesInTime", () => {
  it("takes every n-th of equally long frames, from the first", () => {
    expect(framesInTime(new Array<number>(64).fill(42))).toEqual(Array.from({ length: 16 }, (_, i) => 4 * i));
    expect(framesInTime(new Array<number>(72).fill(42)).slice(0, 5)).toEqual([0, 4, 9, 13, 18]);
  });

  it("repeats frames of short animations, each equally often", () => {
    expect(framesInTime([10, 10, 10, 10], 8)).toEqual([0, 0, 1, 1, 2, 2, 3, 3]);
  });

  it("goes by time, not by number", () => {
    expect(framesInTime([300, 50, 50], 8)).toEqual([0, 0, 0, 0, 0, 0, 1, 2]);
    expect(framesInTime([0, 100], 2)).toEqual([1, 1]);
  });

  it("refuses what takes no time", () => {
    expect(() => framesInTime([])).toThrow(ArgumentError);
    expect(() => framesInTime([0, 0])).toThrow(ArgumentError);
  });
});

describe("matchAnimations", () => {
  it("matches code points however they are spelled, and keeps the stills' order and numbers", () => {
    const entries = [{ hexcode: "2764" }, { hexcode: "1F600" }, { hexcode: "1F408-200D-2B1B" }, { hexcode: "1F34E" }];
    const files = ["part/1f408-200d-2b1b.webp", "part/1f600.webp", "other/2764-fe0f.webp", "other/1f3ff.webp"];
    const { matched, unmatched } = matchAnimations(entries, files);
    expect(matched.map(({ still, file }) => [still, file])).toEqual([
      [0, files[2]],
      [1, files[1]],
      [2, files[0]],
    ]);
    expect(unmatched).toEqual([entries[3]]);
  });
});

describe("movement", () => {
  it("is nothing for equal frames, and the mean distance from the mean for others", () => {
    expect(movement(Uint8Array.of(5, 9, 5, 9), 2)).toBe(0);
    expect(movement(Uint8Array.of(0, 10, 20, 10), 2)).toBe(5);
  });
});

describe("the animations", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "halfstep-motion-"));
  });
  afterAll(() => rm(folder, { recursive: true }));
  const stills = [{ hexcode: "1F600" }, { hexcode: "1F34E" }] as EmojiEntry[];
  const write = (bytes: number, hexcode: string) =>
    Promise.all([
      writeFile(join(folder, "motion.u8"), new Uint8Array(bytes)),
      writeFile(join(folder, "motion.json"), JSON.stringify([{ hexcode, label: "red apple", still: 1, movement: 3 }])),
    ]);

  it("are read with their entries, and as pictures have their emoji's captions", async () => {
    await write(frameCount * 64 * 64 * 3, "1F34E");
    const data = await loadMotionData(folder, { entries: stills });
    expect(data.count).toBe(1);
    const pictures = asPictures(data, { count: 2, entries: stills } as EmojiData);
    expect(pictures.count).toBe(frameCount);
    expect(pictures.entries).toEqual(new Array(frameCount).fill(stills[1]));
  });

  it("that were cut short or belong to other stills are refused", async () => {
    await write(100, "1F34E");
    await expect(loadMotionData(folder, { entries: stills })).rejects.toThrow(/100 bytes.*prepare-motion/s);
    await write(frameCount * 64 * 64 * 3, "1F34F");
    await expect(loadMotionData(folder, { entries: stills })).rejects.toThrow(/red apple/);
  });
});

describe("the video model", () => {
  it("fits into 12 MB in half precision, with the autoencoder and the text encoder", () => {
    const elements = countParameters(unetShapes(motionUNetConfig(videoShape)));
    // Autoencoder, text encoder, tokenizer and configurations of the image model: 3.5 MB; headers: 50 KB.
    expect(2 * elements + 3.55e6).toBeLessThan(12e6);
  });

  it("is the UNet and the motion modules, and nothing else", () => {
    const merged = unetShapes(motionUNetConfig(videoShape));
    const spatial = unetShapes(unetConfig(videoShape));
    const motion = parameterShapes(motionUNetConfig(videoShape), isMotion);
    const tables = positionTables(motionUNetConfig(videoShape));
    expect([...spatial.keys(), ...motion.keys(), ...tables.keys()].sort()).toEqual([...merged.keys()].sort());
    expect([...tables.values()].every(({ shape }) => shape[1] === frameCount)).toBe(true);
  });

  it("begins as the image model on every frame", async () => {
    const shape = { ...videoShape, channels: [16, 32] };
    const [batch, frames, size, tokens] = [2, 3, 4, 5];
    const spatial = new Parameters(unetShapes(unetConfig(shape)));
    startUNet(spatial, 1);
    const motion = new Parameters(parameterShapes(motionUNetConfig(shape), isMotion));
    startMotion(motion, 2);
    const run = async (outputs: Features, feeds: Record<string, FloatTensor>) => {
      const session = await nodeRuntime.compile(toOnnx({ predicted: outputs["sample"]! }), new Map(), { threads: 1 });
      const used = Object.entries({ ...spatial.tensors(), ...motion.tensors(), ...feeds });
      const given = Object.fromEntries(used.filter(([name]) => session.inputNames.includes(name)));
      const { predicted } = await session.run(given);
      await session.release();
      return predicted as FloatTensor;
    };
    const geometry = { height: size, width: size, tokens };
    const video = unetMotion.model(unetMotion.parseConfig(motionUNetConfig(shape)), { ...geometry, batch, frames });
    const picture = unet2DCondition.model(unet2DCondition.parseConfig(unetConfig(shape)), { ...geometry, batch });
    const sample = new TorchGenerator(1).randn([batch, 16, frames, size, size]);
    const feeds = {
      timestep: floatTensor([batch], Float32Array.of(700, 300)),
      encoderHiddenStates: new TorchGenerator(2).randn([batch, tokens, 128]),
    };
    const whole = await run(buildModel(video, motionParameterSource().source), { ...feeds, sample });
    const area = size * size;
    for (let frame = 0; frame < frames; frame++) {
      const one = ({ data }: FloatTensor) =>
        floatTensor(
          [batch, 16, size, size],
          Float32Array.from({ length: batch * 16 * area }, (_, i) => {
            const row = Math.floor(i / area);
            return data[(row * frames + frame) * area + (i % area)]!;
          }),
        );
      const alone = await run(buildModel(picture, parameterWeights().source), { ...feeds, sample: one(sample) });
      const difference = one(whole).data.map((value, i) => Math.abs(value - alone.data[i]!));
      expect(Math.max(...difference)).toBeLessThan(1e-5);
    }
  });

  it("starts without any influence of the text, but not for good: cross-attention's last layer gets a gradient", () => {
    const parameters = new Parameters(unetShapes(unetConfig(videoShape)));
    startUNet(parameters, 1);
    const tensors = Object.entries(parameters.tensors());
    const size = (name: RegExp) => Math.max(...tensors.find(([key]) => name.test(key))![1].data.map(Math.abs));
    expect(size(/attn2\.to_out\.0\.weight/)).toBe(0);
    // A zero on the way back as well would keep it at zero.
    expect(size(/attentions\.0\.proj_out\.weight/)).toBeGreaterThan(0.01);
    expect(size(/attn2\.to_v\.weight/)).toBeGreaterThan(0.01);
  });
});

describe("textDifference", () => {
  it("is 0 where the prompt changes nothing and 1 where predictions have nothing in common", () => {
    const row = Float32Array.of(1, -2, 3);
    expect(textDifference([row, row, row])).toBe(0);
    expect(textDifference([row, row.map((value) => -value)])).toBe(1);
    expect(textDifference([Float32Array.of(1, 0), Float32Array.of(0, 1)])).toBeCloseTo(Math.SQRT1_2);
  });
});
