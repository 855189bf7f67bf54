/** What Stable Diffusion 3 takes, refuses and shares with other families; its runs against diffusers: stable-diffusion.test.ts. */
import { cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { ArgumentError, ConfigError } from "../../src/errors.ts";
import { FeedbackCheckpoint } from "../../src/ilf/checkpoint.ts";
import { Distiller, type DistillSettings } from "../../src/pipelines/distill.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import type { TextToImageOptions } from "../../src/pipelines/text-to-image-options.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { dynamicShift } from "../../src/schedulers/dynamic-shift.ts";
import { createScheduler } from "../../src/schedulers/registry.ts";
import { compare } from "../../src/verify/compare.ts";
import { moduleWith, randomFeedback, writeFeedback } from "../support/feedback.ts";
import { temporaryFolder } from "../support/models.ts";
import { drawnMask, drawnPicture, writeStableDiffusion } from "../support/stable-diffusion.ts";

let folder: NodeFolder;
beforeAll(async () => {
  folder = await writeStableDiffusion("sd3");
});

const open = (from: NodeFolder = folder) => TextToImagePipeline.fromFolder(from, nodeRuntime, { threads: 1 });

/** A copy that may be changed. */
async function copy(): Promise<NodeFolder> {
  const path = await temporaryFolder();
  await cp(folder.path, path, { recursive: true });
  return new NodeFolder(path, "copy");
}

async function changeJson(from: NodeFolder, file: string, change: object): Promise<void> {
  const path = join(from.path, file);
  await writeFile(path, JSON.stringify({ ...(JSON.parse(await readFile(path, "utf8")) as object), ...change }));
}

const short = { steps: 3, maxSequenceLength: 6, guidanceScale: 3, seed: 4 } as const;

describe("without an encoder", () => {
  it("T5 is left out whether model_index.json lists it or not, and said to be if it does", async () => {
    const [listed, unlisted] = [await copy(), await copy()];
    await rm(join(listed.path, "text_encoder_3"), { recursive: true });
    await changeJson(unlisted, "model_index.json", { text_encoder_3: [null, null], tokenizer_3: [null, null] });
    const results = [];
    for (const from of [listed, unlisted]) {
      const pipe = await open(from);
      const { embeddings } = await pipe.embed(["a cat"], { maxSequenceLength: 6 });
      const { data, shape } = embeddings.encoderHiddenStates;
      expect(shape).toEqual([1, 20 + 6, 26]);
      // CLIP's states are 22 wide, and T5's place is empty.
      expect(data.slice(20 * 26)).toEqual(new Float32Array(6 * 26));
      expect(data.slice(22, 26)).toEqual(new Float32Array(4));
      results.push(await pipe("a cat", short));
      await pipe.release();
    }
    expect(results[0]!.images[0]!.data).toEqual(results[1]!.images[0]!.data);
    expect(results.map(({ warnings }) => warnings)).toEqual([[expect.stringContaining("T5 (text_encoder_3)")], []]);
    const pipe = await open(unlisted);
    const { warnings } = await pipe("a cat", { ...short, prompt3: "a dog" });
    expect(warnings).toEqual([expect.stringContaining("prompt3 and negativePrompt3 have no effect")]);
    await pipe.release();
  });

  it("refuses a folder without one of CLIP's towers, or both, with what to do", async () => {
    const lacking = await copy();
    await rm(join(lacking.path, "text_encoder_2"), { recursive: true });
    await expect(open(lacking)).rejects.toThrow(ConfigError);
    await expect(open(lacking)).rejects.toThrow(/has no text_encoder_2\. .* take them from the model's repository/);
    await changeJson(lacking, "model_index.json", { text_encoder: [null, null], tokenizer: [null, null] });
    await expect(open(lacking)).rejects.toThrow("has no text_encoder and no text_encoder_2");
  });

  it("refuses T5 without its tokenizer", async () => {
    const lacking = await copy();
    await changeJson(lacking, "model_index.json", { tokenizer_3: [null, null] });
    await expect(open(lacking)).rejects.toThrow("has a text_encoder_3, but no tokenizer_3");
  });
});

it.each<[string, string, object, string]>([
  ["T5 of another width", "text_encoder_3", { d_model: 24 }, "joint_attention_dim"],
  ["a tower with another projection", "text_encoder_2", { projection_dim: 11 }, "towers give 10 + 11 (projection_dim)"],
])("refuses %s", async (_, part, change, message) => {
  const other = await copy();
  await changeJson(other, `${part}/config.json`, change);
  await expect(open(other)).rejects.toThrow(ConfigError);
  await expect(open(other)).rejects.toThrow(message);
});

it.each<[TextToImageOptions, string]>([
  [{ maxSequenceLength: 513 }, "maxSequenceLength is 513; of Stable Diffusion 3 it is at most 512"],
  [{ clipSkip: 2 }, "clipSkip is 2; this model's text encoder has 3 layers, so at most 1"],
  [{ width: 36 }, "width is 36; this model draws at most 32 pixels on a side"],
  [{ width: 14 }, "width must be a multiple of 4 pixels"],
  [{ cleanCaption: false }, "cleanCaption is for PixArt"],
  [{ originalSize: [16, 16] }, "originalSize is for Stable Diffusion XL; this model is a StableDiffusion3Pipeline"],
  [{ prompt3: ["a", "b"] }, "prompt3 has 2 prompts and there are 1"],
  [{ skipGuidanceLayers: [1] } as TextToImageOptions, "skipGuidanceLayers"],
])("refuses %j", async (options, message) => {
  const pipe = await open();
  await expect(pipe("a cat", { steps: 1, ...options })).rejects.toThrow(ArgumentError);
  await expect(pipe("a cat", { steps: 1, ...options })).rejects.toThrow(message);
  await pipe.release();
});

it("refuses a scheduler of another process", async () => {
  const pipe = await open();
  await expect(pipe("a cat", { scheduler: "ddim" })).rejects.toThrow(ConfigError);
  await expect(pipe("a cat", { scheduler: "ddim" })).rejects.toThrow("was trained with flow matching");
  await pipe.release();
});

describe("the shift of a scheduler that depends on the image's size", () => {
  const config = { _class_name: "FlowMatchEulerDiscreteScheduler", use_dynamic_shifting: true };

  it("lies on a line through the two sizes of the configuration", () => {
    const sizes = { base_image_seq_len: 100, max_image_seq_len: 300, base_shift: 0.5, max_shift: 1.5 };
    const scheduler = createScheduler({ ...config, ...sizes });
    expect([100, 200, 300, 400].map((patches) => dynamicShift(scheduler, patches))).toEqual([0.5, 1, 1.5, 2]);
    // diffusers' defaults, at 256 and 4096 patches.
    expect(dynamicShift(createScheduler(config), 256)).toBeCloseTo(0.5, 12);
    expect(dynamicShift(createScheduler(config), 4096)).toBeCloseTo(1.15, 12);
    expect(dynamicShift(createScheduler({ ...config, use_dynamic_shifting: false }), 256)).toBeUndefined();
  });

  it("needs two sizes", () => {
    const scheduler = createScheduler({ ...config, base_image_seq_len: 300, max_image_seq_len: 300 });
    expect(() => dynamicShift(scheduler, 300)).toThrow(ConfigError);
  });
});

it("has diffusers' defaults: 28 steps, from an image 0.6 of 50, guidance scale 7", async () => {
  const pipe = await open();
  expect(pipe.guidanceScale).toBe(7);
  const settings = { maxSequenceLength: 4, width: 8, height: 8, seed: 1 };
  expect((await pipe("a cat", settings)).fullSteps).toBe(28);
  for (const mask of [{}, { mask: drawnMask(8, 8) }]) {
    expect((await pipe("a cat", { ...settings, image: drawnPicture(8, 8), ...mask })).fullSteps).toBe(30);
  }
  await pipe.release();
});

it("picture i of several is the one of its seed alone, from text and from an image", async () => {
  const pipe = await open();
  for (const options of [{}, { image: drawnPicture(16, 12), strength: 0.7 }]) {
    const { images } = await pipe(["a cat", "a red house"], { ...short, seed: undefined, seeds: [8, 5], ...options });
    const alone = await pipe("a red house", { ...short, seed: 5, ...options });
    images[1]!.data.forEach((value, i) => {
      expect(Math.abs(value - alone.images[0]!.data[i]!)).toBeLessThanOrEqual(1);
    });
  }
  await pipe.release();
});

describe("steps in part", () => {
  const latentsOf = async (pipe: TextToImagePipeline, accelerate: TextToImageOptions["accelerate"]) => {
    let last: Float32Array | undefined;
    const result = await pipe.generate("a cat", {
      ...short,
      steps: 4,
      accelerate,
      onStep: ({ latents }) => {
        last = latents.data.slice();
      },
    });
    return { data: last!, counts: [result.fullSteps, result.innerSteps] };
  };

  it.each(["cache", "first-block", "easycache", "taylorseer"] as const)(
    "%s gives the plain run where nothing is skipped, and skips",
    async (method) => {
      const pipe = await open();
      const plain = await latentsOf(pipe, "none");
      const byDrift = method === "first-block" || method === "easycache";
      const none = byDrift ? { method, threshold: 0 } : { method, schedule: { every: 1 } };
      const some = byDrift ? { method, threshold: 100 } : { method, schedule: { every: 2 } };
      const full = await latentsOf(pipe, none as TextToImageOptions["accelerate"]);
      expect(full.counts).toEqual([4, 0]);
      expect(compare("latents", full.data, plain.data).relative).toBeLessThan(1e-5);
      const part = await latentsOf(pipe, some as TextToImageOptions["accelerate"]);
      expect(part.counts[1]).toBeGreaterThan(0);
      expect(part.data).not.toEqual(plain.data);
      await pipe.release();
    },
  );

  it.each([
    [2, 2],
    [1, 2],
    // The last block does not write the text.
    [3, 3],
  ])(
    "a feedback module at scale 0 is plain caching (blocks %i, %i), and full steps with it the plain run",
    async (feedBlock, resumeBlock) => {
      const own = await copy();
      const blocks = { feedBlock, resumeBlock, schedule: { every: 2 } };
      const { config, weights } = await randomFeedback(own, { ...blocks, module: moduleWith({}) }, 0);
      await writeFeedback(own, config, weights);
      const pipe = await open(own);
      const plain = await latentsOf(pipe, "none");
      const { module: _, backbone: __, ...settings } = config;
      const cached = await latentsOf(pipe, { method: "cache", ...settings });
      const ilf = await latentsOf(pipe, "ilf");
      expect(ilf.counts).toEqual(cached.counts);
      expect(ilf.counts[1]).toBeGreaterThan(0);
      expect(compare("latents", ilf.data, cached.data).relative).toBeLessThan(1e-5);
      const full = await latentsOf(pipe, { method: "ilf", schedule: { every: 1 } });
      expect(compare("latents", full.data, plain.data).relative).toBeLessThan(1e-5);
      await pipe.release();
    },
  );

  it("distillation comes closer to the full run than plain caching, and what it writes loads", async () => {
    const own = await copy();
    await changeJson(own, "model_index.json", { _max_sequence_length: 6 });
    await cp(join(own.path, "scheduler_dynamic"), join(own.path, "scheduler"), { recursive: true });
    const settings: DistillSettings = {
      config: {
        ...{ feedBlock: 2, resumeBlock: 2, schedule: ["full", "inner", "full", "inner"] },
        module: moduleWith({ embeddingChange: true, trend: true, mixing: true, ownBlocks: true }),
      },
      ...{ steps: 60, learningRate: 5e-3, batch: 4, samplingSteps: 4, pictures: 2, reuse: 4, memory: 1e7, seed: 5 },
      ...{ guidanceScale: 3, guidanceInterval: [0, 1], featureLoss: 0, loss: "root", lookAhead: 0 },
    };
    const pipe = await open(own);
    const distiller = await Distiller.create(pipe, ["a cat", "a red house", "a dog"], settings);
    for (let step = 0; step < settings.steps; step++) await distiller.step();
    await writeFeedback(own, distiller.config, distiller.feedbackTrainer.weights());
    await distiller.release();
    await pipe.release();
    expect(await FeedbackCheckpoint.open(own.sub("ilf"))).not.toBeNull();
    const trained = await open(own);
    const [full, ilf, cache] = [
      await latentsOf(trained, "none"),
      await latentsOf(trained, "ilf"),
      await latentsOf(trained, { method: "cache", schedule: settings.config.schedule, feedBlock: 2, resumeBlock: 2 }),
    ];
    expect(ilf.counts).toEqual([2, 2]);
    const error = ({ data }: typeof ilf) => compare("latents", data, full.data).relative;
    expect(error(ilf)).toBeLessThan(0.8 * error(cache));
    await trained.release();
  });

  it("is not for a model that draws with a UNet", async () => {
    const unet = await open(await writeStableDiffusion("sd"));
    const settings = { config: {}, lookAhead: 0 } as unknown as DistillSettings;
    await expect(Distiller.create(unet, ["a cat"], settings)).rejects.toThrow(ArgumentError);
    await expect(Distiller.create(unet, ["a cat"], settings)).rejects.toThrow("draws with a unet");
    await unet.release();
  });
});
