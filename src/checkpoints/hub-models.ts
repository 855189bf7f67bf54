/** Lists and removes models in the download cache. */
import { readdir, readFile, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { ArgumentError, HubError } from "../errors.ts";
import { isCommit } from "./hub-cache.ts";
import { isHeld } from "./hub-download-node.ts";
import { cacheDirectory } from "./hub-environment.ts";

/** A commit of a model in the cache. */
export interface CachedRevision {
  readonly commit: string;
  /** Branches and tags that pointed to this commit when the Hub was last asked. */
  readonly names: readonly string[];
  /** Bytes of its files; revisions share files with the same content. */
  readonly bytes: number;
}

/** A model in the download cache. */
export interface CachedModel {
  /** "owner/name". */
  readonly name: string;
  /** The folder of the endpoint that it came from: "huggingface.co"; null in the cache of version 0.1, which did not store it. */
  readonly endpoint: string | null;
  readonly path: string;
  /** Bytes on disk, including incomplete downloads. */
  readonly bytes: number;
  readonly incompleteBytes: number;
  readonly revisions: readonly CachedRevision[];
}

/** The downloaded models, sorted by name. An empty list if there is no cache. */
export async function listCachedModels(cacheDir = cacheDirectory()): Promise<CachedModel[]> {
  const root = join(cacheDir, "hub");
  const models: CachedModel[] = [];
  for (const folder of await folders(root)) {
    if (await isRepository(join(root, folder))) models.push(await describe(join(root, folder), folder, null));
    else {
      for (const name of await folders(join(root, folder))) {
        if (await isRepository(join(root, folder, name)))
          models.push(await describe(join(root, folder, name), name, folder));
      }
    }
  }
  return models.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/**
 * Removes all revisions of a downloaded model, from all endpoints. Returns the removed models. Throws ArgumentError if it is
 * not in the cache, HubError if it is being downloaded.
 */
export async function removeCachedModel(name: string, cacheDir = cacheDirectory()): Promise<CachedModel[]> {
  const models = await listCachedModels(cacheDir);
  const found = models.filter((model) => model.name === name);
  if (found.length === 0) {
    const names = [...new Set(models.map((model) => model.name))];
    const there = names.length === 0 ? "nothing" : names.slice(0, 10).join(", ") + (names.length > 10 ? ", ..." : "");
    throw new ArgumentError(`${JSON.stringify(name)} is not in the cache ${cacheDir}, which has ${there}.`);
  }
  for (const { path } of found) {
    const locks = (await names(join(path, "blobs"))).filter((file) => file.endsWith(".lock"));
    for (const lock of locks) {
      if (await isHeld(join(path, "blobs", lock))) throw new HubError(`${name}: is being downloaded; stop that first.`);
    }
  }
  for (const { path, endpoint } of found) {
    await rm(path, { recursive: true });
    if (endpoint !== null) await rmdir(dirname(path)).catch(() => undefined); // if it was the last
  }
  return found;
}

async function describe(path: string, folder: string, endpoint: string | null): Promise<CachedModel> {
  const refs = new Map<string, string[]>();
  for (const file of await names(join(path, "refs"))) {
    const commit = (await readFile(join(path, "refs", file), "utf8").catch(() => "")).trim();
    if (isCommit(commit) && !file.endsWith(".tmp")) refs.set(commit, [...(refs.get(commit) ?? []), decoded(file)]);
  }
  const revisions: CachedRevision[] = [];
  for (const commit of (await folders(join(path, "snapshots"))).filter(isCommit)) {
    revisions.push({
      commit,
      names: refs.get(commit) ?? [],
      bytes: await folderBytes(join(path, "snapshots", commit)),
    });
  }
  const blobs = join(path, "blobs");
  const incomplete = (await names(blobs)).filter((file) => file.endsWith(".incomplete"));
  const sizes = await Promise.all(incomplete.map((file) => bytesOf(join(blobs, file))));
  const incompleteBytes = sizes.reduce((sum, size) => sum + size, 0);
  const name = folder.replace("--", "/");
  return { name, endpoint, path, bytes: await folderBytes(blobs), incompleteBytes, revisions };
}

/** Bytes of all files in a folder and below. */
export async function folderBytes(path: string): Promise<number> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = entries.filter((entry) => entry.isFile());
  const sizes = await Promise.all(files.map(({ parentPath, name }) => bytesOf(join(parentPath, name))));
  return sizes.reduce((sum, size) => sum + size, 0);
}

async function bytesOf(path: string): Promise<number> {
  return (await stat(path).catch(() => undefined))?.size ?? 0;
}

async function isRepository(path: string): Promise<boolean> {
  return (await folders(path)).some((name) => name === "blobs" || name === "snapshots");
}

async function folders(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

async function names(path: string): Promise<string[]> {
  return readdir(path).catch(() => []);
}

function decoded(file: string): string {
  try {
    return decodeURIComponent(file);
  } catch {
    return file;
  }
}
