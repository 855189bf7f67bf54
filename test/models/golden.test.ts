import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { gradients } from "../../src/graph/gradient.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { constant } from "../../src/graph/value.ts";
import { buildModel } from "../../src/models/architecture.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { parameterWeights } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Runtime } from "../../src/runtime/runtime.ts";
import { floatTensor, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { fixture } from "../support/golden.ts";
import { random, randomTensor } from "../support/gradient-error.ts";
import { modelCase, models } from "../support/models.ts";

// Reference vectors of diffusers 0.30.3; for T5 and CLIP's text of PyTorch modules with transformers' names, for CLIP's
// pictures of transformers 5.23 itself.
const cases = [
  ...[...models, "vae"].map((name) => [name, "config.json"] as const),
  ...["dit", "pixart-alpha", "pixart-sigma"].map((name) => [name, "config.transformer_2d.json"] as const),
];

describe("models against their reference vectors", () => {
  it.each(cases)("%s with %s", async (name, configFile) => {
    const folder = fixture(name);
    const config = (await folder.json(configFile)) as Record<string, unknown>;
    const { outputs, blocks, pass } = await verifyFolder(folder, nodeRuntime, { config, blocks: true });
    for (const { name, relative } of outputs) expect(relative, name).toBeLessThan(1e-4);
    for (const { name, relative } of blocks!) expect(relative, name).toBeLessThan(1e-4);
    expect(pass).toBe(true);
    expect(blocks!.length).toBeGreaterThan(2);
  });

  it.each(models)("%s with a batch that stays open, also a smaller one", async (name) => {
    const { architecture, config, geometry, feeds, folder, io } = await modelCase(name);
    const files = await openWeights(folder);
    const model = await loadModel(nodeRuntime, architecture, config, files, { ...geometry, batch: "batch" });
    const [output] = model.model.outputs as [string];
    const expected = [...io].find(([key]) => key.startsWith("output."))![1];
    const whole = (await model.run(feeds))[output]!;
    expect(compare(output, whole.data, expected.data).relative).toBeLessThan(1e-4);
    const first = (await model.run(Object.fromEntries(Object.entries(feeds).map(([key, t]) => [key, row(t)]))))[
      output
    ]!;
    expect(first.shape).toEqual([1, ...expected.shape.slice(1)]);
    expect(compare(output, first.data, row(expected).data).relative).toBeLessThan(1e-4);
    await model.release();
  });
});

/** The first of a batch. */
function row({ dtype, shape, data }: Tensor): Tensor {
  return { dtype, shape: [1, ...shape.slice(1)], data: data.slice(0, data.length / shape[0]!) as Tensor["data"] };
}

describe("groups of stages", () => {
  it.each(models)("%s gives the same numbers in any grouping", async (name) => {
    const { architecture, config, geometry, feeds, folder } = await modelCase(name);
    const files = await openWeights(folder);
    const whole = await loadModel(nodeRuntime, architecture, config, files, geometry);
    const [output] = whole.model.outputs as [string];
    const expected = (await whole.run(feeds))[output]!.data;
    const stages = whole.model.stages.length;
    await whole.release();
    // A bit for each place between two stages: whether a group ends there.
    const groupings = fc.array(fc.boolean(), { minLength: stages - 1, maxLength: stages - 1 });
    const property = fc.asyncProperty(groupings, async (cuts) => {
      const ends = [...cuts.flatMap((cut, i) => (cut ? [i + 1] : [])), stages];
      const groups = ends.map((end, i) => end - (ends[i - 1] ?? 0));
      const model = await loadModel(nodeRuntime, architecture, config, files, geometry, { groups });
      const { data } = (await model.run(feeds))[output]!;
      await model.release();
      expect(compare(output, data, expected).relative).toBeLessThan(2e-6);
    });
    await fc.assert(property, { numRuns: 12, seed: 7, examples: [[new Array(stages - 1).fill(true)]] });
  });
});

describe("streaming", () => {
  it("gives the same numbers, run after run, with one stage in memory at a time", async () => {
    const { architecture, config, geometry, feeds, folder } = await modelCase("t5");
    const files = await openWeights(folder);
    const whole = await loadModel(nodeRuntime, architecture, config, files, geometry);
    let [alive, most] = [0, 0];
    const counting: Runtime = {
      ...nodeRuntime,
      async compile(...given) {
        const session = await nodeRuntime.compile(...given);
        alive++;
        most = Math.max(most, alive);
        return {
          inputNames: session.inputNames,
          outputNames: session.outputNames,
          run: (from, into) => session.run(from, into),
          release: () => {
            alive--;
            return session.release();
          },
        };
      },
    };
    const streamed = await loadModel(counting, architecture, config, files, geometry, { stream: true });
    const expected = (await whole.run(feeds))["lastHiddenState"]!.data;
    for (let i = 0; i < 2; i++) {
      const { data } = (await streamed.run(feeds))["lastHiddenState"]!;
      expect(compare("lastHiddenState", data, expected).relative).toBeLessThan(2e-6);
    }
    expect({ alive, most }).toEqual({ alive: 0, most: 1 });
    await whole.release();
  });
});

describe("gradients of whole models", () => {
  it.each(["dit", "pixart-alpha", "t5"])("%s: every weight's is the slope of the loss along it", async (name) => {
    const { architecture, config, geometry, feeds, folder, io } = await modelCase(name);
    const files = await openWeights(folder);
    const { source, parameters } = parameterWeights();
    const [output] = Object.values(buildModel(architecture.model(config, geometry), source));
    const reference = [...io].find(([key]) => key.startsWith("output."))![1];
    const dy = randomTensor(reference.shape, random(3));
    const weights: Record<string, Tensor> = {};
    for (const key of parameters.keys()) {
      const { shape, data } = await files.read(key);
      weights[key] = floatTensor(shape, Float32Array.from<number | bigint>(data, Number));
    }
    const values = gradients(
      null,
      [...parameters.values()],
      [[output!, constant(dy.data, dy.shape as number[], "float32")]],
    );
    const backward = await nodeRuntime.compile(toOnnx(Object.fromEntries(values.map((value, i) => [`d${i}`, value]))));
    const found = await backward.run({ ...feeds, ...weights });
    const forward = await nodeRuntime.compile(toOnnx({ output: output! }));
    const loss = async (key: string, data: Float32Array) => {
      const changed = { ...weights, [key]: floatTensor(weights[key]!.shape, data) };
      const result = (await forward.run({ ...feeds, ...changed }))["output"]!.data as Float32Array;
      return result.reduce((sum, value, i) => sum + value * dy.data[i]!, 0);
    };
    for (const [i, key] of [...parameters.keys()].entries()) {
      const gradient = found[`d${i}`]!.data as Float32Array;
      const norm = Math.hypot(...gradient);
      // A bias of the keys shifts all scores of a query alike, so its gradient is nothing but rounding.
      if (key.endsWith("to_k.bias")) continue;
      expect(norm, key).toBeGreaterThan(1e-4);
      const data = weights[key]!.data as Float32Array;
      // A step that changes no weight by more than a few hundredths of their size; two for an error of fourth order.
      const largest = gradient.reduce((max, value) => Math.max(max, Math.abs(value)), 0) / norm;
      const step = (0.03 * Math.max(Math.hypot(...data) / Math.sqrt(data.length), 0.1)) / largest;
      const slope = async (h: number) => {
        const moved = (sign: number) => data.map((value, j) => value + (sign * h * gradient[j]!) / norm);
        return ((await loss(key, moved(1))) - (await loss(key, moved(-1)))) / (2 * h);
      };
      const expected = (4 * (await slope(step)) - (await slope(2 * step))) / 3;
      expect(Math.abs(expected - norm) / norm, `${key}: ${norm}, ${expected}`).toBeLessThan(5e-3);
    }
    await Promise.all([backward.release(), forward.release()]);
  });
});
