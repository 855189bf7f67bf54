import { CheckpointError } from "../errors.ts";
import { limitsOf, maxTextBytes, parseJson, quote } from "./json.ts";

export { describe, expectObject, parseJson, quote } from "./json.ts";

/** A file that can be read in parts: on disk, at a URL, or in memory. */
export interface ByteSource {
  /** Its name in error messages, usually its path inside the checkpoint's folder. */
  readonly name: string;
  /** Length in bytes when it was opened. */
  readonly size: number;
  /** Absolute path with links resolved, if the file is on a local disk: ONNX Runtime maps weights from there. */
  readonly nativePath?: string;
  /**
   * Throws CheckpointError if the file has changed or been replaced since it was opened. Code that lets others read it by its
   * path, such as ONNX Runtime when it maps weights, calls this before and after. Absent if the file has no path.
   */
  unchanged?(): Promise<void>;
  /** Exactly `length` bytes from `offset`. Rejects if the range is not inside the file or the file has changed. */
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** A checkpoint's folder: on disk, on a web server or in memory. Paths are relative, use `/`, and never leave the folder. */
export abstract class Folder {
  /** Its name in error messages. */
  abstract readonly name: string;
  /** Whether the folder has a file with this path. */
  abstract has(path: string): Promise<boolean>;
  /**
   * Opens a file. Throws CheckpointError if it does not exist or the path leaves the folder. If a file has to be fetched
   * whole, at most `most` bytes are fetched.
   */
  abstract source(path: string, most?: number): Promise<ByteSource>;
  /** Names of the entries directly in this folder, or in its subfolder `path`; undefined if it cannot be listed. */
  async list(_path = ""): Promise<string[] | undefined> {
    return undefined;
  }

  /** The file's path on a local disk; undefined for folders that are elsewhere. */
  nativePath(_path: string): string | undefined {
    return undefined;
  }

  /** A whole file as UTF-8 text. Throws CheckpointError if it is not UTF-8, or exceeds the size limit for text files. */
  async text(path: string): Promise<string> {
    return decode(await this.source(path, maxTextBytes), maxTextBytes);
  }

  /** A whole file as JSON, including the infinities that Python writes, within the limits for its name. */
  async json(path: string): Promise<unknown> {
    const limits = limitsOf(path);
    const source = await this.source(path, limits.bytes);
    return parseJson(await decode(source, limits.bytes), source.name, limits);
  }

  /** The folder of this name next to this one; null if this kind of folder has no neighbours. Nothing is read. */
  beside(_name: string): Folder | null {
    return null;
  }

  /** A folder inside this one, such as a pipeline's component; this folder itself for "". Nothing is read. */
  sub(path: string): Folder {
    return path === "" ? this : new SubFolder(this, insidePath(path, this.name));
  }
}

class SubFolder extends Folder {
  readonly name: string;
  private readonly parent: Folder;
  private readonly prefix: string;

  constructor(parent: Folder, prefix: string) {
    super();
    this.name = `${parent.name}/${prefix}`;
    this.parent = parent;
    this.prefix = prefix;
  }

  override async has(path: string): Promise<boolean> {
    return this.parent.has(this.inside(path));
  }

  override async source(path: string, most?: number): Promise<ByteSource> {
    return this.parent.source(this.inside(path), most);
  }

  override async list(path = ""): Promise<string[] | undefined> {
    return this.parent.list(path === "" ? this.prefix : this.inside(path));
  }

  override nativePath(path: string): string | undefined {
    return this.parent.nativePath(this.inside(path));
  }

  private inside(path: string): string {
    return `${this.prefix}/${insidePath(path, this.name)}`;
  }
}

/** The files of another folder, under its name: for what changes something about a folder. */
export class ForwardingFolder extends Folder {
  readonly name: string;
  protected readonly folder: Folder;

  constructor(folder: Folder) {
    super();
    this.name = folder.name;
    this.folder = folder;
  }

  override has(path: string): Promise<boolean> {
    return this.folder.has(path);
  }

  override source(path: string, most?: number): Promise<ByteSource> {
    return this.folder.source(path, most);
  }

  override list(path?: string): Promise<string[] | undefined> {
    return this.folder.list(path);
  }

  override nativePath(path: string): string | undefined {
    return this.folder.nativePath(path);
  }
}

async function decode(source: ByteSource, limit: number): Promise<string> {
  if (source.size > limit) {
    throw new CheckpointError(
      `${source.name}: has ${source.size} bytes; the limit for a file of this name is ${limit} (${limit / 2 ** 20} MiB).`,
    );
  }
  const bytes = await source.read(0, source.size);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError(`${source.name}: expected UTF-8 text, found bytes that are not.`, { cause });
  }
}

/**
 * Returns `path` if it is relative, uses `/` and has no `..`, since file names inside a checkpoint cannot be trusted.
 * Otherwise throws CheckpointError that starts with `context`.
 */
export function insidePath(path: string, context: string): string {
  const bad =
    path === "" ||
    /[\\\0:]/.test(path) || // backslashes, NUL, drive letters and URL schemes
    path.split("/").some((part) => part === "" || part === "." || part === "..");
  if (!bad) return path;
  throw new CheckpointError(
    `${context}: ${quote(path)} is not a path inside the folder (expected a relative path with "/" and without "..").`,
  );
}

/** Checks that [offset, offset + length) is inside the source; the `read` of every ByteSource starts with this check. */
export function checkRange(source: Pick<ByteSource, "name" | "size">, offset: number, length: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (whole && length <= source.size && offset <= source.size - length) return;
  throw new CheckpointError(
    `${source.name}: bytes ${offset} to ${offset + length} were asked for, but the file has ${source.size}.`,
  );
}

/** Bytes that are already in memory. Reads return views, not copies. */
export function memorySource(name: string, bytes: Uint8Array): ByteSource {
  const source: ByteSource = {
    name,
    size: bytes.length,
    async read(offset, length) {
      checkRange(source, offset, length);
      return bytes.subarray(offset, offset + length);
    },
  };
  return source;
}

/** A browser's Blob or File. Only the parts that are read are loaded into memory. */
export function blobSource(name: string, blob: Blob): ByteSource {
  const source: ByteSource = {
    name,
    size: blob.size,
    async read(offset, length) {
      checkRange(source, offset, length);
      return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
    },
  };
  return source;
}

/** A folder in memory: path -> its bytes, text, or Blob. */
export class MemoryFolder extends Folder {
  readonly name: string;
  private readonly files: ReadonlyMap<string, Uint8Array | string | Blob>;

  constructor(name: string, files: ReadonlyMap<string, Uint8Array | string | Blob>) {
    super();
    this.name = name;
    this.files = files;
  }

  override async has(path: string): Promise<boolean> {
    return this.files.has(insidePath(path, this.name));
  }

  override async list(path = ""): Promise<string[]> {
    const prefix = path === "" ? "" : `${insidePath(path, this.name)}/`;
    const inside = [...this.files.keys()].filter((file) => file.startsWith(prefix));
    return [...new Set(inside.map((file) => file.slice(prefix.length).split("/")[0]!))];
  }

  override async source(path: string): Promise<ByteSource> {
    const file = this.files.get(insidePath(path, this.name));
    if (file === undefined) throw new CheckpointError(`${this.name}: has no file ${quote(path)}.`);
    if (file instanceof Blob) return blobSource(path, file);
    return memorySource(path, typeof file === "string" ? new TextEncoder().encode(file) : file);
  }
}
