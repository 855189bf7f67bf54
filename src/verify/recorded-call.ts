/** Reads a recorded run of the reference pipeline: its arguments and tensors. */
import { describe, type Folder } from "../checkpoints/files.ts";
import { SafetensorsFile } from "../checkpoints/safetensors.ts";
import { ArgumentError } from "../errors.ts";
import type { FloatTensor, Tensor } from "../tensor.ts";

/** Every tensor of a file, by name. */
export async function readTensors(folder: Folder, path: string): Promise<ReadonlyMap<string, Tensor>> {
  const file = await SafetensorsFile.open(await folder.source(path));
  const tensors = new Map<string, Tensor>();
  for (const name of file.entries.keys()) tensors.set(name, await file.read(name));
  return tensors;
}

/** An argument of the call. Throws ArgumentError if it is not a finite number. */
export function numberOf(call: Readonly<Record<string, unknown>>, key: string): number {
  const value = Object.hasOwn(call, key) ? call[key] : undefined;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new ArgumentError(`call.json: "${key}" is ${describe(value)}, not a number.`);
}

/** A count among the arguments. Throws ArgumentError unless it is a whole number from 1 to `most`. */
export function countOf(call: Readonly<Record<string, unknown>>, key: string, most: number): number {
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
