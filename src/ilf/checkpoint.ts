/** A feedback module beside a model: `ilf/config.json` and `ilf/feedback.safetensors`. */
import { readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { SafetensorsFile } from "../checkpoints/safetensors.ts";
import { checkWeights, WeightFiles } from "../checkpoints/weights.ts";
import { CheckpointError } from "../errors.ts";
import { describeModel, type StagedModel, weightShapes } from "../models/architecture.ts";
import { StagedSession } from "../models/staged.ts";
import { checkpointWeights, weightLocations } from "../models/weights.ts";
import type { Runtime, SessionOptions } from "../runtime/runtime.ts";
import { type FeedbackConfig, parseFeedbackConfig } from "./config.ts";
import { feedbackModel } from "./feedback.ts";

export const FEEDBACK_FILE = "feedback.safetensors";

/** A feedback module's configuration and weights; nothing is compiled yet. */
export class Feedback {
  readonly config: FeedbackConfig;
  readonly weights: WeightFiles;
  readonly #name: string;

  private constructor(config: FeedbackConfig, weights: WeightFiles, name: string) {
    this.config = config;
    this.weights = weights;
    this.#name = name;
  }

  /** The module in the folder `ilf` of a model's folder; null if there is none. Throws CheckpointError and ConfigError. */
  static async open(folder: Folder): Promise<Feedback | null> {
    if (!(await folder.has("config.json"))) return null;
    const config = parseFeedbackConfig(await readConfig(folder));
    const file = await SafetensorsFile.open(await folder.source(FEEDBACK_FILE));
    return new Feedback(config, WeightFiles.of(file), folder.name);
  }

  /** Compiles it for a backbone. Throws CheckpointError if it was trained for another one. */
  async compile(
    runtime: Runtime,
    backbone: StagedModel,
    backboneWeights: WeightFiles,
    options: SessionOptions = {},
  ): Promise<StagedSession> {
    const found = await fingerprint(backbone, backboneWeights);
    if (found !== this.config.backbone) {
      throw new CheckpointError(
        `${this.#name}: this feedback module was trained for a backbone with the fingerprint ` +
          `${this.config.backbone || "(none)"}, but ${backboneWeights.name} has ${found}. Train one for it with ` +
          "`halfstep distill`, or generate without (`--accelerate none`).",
      );
    }
    const model = feedbackModel(backbone, this.config);
    checkWeights(this.weights, weightShapes(model), describeModel(model));
    const source = checkpointWeights(this.weights, describeModel(model));
    return StagedSession.compile(runtime, model, source, weightLocations(this.weights), options);
  }
}

const SAMPLES = 64;
const SAMPLE_BYTES = 1024;

/**
 * Tells backbones apart: SHA-256 over class, settings, the weights' names, shapes and types, and up to 64 KB spread over
 * each file. Reading all of the weights would take longer than a picture.
 */
export async function fingerprint(backbone: StagedModel, weights: WeightFiles): Promise<string> {
  const parts: Uint8Array[] = [];
  const header = [...weights.entries]
    .map(([name, { shape, dtype }]) => `${name} ${dtype} ${shape.join("x")}`)
    .sort()
    .join("\n");
  parts.push(new TextEncoder().encode(`${backbone.className} ${backbone.settings ?? ""}\n${header}`));
  for (const { source } of [...weights.files].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, file]) => file)) {
    const last = Math.max(0, source.size - SAMPLE_BYTES);
    for (let i = 0; i < SAMPLES; i++) {
      const offset = Math.floor((last * i) / (SAMPLES - 1));
      parts.push(await source.read(offset, Math.min(SAMPLE_BYTES, source.size)));
    }
  }
  const digest = await crypto.subtle.digest(
    "SHA-256",
    new Uint8Array(await new Blob(parts as BlobPart[]).arrayBuffer()),
  );
  return [...new Uint8Array(digest).subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
