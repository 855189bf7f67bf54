import { CheckpointError } from "../errors.ts";
import type { FloatTensor, Tensor } from "../tensor.ts";
import { type ByteSource, quote } from "./files.ts";
import { type BlockDType, dequantise, isBlockDType } from "./gguf/blocks.ts";
import { readBytes, readTensor, type SafetensorsFile, type StoredDType, type TensorEntry } from "./safetensors.ts";

/** A tensor of a model: as stored in a file, or computed from it when it is used. */
export interface WeightEntry extends Omit<TensorEntry, "dtype"> {
  /** Element type, or one of ggml's block formats. */
  readonly dtype: StoredDType | BlockDType;
  /** The file stores the transposed matrix; `shape` is the model's. */
  readonly transposed?: true;
  /** The file has the second half of the rows first. */
  readonly swapped?: true;
  /** Not in the file: a square matrix with ones on its diagonal, zeros elsewhere. */
  readonly identity?: true;
  /** Products that are added to the stored tensor, in this order. */
  readonly added?: readonly LowRank[];
}

/**
 * scale * up * down, with the shape of the tensor that it is added to (LoRA, Hu et al. 2021, arXiv 2106.09685): `up` [out, rank,
 * 1...], `down` [rank, in, kernel...]. With `mid` [rank, rank, kernel...], `mid` has the kernel and `down` is [rank, in, 1...].
 */
export interface LowRank {
  /** Factor of the product. */
  readonly scale: number;
  /** The matrix on the output side. */
  readonly up: WeightEntry;
  /** The core of a convolution's product, if there is one. */
  readonly mid?: WeightEntry;
  /** The matrix on the input side. */
  readonly down: WeightEntry;
}

/** A file that contains weights. */
export interface WeightFile {
  /** The source of its bytes. */
  readonly source: ByteSource;
}

/** The tensors of one model, whether in one file or in several shards. */
export class WeightFiles {
  /** By tensor name. An entry's `file` is a key of `files`. */
  readonly entries: ReadonlyMap<string, WeightEntry>;
  /** By the name of their source, which is the path inside the checkpoint's folder. */
  readonly files: ReadonlyMap<string, WeightFile>;

  constructor(entries: ReadonlyMap<string, WeightEntry>, files: ReadonlyMap<string, WeightFile>) {
    this.entries = entries;
    this.files = files;
  }

  /** The weights of one file. */
  static of(file: SafetensorsFile): WeightFiles {
    return new WeightFiles(file.entries, new Map([[file.source.name, file]]));
  }

  /** The name of these weights in error messages. */
  get name(): string {
    return [...this.files.keys()].join(", ");
  }

  /** Number of elements of all tensors together. */
  get parameters(): number {
    return [...this.entries.values()].reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  }

  /** Bytes on disk of all tensors together. */
  get bytes(): number {
    return [...this.entries.values()].reduce((sum, { length }) => sum + length, 0);
  }

  /** Reads a tensor; half precision is widened to float32. Throws CheckpointError if there is none of that name. */
  async read(name: string): Promise<Tensor> {
    this.fileOf(name);
    return this.#made(this.entries.get(name)!);
  }

  /**
   * The same tensors under other names; an entry keeps its name in the file. If two tensors get the same name, the one that
   * had it before takes precedence.
   */
  renamed(rename: (name: string) => string): WeightFiles {
    const entries = new Map<string, WeightEntry>();
    for (const [name, entry] of this.entries) {
      const to = rename(name);
      if (to === name || !this.entries.has(to)) entries.set(to, entry);
    }
    return new WeightFiles(entries, this.files);
  }

  /** These tensors together with others; a file of the others whose name is taken becomes `label/name`. */
  joined(others: WeightFiles, label: string): WeightFiles {
    const key = (file: string) => (this.files.has(file) ? `${label}/${file}` : file);
    const entries = [...others.entries].map(([name, entry]) => [name, inFile(entry, key)] as const);
    const files = [...others.files].map(([file, opened]) => [key(file), opened] as const);
    return new WeightFiles(new Map([...this.entries, ...entries]), new Map([...this.files, ...files]));
  }

  /** The path of the tensor's file on a local disk; undefined if it is elsewhere. */
  nativePath(name: string): string | undefined {
    return this.fileOf(name).source.nativePath;
  }

  async #made(entry: WeightEntry): Promise<Tensor> {
    const { transposed, swapped, added, shape } = entry;
    const stored = await readEntry(this.files.get(entry.file)!.source, entry);
    if (!transposed && !swapped && !added) return stored;
    let data = (stored as FloatTensor).data;
    if (transposed) data = transpose(data, shape[1]!, shape[0]!);
    if (swapped) data = swap(data);
    if (added) {
      data = data.slice();
      for (const lowRank of added) await this.#add(data, lowRank, shape);
    }
    return { dtype: "float32", shape, data };
  }

  /** data += scale up down; for convolutions with a core data += scale up mid down. */
  async #add(data: Float32Array, { scale, up, mid, down }: LowRank, shape: readonly number[]): Promise<void> {
    const [u, d] = [(await this.#made(up)) as FloatTensor, (await this.#made(down)) as FloatTensor];
    const [outputs, rank] = [shape[0]!, up.shape[1]!];
    const inner = data.length / outputs;
    const right = mid ? throughCore((await this.#made(mid)) as FloatTensor, d) : d.data;
    for (let o = 0; o < outputs; o++) {
      for (let r = 0; r < rank; r++) {
        const factor = scale * u.data[o * rank + r]!;
        for (let i = 0; i < inner; i++) data[o * inner + i]! += factor * right[r * inner + i]!;
      }
    }
  }

  private fileOf(name: string): WeightFile {
    const entry = this.entries.get(name);
    if (!entry) throw new CheckpointError(`${this.name}: has no tensor ${quote(name)}.`);
    return this.files.get(entry.file)!;
  }
}

/** The stored tensor without additions; half precision and blocks are widened to float32. */
async function readEntry(source: ByteSource, entry: WeightEntry): Promise<Tensor> {
  const { dtype, shape, identity } = entry;
  if (identity) return identityMatrix(shape);
  if (!isBlockDType(dtype)) return readTensor(source, { ...entry, dtype });
  return { dtype: "float32", shape, data: dequantise(dtype, await readBytes(source, entry)) };
}

/** [size, size] */
export function identityMatrix(shape: readonly number[]): FloatTensor {
  const size = shape[0]!;
  const data = new Float32Array(size * size);
  for (let i = 0; i < size; i++) data[i * (size + 1)] = 1;
  return { dtype: "float32", shape, data };
}

/** An entry and those that are added to it, with their files renamed. */
function inFile<E extends WeightEntry>(entry: E, key: (file: string) => string): E {
  const added = entry.added?.map(({ up, mid, down, ...rest }) => ({
    ...rest,
    up: inFile(up, key),
    ...(mid ? { mid: inFile(mid, key) } : {}),
    down: inFile(down, key),
  }));
  return { ...entry, file: key(entry.file), ...(added ? { added } : {}) };
}

function swap(data: Float32Array): Float32Array {
  const result = new Float32Array(data.length);
  const half = data.length / 2;
  result.set(data.subarray(half));
  result.set(data.subarray(0, half), half);
  return result;
}

function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) result[c * rows + r] = data[r * columns + c]!;
  }
  return result;
}

/** mid [out, rank, kernel...] down [rank, in, 1...] -> [out, in, kernel...] */
function throughCore({ data: core, shape }: FloatTensor, { data: down, shape: [, inputs] }: FloatTensor): Float32Array {
  const [outputs, rank] = [shape[0]!, shape[1]!];
  const kernel = core.length / (outputs * rank);
  const result = new Float32Array(outputs * inputs! * kernel);
  for (let o = 0; o < outputs; o++) {
    for (let r = 0; r < rank; r++) {
      for (let i = 0; i < inputs!; i++) {
        const factor = down[r * inputs! + i]!;
        for (let k = 0; k < kernel; k++) {
          result[(o * inputs! + i) * kernel + k]! += factor * core[(o * rank + r) * kernel + k]!;
        }
      }
    }
  }
  return result;
}
