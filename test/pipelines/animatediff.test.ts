/** AnimateDiff with LCM, Lightning's settings, LoRAs and Stable Diffusion XL, against whole runs of diffusers: test/fixtures/animatediff.py. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { memorySource } from "../../src/checkpoints/files.ts";
import { LoraFile } from "../../src/checkpoints/lora/file.ts";
import { withLoraFiles } from "../../src/checkpoints/lora/folder.ts";
import type { NodeFolder } from "../../src/checkpoints/node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { ArgumentError, CheckpointError, ConfigError } from "../../src/errors.ts";
import type { Animation } from "../../src/media/animation.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { TextToVideoPipeline } from "../../src/pipelines/text-to-video.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { sizeOf, type Tensor } from "../../src/tensor.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import {
  type AnimateDiffCase,
  animateDiffCases,
  type RecordedVideo,
  recordedVideos,
  solverOptionsOf,
  takenApart,
  writeAnimateDiff,
} from "../support/animatediff.ts";
import { fixture, tensors } from "../support/golden.ts";
import { encoded } from "../support/single-files.ts";

const threads = 1;
const folders = {} as Record<AnimateDiffCase, NodeFolder>;
beforeAll(async () => {
  for (const name of animateDiffCases) folders[name] = await writeAnimateDiff(name);
});

/** Largest difference from [videos, frames, height, width, 3] in [0, 1], in steps of 8-bit pixels. */
function furthest(videos: readonly Animation[], { shape, data }: Tensor): number {
  const [first] = videos;
  expect([videos.length, first!.frames.length, first!.frames[0]!.height, first!.frames[0]!.width]).toEqual(
    shape.slice(0, 4),
  );
  const pixels = videos.flatMap(({ frames }) => frames.flatMap((frame) => [...frame.data]));
  return pixels.reduce((most, pixel, i) => Math.max(most, Math.abs(pixel - 255 * Number(data[i]))), 0);
}

/** The call's arguments under diffusers' names, which options have too. */
function optionsOf({ prompt: _, scheduler, loras: __, ...call }: RecordedVideo) {
  return { ...call, ...solverOptionsOf.get(scheduler) };
}

const lorasOf = (folder: NodeFolder, { loras = [] }: RecordedVideo) =>
  loras.map(([file, scale]) => ({ file: join(folder.path, file), scale }));

describe.each(animateDiffCases)("%s, against diffusers' runs", (name) => {
  it("every step, from recorded embeddings and noise", async () => {
    const { outputs } = await verifyFolder(folders[name], nodeRuntime, { threads });
    expect(outputs).toHaveLength(5 * (await recordedVideos(name)).length);
    for (const { name: output, relative } of outputs) expect(relative, output).toBeLessThan(1e-3);
  });

  it("videos from prompts and seeds, also of a UNet for images and a motion adapter", async () => {
    const { base, adapter } = await takenApart(folders[name]);
    for (const [i, { run, call, io }] of (await recordedVideos(name)).entries()) {
      const [folder, motionAdapter] =
        i === 0 && name !== "animatediff-sdxl-lcm" ? [folders[name]] : [base, adapter.path];
      const pipe = await TextToVideoPipeline.fromPretrained(folder!.path, {
        ...{ threads, motionAdapter },
        loras: lorasOf(folder!, call),
      });
      const { videos, seeds } = await pipe(call.prompt, optionsOf(call) as object);
      await pipe.release();
      expect(seeds).toEqual(call.seeds);
      expect(furthest(videos, io.get("output.frames")!), run).toBeLessThan(1);
    }
  });
});

describe("Stable Diffusion XL's videos", () => {
  it("are the same within a budget of memory", async () => {
    const pipe = await TextToVideoPipeline.fromFolder(folders["animatediff-sdxl"], nodeRuntime, { threads });
    expect(pipe.guidanceScale).toBe(5);
    const call = { steps: 2, frames: 2, seeds: [1, 2], prompt2: "a dog" };
    const { videos } = await pipe(["a cat", "a red house"], call);
    const planned = await pipe(["a cat", "a red house"], { ...call, memory: "400MB" });
    for (const [i, { frames }] of videos.entries()) {
      for (const [k, { data }] of frames.entries()) {
        planned.videos[i]!.frames[k]!.data.forEach((value, at) => {
          expect(Math.abs(value - data[at]!)).toBeLessThanOrEqual(1);
        });
      }
    }
    await pipe.release();
  });

  it("are opened by the class that says so, and by no other", async () => {
    const { base, adapter } = await takenApart(folders["animatediff-sdxl"]);
    const path = join(base.path, "model_index.json");
    const index = JSON.parse(await readFile(path, "utf8")) as object;
    const ofXL = { text_encoder_2: [null, null], tokenizer_2: [null, null], force_zeros_for_empty_prompt: null };
    const open = async (className: string) => {
      const more = className.includes("XL") ? {} : ofXL;
      await writeFile(path, JSON.stringify({ ...index, ...more, _class_name: className }));
      return TextToVideoPipeline.fromFolder(base, nodeRuntime, { threads, motionAdapter: adapter });
    };
    const pipe = await open("StableDiffusionXLPipeline");
    expect(pipe.schedulerConfig).toMatchObject({ _class_name: "DDIMScheduler", beta_schedule: "linear" });
    await pipe.release();
    await expect(open("AnimateDiffPipeline")).rejects.toThrow(ConfigError);
    await expect(open("AnimateDiffPipeline")).rejects.toThrow("its UNet is Stable Diffusion XL's");
    const images = TextToImagePipeline.fromFolder(folders["animatediff-sdxl"], nodeRuntime);
    await expect(images).rejects.toThrow("It is opened by TextToVideoPipeline, or halfstep animate.");
  });
});

it("refuses what this model does not have", async () => {
  const pipe = await TextToVideoPipeline.fromFolder(folders["animatediff-sd"], nodeRuntime, { threads });
  for (const [options, message] of [
    [{ prompt2: "a dog" }, "prompt2 is for Stable Diffusion XL and 3; this model is an AnimateDiffPipeline"],
    [{ targetSize: [8, 8] }, "targetSize is for Stable Diffusion XL"],
    [{ clipSkip: 3 }, "clipSkip is 3; this model's text encoder has 3 layers, so at most 2"],
    [{ timestepSpacing: "even" }, "timestepSpacing must be one of linspace, leading, trailing"],
    [{ seeds: [1] }, "There are 1 seeds for 2 videos"],
    [{ negativePrompt: ["a", "b", "c"] }, "There are 3 negative prompts for 2 prompts"],
  ] as const) {
    const made = pipe(["a cat", "a dog"], { steps: 1, frames: 1, ...(options as object) });
    await expect(made).rejects.toThrow(ArgumentError);
    await expect(made).rejects.toThrow(message);
  }
  await pipe.release();
});

describe("motion LoRAs", () => {
  const motion = () => tensors(fixture("pipelines/animatediff-sd"), "motion.safetensors");
  const open = async (renamed: (name: string) => string, change = (tensor: Tensor) => tensor) => {
    const renamedTensors = [...(await motion())].map(([name, tensor]) => [renamed(name), change(tensor)] as const);
    return LoraFile.open(memorySource("motion.safetensors", await encoded(new Map(renamedTensors))));
  };

  it("are the same in AnimateDiff's names, in PEFT's and in kohya's", async () => {
    const own = await open((name) => name);
    const layers = [...own.layers.get("denoiser")!.keys()];
    expect(layers).toHaveLength(3 * 8);
    const animateDiff = (name: string) =>
      name
        .replace("unet.", "")
        .replace(/(motion_modules\.\d)/, "$1.temporal_transformer")
        .replace(/attn(\d)/, (_, i: string) => `attention_blocks.${Number(i) - 1}`);
    const peft = (name: string) =>
      name
        .replace(".processor.to_out_lora", ".to_out.0")
        .replace(/\.processor\.(to_.)_lora/, ".$1")
        .replace(".down.", ".lora_A.")
        .replace(".up.", ".lora_B.");
    const kohya = (name: string) =>
      peft(name).replace(
        /^unet\.(.*)\.lora_(A|B)\.weight$/,
        (_, layer: string, part: string) =>
          `lora_unet_${layer.replaceAll(".", "_")}.lora_${part === "A" ? "down" : "up"}.weight`,
      );
    for (const renamed of [animateDiff, peft, kohya]) {
      const other = await open(renamed);
      const merged = await Promise.all([own, other].map((lora) => mergedWeights(folders["animatediff-sd"], lora)));
      expect(merged[1]).toEqual(merged[0]);
      expect(merged[0]!.size).toBe(3 * 8);
    }
  });

  it("of another base are refused by their shapes, with the layer's name", async () => {
    const narrow = (tensor: Tensor): Tensor => {
      const shape = tensor.shape.map((size) => (size === 8 ? 4 : size));
      return { ...tensor, shape, data: tensor.data.slice(0, sizeOf(shape)) } as Tensor;
    };
    const lora = await open((name) => name, narrow);
    const refused = mergedWeights(folders["animatediff-sd"], lora);
    await expect(refused).rejects.toThrow(CheckpointError);
    await expect(refused).rejects.toThrow(
      /layer "unet\.down_blocks\.0\.motion_modules\.0\.transformer_blocks\.0\.attn1\.processor\.to_\w+_lora\.?\w*" adds \[4, 4\] to .*which is \[8, 8\]/,
    );
  });

  it("need a motion adapter", async () => {
    const { base } = await takenApart(folders["animatediff-sd"]);
    const refused = mergedWeights(base, await open((name) => name));
    await expect(refused).rejects.toThrow(
      "are layers of motion modules: a motion LoRA goes with a motion adapter and makes videos (animate --adapter)",
    );
  });
});

/** The UNet's tensors that a LoRA changes, with what they become. */
async function mergedWeights(folder: NodeFolder, lora: LoraFile): Promise<Map<string, Float32Array>> {
  const weights = await openWeights((await withLoraFiles(folder, [{ lora, scale: 0.8 }])).sub("unet"));
  const changed = [...weights.entries].filter(([, { added }]) => added);
  const read = changed.map(async ([name]) => [name, (await weights.read(name)).data as Float32Array] as const);
  return new Map(await Promise.all(read));
}
