/** `accelerate` of whole pipelines with tiny networks: what it must not change, what it refuses, what it reports. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { type Accelerate, accelerations, openDenoiser } from "../../src/acceleration/acceleration.ts";
import { openFeedback } from "../../src/acceleration/feedback-component.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import type { Component } from "../../src/components/components.ts";
import { ArgumentError, CheckpointError, ConfigError } from "../../src/errors.ts";
import { ClassToImagePipeline } from "../../src/pipelines/class-to-image.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { GuidanceInterval } from "../../src/sampling/guidance.ts";
import type { Action } from "../../src/sampling/step-policy.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { moduleWith, randomFeedback, writeFeedback } from "../support/feedback.ts";
import { temporaryFolder } from "../support/models.ts";
import { type TinyOptions, tinyTokens, writeTinyPipeline } from "../support/tiny-pipeline.ts";
import { type Kind, kinds, trajectory } from "../support/tiny-transformer.ts";

const STEPS = 6;

const make = async (kind: Kind, options: TinyOptions = {}) =>
  writeTinyPipeline(await temporaryFolder(), kind, { layers: 4, ...options });

/** Pictures of a folder's pipeline with one seed, by how they are accelerated. */
async function open(kind: Kind, folder: NodeFolder) {
  const options = { threads: 1 };
  const text = kind === "pixart" ? await TextToImagePipeline.fromFolder(folder, nodeRuntime, options) : null;
  const classes = text ? null : await ClassToImagePipeline.fromFolder(folder, nodeRuntime, options);
  return async (accelerate?: Accelerate, guidanceScale = 3, guidanceInterval?: GuidanceInterval) => {
    let latents: FloatTensor | undefined;
    const path: Float32Array[] = [];
    const settings = {
      ...{ steps: STEPS, seed: 7, guidanceScale },
      ...(guidanceInterval ? { guidanceInterval } : {}),
      ...(accelerate === undefined ? {} : { accelerate }),
      onStep: (step: { latents: FloatTensor }) => {
        latents = step.latents;
        path.push(step.latents.data.slice());
      },
    };
    const result = text ? await text("a red cat", settings) : await classes!([3], settings);
    const { fullSteps, innerSteps } = result;
    return { latents: latents!, path, pictures: result.images, counts: [result.accelerate, fullSteps, innerSteps] };
  };
}

const blocks = { feedBlock: 2, resumeBlock: 2 };
const plainModule = {
  ...{ ...blocks, module: moduleWith() },
  schedule: { every: 2 },
};

describe.each(kinds)("a pipeline with a tiny %s", (kind) => {
  let folder: NodeFolder;
  let generate: Awaited<ReturnType<typeof open>>;
  let plain: Awaited<ReturnType<typeof generate>>;
  beforeAll(async () => {
    folder = await make(kind);
    generate = await open(kind, folder);
    plain = await generate("none");
  });
  const difference = ({ latents }: typeof plain, other = plain) =>
    compare("latents", latents.data, other.latents.data).relative;

  it("does without unless it is told", async () => {
    const unless = await generate();
    expect(unless.counts).toEqual(["none", STEPS, 0]);
    expect(unless.latents.data).toEqual(plain.latents.data);
  });

  it("makes the same pictures when runs in different ways are asked for at once", async () => {
    const ways: Accelerate[] = ["none", "cache", "taylorseer", "first-block"];
    const together = await Promise.all(ways.map((way) => generate(way)));
    for (const [i, way] of ways.entries()) {
      expect(together[i]!.latents.data).toEqual((await generate(way)).latents.data);
    }
  });

  it.each<[string, Accelerate]>([
    ["cache with all steps full", { method: "cache", schedule: { every: 1 } }],
    [
      "cache with a list of full steps",
      { method: "cache", schedule: new Array<Action>(STEPS).fill("full"), ...blocks },
    ],
    ["TaylorSeer with all steps full", { method: "taylorseer", schedule: { every: 1 } }],
    ["first-block cache at threshold 0", { method: "first-block", threshold: 0 }],
    ["EasyCache at threshold 0", { method: "easycache", threshold: 0 }],
  ])("is the plain sampler, to the last bit, in %s", async (_, accelerate) => {
    for (const guidanceScale of [3, 1]) {
      const run = await generate(accelerate, guidanceScale);
      expect(run.counts.slice(1)).toEqual([STEPS, 0]);
      expect(run.latents.data).toEqual((await generate("none", guidanceScale)).latents.data);
    }
  });

  it.each<[Accelerate, number]>([
    ["cache", 3],
    [{ method: "cache", schedule: ["full", "inner", "inner", "inner", "inner", "full"] }, 2],
    // Two full steps, then every fourth.
    ["taylorseer", 3],
    [{ method: "first-block", threshold: 1e9 }, 1],
    // Two full steps to tell the rate from, and the last.
    [{ method: "easycache", threshold: 1e9 }, 3],
  ])("says of %j how many steps were full", async (accelerate, fullSteps) => {
    const run = await generate(accelerate);
    const method = typeof accelerate === "string" ? accelerate : accelerate.method;
    expect(run.counts).toEqual([method, fullSteps, STEPS - fullSteps]);
    expect(difference(run)).toBeGreaterThan(1e-3);
  });

  it.each(["cache", "taylorseer"] as const)("%s takes a policy for the schedule that it makes", async (method) => {
    const actions: Action[] = ["full", "inner", "full", "inner", "inner", "full"];
    const listed = await generate({ method, schedule: actions });
    const decided = await generate({ method, schedule: ({ index }) => actions[index]! });
    expect(decided.counts).toEqual([method, 3, 3]);
    expect(decided.latents.data).toEqual(listed.latents.data);
  });

  it("with a module of scale zero is plain caching, to the last bit", async () => {
    const own = await make(kind);
    const { config, weights } = await randomFeedback(own, plainModule, 0);
    await writeFeedback(own, config, weights);
    const withModule = await open(kind, own);
    const ilf = await withModule();
    expect(ilf.counts).toEqual(["ilf", 3, 3]);
    const cache = await withModule("cache");
    expect(ilf.latents.data).toEqual(cache.latents.data);
    expect(ilf.pictures).toEqual(cache.pictures);
    // The module's blocks and schedule are the cache's too; without a module they are given.
    const given = await generate({ method: "cache", schedule: { every: 2 }, ...blocks });
    expect(given.latents.data).toEqual(cache.latents.data);
    expect((await withModule({ method: "ilf", schedule: { every: 3 } })).counts).toEqual(["ilf", 2, 4]);
  });

  it.each<[Accelerate, fullSteps: number]>([
    ["none", STEPS],
    [{ method: "cache", schedule: { every: 2 } }, 4],
    [{ method: "first-block", threshold: 1e6 }, 2],
    [{ method: "easycache", threshold: 1e6 }, 5],
    [{ method: "taylorseer", schedule: { every: 6 } }, 2],
  ])("without guidance in its first half, %j has a full step where guidance begins", async (accelerate, fullSteps) => {
    const [half, never, always] = [
      await generate(accelerate, 3, [0.5, 1]),
      await generate(accelerate, 1),
      await generate(accelerate, 3, [0, 1]),
    ];
    expect(half.counts.slice(1)).toEqual([fullSteps, STEPS - fullSteps]);
    expect(half.path.slice(0, 3)).toEqual(never.path.slice(0, 3));
    expect(half.path[3]).not.toEqual(never.path[3]);
    expect(half.path[0]).not.toEqual(always.path[0]);
    expect((await generate(accelerate, 3, [1, 1])).pictures).toEqual(never.pictures);
    expect((await generate(accelerate)).pictures).toEqual(always.pictures);
  });

  it("follows a list that its module was trained with in its own number of steps, and its share in others", async () => {
    const own = await make(kind);
    const { config, weights } = await randomFeedback(own, plainModule, 0);
    await writeFeedback(own, { ...config, schedule: ["full", "full", "inner", "inner", "inner", "inner"] }, weights);
    expect((await (await open(kind, own))()).counts).toEqual(["ilf", 2, 4]);
    await writeFeedback(own, { ...config, schedule: ["full", "inner", "inner"] }, weights);
    expect((await (await open(kind, own))()).counts).toEqual(["ilf", 2, 4]);
  });

  it("goes on from the module's features where its scale is not zero", async () => {
    const own = await make(kind);
    const settings = { ...plainModule, module: moduleWith({ embeddingChange: true, trend: true }) };
    const { config, weights } = await randomFeedback(own, settings, 0.1);
    await writeFeedback(own, config, weights);
    const withModule = await open(kind, own);
    const ilf = await withModule("ilf");
    expect(difference(ilf, await withModule("cache"))).toBeGreaterThan(1e-3);
    expect((await withModule("ilf")).latents.data).toEqual(ilf.latents.data);
    const full = await withModule({ method: "ilf", schedule: { every: 1 } });
    expect(full.counts).toEqual(["ilf", STEPS, 0]);
    expect(full.latents.data).toEqual(plain.latents.data);
    expect((await withModule("none")).latents.data).toEqual(plain.latents.data);
  });

  it("runs in parts, with the same result, where holding weights twice would take too much memory", async () => {
    const own = await make(kind);
    const withBoth = { ...plainModule, module: moduleWith({ embeddingChange: true, trend: true }) };
    const { config, weights } = await randomFeedback(own, withBoth, 0.1);
    await writeFeedback(own, config, weights);
    const options = { threads: 1 };
    const { transformer } =
      kind === "pixart"
        ? await TextToImagePipeline.fromFolder(own, nodeRuntime, options)
        : await ClassToImagePipeline.fromFolder(own, nodeRuntime, options);
    const steps = trajectory(kind, STEPS);
    const geometry = { batch: "batch" as const, height: 8, width: 8, tokens: tinyTokens };
    const sampled = async (mostTwice?: number) => {
      const component = transformer as Component<unknown>;
      const feedback = await openFeedback(own, component, mostTwice);
      const compiled = vi.spyOn(component, "inParts");
      const denoiser = await openDenoiser(component, geometry, { method: "ilf" }, feedback);
      const parts = compiled.mock.calls.length > 0;
      compiled.mockRestore();
      const outputs: number[] = [];
      for (const { feeds, step } of steps) outputs.push(...(await denoiser.run(feeds, step)).data);
      await feedback!.release();
      return { parts, outputs };
    };
    const [whole, inParts] = [await sampled(), await sampled(0)];
    expect([whole.parts, inParts.parts]).toEqual([false, true]);
    expect(compare("outputs", whole.outputs, inParts.outputs).relative).toBeLessThan(1e-5);
    // Before anything of the backbone is compiled.
    await writeFeedback(own, { ...config, backbone: "another" }, weights);
    const foreign = await openFeedback(own, transformer as Component<unknown>, 0);
    const compiled = vi.spyOn(transformer as Component<unknown>, "inParts");
    await expect(foreign!.steps(geometry)).rejects.toThrow(CheckpointError);
    expect(compiled).not.toHaveBeenCalled();
    compiled.mockRestore();
  });

  it.each<[unknown, string]>([
    ["turbo", `accelerate must be one of ${accelerations.join(", ")}, not the string "turbo".`],
    [{ method: "turbo" }, 'not the string "turbo"'],
    ["ilf", "This model has no feedback module (a folder ilf/ beside its transformer). `halfstep distill` trains one"],
    [{ method: "first-block", threshold: -0.1 }, "threshold must be a number of at least 0, not -0.1."],
    [{ method: "easycache", threshold: Number.NaN }, "not NaN"],
    [{ method: "taylorseer", order: 1.5 }, "order must be a whole number from 0 to 16, not 1.5."],
    [{ method: "cache", feedBlock: 5 }, "feedBlock must be a whole number from 1 to 4, the model's blocks, not 5."],
    [{ method: "cache", resumeBlock: 0 }, "resumeBlock must be a whole number from 1 to 4, the model's blocks, not 0."],
    [{ method: "cache", schedule: ["inner", "full"] }, 'A schedule starts with a full step, not "inner"'],
    [{ method: "cache", schedule: ["full", "inner"] }, "The schedule has 2 actions, but the run has 6 steps."],
    [{ method: "taylorseer", schedule: ["full"] }, "The schedule has 1 actions, but the run has 6 steps."],
    [{ method: "cache", schedule: { every: 0 } }, "accelerate.schedule.every must be a whole number"],
    [{ method: "cache", schedule: () => "half" }, 'The policy gave the string "half" for step 0'],
  ])("refuses %j", async (accelerate, message) => {
    const failed = generate(accelerate as Accelerate);
    await expect(failed).rejects.toThrow(ArgumentError);
    await expect(failed).rejects.toThrow(message);
    // And is none the worse for it.
    expect((await generate("none")).latents.data).toEqual(plain.latents.data);
  });

  it("refuses a module that was trained for another backbone, and names both", async () => {
    const { config, weights } = await randomFeedback(folder, plainModule, 0);
    const other = await make(kind, {
      weights: (component, tensors) => {
        if (component === "transformer") (tensors.get("pos_embed.proj.bias") as FloatTensor).data[0]! += 1;
      },
    });
    await writeFeedback(other, config, weights);
    const { config: wanted } = await randomFeedback(other, plainModule, 0);
    const generateOther = await open(kind, other);
    const failed = generateOther();
    await expect(failed).rejects.toThrow(CheckpointError);
    await expect(failed).rejects.toThrow(config.backbone);
    await expect(failed).rejects.toThrow(wanted.backbone);
    // Without the module it works.
    expect((await generateOther("none")).counts).toEqual(["none", STEPS, 0]);
  });

  it.each<[string, Partial<Record<string, unknown>>, (weights: Map<string, unknown>) => void, string]>([
    ["lacks a weight", {}, (weights) => weights.delete("scale"), '"scale" [16]'],
    ["has one too many", {}, (weights) => weights.set("block.more", weights.get("scale")), '"block.more"'],
    [
      "has weights of another shape",
      {},
      (weights) => weights.set("scale", weights.get("block.ff.net.2.weight")),
      "[16]",
    ],
    ["says that it has a trend", { trend: true }, () => {}, '"trend_scale" [16]'],
  ])("refuses a module that %s", async (_, raw, change, message) => {
    const own = await make(kind);
    const { config, weights } = await randomFeedback(own, plainModule, 0);
    change(weights);
    await writeFeedback(own, config, weights, raw);
    const failed = (await open(kind, own))();
    await expect(failed).rejects.toThrow(CheckpointError);
    await expect(failed).rejects.toThrow(message);
  });

  it("refuses a module whose config.json cannot be", async () => {
    const own = await make(kind);
    const { config, weights } = await randomFeedback(own, plainModule, 0);
    await writeFeedback(own, { ...config, feedBlock: 5 }, weights);
    await expect((await open(kind, own))()).rejects.toThrow("feedBlock must be a whole number from 1 to 4");
    await writeFeedback(own, config, weights, { schedule: "if" });
    await expect(open(kind, own)).rejects.toThrow(ConfigError);
    await expect(open(kind, own)).rejects.toThrow('not "inner"');
  });

  it("needs the module's weights beside its config", async () => {
    const own = await make(kind);
    const { config, weights } = await randomFeedback(own, plainModule, 0);
    await writeFeedback(own, config, weights);
    await rm(join(own.path, "ilf", "feedback.safetensors"));
    await expect(open(kind, new NodeFolder(own.path))).rejects.toThrow("feedback.safetensors");
  });
});
