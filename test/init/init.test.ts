import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { initModel, presets } from "../../src/init/init-node.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { floatTensor, int64Tensor, sizeOf } from "../../src/tensor.ts";

const scratch = await mkdtemp(join(tmpdir(), "halfstep-init-"));
afterAll(() => rm(scratch, { recursive: true }));

const parameters = (name: string) => {
  const architecture = architectureOf(presets.get(name)!);
  const model = architecture.model(architecture.parseConfig(presets.get(name)!), { batch: 1, tokens: 1 });
  return [...weightShapes(model).values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
};

/** Small enough for a test; every preset is made the same way. */
const tiny = { ...presets.get("dit-s-2")!, num_layers: 6, attention_head_dim: 8, num_embeds_ada_norm: 10 };

describe("initModel", () => {
  // The published counts: 675 M and 33 M for DiT with one embedding of timestep and class; diffusers has one a block.
  it("has the published geometries", () => {
    const perBlock = (width: number) => 256 * width + width + width * width + width + 1001 * width;
    expect(parameters("dit-xl-2") - 27 * perBlock(1152)).toBeGreaterThan(674e6);
    expect(parameters("dit-xl-2") - 27 * perBlock(1152)).toBeLessThan(676e6);
    expect(parameters("dit-s-2") - 11 * perBlock(384)).toBeLessThan(33.5e6);
    expect(parameters("pixart-xl-2")).toBeGreaterThan(600e6);
    expect(parameters("pixart-xl-2")).toBeLessThan(620e6);
  });

  // What diffusers 0.42 has in the class with the published configuration; of Stable Diffusion 3.5 the table of positions too.
  it.each([
    ["sd-1.5", 859_520_964],
    ["sd-turbo", 865_910_724],
    ["sdxl", 2_567_463_684],
    ["sd3.5-medium", 2_469_663_936],
  ])("%s has %i parameters", (name, count) => {
    expect(parameters(name)).toBe(count);
  });

  it.each(["F32", "F16", "BF16"] as const)(
    "writes a folder in %s that loads, and whose activations stay sane",
    async (dtype) => {
      const folder = join(scratch, dtype);
      const made = await initModel(folder, tiny, { seed: 3, dtype });
      const files = new NodeFolder(folder);
      const architecture = architectureOf(await readConfig(files));
      const config = architecture.parseConfig(await readConfig(files));
      const weights = await openWeights(files);
      expect([weights.parameters, weights.bytes]).toEqual([made.parameters, made.bytes]);
      const model = await loadModel(nodeRuntime, architecture, config, weights, { batch: 2, height: 8, width: 8 });
      const { sample } = await model.run({
        hiddenStates: new TorchGenerator(0).randn([2, 4, 8, 8]),
        timestep: floatTensor([2], Float32Array.of(999, 1)),
        classLabels: int64Tensor([2], [1, 10]),
      });
      await model.release();
      const data = sample!.data as Float32Array;
      const deviation = Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
      expect(deviation).toBeGreaterThan(0.1);
      expect(deviation).toBeLessThan(10);
    },
  );

  it("gives the same bytes for the same seed, others for another", async () => {
    const bytes = async (name: string, seed: number) => {
      await initModel(join(scratch, name), tiny, { seed });
      return readFile(join(scratch, name, "diffusion_pytorch_model.safetensors"));
    };
    const [a, b, c] = [await bytes("a", 1), await bytes("b", 1), await bytes("c", 2)];
    expect(a.equals(b)).toBe(true);
    expect(a.equals(c)).toBe(false);
  });

  it("leaves a folder alone that has something in it", async () => {
    await expect(initModel(join(scratch, "a"), tiny)).rejects.toThrow(/is not empty/);
  });
});
