import { CheckpointError } from "../errors.ts";
import { checkJson, describe, expectObject, type JsonLimits, oneLine, quote } from "./json.ts";

/** Bytes per element, for each element type that halfstep reads. */
export const storedBytes = { F64: 8, F32: 4, F16: 2, BF16: 2, I64: 8, I32: 4, I16: 2, I8: 1, U8: 1, BOOL: 1 } as const;
/** Element types as safetensors names them. */
export type StoredDType = keyof typeof storedBytes;

/** Element types of the format that are rare in diffusion checkpoints, and that halfstep does not read. */
const unread =
  /^(F8_E4M3|F8_E5M2|F8_E8M0|F8_E4M3FNUZ|F8_E5M2FNUZ|F6_E2M3|F6_E3M2|F4|F4_E2M1|U16|U32|U64|C64|F8_[A-Z0-9]+)$/;

/** The place of a tensor in its file. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly offset: number;
  /** Bytes: product of the shape times the element's size. */
  readonly length: number;
  /** Name of the file: that of its ByteSource. */
  readonly file: string;
}

/** The header of a safetensors file. */
export interface Header {
  /** In the order of their data in the file. */
  readonly entries: ReadonlyMap<string, TensorEntry>;
  /** The `__metadata__` member; its prototype is null. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * The most bytes in a header. The format allows 100 MB, which in a hostile file could take gigabytes of memory. Published
 * checkpoints have at most about 1 MB (100 bytes per tensor), and some trainers put a few MB about their data into the metadata.
 */
export const maxHeaderBytes = 16 * 2 ** 20;
/** Tensors are at depth 2, their shapes at 3. 48 MiB of values are about 40,000 tensors; a large model has 3,000. */
const headerLimits: JsonLimits = { bytes: maxHeaderBytes, depth: 8, keys: 60_000, memory: 48 * 2 ** 20 };
/** The most dimensions of a tensor: PyTorch's limit. */
const maxRank = 64;
/** The file starts with the header's length as a little-endian uint64. */
export const lengthBytes = 8;

/**
 * Length of the JSON header, from the first eight bytes of a file of `fileSize` bytes. Throws CheckpointError if it does not
 * fit into the file.
 */
export function headerLength(start: Uint8Array, fileSize: number, fileName: string): number {
  if (fileSize < lengthBytes || start.length < lengthBytes) {
    throw new CheckpointError(
      `${fileName}: not a safetensors file, or truncated: it has ${fileSize} bytes, a header length alone takes 8.`,
    );
  }
  const length = new DataView(start.buffer, start.byteOffset, lengthBytes).getBigUint64(0, true);
  if (length > BigInt(fileSize - lengthBytes)) {
    throw new CheckpointError(
      `${fileName}: not a safetensors file, or truncated: its header should have ${length} bytes, but only ` +
        `${fileSize - lengthBytes} bytes follow.`,
    );
  }
  if (length > BigInt(maxHeaderBytes)) {
    throw new CheckpointError(
      `${fileName}: its header should have ${length} bytes; the limit is ${maxHeaderBytes} (16 MiB).`,
    );
  }
  return Number(length);
}

/**
 * Reads and checks a safetensors header (https://github.com/huggingface/safetensors, "Format").
 *
 * `bytes` is the start of the file, at least to the end of its header. Nothing in it is trusted: the shape, element type
 * and byte range of every tensor must agree, and the ranges must cover the data without overlaps or gaps. Throws
 * CheckpointError that names the file, the tensor, what was expected and what was found.
 */
export function parseHeader(bytes: Uint8Array, fileSize: number, fileName: string): Header {
  const end = lengthBytes + headerLength(bytes, fileSize, fileName);
  if (bytes.length < end) {
    throw new CheckpointError(`${fileName}: truncated: its header ends at byte ${end}, found ${bytes.length} bytes.`);
  }
  const json = parseObject(bytes.subarray(lengthBytes, end), fileName);
  const entries: TensorEntry[] = [];
  let metadata: Record<string, string> = Object.create(null);
  for (const [name, value] of Object.entries(json)) {
    if (name === "__metadata__") metadata = parseMetadata(value, fileName);
    else entries.push(parseEntry(name, value, end, fileSize, fileName));
  }
  entries.sort((a, b) => a.offset - b.offset || a.length - b.length);
  checkCoverage(entries, end, fileSize, fileName);
  return { entries: new Map(entries.map((entry) => [entry.name, entry])), metadata };
}

function parseObject(bytes: Uint8Array, fileName: string): Record<string, unknown> {
  if (bytes[0] !== 0x7b) {
    throw new CheckpointError(`${fileName}: not a safetensors file: its header does not start with "{".`);
  }
  let text: string;
  let keys: number;
  let json: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    keys = checkJson(text, `${fileName}: header`, headerLimits);
    json = JSON.parse(text);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    throw new CheckpointError(`${fileName}: its header is not valid JSON: ${oneLine(cause as Error)}`, { cause });
  }
  if (countKeys(json) !== keys) {
    throw new CheckpointError(
      `${fileName}: its header has the name ${quote(duplicateKey(text) ?? "")} more than once.`,
    );
  }
  return expectObject(json, `${fileName}: header`);
}

/** Number of keys in a value and everything inside it; fewer than in the text if one is repeated. */
function countKeys(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  const inside: unknown[] = Object.values(value);
  return inside.reduce((sum: number, child) => sum + countKeys(child), Array.isArray(value) ? 0 : inside.length);
}

/**
 * The first key that appears twice in an object of a *valid* JSON text. JSON.parse silently keeps the last one, so two
 * programs could read different tensors from one file.
 */
function duplicateKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = []; // keys so far of each open object; undefined for an array
  let key = false; // whether the next string is a key
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '"') {
      const start = i;
      for (i++; text[i] !== '"'; i++) if (text[i] === "\\") i++;
      if (!key) continue;
      const name = JSON.parse(text.slice(start, i + 1)) as string; // "\u0061" is "a"
      const keys = open[open.length - 1]!;
      if (keys.has(name)) return name;
      keys.add(name);
      key = false;
    } else if (char === "{") {
      open.push(new Set());
      key = true;
    } else if (char === "[") {
      open.push(undefined);
      key = false;
    } else if (char === "}" || char === "]") {
      open.pop();
      key = false;
    } else if (char === ",") key = open[open.length - 1] !== undefined;
  }
  return undefined;
}

function parseMetadata(value: unknown, fileName: string): Record<string, string> {
  const metadata: Record<string, string> = Object.create(null);
  for (const [key, text] of Object.entries(expectObject(value, `${fileName}: __metadata__`))) {
    if (typeof text !== "string") {
      throw new CheckpointError(`${fileName}: __metadata__ ${quote(key)} is ${describe(text)}, expected a string.`);
    }
    metadata[key] = text;
  }
  return metadata;
}

function parseEntry(name: string, value: unknown, dataStart: number, fileSize: number, file: string): TensorEntry {
  const where = `${file}: tensor ${quote(name)}`;
  const { dtype, shape, data_offsets: range, ...rest } = expectObject(value, where);
  const unknown = Object.keys(rest)[0];
  if (unknown !== undefined) throw new CheckpointError(`${where} has an unknown member ${quote(unknown)}.`);
  if (typeof dtype !== "string" || !Object.hasOwn(storedBytes, dtype)) {
    const known = Object.keys(storedBytes).join(", ");
    if (typeof dtype === "string" && unread.test(dtype)) {
      throw new CheckpointError(`${where} is stored as ${dtype}, which halfstep does not read; convert it to F16.`);
    }
    throw new CheckpointError(`${where} has dtype ${describe(dtype)}, expected one of ${known}.`);
  }
  if (!isSizes(shape)) {
    throw new CheckpointError(`${where} has shape ${describe(shape)}, expected an array of whole numbers from 0.`);
  }
  if (!isSizes(range) || range.length !== 2 || range[0]! > range[1]!) {
    throw new CheckpointError(`${where} has data_offsets ${describe(range)}, expected [begin, end] with begin <= end.`);
  }
  if (shape.length > maxRank) {
    throw new CheckpointError(`${where} has ${shape.length} dimensions; the limit is ${maxRank}.`);
  }
  const [begin, end] = range as [number, number];
  if (end > fileSize - dataStart) {
    throw new CheckpointError(
      `${where} ends at byte ${end} of the data, but the file has only ${fileSize - dataStart} bytes of data: ` +
        "it is truncated or damaged.",
    );
  }
  const stored = dtype as StoredDType;
  if (!hasBytes(shape, storedBytes[stored], end - begin)) {
    throw new CheckpointError(
      `${where} has ${end - begin} bytes, which is not what shape ${describe(shape)} takes in ${stored} ` +
        `(${storedBytes[stored]} bytes an element).`,
    );
  }
  return { name, dtype: stored, shape, offset: dataStart + begin, length: end - begin, file };
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/** Whether product(shape) * bytes === length. Stops when the product exceeds `length`, so that it cannot overflow. */
function hasBytes(shape: readonly number[], bytes: number, length: number): boolean {
  if (shape.includes(0)) return length === 0;
  let product = bytes;
  for (const dim of shape) {
    if (dim > length / product) return false;
    product *= dim;
  }
  return product === length;
}

/** The entries, sorted by offset, must follow one another from the header's end to the file's. */
function checkCoverage(entries: readonly TensorEntry[], dataStart: number, fileSize: number, file: string): void {
  let covered = dataStart;
  let previous = "the header";
  for (const { name, offset, length } of entries) {
    if (offset !== covered) {
      const kind = offset < covered ? "overlaps" : "leaves a hole after";
      throw new CheckpointError(
        `${file}: tensor ${quote(name)} ${kind} ${previous}: it starts at byte ${offset} of the file, ` +
          `expected ${covered}.`,
      );
    }
    covered += length;
    previous = `tensor ${quote(name)}`;
  }
  if (covered !== fileSize) {
    throw new CheckpointError(
      `${file}: ${previous} ends at byte ${covered}, but the file has ${fileSize}: the bytes after it belong to no tensor.`,
    );
  }
}
