import { stat } from "node:fs/promises";
import { extname } from "node:path";
import { ArgumentError, CheckpointError } from "../errors.ts";
import { isPipeline, readModelIndex } from "./diffusers-folder.ts";
import type { Folder } from "./files.ts";
import { fileSource, NodeFolder } from "./node.ts";
import { SafetensorsFile } from "./safetensors.ts";
import { isAutoencoder } from "./single-file/checkpoint.ts";
import type { Prediction } from "./single-file/configs.ts";
import { describeSingleFile } from "./single-file/describe.ts";
import { isOriginalLayout } from "./single-file/families.ts";
import { openSingleFile } from "./single-file/folder.ts";
import { isMotionAdapter } from "./single-file/motion-adapter.ts";
import { checkVariant } from "./weights.ts";

/**
 * The model's folder on this machine, or a single file opened as a folder. Undefined if nothing of that name exists and it
 * could be a name on the Hub. A name that can only be a path and does not exist, or a file of another type, is an error.
 */
export async function localModel(
  name: string,
  { predictionType }: { predictionType?: Prediction | undefined } = {},
): Promise<Folder | undefined> {
  const found = await stat(name).catch(() => undefined);
  if (found?.isDirectory()) return new NodeFolder(name);
  if (found) return openFile(name, predictionType);
  if (!isPath(name)) return undefined;
  const home = name.startsWith("~") ? " The shell replaces ~ only where it is not quoted." : "";
  throw new ArgumentError(`There is no folder "${name}" (looked in ${process.cwd()}).${home}`);
}

const fileTypes: Readonly<Record<string, string>> = {
  ".ckpt": "Python pickle, which can run code and is not read; convert it to safetensors with diffusers",
  ".onnx": "ONNX file; graphs are built here from safetensors",
};
for (const pickle of [".bin", ".pt", ".pth", ".pkl"]) Object.assign(fileTypes, { [pickle]: fileTypes[".ckpt"] });

/** Whether a name can only be a path: Hub ids are `owner/name`, without any of these endings. */
function isPath(name: string): boolean {
  const parts = name.split("/").length;
  const extension = extname(name).toLowerCase();
  return (
    /^[./~]|[\\]|^[a-z]:|\/$/i.test(name) ||
    parts > 2 ||
    [".safetensors", ".gguf"].includes(extension) ||
    isKnown(extension)
  );
}

const isKnown = (extension: string) => Object.hasOwn(fileTypes, extension);

/** Opens a single-file checkpoint. Throws CheckpointError for every other file. */
async function openFile(path: string, prediction?: Prediction): Promise<Folder> {
  const extension = extname(path).toLowerCase();
  if (extension === ".gguf") return openSingleFile(await fileSource(path), prediction);
  if (isKnown(extension)) throw new CheckpointError(`${path}: is a ${fileTypes[extension]}.`);
  if (extension !== ".safetensors") {
    throw new CheckpointError(`${path}: is a file, and a model is a folder in diffusers' layout.`);
  }
  const source = await fileSource(path);
  const { entries } = await SafetensorsFile.open(source);
  const names = [...entries.keys()];
  if ([isOriginalLayout, isMotionAdapter, isAutoencoder].some((is) => is(names)))
    return openSingleFile(source, prediction);
  throw new CheckpointError(`${path}: ${describeSingleFile(path, names)}`);
}

/** Checks `variant` and `revision` for a local folder. Throws ArgumentError and CheckpointError. */
export async function checkLocal(
  folder: Folder,
  { variant, revision }: { variant?: string | undefined; revision?: string | undefined },
): Promise<void> {
  if (revision !== undefined) {
    throw new ArgumentError(`${folder.name}: is on this machine and has no revisions; only models on the Hub have.`);
  }
  if (variant === undefined) return;
  const index = (await isPipeline(folder)) ? await readModelIndex(folder) : undefined;
  await checkVariant(folder, [...(index?.components.keys() ?? [])], variant);
}
