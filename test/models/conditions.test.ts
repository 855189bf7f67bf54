/** What follows from a network's conditions alone, computed once a run: against networks that compute everything at every step. */
import { describe, expect, it } from "vitest";
import { type Acceleration, openDenoiser } from "../../src/acceleration/acceleration.ts";
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import type { Folder } from "../../src/checkpoints/files.ts";
import { Component } from "../../src/components/components.ts";
import type { Geometry } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { splitModel } from "../../src/models/split-model.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import type { Feeds } from "../../src/sampling/denoiser.ts";
import type { StepContext } from "../../src/sampling/step-policy.ts";
import { floatOf } from "../../src/tensor.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeStableDiffusion } from "../support/stable-diffusion.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";
import { trajectory } from "../support/tiny-transformer.ts";
import { unetGeometry, unetTrajectory } from "../support/unet-steps.ts";

/** Notes each session's inputs, and counts its runs. */
function counting() {
  const sessions: { inputs: readonly string[]; runs: number }[] = [];
  const compile: Runtime["compile"] = async (model, ...more) => {
    const session = await nodeRuntime.compile(model, ...more);
    const { inputNames, outputNames } = session;
    const entry = { inputs: inputNames, runs: 0 };
    sessions.push(entry);
    return {
      inputNames,
      outputNames,
      run: (feeds, into) => {
        entry.runs++;
        return session.run(feeds, into);
      },
      release: () => session.release(),
    };
  };
  return { sessions, runtime: Object.create(nodeRuntime, { compile: { value: compile } }) as Runtime };
}

interface Case {
  folder: () => Promise<Folder>;
  geometry: Geometry;
  steps: (unet: Component<unknown>) => { feeds: Feeds; step: StepContext }[];
  /** Products that are kept: two for each cross-attention, and one for each vector that is told beside the text. */
  kept: number;
}

const unet = (name: "sd" | "sdxl" | "sd-lcm", kept: number): Case => ({
  folder: async () => (await writeStableDiffusion(name)).sub("unet"),
  geometry: unetGeometry,
  steps: (component) => unetTrajectory(component, 4),
  kept,
});
const networks: Readonly<Record<string, Case>> = {
  "Stable Diffusion": unet("sd", 2 * 4),
  // The guidance scale.
  LCM: unet("sd-lcm", 2 * 4 + 1),
  // The pooled text and the sizes.
  "Stable Diffusion XL": unet("sdxl", 2 * 8 + 1),
  PixArt: {
    folder: async () => (await writeTinyPipeline(await temporaryFolder(), "pixart", { layers: 4 })).sub("transformer"),
    geometry: { batch: "batch", height: 8, width: 8, tokens: 6 },
    steps: () => trajectory("pixart", 4),
    kept: 2 * 4,
  },
};

async function opened({ folder: write, geometry }: Case) {
  const { sessions, runtime } = counting();
  const folder = await write();
  const component = await Component.open(folder, (raw) => architectureOf(raw), runtime, { threads: 1 });
  const architecture = architectureOf(await readConfig(folder));
  const { config, weights } = component;
  const reference = await loadModel(nodeRuntime, architecture, config, weights, geometry, { threads: 1 });
  return { sessions, component, reference };
}

describe.each(Object.entries(networks))("%s", (_, network) => {
  it("computes the text's keys and values once a run, and gives the same numbers bit for bit", async () => {
    const { sessions, component, reference } = await opened(network);
    const steps = network.steps(component);
    for (const run of [1, 2]) {
      const denoiser = await openDenoiser(component, network.geometry, { method: "none" }, null);
      for (const { feeds, step } of steps) {
        const expected = floatOf(await reference.run(feeds), "sample");
        expect((await denoiser.run(feeds, step)).data).toEqual(expected.data);
      }
      const [once, each] = sessions;
      expect(sessions).toHaveLength(2);
      expect([once!.runs, each!.runs]).toEqual([run, run * steps.length]);
    }
    expect(sessions[1]!.inputs.filter((name) => name.startsWith("once."))).toHaveLength(network.kept);
    await Promise.all([component.release(), reference.release()]);
  });

  it("follows conditions that change during a run", async () => {
    const { component, reference } = await opened(network);
    const steps = network.steps(component);
    const denoiser = await openDenoiser(component, network.geometry, { method: "none" }, null);
    for (const [i, { feeds, step }] of steps.entries()) {
      const text = floatOf(feeds, "encoderHiddenStates");
      const encoderHiddenStates = { ...text, data: text.data.map((value) => value * (i % 2 === 0 ? 1 : -1)) };
      const given = { ...feeds, encoderHiddenStates };
      const expected = floatOf(await reference.run(given), "sample");
      expect((await denoiser.run(given, step)).data).toEqual(expected.data);
    }
    await Promise.all([component.release(), reference.release()]);
  });
});

describe("a network in parts", () => {
  it("knows in each part which features stay the same", async () => {
    const { component } = await opened(networks["PixArt"]!);
    const model = component.model(networks["PixArt"]!.geometry);
    const own = ["encoderHiddenStates", "encoderAttentionMask"];
    const text = ["captionProjection", "captionBias"];
    const conditions = splitModel(model, [2, 3, 5, 7]).map((part) => part.conditions);
    expect(conditions).toEqual([[], own, text, text, []]);
  });

  it.each<Acceleration>([
    { method: "cache" },
    { method: "first-block", threshold: 0.5 },
    { method: "taylorseer", schedule: { every: 2 } },
  ])("does so too with $method", async (acceleration) => {
    const { sessions, component } = await opened(networks["PixArt"]!);
    const steps = networks["PixArt"]!.steps(component);
    const denoiser = await openDenoiser(component, networks["PixArt"]!.geometry, acceleration, null);
    for (const { feeds, step } of steps) await denoiser.run(feeds, step);
    const text = new Set(["captionProjection", "captionBias", "encoderHiddenStates", "encoderAttentionMask"]);
    const ofText = sessions.filter(({ inputs }) => inputs.every((name) => text.has(name.replace("input ", ""))));
    expect(ofText.length).toBeGreaterThan(1);
    for (const { runs } of ofText) expect(runs).toBe(1);
    await component.release();
  });
});
