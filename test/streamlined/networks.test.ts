/** Plans of all kinds of networks, against reference vectors of diffusers and transformers. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { readGgufHeader } from "../../src/checkpoints/gguf/header.ts";
import { fileSource } from "../../src/checkpoints/node.ts";
import { WeightFiles } from "../../src/checkpoints/weights.ts";
import { Component } from "../../src/components/components.ts";
import { BudgetError } from "../../src/errors.ts";
import { pixart } from "../../src/models/pixart.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { type Flow, flowOf } from "../../src/streamlined/grouping.ts";
import { applyPlan } from "../../src/streamlined/plan.ts";
import { OVERHEAD, planFor } from "../../src/streamlined/planner.ts";
import { compare } from "../../src/verify/compare.ts";
import { seededRandom } from "../../training/random.ts";
import { encodeGguf, quantised } from "../support/gguf.ts";
import { fixture, tensors } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { networkCase } from "../support/networks.ts";
import { randomPlan } from "../support/plans.ts";

const transformers = ["dit", "pixart-alpha", "pixart-sigma", "models-0.42/pixart-no-captions"];
const joint = ["models-0.42/sd3-medium", "models-0.42/sd3-5-medium", "models-0.42/sd3-large"];
const unets = ["models-0.42/unet-xl", "models-0.42/unet-classes", "models-0.42/unet-class-timestep"];
const encoders = [
  "t5",
  "models-0.42/t5-relu",
  "clip-text",
  "models-0.42/clip-states",
  "models-0.42/clip-projection-states",
];
const names = [...transformers, ...joint, ...unets, ...encoders];

/** The smallest budget that is refused with. */
function smallestOf(plan: () => unknown): number {
  try {
    plan();
  } catch (error) {
    expect(error).toBeInstanceOf(BudgetError);
    return (error as BudgetError).smallest;
  }
  throw new Error("a budget without room for anything was taken");
}

function fits(flow: Flow, memory: number): boolean {
  try {
    planFor(flow, { memory, overhead: 0 });
    return true;
  } catch {
    return false;
  }
}

describe("networks by plans", () => {
  it.each(names)("%s: any plan gives what the reference gives", async (name) => {
    const { component, model, geometry, feeds, outputs } = await networkCase(name);
    const flow = flowOf(model);
    const random = seededRandom(5);
    for (let i = 0; i < (unets.includes(name) ? 1 : 3); i++) {
      const session = await component.streamlined(applyPlan(flow, randomPlan(flow, geometry.batch, random)));
      const found = await session.run(feeds);
      await session.release();
      for (const [output, expected] of outputs) {
        if (!found[output]) continue;
        expect(compare(output, found[output].data, expected.data as Float32Array).relative, output).toBeLessThan(1e-4);
      }
    }
  });

  it.each(names)("%s: from the smallest budget to a large one, what it gives without one", async (name) => {
    const { component, geometry, feeds } = await networkCase(name);
    const whole = await component.run(geometry, feeds);
    const smallest = smallestOf(() => component.planned(geometry, 1e6));
    for (const budget of unets.includes(name) ? [smallest] : [smallest, (smallest + 2 * OVERHEAD) / 2, 1e9]) {
      const found = await component.run(geometry, feeds, { budget });
      for (const [output, { data }] of Object.entries(whole)) {
        const { relative } = compare(output, found[output]!.data, data as Float32Array);
        expect(relative, `${output} in ${budget}`).toBeLessThan(1e-5);
      }
    }
    expect(component.planned(geometry, smallest).prediction.peak).toBeLessThanOrEqual(smallest);
    await component.release();
  });
});

describe("weights that do not all fit", () => {
  it("are kept as far as they do; the others are compiled anew in every run", async () => {
    const compiled: number[] = [];
    const counting: Runtime = Object.create(nodeRuntime, {
      compile: {
        value: (...given: Parameters<Runtime["compile"]>) => {
          compiled.push(given[0].bytes.length);
          return nodeRuntime.compile(...given);
        },
      },
    });
    const { component, model, feeds, outputs } = await networkCase("models-0.42/sd3-5-medium", counting);
    const flow = flowOf(model);
    const all = planFor(flow, { memory: 1e12, overhead: 0 });
    // Messages round to megabytes, of which this network has less than one.
    let smallest = all.prediction.peak;
    while (fits(flow, 0.95 * smallest)) smallest *= 0.95;
    expect(all.readAgain).toBe(0);
    let before = Number.POSITIVE_INFINITY;
    for (const share of [0.2, 0.5, 0.8]) {
      const memory = smallest + share * (all.prediction.peak - smallest);
      const run = planFor(flow, { memory, overhead: 0 });
      expect(run.prediction.peak).toBeLessThanOrEqual(memory);
      expect(run.readAgain).toBeLessThan(before);
      before = run.readAgain;
      const kept = run.plan.groups.filter(({ keep }) => keep).length;
      const streamed = run.plan.groups.length - kept;
      expect(Math.min(kept, streamed)).toBeGreaterThan(0);
      compiled.length = 0;
      const session = await component.streamlined(run.layout);
      expect(compiled.length).toBe(kept);
      for (let i = 1; i <= 2; i++) {
        const { sample } = await session.run(feeds);
        expect(compiled.length).toBe(kept + i * run.plan.passes * streamed);
        const expected = outputs.get("sample")!.data as Float32Array;
        expect(compare("sample", sample!.data, expected).relative).toBeLessThan(1e-4);
      }
      await session.release();
    }
  });
});

describe("weights in ggml's blocks", () => {
  it("are widened group by group, and take less where they stay", async () => {
    const folder = fixture("pixart-sigma");
    const raw = (await folder.json("config.json")) as RawConfig;
    const path = join(await temporaryFolder(), "model.gguf");
    const stored = await tensors(folder, "diffusion_pytorch_model.safetensors");
    const inBlocks = [...stored].filter(([, { shape }]) => quantised("", shape) === "Q8_0").map(([name]) => name);
    expect(inBlocks.length).toBeGreaterThan(3);
    await writeFile(path, encodeGguf(stored, quantised));
    const source = await fileSource(path);
    const files = new WeightFiles((await readGgufHeader(source)).entries, new Map([[source.name, { source }]]));
    const component = Component.of(pixart, raw, files, nodeRuntime, { threads: 1 });
    const { geometry, feeds } = await networkCase("pixart-sigma");
    const whole = await component.run(geometry, feeds);
    const smallest = smallestOf(() => component.planned(geometry, 1e6));
    for (const budget of [smallest, 1e9]) {
      const { sample } = await component.run(geometry, feeds, { budget });
      expect(compare("sample", sample!.data, whole["sample"]!.data as Float32Array).relative).toBeLessThan(1e-5);
    }
    for (const name of inBlocks) expect(component.heldShare(name)).toBeLessThan(0.7);
    expect(component.heldShare("pos_embed.proj.bias")).toBe(1);
    await component.release();
  });
});
