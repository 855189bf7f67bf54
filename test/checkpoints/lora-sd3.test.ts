/** LoRAs of Stable Diffusion 3, whose original layout has queries, keys and values in one layer: against the product worked out here. */

import { cp, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { memorySource } from "../../src/checkpoints/files.ts";
import { LoraFile } from "../../src/checkpoints/lora/file.ts";
import { withLoras } from "../../src/checkpoints/lora/merge.ts";
import type { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights, type WeightFiles } from "../../src/checkpoints/weights.ts";
import { CheckpointError } from "../../src/errors.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { platform } from "../../src/platform/node.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { temporaryFolder } from "../support/models.ts";
import { encoded } from "../support/single-files.ts";
import { writeStableDiffusion } from "../support/stable-diffusion.ts";

const RANK = 2;
const ALPHA = 3;
/** Of the small transformer, which has three blocks. */
const WIDTH = 16;

/** What a layer of the original is in diffusers, and whether its two halves are exchanged there. */
const layers: [original: string, diffusers: string[], rows: number, columns: number, swapped?: true][] = [
  ["joint_blocks.0.x_block.attn.qkv", ["0.attn.to_q", "0.attn.to_k", "0.attn.to_v"], 3 * WIDTH, WIDTH],
  ["joint_blocks.0.x_block.attn2.qkv", ["0.attn2.to_q", "0.attn2.to_k", "0.attn2.to_v"], 3 * WIDTH, WIDTH],
  [
    "joint_blocks.1.context_block.attn.qkv",
    ["1.attn.add_q_proj", "1.attn.add_k_proj", "1.attn.add_v_proj"],
    3 * WIDTH,
    WIDTH,
  ],
  ["joint_blocks.1.context_block.attn.proj", ["1.attn.to_add_out"], WIDTH, WIDTH],
  ["joint_blocks.2.x_block.mlp.fc1", ["2.ff.net.0.proj"], 4 * WIDTH, WIDTH],
  ["joint_blocks.1.context_block.mlp.fc2", ["1.ff_context.net.2"], WIDTH, 4 * WIDTH],
  ["joint_blocks.1.context_block.adaLN_modulation.1", ["1.norm1_context.linear"], 6 * WIDTH, WIDTH],
  ["joint_blocks.2.context_block.adaLN_modulation.1", ["2.norm1_context.linear"], 2 * WIDTH, WIDTH, true],
];

let folder: NodeFolder;
let weights: WeightFiles;
beforeAll(async () => {
  folder = await writeStableDiffusion("sd3");
  weights = await openWeights(folder.sub("transformer"));
});

interface Matrices {
  up: FloatTensor;
  down: FloatTensor;
}

function matrices(rows: number, columns: number, seed: number): Matrices {
  const generator = new TorchGenerator(seed);
  return { up: generator.randn([rows, RANK]), down: generator.randn([RANK, columns]) };
}

/** up * down, row by row. */
function product({ up, down }: Matrices): number[][] {
  const columns = down.shape[1]!;
  return Array.from({ length: up.shape[0]! }, (_, row) =>
    Array.from({ length: columns }, (_, column) => {
      let sum = 0;
      for (let r = 0; r < RANK; r++) sum += up.data[row * RANK + r]! * down.data[r * columns + column]!;
      return sum;
    }),
  );
}

const loraOf = async (tensors: Map<string, Tensor>) =>
  LoraFile.open(memorySource("lora.safetensors", await encoded(tensors)));

async function expectAdded(merged: WeightFiles, name: string, added: number[][], scale: number): Promise<void> {
  const own = (await weights.read(name)) as FloatTensor;
  const expected = own.data.map((value, i) => value + scale * added.flat()[i]!);
  const { data } = (await merged.read(name)) as FloatTensor;
  expect(compare(name, data, expected).relative, name).toBeLessThan(1e-6);
  expect(compare(name, data, own.data).relative, name).toBeGreaterThan(1e-2);
}

/** The last of a short run. */
async function latents(path: string, ...loras: { file: string; scale: number }[]): Promise<Float32Array> {
  const model = await platform.resolveModel(path, { loras });
  const pipe = await TextToImagePipeline.fromFolder(model, nodeRuntime, { threads: 1 });
  let last = new Float32Array();
  const onStep = (step: { latents: FloatTensor }) => {
    last = step.latents.data.slice();
  };
  await pipe("a cat", { steps: 2, seed: 1, maxSequenceLength: 4, onStep });
  await pipe.release();
  return last;
}

describe("a LoRA of Stable Diffusion 3", () => {
  it("as kohya's scripts name it: each part of a layer gets its rows, and halves their places", async () => {
    const tensors = new Map<string, Tensor>();
    for (const [i, [original, , rows, columns]] of layers.entries()) {
      const { up, down } = matrices(rows, columns, i);
      const name = `lora_unet_${original.replaceAll(".", "_")}`;
      tensors.set(`${name}.lora_up.weight`, up);
      tensors.set(`${name}.lora_down.weight`, down);
      tensors.set(`${name}.alpha`, floatTensor([], Float32Array.of(ALPHA)));
    }
    const merged = withLoras(weights, "denoiser", [{ lora: await loraOf(tensors), scale: 0.5 }]);
    for (const [i, [, diffusers, rows, columns, swapped]] of layers.entries()) {
      const all = product(matrices(rows, columns, i));
      const placed = swapped ? [...all.slice(rows / 2), ...all.slice(0, rows / 2)] : all;
      const each = rows / diffusers.length;
      for (const [part, name] of diffusers.entries()) {
        const own = placed.slice(part * each, (part + 1) * each);
        await expectAdded(merged, `transformer_blocks.${name}.weight`, own, (0.5 * ALPHA) / RANK);
      }
    }
    const changed = [...merged.entries].filter(([, { added }]) => added).map(([name]) => name);
    expect(changed).toHaveLength(layers.reduce((sum, [, diffusers]) => sum + diffusers.length, 0));

    // What sessions make of it is what a folder with the sums in it gives.
    const file = join(await temporaryFolder(), "kohya.safetensors");
    await writeFile(file, await encoded(tensors));
    const path = await temporaryFolder();
    await cp(folder.path, path, { recursive: true });
    const sums = new Map<string, Tensor>();
    for (const name of merged.entries.keys()) sums.set(name, await merged.read(name));
    await writeSafetensors(join(path, "transformer", "diffusion_pytorch_model.safetensors"), sums);
    const [inSession, inFolder] = [await latents(folder.path, { file, scale: 0.5 }), await latents(path)];
    expect(compare("latents", inSession, inFolder).relative).toBeLessThan(1e-5);
    expect(compare("latents", inSession, await latents(folder.path)).relative).toBeGreaterThan(1e-2);
  });

  it("as diffusers and PEFT name it, and drawn with, through the graph's own product", async () => {
    const tensors = new Map<string, Tensor>();
    const names = ["transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.to_add_out", "proj_out"];
    for (const [i, name] of names.entries()) {
      const [rows, columns] = weights.entries.get(`${name}.weight`)!.shape as [number, number];
      const { up, down } = matrices(rows, columns, i);
      tensors.set(`transformer.${name}.lora_B.weight`, up);
      tensors.set(`transformer.${name}.lora_A.weight`, down);
    }
    const merged = withLoras(weights, "denoiser", [{ lora: await loraOf(tensors), scale: 2 }]);
    for (const [i, name] of names.entries()) {
      const [rows, columns] = weights.entries.get(`${name}.weight`)!.shape as [number, number];
      await expectAdded(merged, `${name}.weight`, product(matrices(rows, columns, i)), 2);
    }

    const file = join(await temporaryFolder(), "lora.safetensors");
    await writeFile(file, await encoded(tensors));
    expect(await latents(folder.path, { file, scale: 0 })).toEqual(await latents(folder.path));
    expect(await latents(folder.path, { file, scale: 2 })).not.toEqual(await latents(folder.path));
  });

  it("is refused by its shapes if it was made for another base, with the layer's name", async () => {
    const { up, down } = matrices(3 * 24, 24, 0);
    const name = "lora_unet_joint_blocks_0_x_block_attn_qkv";
    const wide = await loraOf(new Map([[`${name}.lora_up.weight`, up] as const, [`${name}.lora_down.weight`, down]]));
    const merge = (lora: LoraFile) => () => withLoras(weights, "denoiser", [{ lora, scale: 1 }]);
    expect(merge(wide)).toThrow(CheckpointError);
    expect(merge(wide)).toThrow(
      /layer "lora_unet_joint_blocks_0_x_block_attn_qkv" adds \[24, 24\] to transformer_blocks\.0\.attn\.to_q\.weight, which is \[16, 16\]/,
    );
    const odd = matrices(3 * WIDTH + 1, WIDTH, 0);
    const uneven = await loraOf(
      new Map([[`${name}.lora_up.weight`, odd.up] as const, [`${name}.lora_down.weight`, odd.down]]),
    );
    expect(merge(uneven)).toThrow("has 49 rows; it has to be made of 3 equal parts");
    const deep = "lora_unet_joint_blocks_23_x_block_attn_qkv";
    const more = await loraOf(new Map([[`${deep}.lora_up.weight`, up] as const, [`${deep}.lora_down.weight`, down]]));
    expect(merge(more)).toThrow(/joint_blocks_23_x_block_attn_qkv.*layers that .* does not have/);
  });
});
