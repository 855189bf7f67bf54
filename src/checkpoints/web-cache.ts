/** Caches model files in a browser: fetched whole and stored with the Cache API, so the next visit only checks for changes. */
import { CheckpointError, HubError } from "../errors.ts";
import { type ByteSource, blobSource, Folder } from "./files.ts";
import type { DownloadProgress } from "./hub.ts";
import { HttpFolder, type HttpOptions, isMissing, request } from "./web.ts";

/** The name of the browser's cache. */
const CACHE = "halfstep";
/** Headers stored with a file in addition to the server's ETag and Last-Modified. */
const BYTES = "X-Halfstep-Bytes";
const SHA256 = "X-Halfstep-SHA256";
const FETCHED = "X-Halfstep-Fetched";
/** In bytes. Larger files are only checked by size, since hashing needs the whole file in memory. */
const MOST_HASHED = 2 ** 30;

/** A file of a model in the browser's cache. */
export interface CachedFile {
  readonly url: string;
  readonly bytes: number;
  readonly fetched: Date;
  /** Hash of the content; null if it could not be computed (over 1 GiB, or no https). */
  readonly sha256: string | null;
}

/** The cached model files of this site, from all of its pages. */
export async function cachedFiles(): Promise<CachedFile[]> {
  const cache = await openCache();
  const requests = (await cache?.keys()) ?? [];
  const files = requests.map(async ({ url }) => {
    const headers = (await cache?.match(url))?.headers;
    const fetched = new Date(Number(headers?.get(FETCHED)));
    return { url, bytes: Number(headers?.get(BYTES)), fetched, sha256: headers?.get(SHA256) ?? null };
  });
  return Promise.all(files);
}

/** Removes the files whose address begins with `prefix`, such as a model's folder; all unless given. Returns their number. */
export async function clearCachedFiles(prefix?: string): Promise<number> {
  const cache = await openCache();
  const start = prefix === undefined ? "" : new URL(prefix, globalThis.location?.href).href;
  let removed = 0;
  for (const { url } of (await cache?.keys()) ?? []) {
    if (url.startsWith(start) && (await cache?.delete(url))) removed++;
  }
  return removed;
}

/** Null if there is no Cache API: outside https:// and localhost, and in some private windows. */
async function openCache(): Promise<Cache | null> {
  try {
    return typeof caches === "undefined" ? null : await caches.open(CACHE);
  } catch {
    return null;
  }
}

/** Options of `CachingFolder`. */
export interface CachingOptions extends HttpOptions {
  /** Called while files are fetched, and once for cached ones. `total` grows as more files turn out to be needed. */
  onDownload?: (progress: DownloadProgress) => void;
  /** Called if files cannot be cached. */
  onNotice?: (notice: string) => void;
}

/** A checkpoint's folder at a URL, whose files are cached. */
export class CachingFolder extends Folder {
  readonly name: string;
  readonly #folder: HttpFolder;
  readonly #options: CachingOptions;
  readonly #progress: Progress;
  readonly #cache = openCache();

  constructor(url: string, options?: CachingOptions);
  /** @internal A subfolder of another folder, sharing its progress. */
  constructor(url: string, options: CachingOptions, progress: Progress);
  constructor(url: string, options: CachingOptions = {}, progress = new Progress(options.onDownload)) {
    super();
    this.#folder = new HttpFolder(url, options);
    this.name = this.#folder.name;
    this.#options = options;
    this.#progress = progress;
  }

  override has(path: string): Promise<boolean> {
    return this.#folder.has(path);
  }

  override beside(name: string): CachingFolder {
    return new CachingFolder(this.#folder.beside(name).name, this.#options, this.#progress);
  }

  override async source(path: string, most = Number.POSITIVE_INFINITY): Promise<ByteSource> {
    const url = new URL(this.#folder.url(path), globalThis.location?.href).href;
    const cache = await this.#cache;
    const kept = cache && (await this.#kept(cache, url, path));
    if (kept && kept.size <= most) {
      this.#progress.report(path, kept.size, kept.size);
      return blobSource(path, kept);
    }
    return blobSource(path, await this.#fetch(cache, url, path, most));
  }

  /** The cached file, if it is complete and the server has no newer one. If the server cannot be reached, the cache is used. */
  async #kept(cache: Cache, url: string, path: string): Promise<Blob | null> {
    const kept = await cache.match(url);
    if (!kept) return null;
    const now = await request(url, path, this.#options, {}, "HEAD").catch((error) => {
      if (this.#options.signal?.aborted) throw error;
      return null;
    });
    if (now && (isMissing(now) || !isSame(kept.headers, now.headers))) return null;
    const blob = await kept.blob();
    const hash = kept.headers.get(SHA256);
    const whole = blob.size === Number(kept.headers.get(BYTES)) && (hash === null || (await sha256(blob)) === hash);
    return whole ? blob : null;
  }

  async #fetch(cache: Cache | null, url: string, path: string, most: number): Promise<Blob> {
    const response = await request(url, path, this.#options, {});
    if (isMissing(response)) throw new CheckpointError(`${path}: there is no file at ${url}.`);
    const blob = await this.#body(response, path, most);
    const hash = await sha256(blob);
    // On the Hub the ETag of a large file is its hash.
    const promised = /^"?([0-9a-f]{64})"?$/.exec(response.headers.get("ETag") ?? "")?.[1];
    if (promised && hash && promised !== hash) {
      throw new HubError(`${path}: what ${url} sent has another hash (${hash}) than it says (${promised}); try again.`);
    }
    await this.#keep(cache, url, blob, hash, response.headers);
    return blob;
  }

  async #keep(cache: Cache | null, url: string, blob: Blob, hash: string | null, from: Headers): Promise<void> {
    const headers = new Headers({ [BYTES]: String(blob.size), [FETCHED]: String(Date.now()) });
    if (hash !== null) headers.set(SHA256, hash);
    for (const name of ["ETag", "Last-Modified"]) {
      const value = from.get(name);
      if (value !== null) headers.set(name, value);
    }
    try {
      await cache?.put(url, new Response(blob, { headers }));
    } catch (error) {
      this.#options.onNotice?.(`The browser does not keep ${url}: ${(error as Error).message}`);
    }
  }

  async #body(response: Response, path: string, most: number): Promise<Blob> {
    const { headers } = response;
    const announced = headers.has("Content-Encoding") ? 0 : Number(headers.get("Content-Length") ?? 0);
    const parts: Uint8Array<ArrayBuffer>[] = [];
    let loaded = 0;
    try {
      const reader = response.body?.getReader();
      for (let read = await reader?.read(); read && !read.done; read = await reader?.read()) {
        parts.push(read.value);
        loaded += read.value.length;
        if (loaded > most) {
          await reader?.cancel();
          throw new HubError(`${path}: ${response.url} sends more than the ${most} bytes that are the limit.`);
        }
        this.#progress.report(path, loaded, Math.max(loaded, announced));
      }
    } catch (cause) {
      if (cause instanceof HubError) throw cause;
      this.#options.signal?.throwIfAborted();
      throw new HubError(`${path}: the connection to ${response.url} broke off: ${(cause as Error).message}.`, {
        cause,
      });
    }
    if (announced > 0 && loaded !== announced) {
      throw new HubError(`${path}: ${response.url} sent ${loaded} of ${announced} bytes.`);
    }
    this.#progress.report(path, loaded, loaded);
    return new Blob(parts);
  }
}

/** Whether the server's current headers describe the cached file. Without an ETag or Last-Modified it counts as changed. */
function isSame(kept: Headers, now: Headers): boolean {
  const names = ["ETag", "Last-Modified"].filter((name) => kept.has(name) && now.has(name));
  return names.length > 0 && names.every((name) => kept.get(name) === now.get(name));
}

/** In hexadecimal; null if it cannot be computed. */
async function sha256(blob: Blob): Promise<string | null> {
  if (blob.size > MOST_HASHED || !globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Counts the bytes of all requested files. */
class Progress {
  readonly #files = new Map<string, { loaded: number; size: number }>();
  readonly #tell: CachingOptions["onDownload"];

  constructor(tell: CachingOptions["onDownload"]) {
    this.#tell = tell;
  }

  report(file: string, fileLoaded: number, fileSize: number): void {
    const before = this.#files.get(file);
    if (before?.loaded === fileLoaded && before.size === fileSize) return;
    this.#files.set(file, { loaded: fileLoaded, size: fileSize });
    const all = [...this.#files.values()];
    const loaded = all.reduce((sum, each) => sum + each.loaded, 0);
    const total = all.reduce((sum, each) => sum + each.size, 0);
    this.#tell?.({ file, fileLoaded, fileSize, loaded, total });
  }
}
