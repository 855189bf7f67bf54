/** Checks for a folder without reference tensors: names, shapes, finite values, one run. */
import {
  componentFolder,
  hasConfig,
  type ModelIndex,
  type RawConfig,
  readConfig,
  readModelIndex,
} from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { openWeights } from "../checkpoints/weights.ts";
import { PromptTokenizer } from "../components/prompts.ts";
import { ArgumentError, CheckpointError, NumericError, ShapeError } from "../errors.ts";
import type { Value } from "../graph/value.ts";
import type { Architecture, Geometry, StagedModel } from "../models/architecture.ts";
import { weightBytes } from "../models/architecture.ts";
import { networksOf } from "../models/registry.ts";
import { loadModel } from "../models/staged-session.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { TorchGenerator } from "../sampling/noise.ts";
import { createScheduler, schedulerNames } from "../schedulers/registry.ts";
import { floatTensor, int64Tensor, type Tensor } from "../tensor.ts";
import { checkAll, type ModelCaseOptions } from "./model-case.ts";

export interface UnrecordedResult {
  readonly className: string;
  /** One sentence for each thing that was checked. */
  readonly checks: readonly string[];
}

/**
 * Checks a model's folder. Throws the errors of `verifyModel` about weights, and NumericError for results that are not
 * finite.
 */
export async function checkModel(
  folder: Folder,
  raw: RawConfig,
  runtime: Runtime,
  { variant, registry, ...session }: ModelCaseOptions,
): Promise<UnrecordedResult> {
  const files = await openWeights(folder, variant);
  const parts = Object.values(networksOf(raw, registry)).map((architecture) => {
    const config = architecture.parseConfig(raw);
    return { architecture, config, ...smallest(architecture, config) };
  });
  await checkAll(files, parts);
  const megabytes = Math.round(parts.reduce((sum, { model }) => sum + weightBytes(model), 0) / 2 ** 20);
  const checks = [
    `${files.entries.size} tensors (${megabytes} MiB in float32) have the names and shapes they need, and finite values`,
  ];
  for (const { architecture, config, geometry, model } of parts) {
    const loaded = await loadModel(runtime, architecture, config, files, geometry, session);
    try {
      const results = await loaded.run(randomInputs(model));
      for (const name of model.outputs) checkValues(results[name]!, `${folder.name}: ${model.className}: ${name}`);
    } finally {
      await loaded.release();
    }
    const sizes = Object.entries(model.inputs).map(([name, { shape }]) => `${name} [${shape.join(", ")}]`);
    checks.push(`one run with random ${sizes.join(", ")} gives finite ${model.outputs.join(", ")}`);
  }
  return { className: parts[0]!.architecture.className, checks };
}

/** Checks a pipeline's folder: each of its networks, its scheduler and its tokenizer. */
export async function checkPipeline(
  folder: Folder,
  runtime: Runtime,
  options: ModelCaseOptions,
): Promise<UnrecordedResult> {
  const index = await readModelIndex(folder);
  const checks: string[] = [];
  for (const [name, { className }] of index.components) {
    const encoder = name.replace("tokenizer", "text_encoder");
    if (encoder !== name && !(await isThere(folder, index, encoder))) {
      checks.push(`${name}: not checked: its ${encoder} is not there`);
      continue;
    }
    const part = componentFolder(folder, index, name);
    const found = await checkComponent(part, className, runtime, options);
    checks.push(...found.map((check) => `${name}: ${check}`));
  }
  if (checks.length > 0) return { className: index.className, checks };
  throw new CheckpointError(`${folder.name}: its model_index.json names no component, so there is nothing to check.`);
}

/** Stable Diffusion 3 works without T5; an encoder that model_index.json does not list is no reason not to look at a tokenizer. */
const isThere = async (folder: Folder, index: ModelIndex, name: string): Promise<boolean> =>
  !index.components.has(name) || hasConfig(componentFolder(folder, index, name));

async function checkComponent(
  part: Folder,
  className: string,
  runtime: Runtime,
  options: ModelCaseOptions,
): Promise<readonly string[]> {
  if (schedulerNames.includes(className)) return [checkScheduler(await readConfig(part))];
  if (/Tokenizer(Fast)?$/.test(className)) {
    const tokenizer = await PromptTokenizer.open(part);
    tokenizer.encode("a photo of a cat", Math.min(tokenizer.maxLength, 77));
    return ["a prompt becomes tokens"];
  }
  // Networks have weights; image processors and the like have a configuration alone.
  if (!(await part.has("config.json")))
    return [`not checked: ${className}${(await hasConfig(part)) ? "" : ", which is not there"}`];
  return (await checkModel(part, await readConfig(part), runtime, options)).checks;
}

/** Checks a scheduler's configuration. Throws ConfigError if it is not supported. */
export function checkScheduler(config: RawConfig): string {
  const scheduler = createScheduler(config);
  const steps = Math.min(10, scheduler.trainTimesteps);
  // A schedule that depends on the image size gets a shift.
  scheduler.setTimesteps(steps, config["use_dynamic_shifting"] ? 0.5 : undefined);
  const values = [...scheduler.timesteps, ...(scheduler.sigmas ?? []), scheduler.initNoiseSigma];
  if (values.every((value) => Number.isFinite(value)))
    return `${scheduler.className} plans ${steps} steps of finite values`;
  throw new NumericError(
    `${scheduler.className}: its ${steps} steps have timesteps or noise levels that are not finite.`,
  );
}

/** Sides to try, smallest first: a network may halve the size several times, or support one size only. */
const sides = [8, 16, 32, 64];
const TOKENS = 8;

/** The smallest sizes that a network can be built for. */
function smallest(architecture: Architecture<unknown>, config: unknown): { geometry: Geometry; model: StagedModel } {
  const { sampleSize } = config as { sampleSize?: number };
  let reason: unknown;
  for (const side of [...sides, ...(sampleSize === undefined ? [] : [sampleSize])]) {
    // Networks without frames ignore them.
    const geometry: Geometry = { batch: 1, height: side, width: side, tokens: TOKENS, frames: 2 };
    try {
      return { geometry, model: architecture.model(config, geometry) };
    } catch (cause) {
      if (!(cause instanceof ArgumentError || cause instanceof ShapeError)) throw cause;
      reason = cause;
    }
  }
  throw reason;
}

/** Normal random numbers; ones for masks; the first ids, which every vocabulary has, for tokens and labels. */
function randomInputs({ inputs }: StagedModel): Record<string, Tensor> {
  const generator = new TorchGenerator(0);
  return Object.fromEntries(
    Object.entries<Value>(inputs).map(([name, value]): [string, Tensor] => {
      const shape = value.shape.map(Number);
      const size = shape.reduce((product, side) => product * side, 1);
      if (value.dtype === "int64") return [name, int64Tensor(shape, new Array<number>(size).fill(0))];
      if (/mask/i.test(name)) return [name, floatTensor(shape, new Float32Array(size).fill(1))];
      const random = generator.randn(shape);
      // Timesteps, sizes and ratios are not negative.
      return [name, /time|resolution|ratio/i.test(name) ? { ...random, data: random.data.map(Math.abs) } : random];
    }),
  );
}

function checkValues({ data, shape }: Tensor, what: string): void {
  const wrong = data.findIndex((value: number | bigint) => typeof value === "number" && !Number.isFinite(value));
  if (wrong >= 0)
    throw new NumericError(`${what} [${shape.join(", ")}] has ${data[wrong]} at index ${wrong}, from random input.`);
}
