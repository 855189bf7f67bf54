/** What a user may rely on, on a tiny DiT with random weights; reference vectors are compared in test/verify. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ArgumentError, ConfigError } from "../../src/errors.ts";
import {
  type ClassToImage,
  type ClassToImageOptions,
  ClassToImagePipeline,
} from "../../src/pipelines/class-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare, entry } from "../../src/verify/compare.ts";
import { temporaryFolder } from "../support/models.ts";
import { tinyClasses, tinySize, writeTinyPipeline } from "../support/tiny-pipeline.ts";

let pipe: ClassToImage;
beforeAll(async () => {
  const folder = await writeTinyPipeline(await temporaryFolder(), "dit");
  pipe = await ClassToImagePipeline.fromFolder(folder, nodeRuntime, { threads: 1 });
});

const settings: ClassToImageOptions = { steps: 3, seed: 7 };

async function latentsOf(classes: readonly number[], options: ClassToImageOptions = {}): Promise<FloatTensor> {
  let last: FloatTensor | undefined;
  await pipe(classes, {
    ...settings,
    ...options,
    onStep: ({ latents }) => {
      last = latents;
    },
  });
  return last!;
}

const difference = (a: FloatTensor, b: FloatTensor) => compare("latents", a.data, b.data).relative;

describe("a class-to-image pipeline", () => {
  it("makes a picture for each class, the same each time", async () => {
    const { images, seeds } = await pipe([0, 2], settings);
    expect(images.map(({ width, height }) => [width, height])).toEqual([
      [tinySize, tinySize],
      [tinySize, tinySize],
    ]);
    expect(seeds).toEqual([7, 8]);
    expect(images[0]!.data).not.toEqual(images[1]!.data);
    expect((await pipe([0, 2], settings)).images).toEqual(images);
  });

  it("makes as picture i of several the one of seed + i alone", async () => {
    const together = await latentsOf([0, 2, 0]);
    for (const [i, label] of [0, 2, 0].entries()) {
      const alone = await latentsOf([label], { seed: 7 + i });
      expect(difference(entry(together, i), alone)).toBeLessThan(1e-4);
    }
  });

  it("depends on class and guidance", async () => {
    const cat = await latentsOf([0]);
    expect(difference(await latentsOf([1]), cat)).toBeGreaterThan(1e-2);
    expect(difference(await latentsOf([0], { guidanceScale: 1 }), cat)).toBeGreaterThan(1e-2);
  });

  it("knows its classes by name", () => {
    expect(pipe.classNumber("Tomcat")).toBe(0);
    expect(pipe.classNumber("tiger cat")).toBe(2);
    expect(pipe.classNumber("cat, tomcat")).toBe(0);
    expect(() => pipe.classNumber("dog")).toThrow(
      '2 classes have this name, the string "dog": 1 (dog), 3 (dog). Give a number.',
    );
    for (const name of ["unicorn", "", ",", "constructor", "__proto__"]) {
      expect(() => pipe.classNumber(name), name).toThrow(ArgumentError);
    }
    expect(() => pipe.classNumber("tigre cat")).toThrow('Did you mean "tiger cat"?');
  });

  it.each([
    ["cat", "must be an object"],
    [{ first: "cat" }, 'the string "first" is not a class\'s number'],
    [{ 123456789: "cat" }, "is not a class's number, of at most 8 digits"],
    [{ 0: 5 }, "the name of 0 is 5, not a text"],
  ])("refuses the names %j", async (id2label, message) => {
    const folder = await writeTinyPipeline(await temporaryFolder(), "dit");
    const file = join(folder.path, "model_index.json");
    await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, "utf8")), id2label }));
    const opened = ClassToImagePipeline.fromFolder(folder, nodeRuntime);
    await expect(opened).rejects.toThrow(ConfigError);
    await expect(opened).rejects.toThrow(message);
  });

  it.each([[[]], [[-1]], [[tinyClasses]], [[0.5]], [[Number.NaN]], [207], ["cat"], [undefined]])(
    "refuses the classes %j",
    async (classes) => {
      const failed = pipe(classes as number[], settings);
      await expect(failed).rejects.toThrow(ArgumentError);
      await expect(failed).rejects.toThrow(
        /^classes(\[0\])? must (be a whole number from 0 to 999|have 1 to|be a list)/,
      );
    },
  );

  it("makes each picture of the seed that it is given", async () => {
    const { images, seeds } = await pipe([0, 2], { ...settings, seed: undefined, seeds: [5, 3] });
    expect(seeds).toEqual([5, 3]);
    expect(images[0]).toEqual((await pipe([0], { ...settings, seed: 5 })).images[0]);
    expect(images[1]).toEqual((await pipe([2], { ...settings, seed: 3 })).images[0]);
    await expect(pipe([0, 2], { ...settings, seed: undefined, seeds: [1] })).rejects.toThrow(
      "There are 1 seeds for 2 classes",
    );
  });

  it.each<[ClassToImageOptions, string]>([
    [{ steps: 0 }, "steps"],
    [{ seed: -1 }, "seed"],
    [{ seed: 0.5 }, "seed"],
    [{ guidanceScale: Number.NaN }, "guidanceScale"],
  ])("refuses %o", async (wrong, message) => {
    const failed = pipe([0], { ...settings, ...wrong });
    await expect(failed).rejects.toThrow(ArgumentError);
    await expect(failed).rejects.toThrow(message);
  });

  it("stops when it is told to", async () => {
    await expect(pipe([0], { ...settings, signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
  });

  it("is not made of another pipeline's folder", async () => {
    const folder = await writeTinyPipeline(await temporaryFolder(), "pixart");
    await expect(ClassToImagePipeline.fromFolder(folder, nodeRuntime)).rejects.toThrow(ConfigError);
  });
});
