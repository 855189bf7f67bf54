import { CheckpointError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { describe, expectObject, type Folder, insidePath, quote } from "./files.ts";
import { OpenedFolder } from "./opened-folder.ts";
import { memoryDType, SafetensorsFile } from "./safetensors.ts";
import { type WeightEntry, WeightFiles } from "./weight-files.ts";
import { chooseWeights, requireVariant, usualNames, whyNoWeights } from "./weight-names.ts";

export { type LowRank, type WeightEntry, type WeightFile, WeightFiles } from "./weight-files.ts";

/**
 * Opens the weights in a component's folder: `diffusion_pytorch_model` or `model`, whole or in shards, possibly of a variant
 * such as "fp16" (`chooseWeights` decides which). Only headers are read. `assemble` adds what the network has from elsewhere, as
 * a motion adapter's modules, before LoRAs are applied. Throws CheckpointError if there are none, or if they are malformed.
 */
export async function openWeights(
  folder: Folder,
  variant?: string,
  assemble: (own: WeightFiles) => WeightFiles = (own) => own,
): Promise<WeightFiles> {
  if (folder instanceof OpenedFolder) return folder.change(assemble(await folder.weights(variant)));
  return assemble(await storedWeights(folder, variant));
}

async function storedWeights(folder: Folder, variant?: string): Promise<WeightFiles> {
  const names = (await folder.list()) ?? (await firstOf(folder, usualNames(variant)));
  const choice = chooseWeights(names, variant, folder.name);
  if (!choice) throw new CheckpointError(`${folder.name}: ${whyNoWeights(names)}`);
  if (choice.sharded) return openShards(folder, choice.file);
  return WeightFiles.of(await SafetensorsFile.open(await folder.source(choice.file)));
}

async function firstOf(folder: Folder, names: readonly string[]): Promise<string[]> {
  for (const name of names) if (await folder.has(name)) return [name];
  return [];
}

/**
 * Checks that the requested variant exists: at least one component of a pipeline must have it, as in diffusers.
 * Folders that cannot be listed are not checked. Throws CheckpointError that names the available variants.
 */
export async function checkVariant(folder: Folder, components: readonly string[], variant: string): Promise<void> {
  const lists = await Promise.all(["", ...components].map((name) => folder.sub(name).list()));
  if (lists.every((names) => names !== undefined)) requireVariant(variant, lists, folder.name);
}

/** The index says which shard has which tensor, and is checked against the headers of the shards. */
async function openShards(folder: Folder, index: string): Promise<WeightFiles> {
  const where = `${folder.name}/${index}`;
  const { weight_map: weightMap } = expectObject(await folder.json(index), where);
  const placed = Object.entries(expectObject(weightMap, `${where}: weight_map`));
  const shards = new Map<string, SafetensorsFile>();
  const entries = new Map<string, WeightEntry>();
  for (const [name, path] of placed) {
    if (typeof path !== "string") {
      throw new CheckpointError(`${where}: weight_map has ${describe(path)} for ${quote(name)}, expected a file name.`);
    }
    let shard = shards.get(path);
    if (!shard) {
      shard = await SafetensorsFile.open(await folder.source(insidePath(path, where)));
      shards.set(path, shard);
    }
    const entry = shard.entries.get(name);
    if (!entry) throw new CheckpointError(`${where}: says that tensor ${quote(name)} is in ${path}, but it is not.`);
    entries.set(name, entry);
  }
  return new WeightFiles(entries, new Map([...shards.values()].map((file) => [file.source.name, file])));
}

/** How many names of each kind an error lists. */
const listed = 10;

/**
 * Checks that the weights are those that a model needs: no tensor is missing, has another shape, is not floating point,
 * or is unknown to the model (unless it matches `ignore`, for buffers that some versions store).
 *
 * `context` describes the model, with the configuration values that decide the shapes: "PixArtTransformer2DModel
 * with out_channels 16 and patch_size 2". Throws one CheckpointError that lists all problems.
 */
export function checkWeights(
  found: Pick<WeightFiles, "entries" | "name">,
  expected: ReadonlyMap<string, readonly number[]>,
  context: string,
  ignore: (name: string) => boolean = () => false,
): void {
  const missing: string[] = [];
  const wrong: string[] = [];
  for (const [name, needed] of expected) {
    const entry = found.entries.get(name);
    if (!entry) missing.push(`${quote(name)} ${shapeText(needed)}`);
    else if (memoryDType[entry.dtype] !== "float32") {
      wrong.push(`tensor ${quote(name)} is stored as ${entry.dtype},\nbut ${context} needs floating-point numbers.`);
    } else if (needed.length !== entry.shape.length || needed.some((dim, axis) => dim !== entry.shape[axis])) {
      wrong.push(
        `tensor ${quote(name)} has shape ${shapeText(entry.shape)},\nbut ${context} needs ${shapeText(needed)}.`,
      );
    }
  }
  const extra = [...found.entries.keys()].filter((name) => !expected.has(name) && !ignore(name)).map(quote);

  const problems =
    wrong.length > listed ? [...wrong.slice(0, listed), `${wrong.length - listed} more like these.`] : wrong;
  if (missing.length > 0) problems.push(`${count(missing)} missing that ${context} needs: ${list(missing)}.`);
  if (extra.length > 0) problems.push(`${count(extra)} not known to ${context}: ${list(extra)}.`);
  if (problems.length > 0) throw new CheckpointError(`${found.name}: ${problems.join("\n")}`);
}

/**
 * Reads every floating-point tensor once. Throws CheckpointError for the first that contains NaN or an infinity, since such
 * a weight makes every result NaN, and no other check would notice it.
 */
export async function checkFinite(weights: WeightFiles): Promise<void> {
  for (const [name, { file, dtype, shape }] of weights.entries) {
    if (memoryDType[dtype] !== "float32") continue;
    const { data } = (await weights.read(name)) as FloatTensor;
    const at = data.findIndex((value) => !Number.isFinite(value));
    if (at < 0) continue;
    const bad = data.reduce((sum, value) => sum + Number(!Number.isFinite(value)), 0);
    throw new CheckpointError(
      `${file}: tensor ${quote(name)} ${shapeText(shape)} has ${bad} of ${data.length} values that are not finite ` +
        `numbers, the first of them ${data[at]} at index ${at}.`,
    );
  }
}

function count({ length }: readonly string[]): string {
  return length === 1 ? "1 tensor is" : `${length} tensors are`;
}

function list(names: readonly string[]): string {
  const more = names.length > listed ? ` and ${names.length - listed} more` : "";
  return names.slice(0, listed).join(", ") + more;
}

function shapeText(shape: readonly number[]): string {
  return `[${shape.join(", ")}]`;
}
