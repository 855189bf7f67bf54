/** The table of methods: what holds for every entry, so that a new one is tested by being there. */
import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import {
  type Acceleration,
  accelerateCheck,
  accelerations,
  checkAcceleration,
  openDenoiser,
  type PictureKind,
  pictureKinds,
} from "../../src/acceleration/acceleration.ts";
import { type MethodEntry, methods, methodsFor, optionsOf } from "../../src/acceleration/methods.ts";
import { videoAccelerations } from "../../src/acceleration/video-options.ts";
import type { Component } from "../../src/components/components.ts";
import { ArgumentError } from "../../src/errors.ts";
import { splitModel } from "../../src/models/split-model.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { PlainDenoiser } from "../../src/sampling/denoiser.ts";
import { networkKinds } from "../../src/sampling/method.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { methodTable } from "../support/method-table.ts";
import { temporaryFolder } from "../support/models.ts";
import { tinyTokens, writeTinyPipeline } from "../support/tiny-pipeline.ts";
import { kinds, tinyTransformer, trajectory } from "../support/tiny-transformer.ts";

const entries: readonly MethodEntry[] = methods;

describe("the table of methods", () => {
  it("has every name once, with words for each option, the same wherever an option is the same", () => {
    expect(new Set(entries.map(({ name }) => name)).size).toBe(entries.length);
    for (const { name, summary, networks, options } of entries) {
      expect(summary, name).not.toMatch(/^$|\.$/);
      expect(networks.every((kind) => networkKinds.includes(kind))).toBe(true);
      for (const [key, { help, value, usual }] of Object.entries(options)) {
        const { option } = optionsOf(entries).get(key)!;
        expect([help, value]).toEqual([option.help, option.value]);
        expect(usual, `${name} ${key}`).not.toBe("");
      }
    }
  });

  it("is what docs/methods.md says", async () => {
    const text = await readFile(new URL("../../docs/methods.md", import.meta.url), "utf8");
    expect(text).toContain(methodTable(entries));
  });

  it("is what pipelines for pictures offer", () => {
    for (const name of accelerations) expect(() => accelerateCheck(name, "accelerate")).not.toThrow();
    for (const { name, networks, baseline } of entries) {
      if (networks.some((kind) => pictureKinds.includes(kind as PictureKind)) && !baseline) continue;
      expect(() => accelerateCheck(name, "accelerate")).toThrow(ArgumentError);
    }
    expect(videoAccelerations).toEqual(["none", "rehash", "deepcache"]);
    expect(() => accelerateCheck({ method: "reuse" }, "accelerate")).not.toThrow();
    expect(() => accelerateCheck({ method: "fewer" }, "accelerate")).toThrow("accelerate.method must be one of none,");
  });

  it("refuses a method that is for another kind of network, with those that there are for this one", () => {
    expect(checkAcceleration("none", null, "unet")).toEqual({ method: "none" });
    expect(checkAcceleration(undefined, null, "unet")).toEqual({ method: "none" });
    for (const method of ["cache", "first-block", "ilf"] as const) {
      expect(() => checkAcceleration(method, {}, "unet")).toThrow(
        `${method} is for networks of the kind transformer; this model's is a unet, which takes "none", "easycache"`,
      );
    }
    for (const method of ["rehash", "deepcache"] as const) {
      expect(() => checkAcceleration(method, null)).toThrow(
        `${method} is for networks of the kind unet or video-unet; this model's is a transformer`,
      );
      expect(checkAcceleration(method, null, "unet")).toEqual({ method });
    }
    expect(() => checkAcceleration("ilf", null)).toThrow("cache, first-block, easycache, taylorseer, tgate need none.");
  });

  it("says whose a setting is that a method does not have", () => {
    const check = (value: object) => () => accelerateCheck(value, "accelerate");
    expect(check({ method: "cache", threshold: 1 })).toThrow(
      "accelerate.threshold is an option of ilf and first-block and easycache; cache has schedule, feedBlock, resumeBlock.",
    );
    expect(check({ method: "none", order: 1 })).toThrow("accelerate.order is an option of taylorseer; none has none.");
    expect(check({ schedule: { every: 2 } })).toThrow("accelerate.method must be one of none, ilf");
    expect(check({ method: "taylorseer", order: 2, threshold: undefined })).not.toThrow();
    expect(check({ method: "taylorseer", order: 2.5 })).toThrow("accelerate.order must be a whole number from 0 to 16");
  });
});

const withoutModule = methodsFor("transformer").filter(({ trained }) => !trained);

describe.each(kinds)("on a tiny %s", (kind) => {
  it.each(withoutModule)("$name cuts at stages that begin a part", async ({ cuts }) => {
    const { model } = await tinyTransformer(kind);
    const network = {
      model: model(),
      inParts: () => Promise.reject(new Error("nothing is compiled")),
      whole: () => Promise.reject(new Error("nothing is compiled")),
      gated: () => ({ ...network.model, outputs: [...network.model.outputs, "attn2"] }),
      gates: () => () => Promise.reject(new Error("nothing is compiled")),
      feedback: null,
    };
    const parts = splitModel(network.model, cuts(network, {}) as readonly number[]);
    expect(parts.flatMap(({ stages }) => stages)).toEqual(network.model.stages);
  });
});

describe("told to do every step in full", () => {
  it.each(withoutModule)("$name gives what the network gives", async ({ name, options }) => {
    const folder = await writeTinyPipeline(await temporaryFolder(), "pixart", { layers: 4 });
    const { transformer } = await TextToImagePipeline.fromFolder(folder, nodeRuntime, { threads: 1 });
    const component = transformer as Component<unknown>;
    const geometry = { batch: "batch" as const, height: 8, width: 8, tokens: tinyTokens };
    const inFull = {
      method: name,
      ...("schedule" in options ? { schedule: { every: 1 } } : {}),
      ...("threshold" in options ? { threshold: 0 } : {}),
      ...("gate" in options ? { gate: 9 } : {}),
    } as Acceleration;
    const steps = trajectory("pixart", 3);
    const plain = new PlainDenoiser(await component.session(geometry));
    const expected: FloatTensor[] = [];
    for (const { feeds } of steps) expected.push(await plain.run(feeds));
    // What is compiled for one way of running makes room for the next.
    const denoiser = await openDenoiser(component, geometry, inFull, null);
    for (const { feeds, step } of steps) {
      const { data } = await denoiser.run(feeds, step);
      expect(compare("sample", data, expected[step.index]!.data).relative).toBeLessThan(1e-5);
    }
    expect(denoiser.actions).toEqual(["full", "full", "full"]);
    await component.release();
  });
});
