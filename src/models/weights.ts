/**
 * How a model gets its weights. It asks for each tensor once, by name and shape. The tensor may come from a checkpoint's file or
 * a trainer's parameters, or have no contents yet (to list which tensors are needed).
 */
import type { ByteSource } from "../checkpoints/files.ts";
import { isBlockDType } from "../checkpoints/gguf/blocks.ts";
import { identityMatrix } from "../checkpoints/weight-files.ts";
import type { LowRank, WeightEntry, WeightFiles } from "../checkpoints/weights.ts";
import { CheckpointError } from "../errors.ts";
import { add, cast, concat, gemm, mul, reshape, slice, transpose } from "../graph/operators.ts";
import { constant, type Dim, describe, input, makeNode, type Value, type ValueType, weight } from "../graph/value.ts";
import type { WeightLocation, WeightLocations } from "../runtime/runtime.ts";
import { sizeOf } from "../tensor.ts";
import { blockRows, blockWeight } from "./block-weights.ts";

/** Gives the float32 value of a tensor that must have this shape. */
export type WeightSource = (name: string, shape: readonly number[]) => Value;

/** A model's weights by name, as the values of a graph. */
export class Weights {
  readonly #source: WeightSource;
  readonly #prefix: string;
  readonly #made: Map<string, Value>;

  constructor(source: WeightSource, prefix = "", made = new Map<string, Value>()) {
    this.#source = source;
    this.#prefix = prefix;
    this.#made = made;
  }

  /** The weights below a module name: `w.at("attn1").at("to_q")`. */
  at(name: string | number): Weights {
    return new Weights(this.#source, `${this.#prefix}${name}.`, this.#made);
  }

  /** One tensor as a float32 value. Asking twice gives the same value. */
  tensor(name: string, shape: readonly number[]): Value {
    const full = this.#prefix + name;
    const value = this.#made.get(full) ?? this.#source(full, shape);
    this.#made.set(full, value);
    return value;
  }
}

const types: Partial<Record<string, ValueType>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/**
 * Weights straight from a checkpoint's files, which the graph refers to and never copies. `owner` says whose weights
 * they are, for errors: `PixArtTransformer2DModel with patch_size 2`.
 */
export function checkpointWeights(files: WeightFiles, owner: string): WeightSource {
  const names = graphNames(files);
  return (name, shape) => {
    const entry = files.entries.get(name);
    if (!entry) throw new CheckpointError(`${files.name}: there is no tensor "${name}", which ${owner} needs.`);
    if (entry.shape.length !== shape.length || entry.shape.some((dim, i) => dim !== shape[i])) {
      throw new CheckpointError(
        `${entry.file}: tensor "${name}" has shape ${describe(entry.shape)}, but ${owner} needs ${describe(shape)}.`,
      );
    }
    return entryValue(name, entry, names);
  };
}

function entryValue(name: string, entry: WeightEntry, files: ReadonlyMap<string, string>): Value {
  const { shape, transposed, added } = entry;
  // All of these are constants for ONNX Runtime, which computes them once, when the session is created.
  if (transposed) return transpose(storedValue(name, { ...entry, shape: [...shape].reverse() }, files), [1, 0]);
  if (!added) return storedValue(name, entry, files);
  // As matrices: a product and a sum in one, and none of them is in memory twice.
  const flat = [shape[0]!, sizeOf(shape.slice(1))];
  const own = storedValue(name, { ...entry, shape: flat }, files);
  const sum = added.reduce((sum, lowRank, i) => withLowRank(sum, `${name} + ${i}`, lowRank, shape, files), own);
  return shape.length === 2 ? sum : reshape(sum, shape);
}

/** A tensor as it is stored, but for the order of its halves. */
function storedValue(name: string, entry: WeightEntry, files: ReadonlyMap<string, string>): Value {
  if (!entry.swapped) return inFile(name, entry, files);
  const { swapped: _, ...stored } = entry;
  const rows = entry.shape[0]!;
  const value = inFile(name, stored, files, { folded: true });
  return concat([slice(value, 0, rows / 2, rows), slice(value, 0, 0, rows / 2)], 0);
}

function inFile(
  name: string,
  { dtype, shape, added, file, offset, length, identity }: WeightEntry,
  files: ReadonlyMap<string, string>,
  { folded = added !== undefined } = {},
): Value {
  if (identity) return constant(identityMatrix(shape).data, shape, "float32");
  const data = { file: files.get(file)!, offset, length };
  if (isBlockDType(dtype)) return blockWeight(name, dtype, data, shape, { folded });
  const type = types[dtype];
  // 16-bit floats are widened when the session is created; all arithmetic is in float32.
  if (type) return cast(weight(name, shape, type, data), "float32");
  throw new CheckpointError(`${file}: tensor "${name}" is stored as ${dtype}; weights are F32, F16 or BF16.`);
}

/** sum + scale up down, or with a core sum + scale up mid down; `sum` is [out, in * kernel] of a weight of `shape`. */
function withLowRank(
  sum: Value,
  name: string,
  { scale, up, mid, down }: LowRank,
  shape: readonly number[],
  files: ReadonlyMap<string, string>,
): Value {
  const [outputs, inputs] = shape as [number, number];
  const rank = down.shape[0]!;
  const matrix = (part: string, entry: WeightEntry, sizes: readonly number[]) =>
    storedValue(`${name} ${part}`, { ...entry, shape: sizes }, files);
  const scaled = mul(matrix("up", up, [outputs, rank]), scale);
  if (!mid) return gemm(scaled, matrix("down", down, [rank, sizeOf(down.shape) / rank]), sum);
  const kernel = sizeOf(shape) / (outputs * inputs);
  const core = matrix("mid", mid, [rank, rank * kernel]);
  const left = transpose(reshape(gemm(scaled, core), [outputs, rank, kernel]), [0, 2, 1]);
  const product = gemm(reshape(left, [outputs * kernel, rank]), matrix("down", down, [rank, inputs]));
  const turned = transpose(reshape(product, [outputs, kernel, inputs]), [0, 2, 1]);
  return add(sum, reshape(turned, [outputs, inputs * kernel]));
}

/**
 * What graphs call a checkpoint's files. ONNX Runtime looks them up in one folder, so on disk this is the path from the
 * deepest folder that has them all, mostly a file's own name. That is the real file's: a Hub cache links
 * `transformer/model.safetensors` to a file that is called by its hash.
 */
function graphNames(files: WeightFiles): ReadonlyMap<string, string> {
  const paths = [...files.files].map(([file, { source }]) => [file, source.nativePath?.split(/[\\/]/)] as const);
  const [first = [], ...others] = paths.flatMap(([, parts]) => (parts ? [parts.slice(0, -1)] : []));
  const differs = first.findIndex((part, i) => others.some((parts) => parts[i] !== part));
  const shared = differs < 0 ? first.length : differs;
  return new Map(paths.map(([file, parts]) => [file, parts?.slice(shared).join("/") ?? file]));
}

/** The files that graphs made with `checkpointWeights` refer to, and where their contents are. */
export function weightLocations(files: WeightFiles): WeightLocations {
  const names = graphNames(files);
  const locations = new Map<string, WeightLocation>();
  for (const [file, { source }] of files.files) {
    const path = source.nativePath;
    locations.set(names.get(file)!, path ? { path, unchanged: source.unchanged } : { bytes: () => wholeFile(source) });
  }
  return locations;
}

const wholeFiles = new WeakMap<ByteSource, Promise<Uint8Array>>();

/** Reads a file once and caches it for later sessions, since a model is compiled again for every image size. */
function wholeFile(source: ByteSource): Promise<Uint8Array> {
  let bytes = wholeFiles.get(source);
  if (!bytes) {
    bytes = source.read(0, source.size);
    wholeFiles.set(source, bytes);
    // After a broken connection, the next try may succeed.
    bytes.catch(() => wholeFiles.delete(source));
  }
  return bytes;
}

/** Some rows of a weight. Where the weight is in a file, they are a weight of their own in it, and nothing is copied. */
export function rows(value: Value, start: number, end: number): Value {
  const { op, data, inputs } = value.node;
  const inner = (i: number) => rows(inputs[i]!, start, end);
  if (op === "Cast") return cast(inner(0), value.dtype);
  if (op === "Gemm" && !isActivation(value)) {
    // A LoRA's product is sliced before it is computed.
    return gemm(slice(inputs[0]!, 0, start, end), inputs[1]!, inner(2));
  }
  if (op === "Reshape") {
    const blocks = blockRows(value, start, end);
    if (blocks) return blocks;
    const seen = inShape(inputs[0]!, value.shape);
    if (seen) return rows(seen, start, end);
    const from = inputs[0]!.shape[0];
    if (from === value.shape[0] && !isActivation(value)) return reshape(inner(0), value.shape.with(0, end - start));
  }
  if (op !== "Weight" || !data || !("file" in data)) return slice(value, 0, start, end);
  const bytes = data.length / (value.shape[0] as number);
  const part = { file: data.file, offset: data.offset + start * bytes, length: (end - start) * bytes };
  return makeNode(
    "Weight",
    [],
    [{ dtype: value.dtype, shape: value.shape.with(0, end - start) }],
    {},
    { data: part },
  )[0]!;
}

/** A weight in a file with another shape and the same bytes; null if the value is not such a weight. */
function inShape({ dtype, node: { op, data, inputs } }: Value, shape: readonly Dim[]): Value | null {
  if (op === "Cast") {
    const inner = inShape(inputs[0]!, shape);
    return inner && cast(inner, dtype);
  }
  return op === "Weight" && data ? makeNode("Weight", [], [{ dtype, shape }], {}, { data })[0]! : null;
}

/** Whether a value depends on anything but weights. */
const isActivation = (value: Value): boolean =>
  value.node.op === "Input" || value.node.inputs.some((input) => input !== null && isActivation(input));

/** Weights that are fed at every run, as a trainer does; collects what the model asks for, under prefixed names. */
export function parameterWeights(prefix = ""): { source: WeightSource; parameters: Map<string, Value> } {
  const parameters = new Map<string, Value>();
  const source: WeightSource = (name, shape) => {
    const value = input(prefix + name, shape);
    parameters.set(prefix + name, value);
    return value;
  };
  return { source, parameters };
}
