/** A feedback module beside a model: `ilf/config.json` and `ilf/feedback.safetensors`. */

import { readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { SafetensorsFile } from "../checkpoints/safetensors.ts";
import { checkWeights, type WeightEntry, WeightFiles } from "../checkpoints/weights.ts";
import { CheckpointError } from "../errors.ts";
import { describeModel, type StagedModel, weightShapes } from "../models/architecture.ts";
import { StagedSession } from "../models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../models/weights.ts";
import type { Runtime, SessionOptions } from "../runtime/runtime.ts";
import { type FeedbackConfig, parseFeedbackConfig } from "./config.ts";
import { feedbackModel } from "./feedback-module.ts";

export const FEEDBACK_FILE = "feedback.safetensors";

/** A feedback module's configuration and weights; nothing is compiled yet. */
export class FeedbackCheckpoint {
  readonly config: FeedbackConfig;
  readonly weights: WeightFiles;
  readonly #name: string;

  private constructor(config: FeedbackConfig, weights: WeightFiles, name: string) {
    this.config = config;
    this.weights = weights;
    this.#name = name;
  }

  /** The module in the folder `ilf` of a model's folder; null if there is none. Throws CheckpointError and ConfigError. */
  static async open(folder: Folder): Promise<FeedbackCheckpoint | null> {
    if (!(await folder.has("config.json"))) return null;
    const config = parseFeedbackConfig(await readConfig(folder));
    const file = await SafetensorsFile.open(await folder.source(FEEDBACK_FILE));
    return new FeedbackCheckpoint(config, WeightFiles.of(file), folder.name);
  }

  /** Throws CheckpointError if it was trained for another backbone, or its tensors are not those of a module for this one. */
  async check(backbone: StagedModel, backboneWeights: WeightFiles): Promise<void> {
    const found = await fingerprint(backbone, backboneWeights);
    if (found !== this.config.backbone) {
      const loras = [...backboneWeights.entries.values()].some(({ added }) => added);
      const withLoras = loras ? " with its LoRAs (`halfstep convert --lora` writes a model with them in it)" : "";
      throw new CheckpointError(
        `${this.#name}: this feedback module was trained for a backbone with the fingerprint ` +
          `${this.config.backbone || "(none)"}, but ${backboneWeights.name} has ${found}${withLoras}. Train one for it with ` +
          "`halfstep distill`, or generate without (`--accelerate none`).",
      );
    }
    const model = feedbackModel(backbone, this.config);
    checkWeights(this.weights, weightShapes(model), describeModel(model));
  }

  /** Compiles it by itself, for a backbone that it was trained for. Throws CheckpointError for another. */
  async compile(
    runtime: Runtime,
    backbone: StagedModel,
    backboneWeights: WeightFiles,
    options: SessionOptions = {},
  ): Promise<StagedSession> {
    await this.check(backbone, backboneWeights);
    const model = feedbackModel(backbone, this.config);
    const source = checkpointWeights(this.weights, describeModel(model));
    return StagedSession.compile(runtime, model, source, weightLocations(this.weights), options);
  }
}

const SAMPLE_BYTES = 1024;

/**
 * Identifies a backbone: SHA-256 over class and settings, and every tensor's name, type, shape and first kilobyte, and the same
 * of LoRAs that change it, with their scales: a backbone with a LoRA gives other features.
 * Further training changes all weights, so a kilobyte is enough; reading everything would take longer than making an
 * image.
 */
export async function fingerprint(backbone: StagedModel, weights: WeightFiles): Promise<string> {
  const text = new TextEncoder();
  const parts: Uint8Array[] = [text.encode(`${backbone.className} ${backbone.settings ?? ""}\n`)];
  const add = async (name: string, { file, dtype, shape, offset, length }: WeightEntry) => {
    parts.push(text.encode(`${name} ${dtype} ${shape.join("x")}\n`));
    parts.push(await weights.files.get(file)!.source.read(offset, Math.min(SAMPLE_BYTES, length)));
  };
  for (const [name, entry] of [...weights.entries].sort(([a], [b]) => (a < b ? -1 : 1))) {
    await add(name, entry);
    for (const { scale, up, mid, down } of entry.added ?? []) {
      await add(`${name} + ${scale} up`, up);
      if (mid) await add("mid", mid);
      await add("down", down);
    }
  }
  const digest = await crypto.subtle.digest(
    "SHA-256",
    new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer()),
  );
  return [...new Uint8Array(digest).subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
