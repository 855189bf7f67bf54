import { CheckpointError } from "../errors.ts";
import { sizeOf, type Tensor } from "../tensor.ts";
import { quote } from "./files.ts";
import { floatToBfloat, floatToHalf } from "./half.ts";
import { lengthBytes, maxHeaderBytes, type StoredDType, storedBytes } from "./safetensors-header.ts";

/** How float32 tensors may be stored. */
export type FloatStorage = "F32" | "F16" | "BF16";

/** A tensor whose data is computed or read only when it is written. */
export interface LazyTensor extends Pick<Tensor, "dtype" | "shape"> {
  /** Called once, when the tensor is written. */
  load(): Tensor | Promise<Tensor>;
}

/** How `encodeSafetensors` stores tensors. */
export interface EncodeOptions {
  /** The `__metadata__` member. diffusers and transformers refuse files without `format`: it is "pt" unless given. */
  metadata?: Readonly<Record<string, string>>;
  /** How float32 tensors are stored, all of them or by name; "F32" unless given. Other dtypes stay as they are. */
  dtype?: FloatStorage | ((name: string) => FloatStorage);
}

/** A safetensors file that is generated while it is read. */
export interface Encoded {
  /** Bytes of the whole file. */
  readonly size: number;
  /** The file from start to end: the header, then one chunk per tensor. */
  chunks(): AsyncGenerator<Uint8Array>;
}

/**
 * Encodes tensors as a safetensors file. As in the reference writer, the header is padded with spaces to a multiple of
 * 8 bytes, and tensors are sorted by element size (largest first), then by name. So every tensor is aligned to its element
 * size, and the same tensors give the same bytes. Throws CheckpointError for names and sizes that the format cannot hold.
 */
export function encodeSafetensors(
  tensors: ReadonlyMap<string, Tensor | LazyTensor>,
  { metadata = {}, dtype = "F32" }: EncodeOptions = {},
): Encoded {
  const items = [...tensors].map(([name, tensor]) => {
    if (name === "__metadata__") throw new CheckpointError(`A tensor cannot have the name ${quote(name)}.`);
    return { name, tensor, stored: storage(tensor, typeof dtype === "function" ? dtype(name) : dtype) };
  });
  items.sort((a, b) => storedBytes[b.stored] - storedBytes[a.stored] || (a.name < b.name ? -1 : 1));

  // Members are joined by hand, since an object literal would lose a tensor named "__proto__".
  const members = [`"__metadata__":${JSON.stringify({ format: "pt", ...metadata })}`];
  let end = 0;
  for (const { name, tensor, stored } of items) {
    const begin = end;
    end += sizeOf(tensor.shape) * storedBytes[stored];
    const entry = { dtype: stored, shape: tensor.shape, data_offsets: [begin, end] };
    members.push(`${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  }
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  if (padded > maxHeaderBytes) {
    throw new CheckpointError(`A safetensors header has at most ${maxHeaderBytes} bytes; this one takes ${padded}.`);
  }
  const header = new Uint8Array(lengthBytes + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, lengthBytes);

  return {
    size: header.length + end,
    async *chunks() {
      yield header;
      for (const { name, tensor, stored } of items) yield encode(name, tensor, stored);
    },
  };
}

function storage({ dtype }: Pick<Tensor, "dtype">, float: FloatStorage): StoredDType {
  return dtype === "float32" ? float : ({ int64: "I64", int32: "I32", uint8: "U8", bool: "BOOL" } as const)[dtype];
}

async function encode(name: string, declared: Tensor | LazyTensor, stored: StoredDType): Promise<Uint8Array> {
  const { dtype, shape, data } = "load" in declared ? await declared.load() : declared;
  if (dtype !== declared.dtype || data.length !== sizeOf(declared.shape)) {
    throw new CheckpointError(
      `Tensor ${quote(name)} was announced as ${declared.dtype} [${declared.shape.join(", ")}], but has ` +
        `${data.length} elements of ${dtype} [${shape.join(", ")}].`,
    );
  }
  const elements =
    stored === "F16"
      ? floatToHalf(data as Float32Array)
      : stored === "BF16"
        ? floatToBfloat(data as Float32Array)
        : data;
  return new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength);
}
