import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import type { Tensor } from "../../src/tensor.ts";

/** A folder under test/fixtures. */
export function fixture(path: string): NodeFolder {
  return new NodeFolder(fileURLToPath(new URL(`../fixtures/${path}`, import.meta.url)), path);
}

/** Names of the folders in a folder under test/fixtures. */
export function fixtures(path: string): string[] {
  return readdirSync(new URL(`../fixtures/${path}`, import.meta.url)).sort();
}

/** Every tensor of a safetensors file. */
export async function tensors(folder: NodeFolder, path = "io.safetensors"): Promise<Map<string, Tensor>> {
  const file = await SafetensorsFile.open(await folder.source(path));
  const read = [...file.entries.keys()].map(async (name) => [name, await file.read(name)] as const);
  return new Map(await Promise.all(read));
}
