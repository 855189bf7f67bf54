/** From nothing to an image, by the command line alone: `init`, `generate`, `convert` for every family and format of a checkpoint. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { decode } from "fast-png";
import { beforeAll, describe, expect, it } from "vitest";
import { pipelineNames } from "../../src/init/pipelines.ts";
import { encodePng } from "../../src/media/picture.ts";
import { floatTensor } from "../../src/tensor.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { encodeGguf, quantised } from "../support/gguf.ts";
import { temporaryFolder } from "../support/models.ts";
import { encoded, smallTensors } from "../support/single-files.ts";
import { drawnMask, drawnPicture } from "../support/stable-diffusion.ts";

/** CLIP's own, since command lines have no other. */
const VOCABULARY = 49_408;
/** Of the small models, in pixels. */
const SIDE = 64;

let folder: string;
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = await temporaryFolder();
  await writeFile(at("image.png"), encodePng(drawnPicture(SIDE, SIDE)));
  await writeFile(at("mask.png"), encodePng(drawnMask(SIDE, SIDE)));
});

async function halfstep(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await halfstepHere(...args, "--quiet");
  expect({ code, stderr }, args.join(" ")).toEqual({ code: 0, stderr: "" });
  return stdout;
}

/** Pixels of what `generate` draws. The file has the model's path in it, too. */
async function generated(model: string, ...more: string[]): Promise<Uint8Array> {
  const args = ["generate", "a cat on a mat", "--model", model, "--steps", "2", "--seed", "3", "--threads", "1"];
  await halfstep(...args, "--force", "--out", at("out.png"), ...more);
  const { width, height, channels, data } = decode(await readFile(at("out.png")));
  expect(data.length).toBe(width * height * channels);
  return Uint8Array.from(data);
}

/** A matrix of values between -0.5 and 0.5. */
const waves = (rows: number, columns: number) =>
  floatTensor(
    [rows, columns],
    Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i) / 2),
  );

const spread = (pixels: Uint8Array) => Math.max(...pixels) - Math.min(...pixels);
const largest = (a: Uint8Array, b: Uint8Array) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

describe.each(pipelineNames)("%s with random weights", (name) => {
  const transformer = name.startsWith("sd3");
  let model: string;
  let plain: Uint8Array;

  beforeAll(async () => {
    model = at(name);
    await halfstep("init", name, "--tiny", "--out", model);
    plain = await generated(model);
  });

  it("draws from text", () => {
    expect(plain.length).toBe(SIDE * SIDE * 3);
    expect(spread(plain)).toBeGreaterThan(20);
  });

  it("draws the same from the folder that convert writes", async () => {
    await halfstep("convert", model, "--out", at(`${name}-converted`));
    expect(await generated(at(`${name}-converted`))).toEqual(plain);
  });

  it("draws from an image, and in part of it", async () => {
    const image = ["--image", at("image.png"), "--strength", "0.5"];
    const whole = await generated(model, ...image);
    const part = await generated(model, ...image, "--mask", at("mask.png"));
    for (const pixels of [whole, part]) expect(pixels.length).toBe(SIDE * SIDE * 3);
    expect(largest(whole, plain)).toBeGreaterThan(20);
    expect(largest(whole, part)).toBeGreaterThan(5);
  });

  it("takes a LoRA, and what convert merges is the same", async () => {
    const [layer, width] = transformer
      ? ["transformer.transformer_blocks.0.attn.to_q", 32]
      : ["unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q", 64];
    const tensors = new Map([
      [`${layer}.lora_A.weight`, waves(4, width)],
      [`${layer}.lora_B.weight`, waves(width, 4)],
    ]);
    const lora = at(`${name}.lora.safetensors`);
    await writeFile(lora, await encoded(tensors));
    const changed = await generated(model, "--lora", `${lora}:0.8`);
    expect(largest(changed, plain)).toBeGreaterThan(0);
    await halfstep("convert", model, "--lora", `${lora}:0.8`, "--out", at(`${name}-merged`));
    // The product is rounded once more in the file.
    expect(largest(changed, await generated(at(`${name}-merged`)))).toBeLessThanOrEqual(1);
  });
});

it("sd3.5-medium draws with T5, too", async () => {
  await halfstep("init", "sd3.5-medium", "--tiny", "--with-t5", "--out", at("with-t5"));
  const withT5 = await generated(at("with-t5"));
  expect(spread(withT5)).toBeGreaterThan(20);
  expect(largest(withT5, await generated(at("sd3.5-medium")))).toBeGreaterThan(5);
});

describe("a checkpoint in one file", () => {
  const size = ["--width", "32", "--height", "32"];

  it.each(["sd1.safetensors", "sd2.safetensors", "sdxl.safetensors", "sd1.gguf"])(
    "%s: generate, and convert and then generate, give the same",
    async (name) => {
      const quantises = name.endsWith(".gguf");
      const tensors = smallTensors(name.split(".")[0]!, VOCABULARY);
      // As wide as the small UNet expects; other tests use the file for its names.
      const projection = "conditioner.embedders.1.model.text_projection";
      const rows = tensors.get(projection)?.shape[0];
      if (rows !== undefined) tensors.set(projection, waves(rows, 24));
      const file = at(name);
      await writeFile(file, quantises ? encodeGguf(tensors, quantised) : await encoded(tensors, { dtype: "F16" }));
      const plain = await generated(file, ...size);
      expect(spread(plain)).toBeGreaterThan(20);
      await halfstep("convert", file, "--out", `${file}-folder`);
      const converted = await generated(`${file}-folder`, ...size);
      // Blocks of 8 bits are float32 in the folder, so products are summed in another order.
      if (quantises) expect(largest(plain, converted)).toBeLessThanOrEqual(1);
      else expect(converted).toEqual(plain);
    },
  );
});

describe("init", () => {
  it("says what it will write, and that T5's tokenizer is made up", async () => {
    const { code, stderr, stdout } = await halfstepHere(
      "init",
      "sd3.5-medium",
      "--tiny",
      "--with-t5",
      "--out",
      at("told"),
    );
    expect(code).toBe(0);
    expect(stderr).toMatch(/StableDiffusion3Pipeline: text_encoder [\d.]+ M, .*transformer .*; [\d.]+ MB as fp32/);
    expect(stderr).toContain("T5's tokenizer is made up");
    expect(stdout).toContain(`${at("told")}: StableDiffusion3Pipeline`);
  });

  it.each<[string[], string]>([
    [["dit-s-2", "--tiny"], "--tiny is for whole pipelines"],
    [["sdxl", "--with-t5"], "--with-t5 is for the pipeline sd3.5-medium"],
    [["sd3.5-medium", "--with-t5", "--network"], "--with-t5 is for the pipeline sd3.5-medium"],
    [["sd-9"], 'There is no geometry "sd-9"'],
  ])("refuses %o", async (args, message) => {
    const { code, stderr } = await halfstepHere("init", ...args, "--out", at("never"));
    expect(code).not.toBe(0);
    expect(stderr).toContain(message);
    expect(await readdir(folder)).not.toContain("never");
  });

  it("leaves a folder alone that has something in it", async () => {
    const { code, stderr } = await halfstepHere("init", "sd-1.5", "--tiny", "--out", folder);
    expect(code).not.toBe(0);
    expect(stderr).toContain("it is not empty; a new model needs a folder of its own");
  });
});
