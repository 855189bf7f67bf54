import { CheckpointError } from "../../errors.ts";
import type { ByteSource } from "../files.ts";
import { describe, parseJson, quote } from "../json.ts";
import { SafetensorsFile, type TensorEntry } from "../safetensors.ts";
import { asLayer, type LoraTarget, otherKind, readKey } from "./keys.ts";

/** The change of one layer: alpha / rank * up * down, with `mid` between the two if there is one. */
export interface LoraLayer {
  /** The layer's name in the file, for errors. */
  readonly name: string;
  readonly up: TensorEntry;
  readonly down: TensorEntry;
  readonly mid?: TensorEntry;
  /** alpha / rank. */
  readonly scale: number;
}

type Parts = { name: string; key: string } & Partial<Record<"up" | "down" | "mid" | "alpha", TensorEntry>>;

/** How many names of each kind an error lists. */
const LISTED = 10;

/** A LoRA file: its changes to the layers of each network. Matrices are read when a session is created. */
export class LoraFile {
  readonly file: SafetensorsFile;
  /** By network and layer, as returned by `readKey`. */
  readonly layers: ReadonlyMap<LoraTarget, ReadonlyMap<string, LoraLayer>>;

  private constructor(file: SafetensorsFile, layers: ReadonlyMap<LoraTarget, ReadonlyMap<string, LoraLayer>>) {
    this.file = file;
    this.layers = layers;
  }

  get name(): string {
    return this.file.source.name;
  }

  /** Throws CheckpointError for a file that is not a LoRA or is of an unsupported kind, with the names that are not known. */
  static async open(source: ByteSource): Promise<LoraFile> {
    const file = await SafetensorsFile.open(source);
    const found = partsOf(file);
    const settings = adapterSettings(file);
    const layers = new Map<LoraTarget, Map<string, LoraLayer>>();
    for (const [target, parts] of found) {
      const read = new Map<string, LoraLayer>();
      for (const [layer, part] of parts) read.set(layer, await readLayer(file, part, settings(target, layer)));
      layers.set(target, read);
    }
    return new LoraFile(file, layers);
  }
}

/** Tensors by network and layer. */
function partsOf(file: SafetensorsFile): Map<LoraTarget, Map<string, Parts>> {
  const name = file.source.name;
  const layers = new Map<LoraTarget, Map<string, Parts>>();
  const unknown: string[] = [];
  for (const [tensor, entry] of file.entries) {
    const other = otherKind(tensor);
    if (other) {
      throw new CheckpointError(`${name}: has the tensor ${quote(tensor)}: this is ${other}, and is not served.`);
    }
    const key = readKey(tensor);
    if (!key) {
      unknown.push(tensor);
      continue;
    }
    const ofTarget = layers.get(key.target) ?? new Map<string, Parts>();
    layers.set(key.target, ofTarget);
    const parts = ofTarget.get(key.layer) ?? { name: tensor.replace(/\.[^.]+(\.weight)?$/, ""), key: key.layer };
    ofTarget.set(key.layer, parts);
    if (parts[key.part]) {
      throw new CheckpointError(
        `${name}: has two tensors for the same layer: ${quote(parts[key.part]!.name)} and ${quote(tensor)}.`,
      );
    }
    parts[key.part] = entry;
  }
  if (unknown.length > 0) throw new CheckpointError(`${name}: ${namesOf(unknown, "are of no LoRA that is known")}`);
  if (layers.size === 0) throw new CheckpointError(`${name}: has no tensors, so it is no LoRA.`);
  return layers;
}

/** A sentence about tensors or layers for errors; the first ten are listed by name. */
export function namesOf(names: readonly string[], what: string): string {
  const more = names.length > LISTED ? ` and ${names.length - LISTED} more` : "";
  return `${names.slice(0, LISTED).map(quote).join(", ")}${more} ${what}.`;
}

const floats = new Set(["F32", "F16", "BF16"]);

async function readLayer(file: SafetensorsFile, parts: Parts, alphaOf: (rank: number) => number): Promise<LoraLayer> {
  const { up, down, mid, alpha, name } = parts;
  const where = `${file.source.name}: layer ${quote(name)}`;
  if (!up || !down) throw new CheckpointError(`${where} has no ${up ? "down" : "up"} matrix, so it is not whole.`);
  for (const { dtype, shape, name: tensor } of [up, down, ...(mid ? [mid] : [])]) {
    if (floats.has(dtype) && shape.length >= 2 && shape.every((size) => size > 0)) continue;
    throw new CheckpointError(
      `${where}: tensor ${quote(tensor)} is ${dtype} [${shape.join(", ")}]; expected a matrix or a kernel in F32, F16 or BF16.`,
    );
  }
  const rank = down.shape[0]!;
  const fits = up.shape[1] === rank && (!mid || (mid.shape[0] === rank && mid.shape[1] === rank));
  // `up` is a matrix or a 1 x 1 convolution; so is `down` if `mid` has the kernel.
  const flat = [up, ...(mid ? [down] : [])].every(({ shape }) => shape.slice(2).every((size) => size === 1));
  if (!fits || !flat) {
    const shapes = [up, mid, down].flatMap((entry) => (entry ? [`[${entry.shape.join(", ")}]`] : []));
    throw new CheckpointError(`${where}: matrices of ${shapes.join(" and ")} make no product.`);
  }
  const value = alpha ? await readAlpha(file, alpha) : alphaOf(rank) * rank;
  return { name, up, down, ...(mid ? { mid } : {}), scale: value / rank };
}

async function readAlpha(file: SafetensorsFile, { name, shape }: TensorEntry): Promise<number> {
  const one = shape.every((size) => size === 1);
  const value = one ? Number((await file.read(name)).data[0]) : Number.NaN;
  if (Number.isFinite(value)) return value;
  throw new CheckpointError(
    `${file.source.name}: tensor ${quote(name)} must be one number, not ${one ? value : `[${shape.join(", ")}]`}.`,
  );
}

/**
 * alpha / rank of a layer without an alpha of its own: from PEFT's configuration in the file's metadata, which diffusers
 * writes, or 1 if there is none.
 */
function adapterSettings(file: SafetensorsFile): (target: LoraTarget, layer: string) => (rank: number) => number {
  const where = `${file.source.name}: metadata "lora_adapter_metadata"`;
  const text = file.metadata["lora_adapter_metadata"];
  const json = text === undefined ? {} : parseJson(text, where);
  const values = new Map(Object.entries(typeof json === "object" && json !== null ? json : {}));
  const of = (target: LoraTarget, key: string): unknown => {
    const names = target === "denoiser" ? ["unet", "transformer"] : [target];
    return names.map((name) => values.get(`${name}.${key}`)).find((value) => value !== undefined && value !== null);
  };
  /** The number for all layers, or that of a pattern that matches the end of the layer's name. */
  const number = (target: LoraTarget, layer: string, key: string, pattern: string): number | undefined => {
    const patterns = of(target, pattern);
    const own =
      typeof patterns === "object" && patterns !== null
        ? Object.entries(patterns).find(([end]) => layer === asLayer(end) || layer.endsWith(`_${asLayer(end)}`))?.[1]
        : undefined;
    const value: unknown = own ?? of(target, key);
    if (value === undefined || (typeof value === "number" && Number.isFinite(value) && value > 0)) return value;
    throw new CheckpointError(`${where}: "${key}" is ${describe(value)}; expected a number above 0.`);
  };
  return (target, layer) => {
    if (of(target, "use_dora") === true) {
      throw new CheckpointError(`${where}: says "use_dora": this is DoRA, and is not served.`);
    }
    const alpha = number(target, layer, "lora_alpha", "alpha_pattern");
    const scaledByRoot = of(target, "use_rslora") === true;
    return (rank) => (alpha === undefined ? 1 : alpha / (scaledByRoot ? Math.sqrt(rank) : rank));
  };
}
