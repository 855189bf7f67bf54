/** What a user may rely on, on a tiny pipeline with random weights; reference vectors are compared in test/verify. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { NodeFolder } from "../../src/checkpoints/node.ts";
import { pickScheduler } from "../../src/components/solver.ts";
import { ArgumentError, CheckpointError, ConfigError, NumericError } from "../../src/errors.ts";
import { type TextToImage, TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import type { TextToImageOptions } from "../../src/pipelines/text-to-image-options.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare, entry } from "../../src/verify/compare.ts";
import { temporaryFolder } from "../support/models.ts";
import { type TinyOptions, tinySize, tinyTokens, writeTinyPipeline } from "../support/tiny-pipeline.ts";

const open = (folder: NodeFolder) => TextToImagePipeline.fromFolder(folder, nodeRuntime, { threads: 1 });
const make = async (options?: TinyOptions) => writeTinyPipeline(await temporaryFolder(), "pixart", options);

let pipe: TextToImage;
beforeAll(async () => {
  pipe = await open(await make());
});

const picture = { width: 16, height: 16, data: new Uint8Array(3 * 256) };
const smaller = { width: 8, height: 8, data: new Uint8Array(3 * 64) };
const settings: TextToImageOptions = { steps: 3, seed: 7 };

/** The final latents of a prompt: finer than the eight bits of a picture. */
async function latentsOf(prompt: string, options: TextToImageOptions): Promise<FloatTensor> {
  let last: FloatTensor | undefined;
  await pipe(prompt, {
    ...settings,
    ...options,
    onStep: ({ latents }) => {
      last = latents;
    },
  });
  return last!;
}

const difference = (a: FloatTensor, b: FloatTensor) => compare("latents", a.data, b.data).relative;

describe("a text-to-image pipeline", () => {
  it("makes pictures of the model's size, or of one that is asked for", async () => {
    const { images, seeds, warnings } = await pipe("a red cat", settings);
    expect(images).toHaveLength(1);
    expect(images[0]).toMatchObject({ width: tinySize, height: tinySize });
    expect(new Set(images[0]!.data).size).toBeGreaterThan(10);
    expect(seeds).toEqual([7]);
    expect(warnings).toEqual([]);
    const wide = await pipe("a red cat", { ...settings, width: 24, height: 8 });
    expect(wide.images[0]).toMatchObject({ width: 24, height: 8 });
  });

  it("follows prompts as closely as model_index.json says, where it says so", async () => {
    expect(pipe.guidanceScale).toBe(4.5);
    const folder = await make();
    const path = join(folder.path, "model_index.json");
    const index = JSON.parse(await readFile(path, "utf8")) as object;
    await writeFile(path, JSON.stringify({ ...index, _guidance_scale: 2.5 }));
    const own = await open(folder);
    expect(own.guidanceScale).toBe(2.5);
    const [unless, told] = await Promise.all(
      [{}, { guidanceScale: 2.5 }].map(async (more) => (await own("a red cat", { ...settings, ...more })).images),
    );
    expect(unless).toEqual(told);
    await writeFile(path, JSON.stringify({ ...index, _guidance_interval: [0.4, 1] }));
    const late = await open(folder);
    expect([pipe.guidanceInterval, late.guidanceInterval]).toEqual([
      [0, 1],
      [0.4, 1],
    ]);
    expect((await late("a red cat", settings)).images).toEqual(
      (await pipe("a red cat", { ...settings, guidanceInterval: [0.4, 1] })).images,
    );
    for (const [wrong, why] of [
      ["late", '"_guidance_interval" is not a list of two numbers'],
      [[0, "all"], '"_guidance_interval" is not a list of two numbers'],
      [[0.5, 2], "must be two shares of the steps from 0 to 1, the first not above the second, not [0.5, 2]"],
    ]) {
      await writeFile(path, JSON.stringify({ ...index, _guidance_interval: wrong }));
      await expect(open(folder)).rejects.toThrow(ConfigError);
      await expect(open(folder)).rejects.toThrow(why as string);
    }
    await writeFile(path, JSON.stringify({ ...index, _guidance_scale: "much" }));
    await expect(open(folder)).rejects.toThrow(ConfigError);
    await expect(open(folder)).rejects.toThrow('model_index.json: "_guidance_scale" is not a number');
  });

  it("makes the same picture of the same seed, and others of other seeds, prompts, negative prompts and guidance", async () => {
    const picture = async (prompt: string, options: TextToImageOptions = {}) =>
      (await pipe(prompt, { ...settings, ...options })).images[0]!.data;
    const red = await picture("a red cat");
    expect(await picture("a red cat")).toEqual(red);
    for (const other of [
      await picture("a red cat", { seed: 8 }),
      await picture("a blue dog"),
      await picture("a red cat", { negativePrompt: "house" }),
      await picture("a red cat", { guidanceScale: 9 }),
      await picture("a red cat", { steps: 4 }),
      await picture("a red cat", { scheduler: "ddim" }),
    ]) {
      expect(other).not.toEqual(red);
    }
  });

  it.each(["dpm-solver++", "sde-dpm-solver++", "ddpm"] as const)(
    "makes as picture i of several the one of seed + i alone, with %s",
    async (scheduler) => {
      const { seeds } = await pipe("a red cat", { ...settings, count: 3, scheduler });
      expect(seeds).toEqual([7, 8, 9]);
      const together = await latentsOf("a red cat", { count: 3, scheduler });
      for (const [i, seed] of seeds.entries()) {
        const alone = await latentsOf("a red cat", { seed, scheduler });
        expect(difference(entry(together, i), alone)).toBeLessThan(1e-4);
      }
    },
  );

  it("without guidance follows the prompt alone, at any guidance when the negative prompt says the same", async () => {
    const conditional = await latentsOf("a red cat", { guidanceScale: 1 });
    const same = await latentsOf("a red cat", { guidanceScale: 6, negativePrompt: "a red cat" });
    expect(difference(same, conditional)).toBeLessThan(1e-4);
    const ignored = await latentsOf("a red cat", { guidanceScale: 1, negativePrompt: "house" });
    expect(difference(ignored, conditional)).toBe(0);
    // Below 1 too, as in diffusers.
    const below = await latentsOf("a red cat", { guidanceScale: 0, negativePrompt: "house" });
    expect(difference(below, conditional)).toBe(0);
    expect(difference(await latentsOf("a red cat", { guidanceScale: 6 }), conditional)).toBeGreaterThan(1e-2);
  });

  it("begins at an image: the less strength, the closer to what the autoencoder makes of it", async () => {
    const image = { width: 17, height: 16, data: Uint8Array.from({ length: 3 * 17 * 16 }, (_, i) => (i * 31) % 256) };
    const from = (options: TextToImageOptions) => latentsOf("a red cat", { image, steps: 10, ...options });
    // Nothing may change: what comes out is the image's own latent.
    const mask = { ...image, data: new Uint8Array(image.data.length) };
    const own = await from({ mask });
    expect(own.shape).toEqual([1, 4, 8, 8]);
    const away = [];
    for (const strength of [0.1, 0.5, 1]) away.push(difference(await from({ strength }), own));
    expect(away).toEqual([...away].sort((a, b) => a - b));
    expect(away[0]).toBeGreaterThan(0);
  });

  it("tells of each step", async () => {
    const seen: string[] = [];
    await pipe("a red cat", {
      ...settings,
      onStep: ({ index, steps, timestep }) => void seen.push(`${index}/${steps} ${timestep}`),
    });
    expect(seen).toHaveLength(3);
    expect(seen[0]).toBe("0/3 999");
  });

  it("stops when it is told to, with the reason", async () => {
    const before = new AbortController();
    before.abort(new Error("changed my mind"));
    await expect(pipe("a red cat", { ...settings, signal: before.signal })).rejects.toThrow("changed my mind");
    const during = new AbortController();
    let steps = 0;
    const stopped = pipe("a red cat", {
      steps: 20,
      signal: during.signal,
      onStep: () => {
        if (++steps === 2) during.abort();
      },
    });
    await expect(stopped).rejects.toMatchObject({ name: "AbortError" });
    expect(steps).toBe(2);
    // It is as good as before.
    expect((await pipe("a red cat", settings)).images).toHaveLength(1);
  });

  it("stops after the last step too", async () => {
    const late = new AbortController();
    const options = { ...settings, signal: late.signal };
    const stopped = pipe("a red cat", { ...options, onStep: ({ index }) => void (index === 2 && late.abort()) });
    await expect(stopped).rejects.toMatchObject({ name: "AbortError" });
  });

  it("makes the same pictures when several are asked for at a time", async () => {
    const fresh = await open(await make());
    const [red, again] = await Promise.all([fresh("a red cat", settings), fresh("a red cat", settings)]);
    expect(red.images).toEqual(again.images);
    expect(red.images).toEqual((await pipe("a red cat", settings)).images);
    await fresh.release();
  });

  it("cuts prompts that are too long, and says what it left out", async () => {
    const { warnings } = await pipe("a red cat the blue dog happy house", settings);
    expect(warnings).toEqual([`The prompt is longer than ${tinyTokens} tokens; this was left out: "dog happy house".`]);
    const long = await latentsOf("a red cat the blue dog happy house", {});
    expect(difference(long, await latentsOf("a red cat the blue", {}))).toBe(0);
    const shorter = await pipe("a red cat", { ...settings, maxSequenceLength: 3 });
    expect(shorter.warnings[0]).toContain('"cat"');
    await expect(pipe("a red cat", { maxSequenceLength: 1 })).rejects.toThrow(ArgumentError);
  });

  it("says which words it does not know, and takes an empty prompt", async () => {
    const { warnings } = await pipe("a кот the ☃", settings);
    expect(warnings).toEqual(["Words that the model does not know: кот, ☃."]);
    // Letters are tokens, so that nothing is lost, but a word that falls apart into them means nothing to the model.
    expect((await pipe("a zyx dog", settings)).warnings).toEqual(["Words that the model does not know: zyx."]);
    expect((await pipe("", settings)).warnings).toEqual([]);
  });

  it.each<[TextToImageOptions, string]>([
    [{ width: 10 }, "width must be a multiple of 4 pixels"],
    [{ height: 0 }, "height must be a whole number from 1"],
    [{ height: Number.NaN }, "height must be a whole number from 1"],
    [{ width: 16384, height: 16384, count: 2 }, "a call makes at most 268435456"],
    [{ width: 2 ** 40 }, "width must be a whole number from 1 to 16384"],
    [{ steps: "20" as unknown as number }, 'steps must be a whole number from 1 to 1000, not the string "20"'],
    [{ seed: 7, seeds: [1] }, '"seed" and "seeds" are both given'],
    [{ seed: undefined, seeds: [1, 2] } as object, "There are 2 seeds for 1 pictures; give one for each."],
    [{ negativePrompt: ["a", "b"] }, "There are 2 negative prompts for 1 prompts"],
    [
      { accelerate: { method: "cache", treshold: 1 } as unknown as "cache" },
      'accelerate has no option "treshold". Did you mean "threshold"?',
    ],
    [{ image: {} } as TextToImageOptions, "image's width must be a whole number from 1 to 65535"],
    [{ strength: 0.5 }, "strength goes with an image"],
    [{ image: picture, strength: 0 }, "strength must be a number above 0 and at most 1"],
    [{ image: picture, strength: 1.5 }, "strength must be a number above 0 and at most 1"],
    [{ image: picture, strength: 0.1 }, "strength 0.1 of 3 steps is less than one step; take at least 10 steps"],
    [{ mask: picture }, "mask goes with an image"],
    [{ image: picture, mask: { ...picture, height: 8 } }, "mask of 16 x 8 has 768 bytes; expected 384"],
    [{ image: picture, mask: smaller }, "The mask has 8 x 8 pixels and the image 16 x 16"],
    [{ prompt2: "a dog" }, "prompt2 is for Stable Diffusion XL and 3; this model is a PixArtSigmaPipeline"],
    [{ clipSkip: 1 }, "clipSkip is for Stable Diffusion"],
    [{ steps: 0 }, "steps must be a whole number from 1 to 1000, not 0"],
    [{ steps: 1.5 }, "steps"],
    [{ count: 0 }, "count"],
    [{ seed: -1 }, "seed"],
    [{ guidanceScale: Number.NaN }, "guidanceScale"],
    [{ maxSequenceLength: Number.NaN }, "maxSequenceLength"],
  ])("refuses %o", async (wrong, message) => {
    const failed = pipe("a red cat", { ...settings, ...wrong });
    await expect(failed).rejects.toThrow(ArgumentError);
    await expect(failed).rejects.toThrow(message);
  });

  it.each([[undefined], [7], [{ prompt: "a red cat" }], [[]], [["a red cat", 7]]])(
    "refuses the prompt %j",
    async (prompt) => {
      await expect(pipe(prompt as unknown as string, settings)).rejects.toThrow(ArgumentError);
      await expect(pipe(prompt as unknown as string, settings)).rejects.toThrow(
        /^The prompt(\[1\])? must (be a string|have 1 to)/,
      );
    },
  );

  it("takes diffusers' names for the same options, and refuses names that mean nothing", async () => {
    const own = await pipe("a red cat", { ...settings, negativePrompt: "dog" });
    const { steps, guidanceScale, ...rest } = settings;
    const theirs = { ...rest, num_inference_steps: steps, guidance_scale: guidanceScale, negative_prompt: "dog" };
    expect((await pipe("a red cat", theirs as TextToImageOptions)).images).toEqual(own.images);
    await expect(pipe("a red cat", { ...settings, numSteps: 3 } as TextToImageOptions)).rejects.toThrow(
      'TextToImagePipeline.generate has no option "numSteps". Did you mean "steps"?',
    );
  });

  it("makes of a list of prompts what one call a prompt makes with the same seeds", async () => {
    const prompts = ["a red cat", "the happy house", "a blue dog"];
    const negativePrompt = ["dog", "", "a"];
    const { images, seeds } = await pipe(prompts, {
      ...settings,
      negativePrompt,
      seed: undefined,
      seeds: [5, 6, 1, 2, 9, 9],
      count: 2,
    });
    expect(seeds).toEqual([5, 6, 1, 2, 9, 9]);
    for (const [i, seed] of seeds.entries()) {
      const p = Math.floor(i / 2);
      const alone = await pipe(prompts[p]!, { ...settings, negativePrompt: negativePrompt[p]!, seed });
      expect(images[i]).toEqual(alone.images[0]);
    }
    const unguided = { ...settings, guidanceScale: 1 };
    const two = await pipe(["a red cat", "a blue dog"], { ...unguided, seed: 3 });
    expect(two.seeds).toEqual([3, 4]);
    expect(two.images[1]).toEqual((await pipe("a blue dog", { ...unguided, seed: 4 })).images[0]);
  });

  it("runs without a text encoder on embeddings, and says what a prompt needs", async () => {
    const folder = await make();
    const index = join(folder.path, "model_index.json");
    const { text_encoder: _, tokenizer: __, ...rest } = JSON.parse(await readFile(index, "utf8"));
    await writeFile(index, JSON.stringify(rest));
    const without = await open(folder);
    await expect(without("a red cat", settings)).rejects.toThrow(ConfigError);
    const { embeddings } = await pipe.embed(["a red cat"]);
    const latents = await without.sampleLatents({
      scheduler: pickScheduler(without.schedulerConfig),
      steps: 3,
      guidanceScale: 1,
      noise: new TorchGenerator(7).randn([1, 4, tinySize / 2, tinySize / 2]),
      prompt: embeddings,
      negative: null,
    });
    expect(difference(latents, await latentsOf("a red cat", { guidanceScale: 1 }))).toBe(0);
  });
});

describe("a damaged pipeline", () => {
  it.each(["text_encoder", "transformer", "vae"])("with NaN in its %s gives no picture", async (damaged) => {
    const folder = await make({
      weights: (component, tensors) => {
        if (component !== damaged) return;
        for (const { data } of tensors.values()) if (data.length > 1) (data as Float32Array)[0] = Number.NaN;
      },
    });
    const broken = await open(folder);
    await expect(broken("a red cat", settings)).rejects.toThrow(NumericError);
  });

  it("with weights missing says which", async () => {
    const folder = await make({
      weights: (component, tensors) => {
        if (component === "transformer") tensors.delete("proj_out.weight");
      },
    });
    const broken = (await open(folder))("a red cat", settings);
    await expect(broken).rejects.toThrow(CheckpointError);
    await expect(broken).rejects.toThrow("proj_out.weight");
  });

  it("of another class is refused", async () => {
    const failed = open(await make({ className: "StableVideoDiffusionPipeline" }));
    await expect(failed).rejects.toThrow(ConfigError);
    await expect(failed).rejects.toThrow("it is a StableVideoDiffusionPipeline");
    await expect(open(await writeTinyPipeline(await temporaryFolder(), "dit"))).rejects.toThrow(ConfigError);
  });
});

it("a tokenizer with more tokens than the text encoder is refused, not read out of bounds", async () => {
  const folder = await make();
  const path = join(folder.path, "tokenizer/tokenizer.json");
  const json = JSON.parse(await readFile(path, "utf8")) as { model: { vocab: Record<string, number> } };
  const word = Object.keys(json.model.vocab).find((token) => token.includes("cat"))!;
  json.model.vocab[word] = 5000;
  await writeFile(path, JSON.stringify(json));
  const made = (await open(folder))("cat", settings);
  await expect(made).rejects.toThrow(CheckpointError);
  await expect(made).rejects.toThrow("The tokenizer gives the id 5000, but the text encoder has");
});
