import type { Stats } from "node:fs";
import { type FileHandle, open, readdir, realpath, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { CheckpointError } from "../errors.ts";
import { type ByteSource, checkRange, Folder, insidePath } from "./files.ts";

/** The operating system reads at most 2 GiB per call. */
const maxRead = 1 << 30;

/**
 * A file on disk, read in ranges. It is opened again for each read, so nothing needs closing. If the file has changed
 * in between, reading throws an error instead of mixing old and new contents. Throws CheckpointError if there is no such file.
 */
export async function fileSource(path: string, name = path): Promise<ByteSource> {
  const nativePath = await realpath(path).catch((cause) => fail(cause, name, path));
  const opened = await stat(nativePath).catch((cause) => fail(cause, name, path));
  if (!opened.isFile()) throw new CheckpointError(`${name}: expected a file at ${path}, found something else.`);
  const compare = (now: Stats) => {
    const same = now.size === opened.size && now.mtimeMs === opened.mtimeMs && now.ino === opened.ino;
    if (!same) throw new CheckpointError(`${name}: the file has changed since it was opened; open the model again.`);
  };
  const source: ByteSource = {
    name,
    size: opened.size,
    nativePath,
    unchanged: async () => compare(await stat(nativePath).catch((cause) => fail(cause, name, path))),
    async read(offset, length) {
      checkRange(source, offset, length);
      const file = await open(nativePath, "r").catch((cause) => fail(cause, name, path));
      try {
        compare(await file.stat());
        return await readFully(file, offset, length, name);
      } finally {
        await file.close();
      }
    },
  };
  return source;
}

async function readFully(file: FileHandle, offset: number, length: number, name: string): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await file.read(bytes, done, Math.min(length - done, maxRead), offset + done);
    if (bytesRead === 0) {
      throw new CheckpointError(`${name}: the file ended after ${offset + done} of ${offset + length} bytes.`);
    }
    done += bytesRead;
  }
  return bytes;
}

/** A checkpoint's folder on disk. */
export class NodeFolder extends Folder {
  readonly name: string;
  /** Absolute. */
  readonly path: string;

  /** `name` is the folder's name in error messages; the path unless given. */
  constructor(path: string, name = path) {
    super();
    this.path = resolve(path);
    this.name = name;
  }

  override async has(path: string): Promise<boolean> {
    try {
      return (await stat(this.nativePath(path))).isFile();
    } catch (cause) {
      if (isMissing(cause)) return false;
      throw cause;
    }
  }

  override async list(path = ""): Promise<string[]> {
    try {
      return await readdir(path === "" ? this.path : this.nativePath(path));
    } catch (cause) {
      if (isMissing(cause)) return [];
      throw new CheckpointError(`${this.name}: ${(cause as Error).message}.`, { cause });
    }
  }

  override source(path: string): Promise<ByteSource> {
    return fileSource(this.nativePath(path), path);
  }

  override beside(name: string): NodeFolder {
    return new NodeFolder(join(this.path, "..", insidePath(name, this.name)), join(this.name, "..", name));
  }

  /** Links are not resolved here, since the Hub's own cache consists of links. A source's `nativePath` is the resolved path. */
  override nativePath(path: string): string {
    return join(this.path, insidePath(path, this.name));
  }
}

function isMissing(cause: unknown): boolean {
  const code = (cause as NodeJS.ErrnoException).code;
  return code === "ENOENT" || code === "ENOTDIR";
}

function fail(cause: unknown, name: string, path: string): never {
  const what = isMissing(cause) ? `there is no file at ${path}` : (cause as Error).message;
  throw new CheckpointError(`${name}: ${what}.`, { cause });
}
