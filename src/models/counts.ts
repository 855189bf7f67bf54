/**
 * Checks the numbers of layers and the widths in a configuration against the names and shapes of the weights before anything is
 * built. Otherwise a graph of 10^9 layers would take minutes to build, only to find that most layers have no weights.
 */
import type { WeightFiles } from "../checkpoints/weights.ts";
import { CheckpointError } from "../errors.ts";

/** There are `count` numbered modules: some tensor is below `${module}.${count - 1}`. */
export interface LayerCount {
  /** The configuration key, for the error. */
  readonly key: string;
  readonly module: string;
  readonly count: number;
}

/** There is a tensor, and its length along an axis is `size`. */
export interface TensorSize {
  readonly key: string;
  readonly tensor: string;
  readonly axis: number;
  readonly size: number;
}

/** Something that a configuration says about the weights, which is checked before anything is built. */
export type Count = LayerCount | TensorSize;

/** Throws CheckpointError for the first count that contradicts the weights. Names are those that the model asks for. */
export function checkCounts(counts: readonly Count[], { entries, name }: WeightFiles): void {
  const modules = new Set<string>();
  for (const tensor of entries.keys()) {
    for (let dot = tensor.indexOf("."); dot >= 0; dot = tensor.indexOf(".", dot + 1)) modules.add(tensor.slice(0, dot));
  }
  for (const count of counts) {
    const problem = "module" in count ? layersWrong(count, modules) : sizeWrong(count, entries);
    if (problem) throw new CheckpointError(`${name}: config "${count.key}" says ${problem}.`);
  }
}

function layersWrong({ module, count }: LayerCount, modules: ReadonlySet<string>): string | null {
  if (modules.has(`${module}.${count - 1}`)) return null;
  let stored = 0;
  while (modules.has(`${module}.${stored}`)) stored++;
  return `${count} for "${module}", but the weights have ${stored}`;
}

/** Up to this count a graph is cheap to build, and its error is better: it lists every wrong tensor, not only the first. */
const SMALL = 8192;

function sizeWrong({ tensor, axis, size }: TensorSize, entries: WeightFiles["entries"]): string | null {
  if (size <= SMALL) return null;
  const shape = entries.get(tensor)?.shape;
  if (!shape) return `${size} for "${tensor}", which the weights do not have`;
  return shape[axis] === size ? null : `${size}, but tensor "${tensor}" has shape [${shape.join(", ")}]`;
}
