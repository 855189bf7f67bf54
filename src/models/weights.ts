/**
 * How a model names its weights. The model asks for each tensor once, by name and shape; where the tensor comes from is
 * somebody else's concern: a checkpoint's file, a trainer's parameters, or nowhere yet (a list of what is needed).
 */
import type { ByteSource } from "../checkpoints/files.ts";
import { type BlockDType, blockBytes, isBlockDType } from "../checkpoints/gguf/blocks.ts";
import { halfToFloat } from "../checkpoints/half.ts";
import type { LowRank, WeightEntry, WeightFiles } from "../checkpoints/weights.ts";
import { CheckpointError } from "../errors.ts";
import { add, cast, concat, gather, matmul, mul, reshape, slice, sub, transpose } from "../graph/operators.ts";
import { constant, type Dim, describe, input, makeNode, type Value, type ValueType, weight } from "../graph/value.ts";
import type { WeightLocation, WeightLocations } from "../runtime/runtime.ts";
import { sizeOf } from "../tensor.ts";

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
  const { shape, transposed, added = [] } = entry;
  // Halves are widened when the session is made; arithmetic is in float32 throughout.
  const stored = storedValue(name, entry, transposed ? [shape[1]!, shape[0]!] : shape, files);
  // All of these are constants to ONNX Runtime, which works them out once, when the session is made.
  const own = transposed ? transpose(stored, [1, 0]) : stored;
  return added.reduce((sum, lowRank, i) => add(sum, lowRankValue(`${name} + ${i}`, lowRank, shape, files)), own);
}

function storedValue(
  name: string,
  { dtype, file, offset, length }: WeightEntry,
  shape: readonly number[],
  files: ReadonlyMap<string, string>,
): Value {
  if (isBlockDType(dtype)) return blocksValue(name, dtype, { file: files.get(file)!, offset, length }, shape);
  const type = types[dtype];
  if (type) return cast(weight(name, shape, type, { file: files.get(file)!, offset, length }), "float32");
  throw new CheckpointError(`${file}: tensor "${name}" is stored as ${dtype}; weights are F32, F16 or BF16.`);
}

/** Every number that binary16 has, as float32: ONNX has no operator that reads two bytes as one. One table for all weights. */
let halves: Value | undefined;

function halfTable(): Value {
  halves ??= constant(halfToFloat(Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits)), [2 ** 16], "float32");
  return halves;
}

/** Weights in ggml's blocks (checkpoints/gguf/blocks.ts): scale * quant. Their bytes are used where they lie. */
function blocksValue(
  name: string,
  dtype: BlockDType,
  data: { file: string; offset: number; length: number },
  shape: readonly number[],
): Value {
  const size = blockBytes[dtype];
  const raw = weight(name, [data.length / size, size], "uint8", data);
  const bytes = (from: number, to: number) => cast(slice(raw, 1, from, to), "float32");
  const whole = (x: Value) => cast(cast(x, "int32"), "float32");
  const half = add(bytes(0, 1), mul(bytes(1, 2), 256));
  const scale = gather(halfTable(), cast(half, "int64"));
  const stored = bytes(2, size);
  // Signed bytes: 128 to 255 are -128 to -1. Of two halves of a byte the low ones come first.
  const high = whole(mul(stored, 1 / 16));
  const quants =
    dtype === "Q8_0"
      ? sub(stored, mul(whole(mul(stored, 1 / 128)), 256))
      : sub(concat([sub(stored, mul(high, 16)), high], 1), 8);
  return reshape(mul(quants, scale), shape);
}

/** scale up down, or with a core up mid down, of the shape of the weight that it is added to. */
function lowRankValue(
  name: string,
  { scale, up, mid, down }: LowRank,
  shape: readonly number[],
  files: ReadonlyMap<string, string>,
): Value {
  const [outputs, inputs] = shape as [number, number];
  const rank = down.shape[0]!;
  const scaled = mul(reshape(entryValue(`${name} up`, up, files), [outputs, rank]), scale);
  const right = entryValue(`${name} down`, down, files);
  if (!mid) return reshape(matmul(scaled, reshape(right, [rank, -1])), shape);
  const kernel = sizeOf(shape) / (outputs * inputs);
  const core = reshape(entryValue(`${name} mid`, mid, files), [rank, rank * kernel]);
  const left = transpose(reshape(matmul(scaled, core), [outputs, rank, kernel]), [0, 2, 1]);
  const product = matmul(reshape(left, [outputs * kernel, rank]), reshape(right, [rank, inputs]));
  return reshape(transpose(reshape(product, [outputs, kernel, inputs]), [0, 2, 1]), shape);
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

/** Read once, and kept for the sessions to come: a model is compiled anew for every size of picture. */
function wholeFile(source: ByteSource): Promise<Uint8Array> {
  let bytes = wholeFiles.get(source);
  if (!bytes) {
    bytes = source.read(0, source.size);
    wholeFiles.set(source, bytes);
    // A connection that broke off may hold the next time.
    bytes.catch(() => wholeFiles.delete(source));
  }
  return bytes;
}

/** Some rows of a weight. Where the weight is in a file, they are a weight of their own in it, and nothing is copied. */
export function rows(value: Value, start: number, end: number): Value {
  const { op, data, inputs } = value.node;
  const inner = (i: number) => rows(inputs[i]!, start, end);
  if (op === "Cast") return cast(inner(0), value.dtype);
  if (!isActivation(value)) {
    // What is added to a weight is cut before it is worked out.
    if (op === "Add") return add(inner(0), inner(1));
    if (op === "MatMul") return matmul(inner(0), inputs[1]!);
    if (op === "Mul" && inputs[1]!.shape.length === 0) return mul(inner(0), inputs[1]!);
    const seen = op === "Reshape" ? inShape(inputs[0]!, value.shape) : null;
    if (seen) return rows(seen, start, end);
    const from = op === "Reshape" ? inputs[0]!.shape[0] : undefined;
    if (from !== undefined && from === value.shape[0]) return reshape(inner(0), value.shape.with(0, end - start));
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

/** A weight in a file as one of another shape, of the same bytes; null for what is no such weight. */
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
