import { beforeAll, describe, expect, it } from "vitest";
import { decodingIn } from "../../src/acceleration/decoding-size.ts";
import { Streamlined } from "../../src/acceleration/streamlined.ts";
import type { StreamlinedOptions } from "../../src/acceleration/video-options.ts";
import { ArgumentError, BudgetError } from "../../src/errors.ts";
import type { Animation } from "../../src/media/animation.ts";
import { unetMotion } from "../../src/models/unet-motion.ts";
import { type ImageToVideo, ImageToVideoPipeline } from "../../src/pipelines/image-to-video.ts";
import { type TextToVideo, TextToVideoPipeline } from "../../src/pipelines/text-to-video.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { PlainDenoiser } from "../../src/sampling/denoiser.ts";
import { rows } from "../../src/sampling/guidance.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import type { StepContext } from "../../src/sampling/step-policy.ts";
import { OVERHEAD } from "../../src/streamlined/planner.ts";
import { StreamlinedDenoiser } from "../../src/streamlined/rehash.ts";
import { RehashDenoiser } from "../../src/streamlined/rehash-steps.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { recordedVideo, writeVideoPipeline } from "../support/video-pipelines.ts";

const threads = 1;
let text: TextToVideo;
let image: ImageToVideo;
beforeAll(async () => {
  text = await TextToVideoPipeline.fromFolder(await writeVideoPipeline("animatediff"), nodeRuntime, { threads });
  image = await ImageToVideoPipeline.fromFolder(await writeVideoPipeline("svd"), nodeRuntime, { threads });
});

/** Largest difference from diffusers' frames, [1, frames, height, width, 3] in [0, 1], in steps of 8-bit pixels. */
function furthest({ frames }: Animation, { data }: Tensor): number {
  const pixels = frames.flatMap((frame) => [...frame.data]);
  return pixels.reduce((most, pixel, i) => Math.max(most, Math.abs(pixel - 255 * Number(data[i]))), 0);
}

const [width, height] = [60, 41];
const picture = {
  width,
  height,
  data: Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * i * 7 + i * 31) % 256),
};

describe("videos by a plan, against diffusers' runs", () => {
  it("AnimateDiff under a budget", async () => {
    const { call, io } = await recordedVideo("animatediff");
    const told: string[] = [];
    const { videos, fullSteps, rehashSteps } = await text(call["prompt"]!, {
      negativePrompt: call["negative_prompt"]!,
      frames: call["num_frames"]!,
      steps: call["num_inference_steps"]!,
      guidanceScale: call["guidance_scale"]!,
      height: call["height"]!,
      width: call["width"]!,
      seed: call["seed"]!,
      memory: "1GB",
      onGroup: ({ index, groupIndex, groups, group }) => told.push(`${index} ${groupIndex}/${groups} ${group}`),
    });
    expect(furthest(videos[0]!, io.get("output.frames")!)).toBeLessThan(0.55);
    expect({ fullSteps, rehashSteps }).toEqual({ fullSteps: 4, rehashSteps: 0 });
    expect(told[0]).toMatch(/^0 0\/\d+ time_embedding$/);
    expect(told.at(-1)).toMatch(/^3 .* conv_out$/);
  });

  it("without a budget where the network is large, unless its weights are read anew in every run", async () => {
    const size = { batch: 1, frames: 2, height: 4, width: 4, tokens: 5 };
    const opened = async (options: { stream?: boolean }, large: number) => {
      const folder = await writeVideoPipeline("animatediff");
      const { unet } = await TextToVideoPipeline.fromFolder(folder, nodeRuntime, { threads, ...options });
      const streamlined = new Streamlined(unet, unetMotion, large);
      const denoiser = await streamlined.openDenoiser(size);
      await streamlined.release();
      return denoiser.constructor.name;
    };
    expect(await opened({}, 0)).toBe(StreamlinedDenoiser.name);
    expect(await opened({}, 1e9)).toBe(PlainDenoiser.name);
    expect(await opened({ stream: true }, 0)).toBe(PlainDenoiser.name);
  });

  it("is planned once: the groups of the plan are what is compiled, and nothing else", async () => {
    const compiled: string[] = [];
    const compile: typeof nodeRuntime.compile = (model, ...more) => {
      compiled.push(model.inputs.map(({ name }) => name).join());
      return nodeRuntime.compile(model, ...more);
    };
    const runtime = Object.create(nodeRuntime, { compile: { value: compile } }) as typeof nodeRuntime;
    const { unet } = await TextToVideoPipeline.fromFolder(await writeVideoPipeline("animatediff"), runtime, {
      threads,
    });
    const streamlined = new Streamlined(unet, unetMotion);
    const size = { batch: 2, guided: true, frames: 2, height: 4, width: 4, tokens: 5 };
    const plan = streamlined.plan(size, { budget: 1e9, accelerate: "rehash" });
    if (plan.kind !== "planned") throw new Error(`it is ${plan.kind}`);
    const { prediction, layout } = plan.run;
    expect(prediction.peak).toBeLessThanOrEqual(1e9);
    expect(compiled).toEqual([]);
    await streamlined.open(plan);
    await streamlined.open(plan);
    expect(compiled.map((inputs) => new Set(inputs.split(",")))).toEqual(
      layout.groups.map(({ reads }) => new Set(reads)),
    );
    await Promise.all([streamlined.release(), unet.release()]);
  });

  it("Step Rehash where too much would be in memory twice, features are asked for, or there is a budget", async () => {
    const size = { batch: 1, frames: 2, height: 4, width: 4, tokens: 5 };
    const folder = await writeVideoPipeline("animatediff");
    const opened = async (options: StreamlinedOptions, mostTwice?: number) => {
      const { unet } = await TextToVideoPipeline.fromFolder(folder, nodeRuntime, { threads });
      const streamlined = new Streamlined(unet, unetMotion, 1e9, mostTwice);
      const denoiser = await streamlined.openDenoiser(size, { accelerate: "rehash", ...options });
      await Promise.all([streamlined.release(), unet.release()]);
      return denoiser.constructor.name;
    };
    expect(await opened({})).toBe(RehashDenoiser.name);
    expect(await opened({}, 0)).toBe(StreamlinedDenoiser.name);
    expect(await opened({ memory: "1GB" })).toBe(StreamlinedDenoiser.name);
    expect(await opened({ onFeatures: () => undefined })).toBe(StreamlinedDenoiser.name);
  });

  it.each<StreamlinedOptions>([{}, { memory: "1GB" }])("half of guidance at rehash steps, with %j", async (options) => {
    const size = { batch: 4, frames: 2, height: 4, width: 4, tokens: 5 };
    const { unet } = await TextToVideoPipeline.fromFolder(await writeVideoPipeline("animatediff"), nodeRuntime, {
      threads,
    });
    const streamlined = new Streamlined(unet, unetMotion);
    const { inChannels, crossAttentionDim } = unet.config;
    const rowsOf = async (guided: boolean, guidanceSteps?: "full" | "all") => {
      const accelerate = { method: "rehash", ...(guidanceSteps ? { guidanceSteps } : {}) } as const;
      const denoiser = await streamlined.openDenoiser({ ...size, guided }, { ...options, accelerate });
      const generator = new TorchGenerator(3);
      const encoderHiddenStates = generator.randn([4, 5, crossAttentionDim]);
      const outputs: FloatTensor[] = [];
      for (const index of [0, 1]) {
        const feeds = {
          sample: generator.randn([4, inChannels, 2, 4, 4]),
          timestep: floatTensor([4], new Float32Array(4).fill(500 - index)),
          encoderHiddenStates,
        };
        // Of 25 steps the eighth is the first that is done in part.
        outputs.push(await denoiser.run(feeds, { index: 6 + index, steps: 25, timestep: 500 }));
      }
      expect(denoiser.actions).toEqual(["full", "rehash"]);
      const [first, second] = outputs as [FloatTensor, FloatTensor];
      const [below, above] = [rows(second, 0, 2).data, rows(second, 2, 4).data];
      const condition = rows(first, 2, 4).data.map((value, i) => value - first.data[i]!);
      return { below, above, fromAbove: above.map((value, i) => value - condition[i]!) };
    };
    const [kept, all, unguided] = [await rowsOf(true), await rowsOf(true, "all"), await rowsOf(false)];
    expect(compare("with", kept.above, all.above).relative).toBeLessThan(1e-5);
    expect(compare("kept", kept.below, kept.fromAbove).relative).toBeLessThan(1e-5);
    expect(compare("worked out", all.below, all.fromAbove).relative).toBeGreaterThan(1e-2);
    expect(compare("not guided", unguided.below, all.below).relative).toBeLessThan(1e-5);
    await Promise.all([streamlined.release(), unet.release()]);
  });

  it("Stable Video Diffusion under a budget", async () => {
    const { call, io } = await recordedVideo("svd");
    const { videos } = await image(picture, {
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
      memory: 1e9,
    });
    expect(furthest(videos[0]!, io.get("output.frames")!)).toBeLessThan(0.55);
  });
});

describe("Step Rehash in pipelines", () => {
  const small = { width: 24, height: 16, frames: 2, seed: 1 };

  it("does two of five steps in part unless it is told otherwise", async () => {
    const { fullSteps, rehashSteps } = await text("a cat", { ...small, steps: 5, accelerate: "rehash" });
    expect({ fullSteps, rehashSteps }).toEqual({ fullSteps: 3, rehashSteps: 2 });
    const schedule = ["full", "rehash", "rehash"] as const;
    const moved = await image(picture, { ...small, steps: 3, accelerate: { method: "rehash", schedule } });
    expect([moved.fullSteps, moved.rehashSteps]).toEqual([1, 2]);
    const policy = ({ index }: StepContext) => (index === 0 ? "full" : "rehash");
    const decided = await image(picture, { ...small, steps: 3, accelerate: { method: "rehash", schedule: policy } });
    expect(decided.videos).toEqual(moved.videos);
  });

  it.each<[string, (guidance: number, options: object) => Promise<{ videos: Animation[] }>]>([
    ["text to video", (guidanceScale, options) => text("a cat", { ...options, guidanceScale })],
    ["image to video", (maxGuidanceScale, options) => image(picture, { ...options, maxGuidanceScale })],
  ])("%s: leaves out half of guidance where there is any, unless it is told otherwise", async (_, generate) => {
    const run = async (guidance: number, guidanceSteps?: "full" | "all") => {
      const accelerate = { method: "rehash", schedule: { every: 2 }, ...(guidanceSteps ? { guidanceSteps } : {}) };
      return (await generate(guidance, { ...small, steps: 3, accelerate })).videos;
    };
    expect(await run(6)).toEqual(await run(6, "full"));
    expect(await run(6)).not.toEqual(await run(6, "all"));
    expect(await run(1)).toEqual(await run(1, "all"));
  });

  it("with all steps full gives the plain video", async () => {
    const settings = { ...small, steps: 2 };
    const plain = await text("a cat", settings);
    const rehash = await text("a cat", { ...settings, accelerate: { method: "rehash", schedule: { every: 1 } } });
    for (const [i, { data }] of plain.videos[0]!.frames.entries()) {
      const other = rehash.videos[0]!.frames[i]!.data;
      expect(Math.max(...data.map((value, k) => Math.abs(value - other[k]!)))).toBeLessThanOrEqual(1);
    }
  });

  it.each<[object, typeof ArgumentError | typeof BudgetError, RegExp]>([
    [{ memory: "10MB" }, BudgetError, /cannot run in 10 MB; the smallest budget for these sizes is \d+ MB/],
    [{ memory: "lots" }, ArgumentError, /"lots" is not an amount of memory; write "6GB"/],
    [{ memory: -1 }, ArgumentError, /memory must be a whole number/],
    [{ accelerate: "ilf" }, ArgumentError, /accelerate must be one of none, rehash, deepcache, not the string "ilf"/],
    [{ accelerate: { method: "rehash", cut: "x" } }, ArgumentError, /cannot be cut after "x"; it can after up_blocks/],
    [
      { accelerate: { method: "rehash", guidanceSteps: "some" } },
      ArgumentError,
      /guidanceSteps must be one of full, all/,
    ],
  ])("refuses %j", async (options, type, message) => {
    const run = () => text("a cat", { ...small, steps: 1, ...options } as object);
    await expect(run()).rejects.toThrow(type);
    await expect(run()).rejects.toThrow(message);
  });

  it("stops between two groups", async () => {
    const abort = new AbortController();
    let groups = 0;
    const running = text("a cat", {
      ...small,
      steps: 3,
      memory: "1GB",
      signal: abort.signal,
      onGroup: () => {
        if (++groups === 5) abort.abort(new Error("enough"));
      },
    });
    await expect(running).rejects.toThrow("enough");
    expect(groups).toBe(5);
  });
});

it.each<[string, (options: object) => Promise<{ videos: Animation[] }>]>([
  ["text to video", (options) => text("a cat", options)],
  ["image to video", (options) => image(picture, options)],
])("%s: calls that overlap take turns and give what they give alone", async (_, generate) => {
  const small = { width: 24, height: 16, frames: 2, seed: 1, steps: 3 };
  const ways = [small, { ...small, frames: 3 }, { ...small, accelerate: "rehash" }, { ...small, memory: "1GB" }];
  const stepped: number[] = [];
  const together = await Promise.all(ways.map((way, i) => generate({ ...way, onStep: () => void stepped.push(i) })));
  expect(stepped).toEqual([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
  for (const [i, way] of ways.entries()) expect(together[i]!.videos).toEqual((await generate(way)).videos);
});

describe("decoding under a budget", () => {
  it("takes fewer frames together, then tiles, then names the smallest budget, which works", () => {
    const size = { frames: 6, height: 64, width: 64 };
    expect(decodingIn(image.decoder, size, undefined)).toEqual({ frames: 6 });
    const budgets = [1e9, 100e6, 30e6, 12e6, 6e6, 3e6].map((extra) => OVERHEAD + extra);
    const areas = budgets.flatMap((budget) => {
      try {
        const { frames, tile = size } = decodingIn(image.decoder, size, budget);
        return [frames * tile.height * tile.width];
      } catch (error) {
        const { smallest } = error as BudgetError;
        expect(smallest).toBeGreaterThan(budget);
        expect(decodingIn(image.decoder, size, Math.ceil(smallest)).tile).toMatchObject({ height: 16, width: 16 });
        return [];
      }
    });
    expect(areas[0]).toBe(6 * 64 * 64);
    expect(areas).toEqual(areas.toSorted((a, b) => b - a));
    expect(new Set(areas).size).toBeGreaterThan(1);
  });

  it("in tiles is near the whole picture, and the same where one tile is all of it", async () => {
    const { io } = await recordedVideo("animatediff");
    const latents = [...io].find(([, { shape }]) => shape.length === 5 && shape[1] === 4)![1] as FloatTensor;
    const [height, width] = latents.shape.slice(-2) as [number, number];
    const whole = await text.decode(latents);
    expect((await text.decode(latents, { tile: { height, width, overlap: 0 } })).data).toEqual(whole.data);
    const tiled = await text.decode(latents, { tile: { height, width: Math.ceil(0.75 * width), overlap: 2 } });
    expect(tiled.shape).toEqual(whole.shape);
    // Norms of a tile are of that tile, so it is not the same; but far nearer than pictures are to one another.
    const difference = Math.hypot(...whole.data.map((value, i) => value - tiled.data[i]!)) / Math.hypot(...whole.data);
    expect(difference).toBeGreaterThan(0);
    expect(difference).toBeLessThan(0.5);
  });
});
