/** Reading what a reference's run of a pipeline left: arguments and tensors. */
import type { Folder } from "../checkpoints/files.ts";
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

/** An argument of the call. Throws ArgumentError if it is no number. */
export function numberOf(call: Readonly<Record<string, unknown>>, key: string): number {
  const value = call[key];
  if (typeof value === "number") return value;
  throw new ArgumentError(`call.json: "${key}" is ${JSON.stringify(value)}, not a number.`);
}

export function concatenated(tensors: readonly FloatTensor[]): Float32Array {
  const all = new Float32Array(tensors.reduce((sum, { data }) => sum + data.length, 0));
  let start = 0;
  for (const { data } of tensors) {
    all.set(data, start);
    start += data.length;
  }
  return all;
}
