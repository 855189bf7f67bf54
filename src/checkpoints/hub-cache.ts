/** The cache of one repository on disk: which files it has, and which of them have been verified. */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { copyFile, link, mkdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { CheckpointError, HubError } from "../errors.ts";
import { insidePath } from "./files.ts";
import { HUB_URL } from "./hub-environment.ts";
import { parseJson } from "./json.ts";

export interface RemoteFile {
  readonly path: string;
  readonly size: number;
  /** In hex: SHA-256 of the content (64 digits), or git's SHA-1 of it as a blob (40 digits). */
  readonly oid: string;
}

/** A repository at one commit, with its files. */
export interface Snapshot {
  readonly commit: string;
  readonly files: readonly RemoteFile[];
}

const commitHash = /^[0-9a-f]{40}$/;
const contentHash = /^([0-9a-f]{40}|[0-9a-f]{64})$/;

export const isCommit = (text: unknown): text is string => typeof text === "string" && commitHash.test(text);

/** The cache's folder for an endpoint. Each endpoint has its own, since they may serve different files under one name. */
export function endpointFolder(endpoint: string): string {
  if (endpoint === HUB_URL) return "huggingface.co";
  const host = new URL(endpoint).host.replace(/[^\w.-]/g, "_");
  return `${host}-${createHash("sha256").update(endpoint).digest("hex").slice(0, 12)}`;
}

/**
 * `hub/<endpoint>/<owner>--<name>/` of the cache:
 *
 * - `refs/<revision>`: the commit of a branch or tag when the Hub was last asked;
 * - `listings/<commit>.json`: the files of a commit, with sizes and hashes;
 * - `blobs/<hash>`: contents; `verified/<hash>`: the modification time of a content whose hash has been checked;
 * - `snapshots/<commit>/`: files under their names, as hard links to blobs.
 */
export class RepositoryCache {
  readonly path: string;
  /** Where versions before 0.2 kept this repository's contents, for all endpoints together. */
  readonly #before: string;

  constructor(cacheDir: string, endpoint: string, id: string) {
    const name = id.replace("/", "--");
    this.path = join(cacheDir, "hub", endpointFolder(endpoint), name);
    this.#before = join(cacheDir, "hub", name);
  }

  snapshotFolder({ commit }: Snapshot): string {
    return join(this.path, "snapshots", commit);
  }

  blob({ oid }: RemoteFile): string {
    return join(this.path, "blobs", oid);
  }

  /** The revision's snapshot as of the last time the Hub was asked; undefined if there is none. */
  async snapshot(revision: string): Promise<Snapshot | undefined> {
    const commit = isCommit(revision) ? revision : await this.#read("refs", revision);
    const text = isCommit(commit) && (await this.#read("listings", `${commit}.json`));
    if (!text) return undefined;
    try {
      const { files } = parseJson(text, "listing") as Snapshot;
      return files.every(isUsable) ? { commit: commit as string, files } : undefined;
    } catch {
      return undefined; // damaged: as good as none
    }
  }

  /** Stores a snapshot's listing for later. Does not fail if the cache cannot be written. */
  async remember(revision: string, snapshot: Snapshot): Promise<void> {
    try {
      await this.#write("listings", `${snapshot.commit}.json`, JSON.stringify(snapshot));
      if (snapshot.commit !== revision) await this.#write("refs", revision, snapshot.commit);
    } catch (error) {
      if (!isUnwritable(error)) throw error;
    }
  }

  /** Whether a snapshot has a file with the right content. */
  has(snapshot: Snapshot, file: RemoteFile): Promise<boolean> {
    return this.holds(join(this.snapshotFolder(snapshot), file.path), file);
  }

  /**
   * Whether a file has the right content. If it has been checked before, size and modification time are compared; otherwise it
   * is read and hashed.
   */
  async holds(path: string, file: RemoteFile): Promise<boolean> {
    const found = await stat(path).catch(() => undefined);
    if (!found?.isFile() || found.size !== file.size) return false;
    if ((await this.#read("verified", file.oid)) === String(found.mtimeMs)) return true;
    if ((await hashFile(path, file)) !== file.oid) return false;
    await this.verified(path, file);
    return true;
  }

  /**
   * Records that a file has been checked, unless the cache cannot be written. The modification time is set to whole seconds,
   * which archives and image layers preserve. If it is whole seconds already it is left alone, since other processes that have
   * the file open would take it for changed.
   */
  async verified(path: string, { oid }: RemoteFile): Promise<void> {
    try {
      const { mtimeMs } = await stat(path);
      const seconds = Math.floor(mtimeMs / 1000);
      if (seconds * 1000 !== mtimeMs) await utimes(path, seconds, seconds);
      await this.#write("verified", oid, String(seconds * 1000));
    } catch (error) {
      if (!isUnwritable(error)) throw error;
    }
  }

  /** Whether an older version has left contents of this repository, from any endpoint. */
  async hasOlder(): Promise<boolean> {
    return (await stat(join(this.#before, "blobs")).catch(() => undefined))?.isDirectory() ?? false;
  }

  /** Reuses a blob that an older version left, if its content is right. */
  async adopt(file: RemoteFile): Promise<boolean> {
    const old = join(this.#before, "blobs", file.oid);
    const found = await stat(old).catch(() => undefined);
    if (!found?.isFile() || found.size !== file.size || (await hashFile(old, file)) !== file.oid) return false;
    await place(old, this.blob(file));
    await this.verified(this.blob(file), file);
    return true;
  }

  /** Links a blob under its file name in a snapshot. */
  async place(snapshot: Snapshot, file: RemoteFile): Promise<void> {
    await place(this.blob(file), join(this.snapshotFolder(snapshot), file.path));
  }

  async #read(kind: string, name: string): Promise<string | undefined> {
    return readFile(join(this.path, kind, encodeURIComponent(name)), "utf8").catch(() => undefined);
  }

  async #write(kind: string, name: string, text: string): Promise<void> {
    const path = join(this.path, kind, encodeURIComponent(name));
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.${process.pid}.${performance.now()}.tmp`;
    await writeFile(temporary, text);
    await rename(temporary, path);
  }
}

/** Whether a listing's entry has a size and a hash to check the content against. */
export function isUsable(file: RemoteFile): boolean {
  const sized = Number.isSafeInteger(file.size) && file.size >= 0;
  return typeof file.path === "string" && sized && typeof file.oid === "string" && contentHash.test(file.oid);
}

/** Whether a path of a listing can be stored: relative, without "..", and with names that file systems allow. */
export function isStorable(path: string): boolean {
  try {
    insidePath(path, "");
  } catch (error) {
    if (error instanceof CheckpointError) return false;
    throw error;
  }
  const parts = path.split("/");
  return Buffer.byteLength(path) <= 1024 && parts.every((part) => Buffer.byteLength(part) <= 240);
}

/** Whether an error means that a folder cannot be written to. */
export function isUnwritable(error: unknown): boolean {
  return ["EROFS", "EACCES", "EPERM"].includes((error as NodeJS.ErrnoException | undefined)?.code ?? "");
}

/** Describes in words why the file system refused to store something in the cache. */
export function cacheFailure(error: unknown, label: string, cacheDir: string): unknown {
  if (!(error instanceof Error) || !("syscall" in error)) return error;
  return new HubError(
    `${label}: is not in the cache ${cacheDir} and cannot be put there (${error.message}). HALFSTEP_CACHE can name another ` +
      "folder.",
    { cause: error },
  );
}

/** The hash of a file's content, of the same kind as the expected one. */
async function hashFile(path: string, { oid, size }: RemoteFile): Promise<string> {
  const hash = newHash(oid, size);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** git hashes a blob with a header in front; LFS hashes only the content. */
export function newHash(oid: string, size: number) {
  return oid.length === 40 ? createHash("sha1").update(`blob ${size}\0`) : createHash("sha256");
}

/** Places a file under another name, as a hard link, or as a copy if the file system has no hard links. */
async function place(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  const temporary = `${to}.${process.pid}.${performance.now()}.tmp`;
  await link(from, temporary).catch(async () => {
    await copyFile(from, temporary);
    const { mtime } = await stat(from);
    await utimes(temporary, mtime, mtime); // by which it is known as checked
  });
  await rename(temporary, to);
  await rm(temporary, { force: true }); // renaming one link onto another of the same file leaves both
}
