/**
 * A denoiser that a test can work out by hand: x * embed, then blocks that each add (timestep ^ power) * a of their own,
 * then * out. All weights are vectors over the last axis.
 */
import { join } from "node:path";
import { fileSource } from "../../src/checkpoints/node.ts";
import { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { WeightFiles } from "../../src/checkpoints/weights.ts";
import { add, mul, reshape } from "../../src/graph/operators.ts";
import { type Dim, input, type Value } from "../../src/graph/value.ts";
import type { Role, Stage, StagedModel } from "../../src/models/architecture.ts";
import { splitModel } from "../../src/models/split-model.ts";
import { StagedSession } from "../../src/models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";
import { temporaryFolder } from "./models.ts";

export const toyPatches = 3;
export const toyWidth = 4;

export interface ToyWeights {
  embed: readonly number[];
  /** One vector a block. */
  blocks: readonly (readonly number[])[];
  out: readonly number[];
}

export const toyWeights: ToyWeights = {
  embed: [0.5, -1, 2, 1.5],
  blocks: [
    [0.7, -0.4, 1.1, 0.5],
    [-0.6, 0.9, 0.3, -1.2],
  ],
  out: [1, 0.5, -2, 0.25],
};

export function toyModel(blocks: number, batch: Dim = "batch", power = 1): StagedModel {
  type Apply = (h: Value, weight: Value, t: Value) => Value;
  const stage = (name: string, role: Role, writes: string, apply: Apply): Stage => ({
    name,
    role,
    axis: "whole",
    reads: ["hiddenStates", "timestep"],
    writes: [writes],
    build: ({ hiddenStates, timestep }, w) => {
      const t = reshape(timestep!, [timestep!.shape[0]!, 1, 1]);
      return { [writes]: apply(hiddenStates!, w.at(name).tensor("weight", [toyWidth]), t) };
    },
  });
  const block = (h: Value, a: Value, t: Value) => {
    let added = a;
    for (let i = 0; i < power; i++) added = mul(added, t);
    return add(h, added);
  };
  return {
    className: "Toy",
    settings: `${blocks} blocks`,
    inputs: {
      hiddenStates: input("hiddenStates", [batch, toyPatches, toyWidth]),
      timestep: input("timestep", [batch]),
    },
    outputs: ["sample"],
    latent: "hiddenStates",
    streams: ["hiddenStates"],
    stages: [
      stage("pos_embed", "enter", "hiddenStates", mul),
      ...Array.from({ length: blocks }, (_, i) => stage(`transformer_blocks.${i}`, "block", "hiddenStates", block)),
      stage("proj_out", "leave", "sample", mul),
    ],
  };
}

export function writeToy({ embed, blocks, out }: ToyWeights = toyWeights): Promise<WeightFiles> {
  const ofBlocks = Object.fromEntries(blocks.map((a, i) => [`transformer_blocks.${i}.weight`, a]));
  return writeVectors({ "pos_embed.weight": embed, ...ofBlocks, "proj_out.weight": out });
}

export async function writeVectors(vectors: Readonly<Record<string, readonly number[]>>): Promise<WeightFiles> {
  const tensors = Object.entries(vectors).map(
    ([name, values]) => [name, floatTensor([values.length], Float32Array.from(values))] as const,
  );
  const path = join(await temporaryFolder(), "toy.safetensors");
  await writeSafetensors(path, new Map(tensors));
  return WeightFiles.of(await SafetensorsFile.open(await fileSource(path)));
}

export function compileModel(model: StagedModel, files: WeightFiles): Promise<StagedSession> {
  const source = checkpointWeights(files, model.className);
  return StagedSession.compile(nodeRuntime, model, source, weightLocations(files), { threads: 1 });
}

export const compileParts = (model: StagedModel, files: WeightFiles, cuts: readonly number[]) =>
  Promise.all(splitModel(model, cuts).map((part) => compileModel(part, files)));

/** A tensor [rows, patches, width] with a value for each place. */
export function toyTensor(rows: number, value: (row: number, patch: number, channel: number) => number): FloatTensor {
  const each = toyPatches * toyWidth;
  return floatTensor(
    [rows, toyPatches, toyWidth],
    Float32Array.from({ length: rows * each }, (_, i) =>
      value(Math.floor(i / each), Math.floor((i % each) / toyWidth), i % toyWidth),
    ),
  );
}

/** One timestep for each row. */
export const times = (...values: number[]): FloatTensor => floatTensor([values.length], Float32Array.from(values));
