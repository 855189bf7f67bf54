/** Stable Diffusion's pipelines against whole runs of diffusers: test/fixtures/stable-diffusion.py. */
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { PromptTokenizer } from "../../src/components/prompts.ts";
import { ArgumentError, ConfigError } from "../../src/errors.ts";
import type { RawImage } from "../../src/media/raw-image.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import type { TextToImageOptions } from "../../src/pipelines/text-to-image-options.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { fixture } from "../support/golden.ts";
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

const optionsOf = (
  { prompt: _, picture, mask, scheduler: __, latents_of: latents, ...call }: RecordedCall,
  io: ReadonlyMap<string, Tensor>,
): TextToImageOptions => ({
  ...(call as TextToImageOptions),
  ...(picture && { image: drawnPicture(...picture) }),
  ...(latents !== undefined && { image: io.get("input.image") as FloatTensor }),
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
      const { images, seeds } = await pipe(call.prompt, optionsOf(call, io));
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

describe("a run in two parts", () => {
  it("is the run in one part, whatever the solver draws, as latents are handed on", async () => {
    const pipe = await open(folders.sdxl);
    const settings = { steps: 6, seed: 3, scheduler: "euler" } as const;
    const whole = await pipe("a cat", { ...settings, outputType: "latent" });
    expect(whole.images).toEqual([]);
    const begun = await pipe("a cat", { ...settings, denoisingEnd: 0.5, outputType: "latent" });
    const ended = await pipe("a cat", {
      ...settings,
      denoisingStart: 0.5,
      image: begun.latents!,
      outputType: "latent",
    });
    expect(begun.fullSteps + ended.fullSteps).toBe(whole.fullSteps);
    for (const [i, value] of whole.latents!.data.entries()) expect(ended.latents!.data[i]).toBeCloseTo(value, 5);
    const [image] = (await pipe("a cat", settings)).images;
    const again = await pipe("a cat", { ...settings, denoisingStart: 0.5, image: begun.latents! });
    for (const [i, value] of again.images[0]!.data.entries())
      expect(Math.abs(value - image!.data[i]!)).toBeLessThanOrEqual(1);
    await pipe.release();
  });

  it("refuses settings that do not go together, and latents that are not the model's", async () => {
    const pipe = await open(folders.sdxl);
    const image = floatTensor([1, 4, 8, 8]);
    const picture = drawnPicture(16, 16);
    for (const [wrong, message] of [
      [{ denoisingStart: 0.5 }, "denoisingStart goes with an image"],
      [{ denoisingStart: 0.5, image, strength: 0.5 }, "both say where a run begins"],
      [{ denoisingStart: 0.5, image: picture, mask: picture }, "denoisingStart and a mask do not go together"],
      [{ denoisingStart: 0.5, denoisingEnd: 0.5, image }, "denoisingStart 0.5 must be below denoisingEnd 0.5"],
      [{ denoisingEnd: 1 }, "denoisingEnd must be a number above 0 and below 1"],
      [{ denoisingEnd: 0.01, steps: 2 }, "denoisingEnd 0.01 leaves none of the 2 timesteps"],
      [{ denoisingStart: 0.9999, image, steps: 2 }, "denoisingStart 0.9999 leaves none of the 2 timesteps"],
      [{ image, mask: picture }, "latents cannot be masked"],
      [{ image: floatTensor([1, 3, 8, 8]) }, "image are latents of 3 channels; this model's have 4"],
      [{ image: floatTensor([2, 4, 8, 8]) }, "image are latents of 2 images; the call makes 1"],
      [{ image, width: 24 }, "image are latents of 16 x 16 pixels, which cannot be resized to 24 x 16"],
      [{ image: { ...image, shape: [4, 8, 8] } as FloatTensor }, "image must be an image, or latents"],
      [{ image: { ...image, shape: [1, 4, 8, 9] } as FloatTensor }, "image has 256 values"],
      [{ aestheticScore: 5 }, "aestheticScore is for refiners of Stable Diffusion XL"],
    ] as const) {
      await expect(pipe("a cat", wrong), message).rejects.toThrow(ArgumentError);
      await expect(pipe("a cat", wrong)).rejects.toThrow(message);
    }
    await pipe.release();
    const refiner = await open(folders["sdxl-refiner"]);
    await expect(refiner("a cat")).rejects.toThrow("refines images (requires_aesthetics_score): it needs one");
    await expect(refiner("a cat", { image, targetSize: [8, 8] })).rejects.toThrow("targetSize");
    await refiner.release();
  });
});

describe("another autoencoder", () => {
  it("is what images are encoded and decoded with: diffusers' runs of a pipeline that has it", async () => {
    for (const { run, call, io } of await recordedCalls("sd-tiny")) {
      const own = await withScheduler(folders.sd, call.scheduler);
      for (const vae of [folders["sd-tiny"].sub("vae"), folders["sd-tiny"]]) {
        const pipe = await TextToImagePipeline.fromFolder(own, nodeRuntime, { threads, vae });
        const { images } = await pipe(call.prompt, optionsOf(call, io));
        expect(furthest(images[0]!, io.get("output.image")!), run).toBeLessThan(1);
        await pipe.release();
      }
    }
  });

  it("with other latents is refused, with the sizes of both", async () => {
    const vae = new NodeFolder(fixture("models-0.42/vae-tiny-16-channels").path, "taesd3");
    const failed = TextToImagePipeline.fromFolder(folders.sd, nodeRuntime, { threads, vae });
    await expect(failed).rejects.toThrow(ConfigError);
    await expect(failed).rejects.toThrow(
      /^taesd3: its latents have 16 channels and are \d+ times smaller than images; those of sd\/vae have 4 channels and are 2 times smaller/,
    );
    const unet = TextToImagePipeline.fromFolder(folders.sd, nodeRuntime, { threads, vae: folders.sd.sub("unet") });
    await expect(unet).rejects.toThrow("here it has to be AutoencoderKL or AutoencoderTiny");
  });
});

describe("weights in prompts", () => {
  const [plain, weighted] = ["a smiling cat with heart eyes", "a (smiling:1.5) cat [with] (heart eyes:-0.5)"];
  const words = [1, 1.5, 1, 1 / 1.1, -0.5, -0.5];

  it.each(["sd", "sdxl"] as const)("%s: each token's states, from the empty prompt's", async (name) => {
    const pipe = await open(folders[name]);
    const { embeddings } = await pipe.embed([plain, ""]);
    const found = await pipe.embed([weighted, plain, "a cat"], { promptWeights: true });
    const tokenizer = await PromptTokenizer.open(folders[name].sub("tokenizer"));
    // The first word's tokens, the first two's, ...; a token that starts the prompt and one that ends it come on top.
    const ends = words.map((_, i) => {
      const { mask } = tokenizer.encode(
        plain
          .split(" ")
          .slice(0, i + 1)
          .join(" "),
        20,
      );
      return mask.filter((value) => value === 1).length - 1;
    });
    const weightOf = (token: number) =>
      token === 0 || token >= ends.at(-1)! ? 1 : words[ends.findIndex((end) => token < end)]!;
    const [, tokens, width] = embeddings.encoderHiddenStates.shape as [number, number, number];
    const states = embeddings.encoderHiddenStates.data;
    for (let i = 0; i < tokens * width; i++) {
      const [own, empty] = [states[i]!, states[tokens * width + i]!];
      const expected = empty + weightOf(Math.floor(i / width)) * (own - empty);
      expect(found.embeddings.encoderHiddenStates.data[i]).toBeCloseTo(expected, 4);
    }
    const unweighted = found.embeddings.encoderHiddenStates.data.subarray(tokens * width, 2 * tokens * width);
    for (const [i, value] of unweighted.entries()) expect(value).toBeCloseTo(states[i]!, 5);
    expect(found.embeddings.encoderHiddenStates.shape).toEqual([3, tokens, width]);
    // The pooled text is that of the words alone.
    const pooled = embeddings["textEmbeds"]?.data.subarray(0, embeddings["textEmbeds"].shape[1]!) ?? [];
    for (const [i, value] of pooled.entries()) expect(found.embeddings["textEmbeds"]!.data[i]).toBeCloseTo(value, 5);
    await pipe.release();
  });

  it("are text unless they are asked for", async () => {
    const pipe = await open(folders.sd);
    const { embeddings } = await pipe.embed([weighted, plain]);
    const half = embeddings.encoderHiddenStates.data.length / 2;
    expect(embeddings.encoderHiddenStates.data.subarray(0, half)).not.toEqual(
      embeddings.encoderHiddenStates.data.subarray(half),
    );
    const images = async (prompt: string, promptWeights: boolean) =>
      (await pipe(prompt, { steps: 2, seed: 1, promptWeights })).images[0]!.data;
    expect(await images(weighted, true)).not.toEqual(await images(plain, true));
    expect(await images(plain, true)).toEqual(await images(plain, false));
    await expect(pipe("(a:200)", { promptWeights: true })).rejects.toThrow("weights are from -100 to 100");
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
