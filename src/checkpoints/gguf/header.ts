/**
 * The header of a GGUF file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), versions 2 and 3. Nothing in it is
 * trusted: every length, count and offset is checked where it is read.
 */
import { CheckpointError } from "../../errors.ts";
import type { ByteSource } from "../files.ts";
import { quote } from "../json.ts";
import { type StoredDType, storedBytes } from "../safetensors-header.ts";
import { BLOCK, type BlockDType, blockBytes, isBlockDType } from "./blocks.ts";

export interface GgufEntry {
  readonly name: string;
  readonly dtype: StoredDType | BlockDType;
  /** Rows first, as everywhere else; ggml has the reverse order. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  readonly length: number;
  readonly file: string;
}

export interface GgufHeader {
  readonly entries: ReadonlyMap<string, GgufEntry>;
  /** Text values by their keys. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Published checkpoints have well below 1 MB; language models' vocabularies some MB. */
export const maxGgufHeaderBytes = 32 * 2 ** 20;
const maxTensors = 40_000;
const maxKeys = 60_000;
const maxName = 2 ** 16;
const maxRank = 4;
const maxAlignment = 2 ** 16;
/** The longest metadata text that is kept. */
const maxText = 2 ** 16;

/** Element types by ggml's numbers; unsupported ones are listed so that errors can name them. */
const types: readonly (string | undefined)[] = [
  ...["F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1"],
  ...[
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
  ],
  ...[
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
  ],
  ...["IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4", "NVFP4"],
];

/** Bytes of a metadata value by its type's number; null for texts and lists. */
const valueBytes: readonly (number | null)[] = [1, 1, 2, 2, 4, 4, 4, 1, null, null, 8, 8, 8];
const [UINT32, INT32, STRING, ARRAY] = [4, 5, 8, 9];

/** Prefix of the keys in which ComfyUI-GGUF records the original shape of tensors that it stores in another shape. */
const ORIGINAL_SHAPE = "comfy.gguf.orig_shape.";

/** Thrown when the bytes end before the header does. */
class More extends Error {}

/** Reads as much of the file as its header needs. Throws CheckpointError if it is not GGUF or has unsupported element types. */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  for (let size = 2 ** 20; ; size *= 4) {
    const bytes = await source.read(0, Math.min(size, source.size, maxGgufHeaderBytes));
    try {
      return parse(bytes, source);
    } catch (error) {
      if (!(error instanceof More)) throw error;
      if (bytes.length === source.size) {
        throw new CheckpointError(`${source.name}: truncated: its ${source.size} bytes end within its header.`);
      }
      if (bytes.length >= maxGgufHeaderBytes) {
        throw new CheckpointError(
          `${source.name}: its header is longer than ${maxGgufHeaderBytes} bytes (${maxGgufHeaderBytes / 2 ** 20} MiB), the limit.`,
        );
      }
    }
  }
}

interface Info {
  name: string;
  type: number;
  dims: number[];
  offset: number;
}

function parse(bytes: Uint8Array, { name, size }: ByteSource): GgufHeader {
  const read = new Reader(bytes, name);
  if (read.magic() !== "GGUF") throw new CheckpointError(`${name}: not a GGUF file: it does not begin with "GGUF".`);
  const version = read.uint32();
  if (version !== 2 && version !== 3) {
    throw new CheckpointError(`${name}: is GGUF of version ${version}; read are 2 and 3, little-endian.`);
  }
  const tensors = read.count("tensors", maxTensors);
  const keys = read.count("metadata keys", maxKeys);
  const { metadata, shapes, alignment } = readMetadata(read, keys);
  const infos: Info[] = [];
  for (let i = 0; i < tensors; i++) infos.push(readInfo(read));
  const start = Math.ceil(read.at / alignment) * alignment;
  const entries = new Map<string, GgufEntry>();
  let end = 0;
  for (const info of infos.sort((a, b) => a.offset - b.offset)) {
    const entry = checked(info, shapes.get(info.name), { start, size, file: name });
    if (entries.has(info.name)) throw new CheckpointError(`${name}: has the tensor ${quote(info.name)} twice.`);
    if (entry.length > 0 && entry.offset < end) {
      throw new CheckpointError(
        `${name}: tensor ${quote(info.name)} overlaps the one before it, at byte ${entry.offset}.`,
      );
    }
    end = Math.max(end, entry.offset + entry.length);
    entries.set(info.name, entry);
  }
  return { entries, metadata };
}

function readMetadata(read: Reader, keys: number) {
  const metadata: Record<string, string> = Object.create(null);
  const shapes = new Map<string, number[]>();
  let alignment = 32;
  for (let i = 0; i < keys; i++) {
    const key = read.text("a key", maxName);
    const type = read.uint32();
    if (type === STRING) {
      const text = read.text(`the value of ${quote(key)}`, maxGgufHeaderBytes);
      if (text.length <= maxText) metadata[key] = text;
    } else if (key === "general.alignment" && (type === UINT32 || type === INT32)) {
      alignment = read.uint32();
      if (alignment >= 8 && alignment <= maxAlignment && alignment % 8 === 0) continue;
      throw new CheckpointError(
        `${read.name}: "general.alignment" is ${alignment}; expected a multiple of 8 up to ${maxAlignment}.`,
      );
    } else if (key.startsWith(ORIGINAL_SHAPE) && type === ARRAY) {
      const shape = read.smallList();
      if (shape) shapes.set(key.slice(ORIGINAL_SHAPE.length), shape);
    } else read.skip(type, key);
  }
  return { metadata, shapes, alignment };
}

function readInfo(read: Reader): Info {
  const name = read.text("a tensor's name", maxName);
  const rank = read.uint32();
  if (rank > maxRank) {
    throw new CheckpointError(`${read.name}: tensor ${quote(name)} has ${rank} dimensions; the limit is ${maxRank}.`);
  }
  const dims: number[] = [];
  for (let i = 0; i < rank; i++) dims.push(read.uint64(`a size of tensor ${quote(name)}`));
  return { name, dims, type: read.uint32(), offset: read.uint64(`the offset of tensor ${quote(name)}`) };
}

function checked(
  { name, type, dims, offset }: Info,
  original: readonly number[] | undefined,
  { start, size, file }: { start: number; size: number; file: string },
): GgufEntry {
  const where = `${file}: tensor ${quote(name)}`;
  const dtype = types[type];
  const stored = dtype !== undefined && Object.hasOwn(storedBytes, dtype);
  if (dtype === undefined || !(stored || isBlockDType(dtype))) {
    throw new CheckpointError(
      `${where} is stored as ${dtype ?? `type ${type}`}, which is not read; read are F32, F16, BF16, Q8_0 and Q4_0.`,
    );
  }
  const available = Math.max(0, size - start - offset);
  const elements = product(dims, (available / blockBytes.Q4_0) * BLOCK + 1);
  const blocks = isBlockDType(dtype);
  const length = blocks ? (elements / BLOCK) * blockBytes[dtype] : elements * storedBytes[dtype as StoredDType];
  if (blocks && (dims[0] ?? 1) % BLOCK !== 0) {
    throw new CheckpointError(`${where} has rows of ${dims[0] ?? 1} weights in ${dtype}, which is blocks of ${BLOCK}.`);
  }
  if (!(length <= available)) {
    throw new CheckpointError(
      `${where} is [${dims.join(", ")}] in ${dtype} from byte ${start + offset} on, and the file has ${size} bytes: it is truncated or damaged.`,
    );
  }
  const shape = [...dims].reverse();
  if (original && product(original, elements + 1) !== elements) {
    throw new CheckpointError(
      `${where} is [${shape.join(", ")}], which is not the [${original.join(", ")}] that the metadata says it was.`,
    );
  }
  return { name, dtype: dtype as GgufEntry["dtype"], shape: original ?? shape, offset: start + offset, length, file };
}

/** The product of the sizes, or Infinity if it exceeds `most`; it stops early, so that it cannot overflow. */
function product(sizes: readonly number[], most: number): number {
  if (sizes.includes(0)) return 0;
  let product = 1;
  for (const size of sizes) {
    product *= size;
    if (product > most) return Number.POSITIVE_INFINITY;
  }
  return product;
}

class Reader {
  readonly name: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  at = 0;

  constructor(bytes: Uint8Array, name: string) {
    this.name = name;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  magic(): string {
    return String.fromCharCode(...this.#take(4));
  }

  uint32(): number {
    const at = this.#skip(4);
    return this.#view.getUint32(at, true);
  }

  uint64(what: string): number {
    const at = this.#skip(8);
    const value = this.#view.getBigUint64(at, true);
    if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
    throw new CheckpointError(`${this.name}: ${what} is ${value}, which is beyond every file.`);
  }

  count(what: string, most: number): number {
    const value = this.uint64(`the number of ${what}`);
    if (value <= most) return value;
    throw new CheckpointError(`${this.name}: says that it has ${value} ${what}; the limit is ${most}.`);
  }

  text(what: string, most: number): string {
    const length = this.uint64(`the length of ${what}`);
    if (length > most) {
      throw new CheckpointError(`${this.name}: ${what} should have ${length} bytes; the limit is ${most}.`);
    }
    try {
      return this.#decoder.decode(this.#take(length));
    } catch (cause) {
      if (cause instanceof More) throw cause;
      throw new CheckpointError(`${this.name}: ${what} is not UTF-8.`, { cause });
    }
  }

  /** Reads a list of up to `maxRank + 1` whole numbers; other lists are skipped and give undefined. */
  smallList(): number[] | undefined {
    const type = this.uint32();
    const count = this.uint64("the length of a list");
    if ((type === INT32 || type === UINT32) && count >= 1 && count <= maxRank + 1) {
      return Array.from({ length: count }, () => this.uint32());
    }
    this.#skipList(type, count, "a list", 0);
    return undefined;
  }

  /** Skips a value. */
  skip(type: number, key: string, depth = 0): void {
    if (type === STRING) this.#skip(this.uint64(`the length of the value of ${quote(key)}`));
    else if (type === ARRAY) {
      const of = this.uint32();
      this.#skipList(of, this.uint64(`the length of the list ${quote(key)}`), key, depth + 1);
    } else this.#skip(this.#sizeOf(type, key));
  }

  #skipList(type: number, count: number, key: string, depth: number): void {
    if (depth > 4) throw new CheckpointError(`${this.name}: the list ${quote(key)} has lists in it more than 4 deep.`);
    if (type !== STRING && type !== ARRAY) this.#skip(count * this.#sizeOf(type, key));
    // This loop ends, since every element takes at least one byte and the bytes run out.
    else for (let i = 0; i < count; i++) this.skip(type, key, depth);
  }

  #sizeOf(type: number, key: string): number {
    const size = valueBytes[type];
    if (typeof size === "number") return size;
    throw new CheckpointError(
      `${this.name}: the value of ${quote(key)} is of type ${type}, which the format does not have.`,
    );
  }

  #take(length: number): Uint8Array {
    const at = this.#skip(length);
    return this.#bytes.subarray(at, at + length);
  }

  #skip(length: number): number {
    const at = this.at;
    if (!(at + length <= this.#bytes.length)) throw new More();
    this.at = at + length;
    return at;
  }
}
