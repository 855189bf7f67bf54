/** Stable Diffusion's pipelines against whole runs of diffusers: test/fixtures/stable-diffusion.py. */
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { ArgumentError, ConfigError } from "../../src/errors.ts";
import type { RawImage } from "../../src/media/raw-image.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import type { TextToImageOptions } from "../../src/pipelines/text-to-image-options.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Tensor } from "../../src/tensor.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { temporaryFolder } from "../support/models.ts";
import {
  drawnMask,
  drawnPicture,
  type RecordedCall,
  recordedCalls,
  type StableDiffusionCase,
  stableDiffusionCases,
  writeStableDiffusion,
} from "../support/stable-diffusion.ts";

const threads = 1;
const folders = {} as Record<StableDiffusionCase, NodeFolder>;
beforeAll(async () => {
  for (const name of stableDiffusionCases) folders[name] = await writeStableDiffusion(name);
});

const open = (folder: NodeFolder) => TextToImagePipeline.fromFolder(folder, nodeRuntime, { threads });

/** Largest difference from [1, height, width, 3] in [0, 1], in steps of 8-bit pixels. */
function furthest({ width, height, data }: RawImage, expected: Tensor): number {
  expect([height, width]).toEqual(expected.shape.slice(1, 3));
  return data.reduce((most, pixel, i) => Math.max(most, Math.abs(pixel - 255 * Number(expected.data[i]))), 0);
}

const optionsOf = ({ prompt: _, picture, mask, scheduler: __, ...call }: RecordedCall): TextToImageOptions => ({
  ...(call as TextToImageOptions),
  ...(picture && { image: drawnPicture(...picture) }),
  ...(mask && { mask: drawnMask(...mask) }),
});

describe.each(stableDiffusionCases)("%s, against diffusers' runs", (name) => {
  it("every step, from recorded embeddings and noise", async () => {
    const { outputs } = await verifyFolder(folders[name], nodeRuntime, { threads });
    const calls = await recordedCalls(name);
    expect(outputs.filter(({ name: output }) => output.includes("output."))).toHaveLength(5 * calls.length);
    for (const { name: output, relative } of outputs.filter(({ limit }) => limit === undefined))
      expect(relative, output).toBeLessThan(1e-3);
  });

  it("pictures from a prompt and a seed", async () => {
    for (const { run, call, io } of await recordedCalls(name)) {
      const folder = await withScheduler(folders[name], call.scheduler);
      const pipe = await open(folder);
      const { images, seeds } = await pipe(call.prompt, optionsOf(call));
      expect(seeds).toEqual([call.seed]);
      expect(furthest(images[0]!, io.get("output.image")!), run).toBeLessThan(1);
      await pipe.release();
    }
  });
});

/** The folder with another of its schedulers as its own. */
async function withScheduler(folder: NodeFolder, scheduler = "scheduler"): Promise<NodeFolder> {
  if (scheduler === "scheduler") return folder;
  const path = await temporaryFolder();
  await cp(folder.path, path, { recursive: true });
  await cp(join(path, scheduler), join(path, "scheduler"), { recursive: true });
  return new NodeFolder(path, folder.name);
}

describe("images and masks", () => {
  it("a black mask keeps the image's latents whatever is drawn, a white one is no mask", async () => {
    const pipe = await open(folders.sd);
    const [width, height] = [20, 16];
    const image = drawnPicture(width, height);
    const of = (value: number) => ({ width, height, data: new Uint8Array(3 * width * height).fill(value) });
    const picture = async (prompt: string, options: TextToImageOptions) =>
      (await pipe(prompt, { image, steps: 3, seed: 4, ...options })).images[0]!.data;
    expect(await picture("a cat", { mask: of(0) })).toEqual(
      await picture("a red house", { mask: of(0), strength: 0.7 }),
    );
    expect(await picture("a cat", { mask: of(255), strength: 0.7 })).toEqual(await picture("a cat", { strength: 0.7 }));
    expect(await picture("a cat", { strength: 0.7 })).not.toEqual(await picture("a cat", { strength: 0.4 }));
    await pipe.release();
  });

  it("picture i of several is the one of its seed alone, from text, an image and with a mask", async () => {
    const pipe = await open(folders.sd);
    const image = drawnPicture(20, 16);
    for (const options of [{}, { image, strength: 0.7 }, { image, mask: drawnMask(20, 16), strength: 0.7 }]) {
      const settings = { steps: 3, scheduler: "euler-a", ...options } as const;
      const { images } = await pipe(["a cat", "a red house"], { ...settings, seeds: [8, 5] });
      const alone = await pipe("a red house", { ...settings, seed: 5 });
      images[1]!.data.forEach((value, i) => {
        expect(Math.abs(value - alone.images[0]!.data[i]!)).toBeLessThanOrEqual(1);
      });
    }
    await pipe.release();
  });

  it("a model that was trained for inpainting needs both", async () => {
    const pipe = await open(folders["sd-inpaint"]);
    const needs = "was trained for inpainting: it needs an image and a mask";
    await expect(pipe("a cat", { steps: 2 })).rejects.toThrow(ArgumentError);
    await expect(pipe("a cat", { steps: 2, image: drawnPicture(20, 16) })).rejects.toThrow(needs);
    await pipe.release();
  });
});

it("refuses what a family does not have, and says what it leaves out", async () => {
  const pipe = await open(folders.sd);
  for (const [wrong, message] of [
    [{ prompt2: "a dog" }, "prompt2 is for Stable Diffusion XL and 3; this model is a StableDiffusionPipeline"],
    [{ cleanCaption: true }, "cleanCaption is for PixArt"],
    [{ clipSkip: 3 }, "clipSkip is 3; this model's text encoder has 3 layers, so at most 2"],
    [{ width: 17 }, "width must be a multiple of 2 pixels"],
    [{ accelerate: "cache" }, "unet"],
  ] as const) {
    await expect(pipe("a cat", { steps: 2, ...wrong })).rejects.toThrow(ArgumentError);
    await expect(pipe("a cat", { steps: 2, ...wrong })).rejects.toThrow(message);
  }
  const { warnings } = await pipe("a smiling cat with heart eyes ".repeat(10), { steps: 1 });
  expect(warnings).toEqual([expect.stringContaining("The prompt is longer than 20 tokens; this was left out")]);
  await pipe.release();

  const path = join(folders.sd.path, "model_index.json");
  const index = JSON.parse(await readFile(path, "utf8")) as object;
  const folder = await withScheduler(folders.sd, "scheduler_euler");
  const checker = { safety_checker: ["stable_diffusion", "StableDiffusionSafetyChecker"] };
  await writeFile(join(folder.path, "model_index.json"), JSON.stringify({ ...index, ...checker }));
  const checked = await open(folder);
  expect((await checked("a cat", { steps: 1 })).warnings).toEqual(["The model's safety checker is not run."]);
  await checked.release();
});

it("refuses an autoencoder of XL that normalises latents", async () => {
  const folder = await withScheduler(folders.sdxl, "scheduler_euler");
  const path = join(folder.path, "vae", "config.json");
  const config = JSON.parse(await readFile(path, "utf8")) as object;
  await writeFile(path, JSON.stringify({ ...config, latents_mean: [0, 0, 0, 0], latents_std: [1, 1, 1, 1] }));
  await expect(open(folder)).rejects.toThrow(ConfigError);
});
