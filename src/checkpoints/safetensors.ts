import { CheckpointError } from "../errors.ts";
import type { DType, Tensor } from "../tensor.ts";
import type { ByteSource } from "./files.ts";
import { quote } from "./files.ts";
import type { BlockDType } from "./gguf/blocks.ts";
import { bfloatToFloat, halfToFloat } from "./half.ts";
import {
  type Header,
  headerLength,
  lengthBytes,
  parseHeader,
  type StoredDType,
  storedBytes,
  type TensorEntry,
} from "./safetensors-header.ts";

export {
  type Header,
  maxHeaderBytes,
  parseHeader,
  type StoredDType,
  storedBytes,
  type TensorEntry,
} from "./safetensors-header.ts";

/** The element type in memory for each stored type: half precision and small integers are widened, F64 is narrowed. */
export const memoryDType = {
  F64: "float32",
  F32: "float32",
  F16: "float32",
  BF16: "float32",
  I64: "int64",
  I32: "int32",
  I16: "int32",
  I8: "int32",
  U8: "uint8",
  BOOL: "bool",
  Q8_0: "float32",
  Q4_0: "float32",
} as const satisfies Record<StoredDType | BlockDType, DType>;

/** Number of elements converted at a time, so that a large half-precision tensor is not in memory twice. */
const pieceElements = 1 << 22;

/** A safetensors file whose header has been checked. Tensors are read individually on request. */
export class SafetensorsFile implements Header {
  readonly source: ByteSource;
  readonly entries: ReadonlyMap<string, TensorEntry>;
  readonly metadata: Readonly<Record<string, string>>;

  private constructor(source: ByteSource, header: Header) {
    this.source = source;
    this.entries = header.entries;
    this.metadata = header.metadata;
  }

  /** Reads and checks the header, and nothing else. Throws CheckpointError if it is malformed. */
  static async open(source: ByteSource): Promise<SafetensorsFile> {
    const start = await source.read(0, Math.min(lengthBytes, source.size));
    const header = await source.read(0, lengthBytes + headerLength(start, source.size, source.name));
    return new SafetensorsFile(source, parseHeader(header, source.size, source.name));
  }

  /** Reads the tensor of that name. Throws CheckpointError if there is none. */
  async read(name: string): Promise<Tensor> {
    const entry = this.entries.get(name);
    if (!entry) throw new CheckpointError(`${this.source.name}: has no tensor ${quote(name)}.`);
    return readTensor(this.source, entry);
  }
}

/**
 * A tensor's elements, converted to the type in `memoryDType`. `data` owns its buffer or is a view of the source's
 * memory: treat it as read-only. Assumes a little-endian machine, since all JavaScript engines in use run on one.
 */
export async function readTensor(source: ByteSource, entry: TensorEntry): Promise<Tensor> {
  const { dtype: stored, shape, length } = entry;
  const size = length / storedBytes[stored];
  switch (stored) {
    case "F32":
      return { dtype: "float32", shape, data: view(Float32Array, await readBytes(source, entry)) };
    case "I64":
      return { dtype: "int64", shape, data: view(BigInt64Array, await readBytes(source, entry)) };
    case "I32":
      return { dtype: "int32", shape, data: view(Int32Array, await readBytes(source, entry)) };
    case "U8":
    case "BOOL":
      return { dtype: memoryDType[stored], shape, data: await readBytes(source, entry) };
    case "I16":
    case "I8": {
      const data = new Int32Array(size);
      for await (const [bytes, at] of pieces(source, entry)) {
        data.set(stored === "I8" ? view(Int8Array, bytes) : view(Int16Array, bytes), at);
      }
      return { dtype: "int32", shape, data };
    }
    case "F64": {
      const data = new Float32Array(size);
      for await (const [bytes, at] of pieces(source, entry)) data.set(view(Float64Array, bytes), at);
      return { dtype: "float32", shape, data };
    }
    case "F16":
    case "BF16": {
      const data = new Float32Array(size);
      const widen = stored === "F16" ? halfToFloat : bfloatToFloat;
      for await (const [bytes, at] of pieces(source, entry)) widen(view(Uint16Array, bytes), data.subarray(at));
      return { dtype: "float32", shape, data };
    }
  }
}

/** A tensor's bytes as they are stored. */
export async function readBytes(
  source: ByteSource,
  { name, offset, length }: Pick<TensorEntry, "name" | "offset" | "length">,
): Promise<Uint8Array> {
  const bytes = await source.read(offset, length);
  if (bytes.length !== length) {
    throw new CheckpointError(`${source.name}: tensor ${quote(name)} has ${length} bytes, but ${bytes.length} came.`);
  }
  return bytes;
}

/** The stored bytes in pieces of whole elements, with the index of each piece's first element. */
async function* pieces(source: ByteSource, entry: TensorEntry): AsyncGenerator<[Uint8Array, number]> {
  const bytes = storedBytes[entry.dtype];
  for (let done = 0; done < entry.length; done += pieceElements * bytes) {
    const length = Math.min(pieceElements * bytes, entry.length - done);
    yield [await readBytes(source, { ...entry, offset: entry.offset + done, length }), done / bytes];
  }
}

interface View<T> {
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): T;
  readonly BYTES_PER_ELEMENT: number;
}

/** The bytes as another typed array: a view if the alignment allows it, otherwise a copy. */
function view<T>(Type: View<T>, bytes: Uint8Array): T {
  const aligned = bytes.byteOffset % Type.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new Type(aligned.buffer, aligned.byteOffset, aligned.length / Type.BYTES_PER_ELEMENT);
}
