/** Reads recorded runs of the reference pipelines: their arguments and tensors. */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { describe, expectObject, type Folder, insidePath } from "../checkpoints/files.ts";
import { SafetensorsFile } from "../checkpoints/safetensors.ts";
import { ArgumentError, CheckpointError } from "../errors.ts";
import { rows } from "../sampling/guidance.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../tensor.ts";
import { type OutputError, reference } from "./compare.ts";

/** The reference tensors of a run, by name. */
export type Io = ReadonlyMap<string, Tensor>;
/** What the reference pipeline was called with. */
export type Call = Readonly<Record<string, unknown>>;

/** One recorded run of a pipeline: `call.json` and `io.safetensors`, or `call.<name>.json` and `io.<name>.safetensors`. */
export interface RecordedCall {
  readonly name: string;
  readonly call: Call;
  readonly io: Io;
}

/** Whether a pipeline's folder has a recorded run. */
export async function isRecorded(folder: Folder): Promise<boolean> {
  for (const file of [...callFiles, "s"]) if (await folder.has(`call${file}.json`)) return true;
  return false;
}

const callFiles = ["", ".ddim", ".dpmpp", ".euler", ".pndm", ".ddpm", ".flow"];

/** Most runs of one folder. */
const MOST_CALLS = 1000;

/** Names of runs: those that calls.json lists, or else those of solvers. */
async function infixesOf(folder: Folder): Promise<readonly string[]> {
  if (!(await folder.has("calls.json"))) return callFiles;
  const names = await folder.json("calls.json");
  const fine = Array.isArray(names) && names.every((name) => typeof name === "string" && /^[\w-]{1,100}$/.test(name));
  if (fine && names.length <= MOST_CALLS) return names.map((name) => `.${name}`);
  throw new CheckpointError(
    `${folder.name}/calls.json: must be a list of at most ${MOST_CALLS} names, of letters, digits, _ and -.`,
  );
}

/** `call.json`, and `call.<name>.json` for each name that stands for a solver or that calls.json lists. */
export async function recordedCalls(folder: Folder): Promise<RecordedCall[]> {
  const calls: RecordedCall[] = [];
  for (const infix of await infixesOf(folder)) {
    const name = infix.slice(1);
    if (!(await folder.has(`call${infix}.json`))) continue;
    const call = expectObject(await folder.json(`call${infix}.json`), `${folder.name}/call${infix}.json`);
    calls.push({ name, call, io: await readTensors(folder, `io${infix}.safetensors`) });
  }
  if (calls.length > 0) return calls;
  throw new CheckpointError(
    `${folder.name}: has no call.json beside its model_index.json, so there is no recorded run to compare with.`,
  );
}

/** Errors of one of a folder's runs, under its name. */
export const named = ({ name }: RecordedCall, errors: readonly OutputError[]): OutputError[] =>
  errors.map((error) => ({ ...error, name: name ? `${name}: ${error.name}` : error.name }));

/** The scheduler's configuration, in the folder that the call names. */
export async function schedulerConfig(folder: Folder, { scheduler: name = "scheduler" }: Call): Promise<RawConfig> {
  if (typeof name !== "string") {
    throw new ArgumentError(`${folder.name}: call.json names the scheduler ${describe(name)}, not a folder.`);
  }
  const part = folder.sub(insidePath(name, `${folder.name}/call.json: scheduler`));
  return expectObject(await part.json("scheduler_config.json"), `${part.name}/scheduler_config.json`);
}

/** Draws what the reference drew, each of the latent's shape: the rows of `input.draws`, one after the other. */
export function drawsOf(io: Io): () => FloatTensor {
  let next = 0;
  return () => {
    const { shape, data } = reference(io, "input.draws", "float32");
    const index = next++;
    if (index < shape[0]!) return { ...rows(floatTensor(shape, data), index, index + 1), shape: shape.slice(1) };
    throw new ArgumentError(`input.draws has ${shape[0]} tensors of noise; the run needs more.`);
  };
}

/** The noise that a run starts from: recorded on its own, or the first that was drawn. */
export const noiseOf = (io: Io, draw: () => FloatTensor): FloatTensor =>
  io.has("input.latents") ? reference(io, "input.latents", "float32") : draw();

/** Two numbers among the arguments. Throws ArgumentError for anything else. */
export function pairOf(call: Call, key: string): readonly [number, number] | undefined {
  const value = call[key];
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.length === 2 && value.every((item) => Number.isFinite(item))) {
    return value as unknown as [number, number];
  }
  throw new ArgumentError(`call.json: "${key}" is ${describe(value)}, not two numbers.`);
}

/** Every tensor of a file, by name. */
export async function readTensors(folder: Folder, path: string): Promise<Io> {
  const file = await SafetensorsFile.open(await folder.source(path));
  const tensors = new Map<string, Tensor>();
  for (const name of file.entries.keys()) tensors.set(name, await file.read(name));
  return tensors;
}

/** An argument of the call. Throws ArgumentError if it is not a finite number. */
export function numberOf(call: Call, key: string): number {
  const value = Object.hasOwn(call, key) ? call[key] : undefined;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new ArgumentError(`call.json: "${key}" is ${describe(value)}, not a number.`);
}

/** A count among the arguments. Throws ArgumentError unless it is a whole number from 1 to `most`. */
export function countOf(call: Call, key: string, most: number): number {
  const value = numberOf(call, key);
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new ArgumentError(`call.json: "${key}" is ${value}, expected a whole number from 1 to ${most}.`);
}

/** Inference steps of a recorded run; schedulers have limits of their own below. */
export const MOST_STEPS = 100_000;

export function concatenated(tensors: readonly FloatTensor[]): Float32Array {
  const all = new Float32Array(tensors.reduce((sum, { data }) => sum + data.length, 0));
  let start = 0;
  for (const { data } of tensors) {
    all.set(data, start);
    start += data.length;
  }
  return all;
}
