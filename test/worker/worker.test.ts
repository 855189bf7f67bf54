/** Pipelines in worker threads against the same pipelines without. */
import { performance } from "node:perf_hooks";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  ArgumentError,
  BudgetError,
  CheckpointError,
  HalfstepError,
  HubError,
  StateError,
  ToolError,
} from "../../src/errors.ts";
import { RawImage } from "../../src/media/raw-image.ts";
import { ClassToImagePipeline } from "../../src/pipelines/class-to-image.ts";
import { type TextToImage, type TextToImageInWorker, TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import type { TextToImageOptions } from "../../src/pipelines/text-to-image-options.ts";
import { fromWire, pictureBuffers, toWire } from "../../src/worker/messages.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

const settings = { steps: 3, seed: 7, guidanceScale: 2 };
let path: string;
let plain: TextToImage;
let remote: TextToImageInWorker;

beforeAll(async () => {
  path = (await writeTinyPipeline(await temporaryFolder(), "pixart")).path;
  plain = await TextToImagePipeline.fromPretrained(path, { threads: 1 });
  remote = await TextToImagePipeline.fromPretrained(path, { threads: 1, worker: true });
});
afterAll(() => Promise.all([plain.release(), remote.release()]));

describe("a pipeline in a worker thread", () => {
  it("makes the same pictures and warnings, with the same steps, and has the same properties", async () => {
    const prompts = ["a red cat", "a zyx dog"];
    const collect = async (pipe: TextToImageInWorker) => {
      const steps: object[] = [];
      const onStep: NonNullable<TextToImageOptions["onStep"]> = ({ latents, ...step }) => {
        steps.push({ ...step, shape: latents.shape, data: [...latents.data] });
      };
      const { images, ...rest } = await pipe(prompts, { ...settings, count: 2, onStep });
      return { steps, rest, images: images.map(({ width, height, data }) => ({ width, height, data: [...data] })) };
    };
    expect(await collect(remote)).toEqual(await collect(plain));
    for (const name of ["name", "className", "guidanceScale", "guidanceInterval", "schedulerConfig"] as const) {
      expect(remote[name]).toEqual(plain[name]);
    }
    const { images } = await remote.generate("a red cat", settings);
    expect(images[0]).toBeInstanceOf(RawImage);
    expect(images[0]!.toPng().length).toBeGreaterThan(100);
  });

  it("throws errors of the same class, on both sides of it", async () => {
    await expect(remote("a red cat", { stepz: 1 } as object)).rejects.toThrow('Did you mean "steps"?');
    await expect(remote("a red cat", { ...settings, width: 18 })).rejects.toThrow(ArgumentError);
    await expect(remote("a red cat", { ...settings, width: 18 })).rejects.toThrow(
      "width must be a multiple of 4 pixels",
    );
    await expect(remote(7 as unknown as string)).rejects.toThrow(ArgumentError);
    const decided = remote("a red cat", { ...settings, accelerate: { method: "cache", schedule: () => "full" } });
    await expect(decided).rejects.toThrow("What a pipeline in a worker is given must be data");
    const empty = await temporaryFolder();
    await expect(TextToImagePipeline.fromPretrained(empty, { worker: true })).rejects.toThrow(HalfstepError);
    await expect(TextToImagePipeline.fromPretrained("no-such-model", { worker: true })).rejects.toThrow(ArgumentError);
    await expect(TextToImagePipeline.fromPretrained(path, { worker: {} as true })).rejects.toThrow(ArgumentError);
  });

  it("waits for onStep, and rejects with what it throws", async () => {
    const order: string[] = [];
    await remote("a red cat", {
      ...settings,
      onStep: async ({ index }) => {
        order.push(`${index} begins`);
        await new Promise((resolve) => setTimeout(resolve, 2));
        order.push(`${index} ends`);
      },
    });
    expect(order).toEqual([0, 1, 2].flatMap((index) => [`${index} begins`, `${index} ends`]));
    const error = new TypeError("mine");
    const failed = remote("a red cat", {
      ...settings,
      onStep: () => {
        throw error;
      },
    });
    await expect(failed).rejects.toBe(error);
    expect((await remote("a red cat", settings)).images).toHaveLength(1);
  });

  it("aborts at once with the signal's reason, and goes on with the next call", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const seen: number[] = [];
    const stopped = remote("a red cat", {
      ...settings,
      steps: 500,
      signal: controller.signal,
      onStep: ({ index }) => {
        seen.push(index);
        if (index === 2) controller.abort(reason);
      },
    });
    await expect(stopped).rejects.toBe(reason);
    expect(seen).toEqual([0, 1, 2]);
    await expect(remote("a red cat", { ...settings, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect((await remote("a red cat", settings)).images[0]).toEqual((await plain("a red cat", settings)).images[0]);
  });

  it("refuses calls within onStep, and all calls once it is released", async () => {
    const within = remote("a red cat", {
      ...settings,
      onStep: async () => void (await remote("a blue dog", settings)),
    });
    await expect(within).rejects.toThrow(StateError);
    const own = await TextToImagePipeline.fromPretrained(path, { threads: 1, worker: true });
    const running = own("a red cat", settings);
    await Promise.all([own.release(), own.release()]);
    expect((await running).images).toHaveLength(1);
    await expect(own("a red cat", settings)).rejects.toThrow(StateError);
  });

  it("is there for the other pipelines too", async () => {
    const folder = await writeTinyPipeline(await temporaryFolder(), "dit");
    const [a, b] = await Promise.all([
      ClassToImagePipeline.fromPretrained(folder.path, { threads: 1 }),
      ClassToImagePipeline.fromPretrained(folder.path, { threads: 1, worker: true }),
    ]);
    const options = { steps: 2, seed: 3 };
    expect((await b([0, 2], options)).images).toEqual((await a([0, 2], options)).images);
    expect(b.labels).toEqual(a.labels);
    await Promise.all([a.release(), b.release()]);
  });

  it("leaves the event loop idle, which a pipeline without a worker keeps busy", async () => {
    // The share of time in which this thread does something: unlike the lateness of timers no matter of what else the machine does.
    const busy = async (pipe: TextToImageInWorker, options: TextToImageOptions) => {
      const before = performance.eventLoopUtilization();
      await pipe("a red cat", options);
      return performance.eventLoopUtilization(before).utilization;
    };
    const long = { ...settings, steps: 300 };
    expect(await busy(remote, long)).toBeLessThan(0.2);
    expect(await busy(plain, long)).toBeGreaterThan(0.5);
  });
});

describe("errors on their way", () => {
  it.each([
    new ArgumentError("a"),
    new CheckpointError("b", { cause: new HubError("c") }),
    new BudgetError("d", 42),
    new ToolError("e"),
    new StateError("f"),
    new TypeError("g"),
    new RangeError("h", { cause: "text" }),
  ])("are what they were: %s", (error) => {
    const back = fromWire(structuredClone(toWire(error)));
    expect({ name: back.name, message: back.message, stack: back.stack }).toEqual({
      name: error.name,
      message: error.message,
      stack: error.stack,
    });
    if (error instanceof HalfstepError) expect(back.constructor).toBe(error.constructor);
    if (error instanceof BudgetError) expect((back as BudgetError).smallest).toBe(42);
    if (error.cause instanceof Error) expect((back.cause as Error).constructor).toBe(error.cause.constructor);
  });
});

it("hands pictures' memory over, unless something else lies in it", () => {
  const whole = new Uint8Array(12);
  const part = new Uint8Array(24).subarray(0, 12);
  const images = [whole, part].map((data) => ({ width: 2, height: 2, data }));
  expect(pictureBuffers({ images })).toEqual([whole.buffer]);
  expect(pictureBuffers({ videos: [{ frames: images, fps: 8 }] })).toEqual([whole.buffer]);
  expect(pictureBuffers({})).toEqual([]);
  expect(pictureBuffers(undefined)).toEqual([]);
});
