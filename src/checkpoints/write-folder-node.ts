import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { ArgumentError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { isPipeline, readModelIndex } from "./diffusers-folder.ts";
import type { Folder } from "./files.ts";
import { OpenedFolder } from "./opened-folder.ts";
import { memoryDType } from "./safetensors.ts";
import { writeSafetensors } from "./safetensors-node.ts";
import type { FloatStorage, LazyTensor } from "./safetensors-writer.ts";
import { isWeights } from "./weight-names.ts";
import { openWeights, type WeightFiles } from "./weights.ts";

export interface WriteFolderOptions {
  /** How floating-point weights are stored. Unless given, types stay as they are, and all but F32, F16 and BF16 become F32. */
  dtype?: FloatStorage;
  variant?: string;
  /** Called before each file is written. */
  onFile?: (path: string) => void;
  signal?: AbortSignal;
}

/**
 * Writes a model as a folder in diffusers' layout, whatever it was opened from, as `inNewFolder` does. Only one tensor is in
 * memory at a time. Throws ArgumentError if the folder is not empty, and CheckpointError for a malformed model.
 */
export async function writeFolder(
  out: string,
  folder: Folder,
  options: WriteFolderOptions = {},
): Promise<{ bytes: number }> {
  return { bytes: await inNewFolder(out, "a converted model", (to) => writeParts(to, folder, options)) };
}

/**
 * Makes a folder: `write` gets a temporary one next to its final place, which is renamed when it is complete, and removed if
 * `write` throws. Throws ArgumentError if `out` is there and is not empty; `what` is to be in it.
 */
export async function inNewFolder<T>(out: string, what: string, write: (folder: string) => Promise<T>): Promise<T> {
  const path = resolve(out);
  await mkdir(dirname(path), { recursive: true });
  await checkFree(path, what);
  // Not mkdtemp, whose folders only their owner can read.
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(4).toString("hex")}`);
  await mkdir(temporary);
  try {
    const written = await write(temporary);
    await checkFree(path, what);
    await rmdir(path).catch(() => undefined);
    await rename(temporary, path);
    return written;
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
}

async function checkFree(path: string, what: string): Promise<void> {
  const there = await readdir(path).catch((cause: NodeJS.ErrnoException) => (cause.code === "ENOENT" ? [] : [path]));
  if (there.length > 0) throw new ArgumentError(`${path} is not empty; ${what} needs a folder of its own.`);
}

/** The file of a component's weights: transformers' name for text and image encoders, diffusers' for all else. */
export const weightFileOf = (component: string): string =>
  `${/^(text|image)_encoder/.test(component) ? "model" : "diffusion_pytorch_model"}.safetensors`;

async function writeParts(to: string, folder: Folder, options: WriteFolderOptions): Promise<number> {
  let bytes = await copyFiles(to, folder, "", options);
  const components = (await isPipeline(folder)) ? (await readModelIndex(folder)).components : new Map();
  for (const name of components.size > 0 ? components.keys() : [""]) {
    const part = folder.sub(name);
    const hasWeights = part instanceof OpenedFolder || ((await part.list()) ?? []).some(isWeights);
    if (!hasWeights) continue;
    const weights = await openWeights(part, options.variant);
    const file = weightFileOf(name);
    await mkdir(join(to, name), { recursive: true });
    options.onFile?.(join(name, file));
    bytes += await writeWeights(join(to, name, file), weights, options);
  }
  return bytes;
}

/** How many levels of folders are searched: components and their subfolders. */
const MOST_DEPTH = 4;

/** Copies all files except weights. */
async function copyFiles(
  to: string,
  folder: Folder,
  at: string,
  options: WriteFolderOptions,
  depth = 0,
): Promise<number> {
  let bytes = 0;
  for (const name of (await folder.list(at)) ?? []) {
    options.signal?.throwIfAborted();
    const path = at === "" ? name : `${at}/${name}`;
    if (!(await folder.has(path))) {
      if (depth < MOST_DEPTH) bytes += await copyFiles(to, folder, path, options, depth + 1);
    } else if (!isWeights(name)) {
      options.onFile?.(path);
      const source = await folder.source(path);
      await mkdir(dirname(join(to, path)), { recursive: true });
      await writeFile(join(to, path), await source.read(0, source.size), { flag: "wx" });
      bytes += source.size;
    }
  }
  return bytes;
}

async function writeWeights(
  path: string,
  weights: WeightFiles,
  { dtype, signal }: WriteFolderOptions,
): Promise<number> {
  const tensors = new Map<string, LazyTensor>();
  for (const [name, entry] of weights.entries) {
    const load = (): Promise<Tensor> => {
      signal?.throwIfAborted();
      return weights.read(name);
    };
    tensors.set(name, { dtype: memoryDType[entry.dtype], shape: entry.shape, load });
  }
  const own = (name: string): FloatStorage => {
    const stored = weights.entries.get(name)!.dtype;
    return stored === "F16" || stored === "BF16" ? stored : "F32";
  };
  await writeSafetensors(path, tensors, { dtype: dtype ?? own });
  return (await stat(path)).size;
}
