import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openWeights } from "../../src/checkpoints/weights.ts";
import type { Stage } from "../../src/models/architecture.ts";
import { loadModel } from "../../src/models/staged.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { type Cutter, runInSlices } from "../support/slices.ts";
import { unetCase, unets } from "../support/unets.ts";

describe("UNets against diffusers", () => {
  it.each(unets)("%s", async (name) => {
    const { folder } = await unetCase(name);
    const { outputs, pass } = await verifyFolder(folder, nodeRuntime);
    expect(outputs.map((output) => output.name)).toEqual(["output.sample"]);
    expect(outputs[0]!.relative).toBeLessThan(3e-5);
    expect(pass).toBe(true);
  });

  it.each(unets)("%s with a batch that stays open, also a smaller one", async (name) => {
    const { architecture, config, geometry, feeds, folder, expected } = await unetCase(name);
    const files = await openWeights(folder);
    const model = await loadModel(nodeRuntime, architecture, config, files, { ...geometry, batch: "batch" });
    const whole = (await model.run(feeds))["sample"]!;
    expect(compare(name, whole.data, expected.data).relative).toBeLessThan(3e-5);
    const rows = Object.fromEntries(Object.entries(feeds).map(([key, tensor]) => [key, row(tensor)]));
    const first = (await model.run(rows))["sample"]!;
    expect(compare(name, first.data, row(expected).data).relative).toBeLessThan(3e-5);
    await model.release();
  });

  it.each(unets)("%s in other groups of stages", async (name) => {
    const { architecture, config, geometry, feeds, folder, expected } = await unetCase(name);
    const files = await openWeights(folder);
    const { length } = architecture.model(config, geometry).stages;
    for (const groups of [new Array<number>(length).fill(1), [3, 10, length - 13]]) {
      const model = await loadModel(nodeRuntime, architecture, config, files, geometry, { groups, threads: 1 });
      const { sample } = await model.run(feeds);
      await model.release();
      expect(compare(name, sample!.data, expected.data).relative).toBeLessThan(3e-5);
    }
  });
});

/** The first of a batch. */
const row = ({ shape, data }: FloatTensor): FloatTensor =>
  floatTensor([1, ...shape.slice(1)], data.slice(0, data.length / shape[0]!));

/** Parts of random lengths of the dimension that a stage can be cut along, or of the batch. */
function randomCuts(stage: Stage, length: (dimension: string) => number, random: () => number) {
  const dimension = stage.axis === "whole" || random() < 0.2 ? "batch" : stage.axis;
  const parts: number[] = [];
  for (let rest = length(dimension); rest > 0; rest -= parts.at(-1)!) parts.push(1 + Math.floor(random() * rest));
  return { dimension, parts };
}

describe("stages of UNets", () => {
  it.each(unets)("%s: in slices of any lengths they give the same numbers", async (name) => {
    const { architecture, config, geometry, feeds, folder, expected } = await unetCase(name);
    const files = await openWeights(folder);
    const model = architecture.model(config, geometry);
    const property = fc.asyncProperty(fc.infiniteStream(fc.nat(999)), async (stream) => {
      const random = () => (stream.next().value as number) / 1000;
      const cutter: Cutter = (stage, length) => randomCuts(stage, length, random);
      const { data } = (await runInSlices(model, files, feeds, cutter)).get("sample")!;
      expect(compare(name, data, expected.data).relative).toBeLessThan(3e-5);
    });
    await fc.assert(property, { numRuns: 3, seed: 5 });
  });

  it.each(unets)("%s: nothing large has to be whole, and every feature is written once", async (name) => {
    const { architecture, config, geometry } = await unetCase(name);
    const { stages, inputs } = architecture.model(config, geometry);
    const written = new Set(Object.keys(inputs).filter((feature) => feature !== "sample"));
    for (const stage of stages) {
      expect(Object.keys(stage.layouts!).sort()).toEqual([...new Set([...stage.reads, ...stage.writes])].sort());
      for (const feature of stage.writes) {
        expect(written, `${stage.name} writes ${feature}`).not.toContain(feature);
        written.add(feature);
        const pictures = stage.axis === "frame" && architecture.framesAxis === undefined;
        if (stage.axis === "whole" || pictures) continue;
        expect(Object.keys(stage.layouts![feature]!), feature).toContain(stage.axis);
      }
      if (stage.axis !== "whole") continue;
      for (const [feature, layout] of Object.entries(stage.layouts!)) {
        expect("position" in layout && "frame" in layout, `${stage.name} has ${feature}`).toBe(false);
      }
    }
  });

  it.each(unets)("%s: layouts say what the values' shapes are", async (name) => {
    const { architecture, config, geometry, feeds, folder } = await unetCase(name);
    const files = await openWeights(folder);
    const model = architecture.model(config, geometry);
    for (const [feature, { shape }] of Object.entries(feeds)) {
      const layout = model.stages.map(({ layouts }) => layouts![feature]).find(Boolean)!;
      expect(Object.values(layout)).toEqual(shape);
    }
    const features = await runInSlices(model, files, feeds, () => null);
    for (const { layouts, writes } of model.stages) {
      for (const feature of writes) expect(features.get(feature)!.shape).toEqual(Object.values(layouts![feature]!));
    }
  });
});
