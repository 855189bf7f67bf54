/**
 * Networks through whose blocks image and text both run, with weights drawn at random, in a folder of their own, and what a
 * sampler would feed them: the two-row network, and Stable Diffusion 3's.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { Component } from "../../src/components/components.ts";
import { type Architecture, type Geometry, weightShapes } from "../../src/models/architecture.ts";
import { registered, registry } from "../../src/models/registry.ts";
import { sd3 } from "../../src/models/sd3.ts";
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

/** Both have four blocks of width 8, of which the last one writes no text. */
const rawTwoRow = { _class_name: twoRow.className, channels: 2, word_width: 5, width: 8, heads: 2, pairs: 2, lines: 2 };
const rawSD3 = {
  ...{ _class_name: sd3.className, sample_size: 8, patch_size: 2, in_channels: 3, out_channels: 3, num_layers: 4 },
  ...{ num_attention_heads: 2, attention_head_dim: 4, caption_projection_dim: 8, joint_attention_dim: 5 },
  ...{ pooled_projection_dim: 6, pos_embed_max_size: 5, dual_attention_layers: [0, 1], qk_norm: "rms_norm" },
};

export const twoRowCase = () => jointCase(twoRow, rawTwoRow, { height: 3, width: 4, tokens: 3 });

/** Both networks, by the names of their classes. */
export const jointCases: Readonly<Record<string, () => ReturnType<typeof jointCase>>> = {
  [twoRow.className]: twoRowCase,
  [sd3.className]: () => jointCase(sd3, rawSD3, { height: 4, width: 6, tokens: 3 }),
};

async function jointCase<Config>(
  architecture: Architecture<Config>,
  raw: Readonly<Record<string, unknown>>,
  size: { height: number; width: number; tokens: number },
) {
  const config = architecture.parseConfig(raw);
  const model = (geometry: Partial<Geometry> = {}) =>
    architecture.model(config, { batch: "batch", ...size, ...geometry });
  const path = await temporaryFolder();
  const tensors = drawn(weightShapes(model()));
  await writeFile(join(path, "config.json"), JSON.stringify(raw));
  await writeSafetensors(join(path, "model.safetensors"), tensors);
  const folder = new NodeFolder(path, "two-rows");
  const weights = await openWeights(folder);
  const component = () => Component.of(architecture, raw, weights, nodeRuntime, { threads: 1 });
  const { latent = "", streams = [] } = model();
  const [image = "", text = ""] = streams;
  const trajectory = (count: number, rows = 2) => trajectoryOf(model().inputs, latent, count, rows);
  const names = { latent, image, text, streams };
  return {
    folder,
    raw,
    config,
    geometry: { batch: "batch", ...size },
    model,
    tensors,
    weights,
    component,
    names,
    trajectory,
  };
}

/** What a sampler feeds at each of `count` steps: a latent that changes a little, a timestep that falls. */
function trajectoryOf(
  inputs: Readonly<Record<string, { shape: readonly (number | string)[] }>>,
  latent: string,
  count: number,
  rows: number,
): { feeds: Feeds; step: StepContext }[] {
  const generator = new TorchGenerator(3);
  const draw = (name: string) => generator.randn([rows, ...inputs[name]!.shape.slice(1).map(Number)]);
  let noisy: FloatTensor = draw(latent);
  const others = Object.keys(inputs).filter((name) => name !== latent && name !== "timestep");
  const conditions = Object.fromEntries(others.map((name) => [name, draw(name)]));
  return Array.from({ length: count }, (_, index) => {
    const timestep = 999 - Math.round((900 * index) / count);
    const noise = generator.randn(noisy.shape).data;
    noisy = floatTensor(
      noisy.shape,
      noisy.data.map((value, i) => 0.95 * value + 0.2 * noise[i]!),
    );
    const feeds = {
      [latent]: noisy,
      ...conditions,
      timestep: floatTensor([rows], new Float32Array(rows).fill(timestep)),
    };
    return { feeds, step: { index, steps: count, timestep } };
  });
}
