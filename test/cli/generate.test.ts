import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { decode } from "fast-png";
import sharp from "sharp";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { halfstepHere } from "../support/cli-in-process.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { tinySize, writeTinyPipeline } from "../support/tiny-pipeline.ts";

const dit = fixture("pipelines/dit").path;
let model: string;
let folder: string;
beforeAll(async () => {
  model = join(await temporaryFolder(), "model");
  await writeTinyPipeline(model, "pixart");
});
beforeEach(async () => {
  folder = await temporaryFolder();
});

const at = (name: string) => join(folder, name);
const small = () => ["--model", model, "--steps", "2", "--threads", "1", "--quiet"];
const generate = (...args: string[]) => halfstepHere("generate", ...args, ...small());
const pixels = async (name: string) => decode(await readFile(at(name))).data;
/** Pictures that were made together differ by rounding. */
const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Math.max(...Array.from(a, (value, i) => Math.abs(value - b[i]!)));

describe("files", () => {
  it("are not overwritten, unless that is asked for", async () => {
    for (const args of [[], [], ["--force"]]) {
      const { code } = await generate("a cat", "--out", at("out.png"), "--seed", "1", ...args);
      expect(code).toBe(0);
    }
    expect((await readdir(folder)).sort()).toEqual(["out-2.png", "out.png"]);
    expect(await pixels("out.png")).toEqual(await pixels("out-2.png"));
  });

  it("of several prompts are each the picture that the prompt and the seed give alone", async () => {
    await writeFile(at("prompts.txt"), "\uFEFFa red cat\r\n\r\n  a blue dog  \r\n");
    const args = ["--prompts", at("prompts.txt"), "--out", at("all.png"), "--count", "2", "--seed", "5", "--json"];
    const { stdout } = await generate("one more", ...args);
    const { images, sheet, files } = JSON.parse(stdout);
    expect(images.map(({ prompt, seed }: { prompt: string; seed: number }) => [prompt, seed])).toEqual(
      ["one more", "a red cat", "a blue dog"].flatMap((prompt) => [
        [prompt, 5],
        [prompt, 6],
      ]),
    );
    expect(files).toEqual([1, 2, 3, 4, 5, 6].map((i) => at(`all-${i}.png`)));
    expect(sheet).toBe(at("all-sheet.png"));
    await generate("a blue dog", "--seed", "6", "--out", at("alone.png"));
    expect(largestDifference(await pixels("all-6.png"), await pixels("alone.png"))).toBeLessThanOrEqual(1);
    expect(decode(await readFile(at("all-6.png"))).text).toMatchObject({ prompt: "a blue dog", seed: "6" });
    expect(decode(await readFile(sheet)).width).toBe(3 * (tinySize + 4) + 4);
  });

  it("of more pictures than are made together have their seeds in order", async () => {
    const { stdout } = await generate(
      "a cat",
      "--count",
      "18",
      "--seed",
      "3",
      "--out",
      at("m.png"),
      "--no-sheet",
      "--json",
    );
    const { seeds, sheet, files } = JSON.parse(stdout);
    expect(seeds).toEqual(Array.from({ length: 18 }, (_, i) => 3 + i));
    expect(sheet).toBeNull();
    expect(files[17]).toBe(at("m-18.png"));
    await generate("a cat", "--seed", "20", "--out", at("alone.png"));
    expect(largestDifference(await pixels("m-18.png"), await pixels("alone.png"))).toBeLessThanOrEqual(1);
  });

  it.each(["jpg", "webp"])(".%s has the picture and what it is of", async (ending) => {
    await generate("a cat", "--seed", "7", "--out", at(`a.${ending}`));
    const { width, exif, format } = await sharp(at(`a.${ending}`)).metadata();
    expect({ width, format }).toEqual({ width: tinySize, format: ending === "jpg" ? "jpeg" : "webp" });
    expect(exif!.toString("latin1")).toContain('"prompt":"a cat","seed":"7"');
  });

  it("- is a PNG on stdout, with everything else on stderr", async () => {
    const { bytes, stderr } = await generate("a cat", "--out", "-", "--seed", "7", "--json");
    expect(decode(bytes).text).toMatchObject({ prompt: "a cat", seed: "7" });
    expect(JSON.parse(stderr)).toMatchObject({ command: "generate", files: [], images: [{ file: null, seed: 7 }] });
  });

  it("that cannot be written are refused before the model is opened", async () => {
    await writeFile(at("f"), "");
    await mkdir(at("d.png"));
    for (const [out, reason] of [
      ["f/x.png", "f is a file, and not a folder."],
      ["d.png", "it is a folder"],
      ["none/x.png", "there is no folder"],
    ] as const) {
      const { code, stderr } = await halfstepHere("generate", "a cat", "--out", at(out), "--model", at("no-model"));
      expect({ code, stderr }).toEqual({
        code: 1,
        stderr: expect.stringContaining(`ArgumentError: --out ${at(out)}: `),
      });
      expect(stderr).toContain(reason);
      expect(stderr.trim().split("\n")).toHaveLength(1);
    }
  });
});

describe("classes", () => {
  const draw = (...args: string[]) =>
    halfstepHere("generate", "--model", dit, "--steps", "2", "--seed", "1", "--quiet", "--json", ...args);

  it("are drawn by number, each with its seeds", async () => {
    const { stdout, stderr } = await draw("--class", "3", "7", "--count", "2", "--out", at("c.png"));
    expect(stderr).toBe("");
    const { images, steps, guidanceScale, scheduler } = JSON.parse(stdout);
    expect(images).toMatchObject([
      { class: 3, seed: 1 },
      { class: 3, seed: 2 },
      { class: 7, seed: 1 },
      { class: 7, seed: 2 },
    ]);
    expect({ steps, guidanceScale }).toEqual({ steps: 2, guidanceScale: 4 });
    const { _class_name } = JSON.parse(await readFile(join(dit, "scheduler/scheduler_config.json"), "utf8"));
    expect(scheduler).toBe(_class_name);
    expect(decode(await readFile(at("c-3.png"))).text).toMatchObject({ class: expect.stringMatching(/^7/), seed: "1" });
  });

  it("are drawn by name where the model has names, and keep them", async () => {
    const { path } = await writeTinyPipeline(await temporaryFolder(), "dit");
    const { stdout } = await draw("--model", path, "--class", "Tiger Cat", "0", "--out", at("c.png"));
    expect(JSON.parse(stdout).images).toMatchObject([
      { class: 2, label: "tiger cat" },
      { class: 0, label: "cat, tomcat" },
    ]);
    expect(decode(await readFile(at("c-1.png"))).text).toMatchObject({ class: "2 tiger cat" });
    const { code, stderr } = await draw("--model", path, "--class", "tigercats", "--out", at("d.png"));
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining(
        'No class of this model has this name, the string "tigercats". Did you mean "tiger cat"?',
      ),
    });
  });

  it.each([
    [["--class", "999999"], "this model's classes are numbers from 0 to"],
    [["--class", "no such animal"], "class"],
    [["a cat"], "it draws classes, not prompts: --class 207"],
    [["a cat", "--class", "3"], "of prompts or of classes (--class), not of both"],
    [["--class", "3", "--negative", "x"], "--negative goes with a prompt"],
    [["--class", "3", "--width", "64"], "--width and --height go with a prompt"],
  ])("%j is refused", async (args, reason) => {
    const { code, stderr } = await draw("--out", at("c.png"), ...args);
    expect(code).toBe(1);
    expect(stderr).toContain(reason);
    expect(await readdir(folder)).toEqual([]);
  });

  it("are not for a model of prompts", async () => {
    const { stderr } = await generate("--class", "3", "--out", at("c.png"));
    expect(stderr).toContain("which draws prompts. --class is for models of DiTPipeline");
  });
});

describe("names of others", () => {
  it("mean the same", async () => {
    const ours = ["--negative", "dark", "--guidance", "3", "--scheduler", "ddim", "--provider", "cpu", "--count", "2"];
    const theirs = [
      ...["--negative-prompt", "dark", "--cfg", "3", "--sampler", "ddim", "--device", "cpu", "-n", "2"],
      ...["--num-inference-steps", "2", "-W", String(tinySize), "-H", String(tinySize)],
    ];
    await generate("a cat", "--seed", "1", ...ours, "--out", at("ours.png"));
    await halfstepHere("generate", "a cat", "--seed", "1", "-m", model, ...theirs, "--output", at("theirs.png"), "-q");
    for (const part of ["1", "2", "sheet"]) {
      expect(await pixels(`theirs-${part}.png`)).toEqual(await pixels(`ours-${part}.png`));
    }
  });

  it.each([
    ["--cfg", "200", "It must be a number from 0 to 100."],
    ["--sampler", "magic", "Allowed choices are ddim"],
    ["-n", "0x10", "It must be a whole number from 1 to 256."],
    ["--count", " 5 ", "It must be a whole number from 1 to 256."],
    ["--steps", "1e9", "It must be a whole number from 1 to 1000."],
    ["--seed", "-1", "It must be a whole number from 0 to"],
    ["--width", "", "It must be a whole number from 8 to 8192."],
    ["--dtype", "fp16", "Instead: weights are read as they are stored"],
    ["--guidence", "3", "(Did you mean --guidance?)"],
    ["--negativ", "x", "(Did you mean --negative?)"],
  ])("%s %j says what is wrong in a line or two", async (option, value, reason) => {
    const { code, stderr } = await halfstepHere("generate", "a cat", option, value);
    expect(code).toBe(1);
    expect(stderr).toContain(reason);
    expect(stderr).toContain("(halfstep generate --help shows what there is)");
    expect(stderr).not.toContain("    at ");
  });
});

describe("prompts", () => {
  it.each<[string, string | Uint8Array, string]>([
    ["empty.txt", " \n\n", "has no lines with text"],
    ["binary.txt", Uint8Array.of(0xff, 0xfe, 0x00), "it is not text in UTF-8"],
    ["many.txt", "a\n".repeat(10_001), "There are 10001 prompts; at most 10000 are taken at a time."],
    ["long.txt", "a".repeat(2 ** 24 + 1), "it has more than 16777216 bytes"],
  ])("%s is refused", async (name, content, reason) => {
    await writeFile(at(name), content);
    const { code, stderr } = await generate("--prompts", at(name));
    expect(code).toBe(1);
    expect(stderr).toContain(reason);
  });

  it.each([
    [["--prompts", "none.txt"], "--prompts none.txt: there is no such file."],
    [["--prompts", "/"], "--prompts /: it is a folder."],
    [[], 'There is no prompt: halfstep generate "a red apple".'],
    [["a", "b", "--out", "-"], "--out - is for one picture; these are 2."],
  ])("%j is refused", async (args, reason) => {
    const { code, stderr } = await generate(...args);
    expect(code).toBe(1);
    expect(stderr).toContain(reason);
  });

  it("that forgot their quotes are told of", async () => {
    const args = ["a", "red", "cat", "-m", model, "--steps", "1", "--out", at("x.png")];
    const { stderr } = await halfstepHere("generate", ...args);
    expect(stderr).toContain('One prompt of several words needs quotes: "a red cat".');
  });
});

it("a picture that stands in the way of a set is gone around", async () => {
  await generate("a cat", "--out", at("x.png"));
  await copyFile(at("x.png"), at("x-2.png"));
  const { stdout } = await generate("a cat", "--count", "2", "--out", at("x.png"), "--json");
  expect(JSON.parse(stdout).files).toEqual([at("x-1.png"), at("x-3.png")]);
});
