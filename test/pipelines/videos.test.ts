import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { pickScheduler } from "../../src/components/solver.ts";
import { ArgumentError, ConfigError, NumericError } from "../../src/errors.ts";
import type { Animation } from "../../src/media/animation.ts";
import type { Picture } from "../../src/media/picture.ts";
import { type ImageToVideo, ImageToVideoPipeline } from "../../src/pipelines/image-to-video.ts";
import { farFromTraining } from "../../src/pipelines/picture-size.ts";
import { type TextToVideo, TextToVideoPipeline } from "../../src/pipelines/text-to-video.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { guideFrames, joinChannels } from "../../src/sampling/guidance.ts";
import { floatTensor, type Tensor } from "../../src/tensor.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { buildTokenizer } from "../../training/tokenizer.ts";
import { drawWeights } from "../support/drawn.ts";
import { fixture, tensors } from "../support/golden.ts";
import { recordedVideo, type VideoPipelineName, writeVideoPipeline } from "../support/video-pipelines.ts";

const threads = 1;
const folders = {} as Record<VideoPipelineName, NodeFolder>;
let text: TextToVideo;
let image: ImageToVideo;
const [width, height] = [60, 41];
const picture: Picture = {
  width,
  height,
  data: Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * i * 7 + i * 31) % 256),
};
const small = { width: 24, height: 16, steps: 1, seed: 1 } as const;

beforeAll(async () => {
  for (const name of ["animatediff", "svd"] as const) folders[name] = await writeVideoPipeline(name);
  text = await TextToVideoPipeline.fromFolder(folders.animatediff, nodeRuntime, { threads });
  image = await ImageToVideoPipeline.fromFolder(folders.svd, nodeRuntime, { threads });
});

/** Largest difference from [1, frames, height, width, 3] in [0, 1], in steps of 8-bit pixels. */
function furthest({ frames }: Animation, { shape, data }: Tensor): number {
  expect([frames.length, frames[0]!.height, frames[0]!.width]).toEqual(shape.slice(1, 4));
  const pixels = frames.flatMap((frame) => [...frame.data]);
  return pixels.reduce((most, pixel, i) => Math.max(most, Math.abs(pixel - 255 * Number(data[i]))), 0);
}

it("AnimateDiff follows prompts as closely as model_index.json says, or by 7.5", async () => {
  expect(text.guidanceScale).toBe(7.5);
  const folder = await writeVideoPipeline("animatediff");
  const path = join(folder.path, "model_index.json");
  const index = JSON.parse(await readFile(path, "utf8")) as object;
  await writeFile(path, JSON.stringify({ ...index, _guidance_scale: 3 }));
  const own = await TextToVideoPipeline.fromFolder(folder, nodeRuntime, { threads });
  expect(own.guidanceScale).toBe(3);
  const options = { ...small, frames: 2 };
  const made = await own("a cat", options);
  expect(made.videos).toEqual((await text("a cat", { ...options, guidanceScale: 3 })).videos);
  expect(made.videos).not.toEqual((await text("a cat", options)).videos);
  await writeFile(path, JSON.stringify({ ...index, _guidance_scale: "much" }));
  await expect(TextToVideoPipeline.fromFolder(folder, nodeRuntime, { threads })).rejects.toThrow(ConfigError);
});

// Runs of diffusers with weights that both sides draw: test/fixtures/videos.py.
describe("against diffusers' runs", () => {
  it.each(["animatediff", "svd"] as const)("%s: every step of the recorded run", async (name) => {
    const { outputs, pass } = await verifyFolder(folders[name], nodeRuntime, { threads });
    expect(outputs.map((output) => output.name)).toContain("output.frames");
    for (const { name: output, relative } of outputs) expect(relative, output).toBeLessThan(1e-3);
    expect(pass).toBe(true);
  });

  it("AnimateDiff from a prompt and a seed: tokens, embeddings, noise, steps, frames", async () => {
    const { call, io } = await recordedVideo("animatediff");
    const stepped: number[] = [];
    const { videos, seeds, warnings } = await text(call["prompt"]!, {
      negativePrompt: call["negative_prompt"]!,
      frames: call["num_frames"]!,
      steps: call["num_inference_steps"]!,
      guidanceScale: call["guidance_scale"]!,
      height: call["height"]!,
      width: call["width"]!,
      seed: call["seed"]!,
      onStep: ({ index }) => {
        stepped.push(index);
      },
    });
    expect({ seeds, warnings, fps: videos[0]!.fps }).toEqual({ seeds: [3], warnings: [], fps: 8 });
    expect(stepped).toEqual([0, 1, 2, 3]);
    expect(videos).toHaveLength(1);
    expect(furthest(videos[0]!, io.get("output.frames")!)).toBeLessThan(0.55);
  });

  it("Stable Video Diffusion from a picture and a seed: sizes, CLIP, noise, guidance, chunks", async () => {
    const { call, io } = await recordedVideo("svd");
    const { videos, seeds, warnings } = await image(picture, {
      frames: call["num_frames"]!,
      steps: call["num_inference_steps"]!,
      minGuidanceScale: call["min_guidance_scale"]!,
      maxGuidanceScale: call["max_guidance_scale"]!,
      fps: call["fps"]!,
      motionBucketId: call["motion_bucket_id"]!,
      noiseAugStrength: call["noise_aug_strength"]!,
      decodeChunkSize: call["decode_chunk_size"]!,
      height: call["height"]!,
      width: call["width"]!,
      seed: call["seed"]!,
    });
    expect({ seeds, warnings, fps: videos[0]!.fps }).toEqual({ seeds: [5], warnings: [], fps: 7 });
    expect(furthest(videos[0]!, io.get("output.frames")!)).toBeLessThan(0.55);
    const seen = await image.imageEncoder!.embed(picture);
    const expected = io.get("input.image_embeddings")!;
    for (const [i, value] of seen.data.entries()) expect(value).toBeCloseTo(Number(expected.data[i]), 4);
  });

  it("fails where a recorded call names folders that cannot be seen", async () => {
    const { call } = await recordedVideo("svd");
    expect(call["unet"]).toBeUndefined();
    const folder = folders.svd;
    const elsewhere = Object.assign(Object.create(folder), {
      has: async (path: string) => path !== "model_index.json" && folder.has(path),
      json: async (path: string) =>
        path === "call.json" ? { ...call, unet: "../unet", vae: "../vae" } : folder.json(path),
    }) as NodeFolder;
    await expect(verifyFolder(elsewhere, nodeRuntime)).rejects.toThrow(
      'names "../unet" as its unet, which leaves the folder',
    );
    const beside = (path: string) => folder.sub(path.slice(3));
    expect(await verifyFolder(elsewhere, nodeRuntime, { beside, threads })).toMatchObject({
      pass: true,
      class: "StableVideoDiffusionPipeline",
    });
  });
});

describe("text to video", () => {
  it("gives each of several videos the noise of its own seed", async () => {
    const options = { ...small, frames: 2 };
    const both = await text("a cat", { ...options, count: 2 });
    expect(both.seeds).toEqual([1, 2]);
    const second = await text("a cat", { ...options, seed: 2 });
    const difference = [...both.videos[1]!.frames[1]!.data].map((value, i) =>
      Math.abs(value - second.videos[0]!.frames[1]!.data[i]!),
    );
    expect(Math.max(...difference)).toBeLessThanOrEqual(1);
    expect(both.videos[0]!.frames[1]!.data).not.toEqual(both.videos[1]!.frames[1]!.data);
  });

  it("has the model's size, and counts frames as they are decoded, small ones four together", async () => {
    const decoded: string[] = [];
    const { videos } = await text("a cat", {
      steps: 1,
      frames: 6,
      guidanceScale: 1,
      fps: 12,
      onDecode: ({ done, total }) => decoded.push(`${done}/${total}`),
    });
    expect(videos[0]!.frames[0]).toMatchObject({ width: 16, height: 16 });
    expect(videos[0]!.fps).toBe(12);
    expect(decoded).toEqual(["0/6", "4/6", "6/6"]);
  });

  it("says what it left out of a prompt", async () => {
    const { warnings } = await text(`${"the cat ".repeat(12)}zqvx`, { ...small, frames: 1 });
    expect(warnings[0]).toMatch(/longer than 20 tokens; this was left out: "the cat the cat the cat .*"/);
    expect(warnings[1]).toBe("Words that the model does not know: zqvx.");
  });

  it.each<[object, string]>([
    [{ frames: 7 }, "frames must be a whole number from 1 to 6, not 7."],
    [{ frames: 0 }, "frames must be"],
    [{ width: 17 }, "width must be a multiple of 2 pixels for this model, not 17."],
    [{ height: 0 }, "height must be"],
    [{ steps: 0 }, "steps must be"],
    [{ fps: 0 }, "fps must be"],
    [{ guidanceScale: Number.NaN }, "guidanceScale must be"],
    [{ seed: -1 }, "seed must be"],
    [{ count: 0 }, "count must be"],
  ])("refuses %o", async (options, message) => {
    const made = text("a cat", { ...small, frames: 2, ...options });
    await expect(made).rejects.toThrow(ArgumentError);
    await expect(made).rejects.toThrow(message);
  });

  it("stops between steps and between frames", async () => {
    const reason = new Error("enough");
    await expect(text("a cat", { ...small, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    for (const hook of ["onStep", "onDecode"] as const) {
      const abort = new AbortController();
      let calls = 0;
      const stop = () => {
        calls++;
        abort.abort(reason);
      };
      const made = text("a cat", { ...small, steps: 3, frames: 3, signal: abort.signal, [hook]: stop });
      await expect(made).rejects.toBe(reason);
      expect(calls).toBe(1);
    }
  });
});

describe("Stable Diffusion with a motion adapter", () => {
  /** The fixture's UNet taken apart, as Stable Diffusion's folder and an adapter's. */
  async function apart() {
    const folder = await writeVideoPipeline("animatediff");
    const adapter = new NodeFolder(join(folder.path, "..", `${basename(folder.path)}-adapter`));
    await mkdir(adapter.path);
    const json = async (path: string) => JSON.parse(await readFile(join(folder.path, path), "utf8"));
    const file = "diffusion_pytorch_model.safetensors";
    const all = [...(await tensors(folder, `unet/${file}`))];
    const isMotion = ([name]: [string, unknown]) => name.includes(".motion_modules.");
    await writeSafetensors(join(adapter.path, file), new Map(all.filter(isMotion)));
    await writeSafetensors(join(folder.path, "unet", file), new Map(all.filter((entry) => !isMotion(entry))));
    const unet = await json("unet/config.json");
    const spatial = (types: string[]) => types.map((type) => type.replace("Motion", "2D"));
    const write = (path: string, value: object) => writeFile(path, JSON.stringify(value));
    await write(join(folder.path, "unet/config.json"), {
      _class_name: "UNet2DConditionModel",
      ...Object.fromEntries(
        ["block_out_channels", "layers_per_block", "norm_num_groups", "cross_attention_dim", "sample_size"].map(
          (key) => [key, unet[key]],
        ),
      ),
      attention_head_dim: unet.num_attention_heads,
      down_block_types: spatial(unet.down_block_types),
      up_block_types: spatial(unet.up_block_types),
    });
    await write(join(adapter.path, "config.json"), {
      _class_name: "MotionAdapter",
      block_out_channels: unet.block_out_channels,
      motion_layers_per_block: unet.layers_per_block,
      motion_num_attention_heads: unet.motion_num_attention_heads,
      motion_norm_num_groups: unet.norm_num_groups,
      motion_max_seq_length: unet.motion_max_seq_length,
    });
    return { folder, adapter };
  }

  it("gives what the merged model gives, from two folders or from one", async () => {
    const { folder, adapter } = await apart();
    await expect(TextToVideoPipeline.fromFolder(folder, nodeRuntime)).rejects.toThrow(
      'draws single pictures. For videos it needs a motion adapter that was trained on its base model, such as "guoyww/',
    );
    const expected = (await text("a cat", { ...small, frames: 3 })).videos[0]!.frames[2]!.data;
    const options = { threads, motionAdapter: adapter };
    const pipe = await TextToVideoPipeline.fromFolder(folder, nodeRuntime, options);
    const { videos } = await pipe("a cat", { ...small, frames: 3 });
    await pipe.release();
    expect(videos[0]!.frames[2]!.data).toEqual(expected);
    const byName = await TextToVideoPipeline.fromPretrained(folder.path, { threads, motionAdapter: adapter.path });
    expect((await byName("a cat", { ...small, frames: 3 })).videos[0]!.frames[2]!.data).toEqual(expected);
    await byName.release();

    const index = JSON.parse(await readFile(join(folder.path, "model_index.json"), "utf8"));
    const write = (change: object) =>
      writeFile(join(folder.path, "model_index.json"), JSON.stringify({ ...index, ...change }));
    await write({ _class_name: "StableDiffusionPipeline" });
    await writeFile(
      join(folder.path, "scheduler/scheduler_config.json"),
      JSON.stringify({
        _class_name: "PNDMScheduler",
        beta_start: 0.001,
        beta_schedule: "scaled_linear",
        skip_prk_steps: true,
      }),
    );
    const stable = await TextToVideoPipeline.fromFolder(folder, nodeRuntime, options);
    // The solver that motion modules were trained for, not that of the pictures.
    expect(pickScheduler(stable.schedulerConfig).config).toMatchObject({
      beta_start: 0.001,
      beta_schedule: "linear",
      clip_sample: false,
      timestep_spacing: "linspace",
    });
    expect(pickScheduler(stable.schedulerConfig, "euler").config).toMatchObject({ beta_schedule: "linear" });

    await cp(adapter.path, join(folder.path, "motion_adapter"), { recursive: true });
    await rm(adapter.path, { recursive: true });
    await cp(fixture("pipelines/animatediff/scheduler").path, join(folder.path, "scheduler"), { recursive: true });
    await write({ motion_adapter: ["diffusers", "MotionAdapter"] });
    const one = await TextToVideoPipeline.fromFolder(folder, nodeRuntime, { threads });
    expect((await one("a cat", { ...small, frames: 3 })).videos[0]!.frames[2]!.data).toEqual(expected);
    await one.release();
  });

  it("is refused where there are motion modules already", async () => {
    const options = { motionAdapter: folders.svd };
    await expect(TextToVideoPipeline.fromFolder(folders.animatediff, nodeRuntime, options)).rejects.toThrow(
      "its UNet has motion modules already",
    );
  });
});

it("takes T5 for the text too, as the embedded models have it", async () => {
  const folder = await writeVideoPipeline("animatediff");
  const { tokenizer, config } = buildTokenizer([["a red cat"], ["the house"]], 8);
  const sizes = { d_model: 10, d_kv: 4, d_ff: 16, num_layers: 1, num_heads: 2 };
  const raw = { architectures: ["T5EncoderModel"], ...sizes, vocab_size: Object.keys(tokenizer.model.vocab).length };
  await rm(join(folder.path, "tokenizer"), { recursive: true });
  await mkdir(join(folder.path, "tokenizer"));
  await writeFile(join(folder.path, "text_encoder/config.json"), JSON.stringify(raw));
  await writeSafetensors(join(folder.path, "text_encoder/model.safetensors"), drawWeights(raw));
  await writeFile(join(folder.path, "tokenizer/tokenizer.json"), JSON.stringify(tokenizer));
  await writeFile(join(folder.path, "tokenizer/tokenizer_config.json"), JSON.stringify(config));
  const pipe = await TextToVideoPipeline.fromFolder(folder, nodeRuntime, { threads });
  const { embeddings, warnings } = await pipe.embed(["a red cat", "a zqvx"]);
  expect(embeddings.encoderHiddenStates.shape).toEqual([2, 8, 10]);
  expect(warnings).toEqual(["Words that the model does not know: zqvx."]);
  expect((await pipe("a red cat", { ...small, frames: 2 })).videos[0]!.frames).toHaveLength(2);
  await pipe.release();
});

describe("image to video", () => {
  it.each<[object, string]>([
    [{ frames: 0 }, "frames must be"],
    [{ width: 17 }, "width must be a multiple of 2 pixels for this model, not 17."],
    [{ noiseAugStrength: -1 }, "noiseAugStrength must be a number from 0 to 10, not -1."],
    [{ fps: 0 }, "fps must be"],
    [{ motionBucketId: -1 }, "motionBucketId must be"],
    [{ decodeChunkSize: 0 }, "decodeChunkSize must be"],
    [{ maxGuidanceScale: Number.POSITIVE_INFINITY }, "maxGuidanceScale must be"],
    [{ prompt: "a cat" }, "the prompt is the first argument"],
  ])("refuses %o", async (options, message) => {
    const made = image(picture, { ...small, frames: 2, ...options });
    await expect(made).rejects.toThrow(ArgumentError);
    await expect(made).rejects.toThrow(message);
  });

  it("goes without guidance, and with other numbers of frames than it was trained on", async () => {
    const { videos } = await image(picture, { ...small, frames: 5, maxGuidanceScale: 1 });
    expect(videos[0]!.frames).toHaveLength(5);
    const own = await image(picture, { steps: 1, maxGuidanceScale: 1 });
    expect(own.videos[0]!.frames).toHaveLength(3);
    expect(own.videos[0]!.frames[0]).toMatchObject({ width: 16, height: 16 });
  });

  it("stops between chunks of frames", async () => {
    const reason = new Error("enough");
    const abort = new AbortController();
    const onDecode = () => abort.abort(reason);
    const made = image(picture, { ...small, frames: 3, decodeChunkSize: 1, signal: abort.signal, onDecode });
    await expect(made).rejects.toBe(reason);
  });
});

// Both fixtures have a sample_size of 8 and an autoencoder that halves: they are models of 16 x 16 pixels.
describe.each([
  ["text", (size: object) => text("a cat", { ...small, frames: 1, ...size })],
  ["image", (size: object) => image(picture, { ...small, frames: 1, ...size })],
] as const)("%s to video", (_, make) => {
  it("warns of sizes far from training, and of no others", async () => {
    expect((await make({ width: 8, height: 16 })).warnings).toEqual([]);
    const note = "14 x 8 pixels are far from the 16 x 16 that this model was trained on";
    expect((await make({ width: 14, height: 8 })).warnings).toEqual([expect.stringContaining(note)]);
  });
});

it("a Stable Video Diffusion of sample_size 96 was trained on 1024 x 576 pixels, not on a square", () => {
  const trained = { width: 1024, height: 576 };
  expect(farFromTraining({ width: 768, height: 432 }, trained)).toEqual([]);
  expect(farFromTraining({ width: 512, height: 288 }, trained)[0]).toContain("far from the 1024 x 576");
});

describe("folders that are not what they should be", () => {
  it("NaN in the decoder gives no black frames", async () => {
    const folder = await writeVideoPipeline("animatediff", (part, weights) => {
      if (part === "vae") (weights.get("decoder.conv_out.bias")!.data as Float32Array)[0] = Number.NaN;
    });
    const pipe = await TextToVideoPipeline.fromFolder(folder, nodeRuntime, { threads });
    await expect(pipe("a cat", { ...small, frames: 2 })).rejects.toThrow(NumericError);
  });

  it("each pipeline refuses the other's", async () => {
    const options = { threads };
    await expect(TextToVideoPipeline.fromFolder(folders.svd, nodeRuntime, options)).rejects.toThrow(
      "it is a StableVideoDiffusionPipeline, and this call is for AnimateDiffPipeline or AnimateDiffSDXLPipeline or " +
        "StableDiffusionPipeline or StableDiffusionXLPipeline or LatentConsistencyModelPipeline. " +
        "It is opened by ImageToVideoPipeline, or halfstep animate --image.",
    );
    const refused = ImageToVideoPipeline.fromFolder(folders.animatediff, nodeRuntime, options);
    await expect(refused).rejects.toThrow(ConfigError);
    await expect(refused).rejects.toThrow("it is an AnimateDiffPipeline, and this call is for StableVideoDiffusion");
    await expect(refused).rejects.toThrow("opened by TextToVideoPipeline, or halfstep animate.");
  });

  it("without weights: no pipeline", async () => {
    const folder = await writeVideoPipeline("animatediff");
    await rm(join(folder.path, "unet", "diffusion_pytorch_model.safetensors"));
    await expect(TextToVideoPipeline.fromFolder(folder, nodeRuntime)).rejects.toThrow("has no weights");
    expect((await readConfig(folder.sub("unet")))["_class_name"]).toBe("UNetMotionModel");
  });
});

describe("guidance along frames", () => {
  it("has a scale for each frame", () => {
    const tensor = (value: number) => floatTensor([1, 3, 1, 1, 2], new Float32Array(6).fill(value));
    expect([...guideFrames(tensor(1), tensor(2), [1, 2, 3]).data]).toEqual([2, 2, 3, 3, 4, 4]);
  });

  it("puts a picture's channels after those of every frame", () => {
    const video = floatTensor([2, 2, 1, 1, 1], Float32Array.of(1, 2, 3, 4));
    const joined = joinChannels(video, floatTensor([2, 2, 1, 1], Float32Array.of(7, 8, 9, 10)));
    expect(joined.shape).toEqual([2, 2, 3, 1, 1]);
    expect([...joined.data]).toEqual([1, 7, 8, 2, 7, 8, 3, 9, 10, 4, 9, 10]);
  });
});
