/** Feedback modules beside tiny pipelines. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import type { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { FEEDBACK_FILE, fingerprint } from "../../src/ilf/checkpoint.ts";
import {
  type FeedbackConfig,
  type FeedbackModule,
  type ModuleFlags,
  moduleOf,
  rawFeedbackConfig,
} from "../../src/ilf/config.ts";
import { feedbackModel } from "../../src/ilf/feedback-module.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import type { Tensor } from "../../src/tensor.ts";
import { tinyTokens } from "./tiny-pipeline.ts";

/** Additions to the paper's module, none of them unless named. */
export type Additions = Partial<ModuleFlags>;

export const moduleWith = (additions: Additions = {}): FeedbackModule =>
  moduleOf({ embeddingChange: false, trend: false, mixing: false, ownBlocks: false, ...additions });

export async function writeFeedback(
  pipeline: NodeFolder,
  config: FeedbackConfig,
  weights: ReadonlyMap<string, Tensor>,
  raw: Readonly<Record<string, unknown>> = {},
): Promise<void> {
  const path = join(pipeline.path, "ilf");
  await mkdir(path, { recursive: true });
  await writeFile(join(path, "config.json"), JSON.stringify({ ...rawFeedbackConfig(config), ...raw }));
  await writeSafetensors(join(path, FEEDBACK_FILE), new Map(weights));
}

/** A module of random weights for a pipeline's transformer, its scales as given. */
export async function randomFeedback(
  pipeline: NodeFolder,
  settings: Omit<FeedbackConfig, "backbone">,
  scale: number,
): Promise<{ config: FeedbackConfig; weights: Map<string, Tensor> }> {
  const folder = pipeline.sub("transformer");
  const raw = await readConfig(folder);
  const architecture = architectureOf(raw);
  const backbone = architecture.model(architecture.parseConfig(raw), { batch: "batch", tokens: tinyTokens });
  const config = { ...settings, backbone: await fingerprint(backbone, await openWeights(folder)) };
  const generator = new TorchGenerator(11);
  const weights = new Map<string, Tensor>();
  for (const [name, shape] of weightShapes(feedbackModel(backbone, config))) {
    const tensor = generator.randn(shape);
    if (name.endsWith("scale")) tensor.data.fill(scale);
    weights.set(name, tensor);
  }
  return { config, weights };
}
