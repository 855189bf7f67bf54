import { classNameOf, isPipeline, readConfig, readModelIndex } from "../checkpoints/diffusers-folder.ts";
import { expectObject, type Folder } from "../checkpoints/files.ts";
import { anObject, callback, flag, must, number, text } from "../checks.ts";
import { ArgumentError, CheckpointError } from "../errors.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { imageToVideoClass } from "../pipelines/image-to-video.ts";
import { type Runtime, sessionOptions } from "../runtime/runtime.ts";
import { folderOfCase, readCase, refusal } from "./case-folder.ts";
import type { OutputError } from "./compare.ts";
import { type ModelCaseOptions, verifyModel } from "./model-case.ts";
import { verifyPipeline } from "./pipeline-case.ts";
import { isRecorded, readTensors } from "./recorded-call.ts";
import { verifyRng } from "./rng-case.ts";
import { verifyScheduler } from "./scheduler-case.ts";
import { checkModel, checkPipeline, checkScheduler } from "./unrecorded-case.ts";
import { type Beside, namesItsParts, verifyImageToVideo } from "./video-case.ts";

/** How `verifyFolder` runs. */
export interface VerifyOptions extends ModelCaseOptions {
  /**
   * The largest relative error that passes: 1e-4 by default, 1e-3 for whole pipelines. For random numbers the largest
   * absolute error, 1e-6.
   */
  tolerance?: number;
  /** Opens folders that a recorded call names by a path from its own. */
  beside?: Beside;
}

const verifyOptions: OptionTable<VerifyOptions> = {
  ...sessionOptions,
  blocks: flag,
  config: anObject,
  variant: text,
  registry: must("a registry of networks", (value) => value instanceof Map),
  tolerance: number(0),
  beside: callback,
};

/** What `verifyFolder` found. */
export interface Verification {
  readonly folder: string;
  /** What was verified: a model's or scheduler's class, or TorchGenerator. */
  readonly class: string;
  readonly pass: boolean;
  /** The comparisons with reference tensors; empty for a folder without them. */
  readonly outputs: readonly OutputError[];
  /** For a folder without reference tensors: what was checked instead, one sentence each. */
  readonly checks?: readonly string[];
  /** Intermediate states, if they were asked for; they do not decide whether it passes. */
  readonly blocks?: readonly OutputError[];
}

const referenceFile = "io.safetensors";

/**
 * Compares a folder with the reference tensors in its `io.safetensors`: a model (config.json and weights), a scheduler
 * (scheduler_config.json and call.json), noise (config.json with seeds) or a pipeline (model_index.json). NaN never
 * passes. A `case.json` says what the case is of where that is not the folder alone: `model`, a checkpoint in one file, `loras`, and
 * `refused`, a part of the message with which it has to fail. Without reference tensors, checks what can be checked (`checks` lists it): names and shapes of the weights,
 * finite values, and one run of each network on small random input. Throws CheckpointError for a folder that is none of
 * these, and the errors of the parts.
 */
export async function verifyFolder(folder: Folder, runtime: Runtime, given: VerifyOptions = {}): Promise<Verification> {
  const { tolerance, ...options } = readOptions(given, verifyOptions, { of: "verifyFolder" });
  const settings = await readCase(folder);
  const run = async () => verifyCase(await folderOfCase(folder, settings), runtime, options);
  if (settings.refused !== undefined) {
    const checks = [await refusal(folder, settings.refused, run)];
    return { folder: folder.name, class: await classOf(folder), pass: true, outputs: [], checks };
  }
  const result = await run();
  const { outputs, checks, blocks = [] } = result;
  if (checks) return { folder: folder.name, class: result.className, pass: true, outputs, checks };
  if (outputs.length === 0)
    throw new ArgumentError(`${folder.name}: there is nothing to compare; no case was found in it.`);
  const usual = tolerance ?? (result.absolute ? 1e-6 : result.wholeRun ? 1e-3 : 1e-4);
  const passes = ({ maxAbs, relative, limit }: OutputError) =>
    limit === undefined ? (result.absolute ? maxAbs : relative) <= usual : maxAbs <= limit;
  return {
    folder: folder.name,
    class: result.className,
    pass: outputs.every(passes),
    outputs,
    ...(options.blocks && { blocks }),
  };
}

/** The class of a pipeline or a network, by its configuration. */
async function classOf(folder: Folder): Promise<string> {
  if (await isPipeline(folder)) return (await readModelIndex(folder)).className;
  return classNameOf(await readConfig(folder)) ?? "unknown";
}

interface CaseResult {
  className: string;
  checks?: readonly string[];
  outputs: readonly OutputError[];
  blocks?: readonly OutputError[];
  /** Whether absolute errors count instead of errors relative to the standard deviation. */
  absolute?: boolean;
  /** Whether errors have added up over the steps of a sampling run. */
  wholeRun?: boolean;
}

async function verifyCase(
  folder: Folder,
  runtime: Runtime,
  { beside, ...options }: Omit<VerifyOptions, "tolerance">,
): Promise<CaseResult> {
  if (await isPipeline(folder)) {
    if (!(await isRecorded(folder))) return { outputs: [], ...(await checkPipeline(folder, runtime, options)) };
    return { ...(await verifyPipeline(folder, runtime, options)), wholeRun: true };
  }
  if (!(await folder.has(referenceFile))) return { outputs: [], ...(await checkAlone(folder, runtime, options)) };
  if (await namesItsParts(folder)) {
    const outputs = await verifyImageToVideo(folder, runtime, options, beside);
    return { className: imageToVideoClass, outputs, wholeRun: true };
  }
  const io = await readTensors(folder, referenceFile);
  if ((await folder.has("scheduler_config.json")) && (await folder.has("call.json"))) {
    const config = expectObject(await folder.json("scheduler_config.json"), `${folder.name}/scheduler_config.json`);
    const call = expectObject(await folder.json("call.json"), `${folder.name}/call.json`);
    return { className: String(config["_class_name"]), outputs: verifyScheduler(config, call, io) };
  }
  const config = options.config ?? (await readConfig(folder));
  if (config["generator"] !== undefined) {
    return { className: "TorchGenerator", outputs: verifyRng(config, io), absolute: true };
  }
  return verifyModel(folder, io, runtime, { ...options, config });
}

/** Checks a model or scheduler without reference tensors. */
async function checkAlone(folder: Folder, runtime: Runtime, options: ModelCaseOptions) {
  if (await folder.has("call.json")) {
    throw new CheckpointError(`${folder.name}: has a call.json, but no ${referenceFile} to compare with.`);
  }
  const config = options.config ?? (await readConfig(folder));
  const className = classNameOf(config);
  if (className?.endsWith("Scheduler")) return { className, checks: [checkScheduler(config)] };
  return checkModel(folder, config, runtime, options);
}
