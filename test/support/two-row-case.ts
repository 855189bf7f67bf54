/** The two-row network with weights drawn at random, in a folder of its own, and what a sampler would feed it. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { Component } from "../../src/components/components.ts";
import { type Geometry, weightShapes } from "../../src/models/architecture.ts";
import { registered, registry } from "../../src/models/registry.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Feeds } from "../../src/sampling/denoiser.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import type { StepContext } from "../../src/sampling/step-policy.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";
import { drawn } from "./drawn.ts";
import { temporaryFolder } from "./models.ts";
import { twoRow } from "./two-row-network.ts";

/** The one line that adds a network. */
export const withTwoRows = registered([{ model: twoRow }], registry);

const raw = { _class_name: twoRow.className, channels: 2, word_width: 5, width: 8, heads: 2, pairs: 2, lines: 2 };
const size = { height: 3, width: 4, tokens: 3 };
const config = twoRow.parseConfig(raw);

export async function twoRowCase() {
  const model = (geometry: Partial<Geometry> = {}) => twoRow.model(config, { batch: "batch", ...size, ...geometry });
  const path = await temporaryFolder();
  const tensors = drawn(weightShapes(model()));
  await writeFile(join(path, "config.json"), JSON.stringify(raw));
  await writeSafetensors(join(path, "model.safetensors"), tensors);
  const folder = new NodeFolder(path, "two-rows");
  const weights = await openWeights(folder);
  const component = () => Component.of(twoRow, raw, weights, nodeRuntime, { threads: 1 });
  return { folder, raw, config, geometry: { batch: "batch", ...size }, model, tensors, weights, component };
}

/** What a sampler feeds at each of `count` steps: a latent that changes a little, a timestep that falls. */
export function twoRowTrajectory(count: number, rows = 2): { feeds: Feeds; step: StepContext }[] {
  const generator = new TorchGenerator(3);
  let noisyImage: FloatTensor = generator.randn([rows, config.channels, size.height, size.width]);
  const words = generator.randn([rows, size.tokens, config.wordWidth]);
  return Array.from({ length: count }, (_, index) => {
    const timestep = 999 - Math.round((900 * index) / count);
    const noise = generator.randn(noisyImage.shape).data;
    noisyImage = floatTensor(
      noisyImage.shape,
      noisyImage.data.map((value, i) => 0.95 * value + 0.2 * noise[i]!),
    );
    const feeds = { noisyImage, words, timestep: floatTensor([rows], new Float32Array(rows).fill(timestep)) };
    return { feeds, step: { index, steps: count, timestep } };
  });
}
