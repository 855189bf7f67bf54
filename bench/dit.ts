/** The model that the engine's figures are about: DiT-XL/2 with random weights, and inputs for it. */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfig } from "../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../src/checkpoints/node.ts";
import { openWeights, type WeightFiles } from "../src/checkpoints/weights.ts";
import { input } from "../src/graph/value.ts";
import { initModel } from "../src/init/init-node.ts";
import { presets } from "../src/init/presets.ts";
import { describeModel, type StagedModel } from "../src/models/architecture.ts";
import { type DiTConfig, dit } from "../src/models/dit.ts";
import { loadModel, type StagedOptions, StagedSession } from "../src/models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { TorchGenerator } from "../src/sampling/noise.ts";
import { int64Tensor, type Tensor } from "../src/tensor.ts";

export const BATCH = 2;

/** Where benches keep what is large: weights, Python. Not removed afterwards, so that the next run need not make it. */
export const benchFolder = join(tmpdir(), "halfstep-bench");

/** The folder of a DiT-XL/2 with random weights (3 GB), made if it is not there. */
export async function ditFolder(seed: number): Promise<string> {
  const folder = join(benchFolder, `dit-xl-2-seed${seed}`);
  if (existsSync(join(folder, "config.json"))) return folder;
  await mkdir(benchFolder, { recursive: true });
  console.log(`making ${folder} ...`);
  await initModel(folder, presets.get("dit-xl-2")!, { seed });
  return folder;
}

export interface OpenDiT {
  config: DiTConfig;
  weights: WeightFiles;
}

export async function openDiT(folder: string): Promise<OpenDiT> {
  const files = new NodeFolder(folder);
  return { config: dit.parseConfig(await readConfig(files)), weights: await openWeights(files) };
}

/** The whole model. */
export function loadDiT({ config, weights }: OpenDiT, options: StagedOptions): Promise<StagedSession> {
  return loadModel(nodeRuntime, dit, config, weights, { batch: BATCH }, options);
}

/** The first `count` blocks alone. */
export function loadBlocks({ config, weights }: OpenDiT, count: number, options: StagedOptions) {
  const whole = dit.model(config, { batch: BATCH });
  const patches = (config.sampleSize / config.patchSize) ** 2;
  const blocks: StagedModel = {
    ...whole,
    inputs: { ...whole.inputs, hiddenStates: input("hiddenStates", [BATCH, patches, config.width]) },
    outputs: ["hiddenStates"],
    stages: whole.stages.slice(1, 1 + count),
  };
  const source = checkpointWeights(weights, describeModel(blocks));
  return StagedSession.compile(nodeRuntime, blocks, source, weightLocations(weights), options);
}

/** Random inputs of a model or of its blocks. */
export function ditFeeds({ model }: StagedSession, seed: number): Record<string, Tensor> {
  return {
    hiddenStates: new TorchGenerator(seed).randn(model.inputs["hiddenStates"]!.shape as readonly number[]),
    timestep: { dtype: "float32", shape: [BATCH], data: Float32Array.of(999, 250) },
    classLabels: int64Tensor([BATCH], [207, 1000]),
  };
}

/**
 * Floating-point operations of one block: two for each multiplication in a matrix product, as they are written down.
 * What is not a product (norms, GELU, softmax) counts as none, though it takes time.
 */
export function blockFlops({ width, sampleSize, patchSize }: DiTConfig): number {
  const patches = (sampleSize / patchSize) ** 2;
  const tokens = BATCH * patches;
  const projections = 2 * tokens * width * width * (4 + 8);
  const attention = 2 * 2 * tokens * patches * width;
  const conditioning = 2 * BATCH * width * (256 + width + 6 * width);
  return projections + attention + conditioning;
}
