/** Methods on UNets for images, against the same worked out stage by stage. */
import { beforeAll, describe, expect, it } from "vitest";
import { type Acceleration, checkNetwork, openDenoiser } from "../../src/acceleration/acceleration.ts";
import type { NodeFolder } from "../../src/checkpoints/node.ts";
import type { Component } from "../../src/components/components.ts";
import { ArgumentError } from "../../src/errors.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { PlainDenoiser } from "../../src/sampling/denoiser.ts";
import { rows } from "../../src/sampling/guidance.ts";
import type { StepContext } from "../../src/sampling/step-policy.ts";
import { type FloatTensor, floatOf } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { drawnMask, drawnPicture, writeStableDiffusion } from "../support/stable-diffusion.ts";
import { StageByStage, unetGeometry, unetTrajectory } from "../support/unet-steps.ts";

const cases = ["sd", "sd-inpaint", "sdxl"] as const;
const folders = {} as Record<(typeof cases)[number], NodeFolder>;
beforeAll(async () => {
  for (const name of cases) folders[name] = await writeStableDiffusion(name);
});

const open = (name: (typeof cases)[number]) =>
  TextToImagePipeline.fromFolder(folders[name], nodeRuntime, { threads: 1 });

const unetOf = async (name: (typeof cases)[number]): Promise<Component<unknown>> => (await open(name)).family.denoiser;

/** What a full step of every step gives. */
async function fullSteps(name: (typeof cases)[number], steps: ReturnType<typeof unetTrajectory>) {
  const unet = await unetOf(name);
  const plain = new PlainDenoiser(await unet.session(unetGeometry));
  const outputs: FloatTensor[] = [];
  for (const { feeds } of steps) outputs.push(await plain.run(feeds));
  await unet.release();
  return outputs;
}

/** Stages of the fixtures' UNets that a step in part runs, by branch: two resolutions, a layer down and two up at each. */
const always = ["time_embedding", "add_embedding", "conv_in", "conv_out"];
const layers: readonly (readonly string[])[] = [
  ["up_blocks.1.resnets.1", "up_blocks.1.attentions.1"],
  [
    "down_blocks.0.resnets.0",
    "down_blocks.0.attentions.0",
    "up_blocks.0.upsamplers.0",
    "up_blocks.1.resnets.0",
    "up_blocks.1.attentions.0",
  ],
  ["down_blocks.0.downsamplers.0", "up_blocks.0.resnets.1", "up_blocks.0.attentions.1"],
];
const runsAt = (branch: number) => {
  const names = new Set([...always, ...layers.slice(0, branch + 1).flat()]);
  return (stage: string) => names.has(stage);
};

describe.each(["sd-inpaint", "sdxl"] as const)("on the UNet of %s", (name) => {
  const inFull: Acceleration[] = [
    { method: "rehash", schedule: { every: 1 } },
    { method: "deepcache", interval: 1 },
    { method: "taylorseer", schedule: { every: 1 } },
    { method: "easycache", threshold: 0 },
    { method: "reuse", schedule: { every: 1 } },
  ];
  it("every method with all steps full is the plain run", async () => {
    const unet = await unetOf(name);
    const steps = unetTrajectory(unet, 3);
    const expected = await fullSteps(name, steps);
    for (const acceleration of inFull) {
      const denoiser = await openDenoiser(unet, unetGeometry, acceleration, null);
      for (const { feeds, step } of steps) {
        const { data } = await denoiser.run(feeds, step);
        expect(compare("sample", data, expected[step.index]!.data).relative, acceleration.method).toBeLessThan(1e-5);
      }
      expect(denoiser.actions).toEqual(["full", "full", "full"]);
    }
    await unet.release();
  });

  it.each([0, 1, 2])(
    "DeepCache at branch %i runs what is nearer to the latent on the last full step's features",
    async (branch) => {
      const [unet, reference] = await Promise.all([unetOf(name), unetOf(name)]);
      const stages = await StageByStage.open(reference);
      const denoiser = await openDenoiser(unet, unetGeometry, { method: "deepcache", interval: 3, branch }, null);
      let features = {};
      for (const { feeds, step } of unetTrajectory(unet, 5)) {
        const full = step.index % 3 === 0;
        if (full) features = await stages.features(feeds);
        const expected = full ? floatOf(features, "sample") : await stages.sample(features, feeds, runsAt(branch));
        const { data } = await denoiser.run(feeds, { ...step, guided: true });
        expect(compare("sample", data, expected.data).relative, `step ${step.index}`).toBeLessThan(1e-5);
      }
      expect(denoiser.actions).toEqual(["full", "rehash", "rehash", "full", "rehash"]);
      await Promise.all([unet.release(), reference.release()]);
    },
  );

  it("Step Rehash with guidance does the half with the condition, and keeps its difference to the other", async () => {
    const [unet, reference] = await Promise.all([unetOf(name), unetOf(name)]);
    const stages = await StageByStage.open(reference);
    const steps = unetTrajectory(unet, 3, 4);
    const outputs = async (acceleration: Acceleration, guided: boolean) => {
      const denoiser = await openDenoiser(unet, unetGeometry, acceleration, null);
      const all: FloatTensor[] = [];
      for (const { feeds, step } of steps) all.push(await denoiser.run(feeds, { ...step, guided } as StepContext));
      return all;
    };
    const schedule = { every: 9 };
    const features = await stages.features(steps[0]!.feeds);
    const expected = await Promise.all(steps.map(({ feeds }) => stages.sample(features, feeds, runsAt(0))));
    const difference = (sample: FloatTensor) =>
      rows(sample, 2, 4).data.map((value, i) => value - rows(sample, 0, 2).data[i]!);
    const kept = difference(expected[0]!);
    // Without guidance all rows are pictures.
    for (const acceleration of [
      { method: "rehash", schedule, guidanceSteps: "all" },
      { method: "rehash", schedule },
    ] as const) {
      const guided = "guidanceSteps" in acceleration;
      for (const [i, { data }] of (await outputs(acceleration, guided)).entries()) {
        expect(compare("sample", data, expected[i]!.data).relative).toBeLessThan(1e-5);
      }
    }
    for (const [i, sample] of (await outputs({ method: "rehash", schedule }, true)).entries()) {
      expect(compare("sample", rows(sample, 2, 4).data, rows(expected[i]!, 2, 4).data).relative).toBeLessThan(1e-5);
      expect(compare("difference", difference(sample), kept).relative).toBeLessThan(1e-4);
    }
    await Promise.all([unet.release(), reference.release()]);
  });

  it("EasyCache moves the output with the latent, TaylorSeer along its differences", async () => {
    const unet = await unetOf(name);
    const steps = unetTrajectory(unet, 5);
    const full = await fullSteps(name, steps);
    const channels = 4;
    const run = async (acceleration: Acceleration) => {
      const denoiser = await openDenoiser(unet, unetGeometry, acceleration, null);
      const outputs: FloatTensor[] = [];
      for (const { feeds, step } of steps) outputs.push(await denoiser.run(feeds, step));
      return { outputs, actions: denoiser.actions };
    };
    const eased = await run({ method: "easycache", threshold: 1e9 });
    expect(eased.actions).toEqual(["full", "full", "inner", "inner", "full"]);
    const latents = steps.map(({ feeds }) => floatOf(feeds, "sample"));
    const [, inputs, height, width] = latents[0]!.shape as [number, number, number, number];
    const area = height * width;
    for (const index of [2, 3]) {
      const expected = full[1]!.data.map((value, i) => {
        const row = Math.floor(i / (channels * area));
        const at = row * inputs * area + (i % (channels * area));
        return value + latents[index]!.data[at]! - latents[1]!.data[at]!;
      });
      expect(compare("sample", eased.outputs[index]!.data, expected).relative).toBeLessThan(1e-5);
    }
    const schedule = ["full", "full", "inner", "inner", "full"] as const;
    const forecast = await run({ method: "taylorseer", order: 1, schedule });
    for (const index of [2, 3]) {
      const expected = full[1]!.data.map((value, i) => value + (index - 1) * (value - full[0]!.data[i]!));
      expect(compare("sample", forecast.outputs[index]!.data, expected).relative).toBeLessThan(1e-5);
    }
    await unet.release();
  });
});

it("a branch or a cut that there is not is refused, with those that there are", async () => {
  const unet = await unetOf("sd");
  const opened = (acceleration: Acceleration) => openDenoiser(unet, unetGeometry, acceleration, null);
  await expect(opened({ method: "deepcache", branch: 3 })).rejects.toThrow(ArgumentError);
  await expect(opened({ method: "deepcache", branch: 3 })).rejects.toThrow("branch must be a whole number from 0 to 2");
  await expect(opened({ method: "rehash", cut: "mid_block" })).rejects.toThrow("it can after up_blocks.0.resnets.0,");
  const checked = (acceleration: Acceleration) => () => checkNetwork(unet, unetGeometry, acceleration, null);
  expect(checked({ method: "rehash", cut: "mid_block" })).toThrow("it can after up_blocks.0.resnets.0,");
  expect(checked({ method: "rehash", fresh: 5 })).toThrow("fresh must be a whole number from 0 to 4, not 5.");
  expect(checked({ method: "deepcache", branch: 3 })).toThrow("branch must be a whole number from 0 to 2");
  expect(checked({ method: "tgate" })).not.toThrow();
});

describe("pipelines", () => {
  it("do the steps that a method says, from text, with a mask, with guidance in some steps, and within a budget", async () => {
    const pipe = await open("sd");
    const settings = { steps: 6, scheduler: "ddim", seeds: [1, 2] } as const;
    const made = await pipe(["a cat", "a dog"], { ...settings, accelerate: { method: "deepcache", interval: 3 } });
    expect(made).toMatchObject({ accelerate: "deepcache", fullSteps: 2, innerSteps: 4 });
    const rehash = { method: "rehash", schedule: { every: 3 } } as const;
    const some = await pipe("a cat", {
      steps: 6,
      scheduler: "ddim",
      seed: 1,
      guidanceInterval: [0.34, 1],
      accelerate: rehash,
    });
    // Guidance begins at the third step, with a full one.
    expect(some).toMatchObject({ fullSteps: 3, innerSteps: 3 });
    const image = drawnPicture(20, 16);
    const masked = { ...settings, image, mask: drawnMask(20, 16), accelerate: rehash };
    expect(await pipe(["a hat", "a cap"], masked)).toMatchObject({ accelerate: "rehash", fullSteps: 2, innerSteps: 4 });
    for (const accelerate of [rehash, { method: "deepcache", interval: 2 }, "none"] as const) {
      const without = await pipe(["a cat", "a dog"], { ...settings, accelerate });
      const within = await pipe(["a cat", "a dog"], { ...settings, accelerate, memory: "400MB" });
      expect(within).toMatchObject({ fullSteps: without.fullSteps, innerSteps: without.innerSteps });
      for (const [i, { data }] of within.images.entries()) {
        data.forEach((value, at) => {
          expect(Math.abs(value - without.images[i]!.data[at]!)).toBeLessThanOrEqual(1);
        });
      }
    }
    const refused = pipe("a cat", { steps: 2, memory: "400MB", accelerate: "tgate" });
    await expect(refused).rejects.toThrow(
      /memory and accelerate "tgate" do not go together; with memory go .*easycache, taylorseer, rehash, deepcache/,
    );
    await pipe.release();
  });
});
