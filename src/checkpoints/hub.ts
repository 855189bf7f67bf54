import { copyFile, link, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileDownloadInfo, HUB_URL, HubApiError, listFiles, modelInfo } from "@huggingface/hub";
import { ArgumentError, HubError } from "../errors.ts";
import { parseModelIndex } from "./diffusers-folder.ts";
import { insidePath } from "./files.ts";
import { download, fileSize, TransientHubError } from "./hub-download-node.ts";
import { type Selection, selectFiles } from "./hub-selection.ts";
import { NodeFolder } from "./node.ts";

export interface DownloadProgress {
  /** Path inside the repository of the file that has grown. */
  file: string;
  /** Bytes of that file. */
  fileLoaded: number;
  fileSize: number;
  /** Bytes of all files that are needed, with those that were there before. */
  loaded: number;
  total: number;
}

export interface HubOptions extends Selection {
  /** Branch, tag, pull request ("refs/pr/1") or commit; "main" unless given. */
  revision?: string;
  /** Where models are kept; the environment's HALFSTEP_CACHE, or ~/.cache/halfstep, unless given. */
  cacheDir?: string;
  /** For gated and private repositories; the environment's HF_TOKEN unless given. */
  token?: string;
  /** The environment's HF_ENDPOINT, or https://huggingface.co, unless given. */
  endpoint?: string;
  /** Use what is in the cache and ask nobody; the environment's HF_HUB_OFFLINE unless given. */
  offline?: boolean;
  /** Instead of what a pipeline needs: paths, with `*` for any characters. */
  files?: readonly string[];
  signal?: AbortSignal;
  onProgress?: (progress: DownloadProgress) => void;
  /** Told in a sentence what a person should know meanwhile: that the Hub asks to wait, and for how long. */
  onNotice?: (notice: string) => void;
  /** Attempts in a row that may fail for one file, and milliseconds before the first repetition; 5 and 500. */
  retries?: number;
  retryDelay?: number;
}

interface RemoteFile {
  readonly path: string;
  readonly size: number;
  readonly oid: string;
}

/** A repository at one commit, with its files. */
interface Snapshot {
  readonly commit: string;
  readonly files: readonly RemoteFile[];
}

/** Files that are transferred at a time. */
const parallel = 4;
const commitHash = /^[0-9a-f]{40}$/;

/** The folder in which downloaded models are kept. */
export function cacheDirectory(): string {
  return process.env["HALFSTEP_CACHE"] || join(homedir(), ".cache", "halfstep");
}

/**
 * Downloads what a pipeline needs of a model on the Hugging Face Hub, and returns the folder that it is in.
 *
 * Each file is checked against the size and hash that the Hub lists. A download that broke off goes on where it was.
 * What is in the cache is not fetched again; without network, or with `offline`, the cache alone is used. In the
 * cache `snapshots/<commit>/` has the files under their names, as hard links to `blobs/<hash>`, so that revisions
 * share what is equal and ONNX Runtime, which follows no links out of a model's folder, can map them.
 *
 * Throws HubError (not there, no access, no network, wrong content), ArgumentError for an impossible repository name.
 */
export async function downloadModel(repoId: string, options: HubOptions = {}): Promise<NodeFolder> {
  const repo = new Repository(repoId, options);
  const snapshot = await repo.snapshot();
  const files = await repo.select(snapshot);
  await repo.fetchAll(snapshot, files);
  return new NodeFolder(repo.folder(snapshot), repoId);
}

class Repository {
  private readonly id: string;
  private readonly options: HubOptions;
  private readonly revision: string;
  private readonly endpoint: string;
  private readonly token: string | undefined;
  private readonly offline: boolean;
  private readonly cache: string;

  constructor(id: string, options: HubOptions) {
    if (!/^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/.test(id)) {
      throw new ArgumentError(`"${id}" is not a repository on the Hub; expected "owner/name".`);
    }
    this.id = id;
    this.options = options;
    this.revision = options.revision ?? "main";
    this.endpoint = (options.endpoint ?? (process.env["HF_ENDPOINT"] || HUB_URL)).replace(/\/+$/, "");
    this.token = options.token ?? (process.env["HF_TOKEN"] || undefined);
    if (this.token !== undefined && !this.token.startsWith("hf_")) {
      throw new ArgumentError('The access token (HF_TOKEN) does not start with "hf_", as those of the Hub do.');
    }
    this.offline = options.offline ?? /^(1|true|yes|on)$/i.test(process.env["HF_HUB_OFFLINE"] ?? "");
    this.cache = join(options.cacheDir ?? cacheDirectory(), "hub", id.replace("/", "--"));
  }

  folder({ commit }: Snapshot): string {
    return join(this.cache, "snapshots", commit);
  }

  /** The commit that the revision is now, and its files; from the cache if the Hub is not to be asked or not there. */
  async snapshot(): Promise<Snapshot> {
    const cached = await this.cachedSnapshot();
    // A commit never changes.
    if (cached && (this.offline || cached.commit === this.revision)) return cached;
    if (this.offline) {
      throw new HubError(
        `${this.id}: revision ${this.revision} is not in the cache (${this.cache}), and HF_HUB_OFFLINE forbids to ` +
          "fetch it.",
      );
    }
    try {
      return await this.remoteSnapshot();
    } catch (error) {
      if (cached && error instanceof TransientHubError) return cached;
      throw error;
    }
  }

  private async cachedSnapshot(): Promise<Snapshot | undefined> {
    const ref = commitHash.test(this.revision) ? this.revision : await this.readCache("refs", this.revision);
    const listing = ref && (await this.readCache("listings", `${ref}.json`));
    if (!listing) return undefined;
    try {
      const { commit, files } = JSON.parse(listing) as Snapshot;
      return { commit, files: files.map((file) => this.checked(file)) };
    } catch {
      return undefined; // damaged: as good as none
    }
  }

  private async remoteSnapshot(): Promise<Snapshot> {
    const where = `revision ${this.revision}`;
    const { sha: commit } = await this.ask(where, () =>
      modelInfo({ name: this.id, revision: this.revision, additionalFields: ["sha"], ...this.access() }),
    );
    if (typeof commit !== "string" || !commitHash.test(commit)) {
      throw new HubError(`${this.id}: ${this.endpoint} named no commit for ${where}; is it a Hub?`);
    }
    const files = await this.ask(where, async () => {
      const found: RemoteFile[] = [];
      const listing = listFiles({ repo: this.repo, recursive: true, revision: commit, ...this.access() });
      for await (const { type, path, size, oid, lfs } of listing) {
        if (type === "file") found.push(this.checked({ path, size: lfs?.size ?? size, oid: lfs?.oid ?? oid ?? "" }));
      }
      return found;
    });
    await this.writeCache("listings", `${commit}.json`, JSON.stringify({ commit, files }));
    if (commit !== this.revision) await this.writeCache("refs", this.revision, commit);
    return { commit, files };
  }

  /** Paths and hashes become file names here, so they are checked first. */
  private checked(file: RemoteFile): RemoteFile {
    const hash = /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(file.oid);
    if (typeof file.path === "string" && hash && Number.isSafeInteger(file.size) && file.size >= 0) {
      insidePath(file.path, this.id);
      return file;
    }
    throw new HubError(`${this.id}: the Hub's listing has no usable size and hash for ${JSON.stringify(file.path)}.`);
  }

  /** The files that are asked for; those that a pipeline needs unless `files` says otherwise. */
  async select(snapshot: Snapshot): Promise<RemoteFile[]> {
    const paths = snapshot.files.map(({ path }) => path);
    const wanted = new Set(await this.selectPaths(snapshot, paths));
    const selected = snapshot.files.filter(({ path }) => wanted.has(path));
    if (selected.length > 0) return selected;
    throw new HubError(
      `${this.id}: revision ${this.revision} has none of the files that are needed, expected a model in the layout ` +
        `of diffusers; it has ${paths.slice(0, 10).join(", ")}${paths.length > 10 ? ", ..." : ""}.`,
    );
  }

  private async selectPaths(snapshot: Snapshot, paths: readonly string[]): Promise<string[]> {
    const { files: patterns } = this.options;
    if (patterns) {
      const escaped = patterns.map((pattern) => pattern.split("*").map(escapeRegExp).join(".*"));
      const allowed = new RegExp(`^(${escaped.join("|")})$`);
      return paths.filter((path) => allowed.test(path));
    }
    const indexFile = snapshot.files.find(({ path }) => path === "model_index.json");
    if (!indexFile) return selectFiles(paths, undefined, this.options);
    await this.fetchOne(snapshot, indexFile, this.options.signal);
    const folder = new NodeFolder(this.folder(snapshot));
    const index = parseModelIndex(await folder.json(indexFile.path), `${this.id}/${indexFile.path}`);
    return selectFiles(paths, index, this.options);
  }

  /** Makes all the files be in the snapshot's folder, a few at a time; the first failure stops the others. */
  async fetchAll(snapshot: Snapshot, files: readonly RemoteFile[]): Promise<void> {
    const failed = new AbortController();
    const { signal: outer, onProgress } = this.options;
    const signal = outer ? AbortSignal.any([outer, failed.signal]) : failed.signal;
    const total = files.reduce((sum, { size }) => sum + size, 0);
    const loadedOf = new Map<string, number>();
    let loaded = 0;
    const queue = [...files];
    let error: unknown;
    const worker = async () => {
      for (let file = queue.shift(); file && !signal.aborted; file = queue.shift()) {
        const { path, size } = file;
        await this.fetchOne(snapshot, file, signal, (fileLoaded) => {
          loaded += fileLoaded - (loadedOf.get(path) ?? 0);
          loadedOf.set(path, fileLoaded);
          onProgress?.({ file: path, fileLoaded, fileSize: size, loaded, total });
        });
      }
    };
    const guarded = () =>
      worker().catch((thrown: unknown) => {
        error ??= thrown;
        failed.abort(thrown);
      });
    await Promise.all(Array.from({ length: parallel }, guarded));
    outer?.throwIfAborted();
    if (error !== undefined) throw error;
  }

  private async fetchOne(
    snapshot: Snapshot,
    file: RemoteFile,
    signal: AbortSignal | undefined,
    onBytes: (loaded: number) => void = () => undefined,
  ): Promise<void> {
    const target = join(this.folder(snapshot), file.path);
    if ((await fileSize(target)) !== file.size) {
      const blob = join(this.cache, "blobs", file.oid);
      if ((await fileSize(blob)) !== file.size) await this.transfer(snapshot, file, blob, signal, onBytes);
      await linkFile(blob, target);
    }
    onBytes(file.size);
  }

  private async transfer(
    { commit }: Snapshot,
    { path, size, oid }: RemoteFile,
    blob: string,
    signal: AbortSignal | undefined,
    onBytes: (loaded: number) => void,
  ): Promise<void> {
    const label = `${this.id}/${path}`;
    if (this.offline) throw new HubError(`${label}: is not in the cache, and HF_HUB_OFFLINE forbids to fetch it.`);
    await mkdir(dirname(blob), { recursive: true });
    const { retries, retryDelay } = this.options;
    const open = async (offset: number) => {
      const encoded = path.split("/").map(encodeURIComponent).join("/");
      const access = this.access(signal);
      const request = { repo: this.repo, path: encoded, revision: commit, ...access };
      const info = await this.ask(path, () => fileDownloadInfo(request), signal);
      if (!info) throw new HubError(`${label}: is not there any more at commit ${commit}.`);
      const etag = info.etag.replace(/^W\/|"/g, "");
      // Where the ETag is a hash, content that will be refused need not be fetched first, nor added to what is here.
      const isHash = /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag) && etag.length === oid.length;
      if (info.size !== size || (isHash && etag !== oid)) {
        throw new HubError(
          `${label}: expected ${size} bytes with hash ${oid}, the server has ${info.size} with ${etag}; try again, ` +
            "and if it stays so, report it to the repository's owner.",
        );
      }
      const own = new URL(info.url).origin === new URL(this.endpoint).origin;
      const headers: Record<string, string> = { "Accept-Encoding": "identity" };
      if (offset > 0) headers["Range"] = `bytes=${offset}-${size - 1}`;
      if (own && this.token) headers["Authorization"] = `Bearer ${this.token}`;
      const response = await access.fetch(info.url, { headers });
      if (response.ok) return response;
      await response.body?.cancel();
      throw this.statusError(response.status, path);
    };
    await download(blob, { label, size, oid }, open, { signal, onBytes, retries, retryDelay });
  }

  private get repo() {
    return { type: "model", name: this.id } as const;
  }

  /** What each of the Hub library's functions takes. */
  private access(signal = this.options.signal) {
    const send: typeof fetch = async (input, init) => {
      try {
        return await fetch(input, { ...init, signal });
      } catch (cause) {
        signal?.throwIfAborted();
        // fetch says only "fetch failed"; what failed is in its cause, for several addresses only as a code.
        const reason = (cause as Error).cause as NodeJS.ErrnoException | undefined;
        const detail = reason?.message || reason?.code || (cause as Error).message;
        throw new TransientHubError(
          `${this.id}: ${this.endpoint} cannot be reached (${detail}). Check the network; models that are in the ` +
            "cache can be used without it.",
          { cause },
        );
      }
    };
    return { hubUrl: this.endpoint, fetch: send, accessToken: this.token };
  }

  /** Runs a function of the Hub library; its errors become HubErrors that say what to do. */
  private async ask<T>(what: string, call: () => Promise<T>, signal = this.options.signal): Promise<T> {
    try {
      return await call();
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof HubApiError) throw this.statusError(error.statusCode, what);
      if (error instanceof HubError) throw error;
      const { message } = error as Error;
      throw new HubError(`${this.id}: ${what}: ${this.endpoint} answered with something unexpected: ${message}`);
    }
  }

  /** The Hub answers 401 also for repositories that do not exist, so as not to tell which private ones do. */
  private statusError(status: number, what: string): HubError {
    const where = `${this.id}: ${what}: HTTP ${status} from ${this.endpoint}`;
    if (status === 401 || status === 403) {
      const how = this.token
        ? "the access token does not open it"
        : "set HF_TOKEN to an access token of an account that may read it";
      return new HubError(
        `${where}: the repository does not exist, is private, or is gated. Check the name; accept its terms at ` +
          `${this.endpoint}/${this.id}; ${how}.`,
      );
    }
    if (status === 404) return new HubError(`${where}: there is no such repository, revision or file.`);
    if (status >= 500 || status === 429 || status === 408 || status === 416) {
      return new TransientHubError(`${where}: the server cannot answer now; try again later.`);
    }
    return new HubError(`${where}.`);
  }

  private async readCache(kind: string, name: string): Promise<string | undefined> {
    return readFile(join(this.cache, kind, encodeURIComponent(name)), "utf8").catch(() => undefined);
  }

  private async writeCache(kind: string, name: string, text: string): Promise<void> {
    const path = join(this.cache, kind, encodeURIComponent(name));
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.${process.pid}.${performance.now()}.tmp`;
    await writeFile(temporary, text);
    await rename(temporary, path);
  }
}

/** Puts a blob under its name; as a copy where the file system has no hard links. */
async function linkFile(blob: string, target: string): Promise<void> {
  await mkdir(dirname(target), { recursive: true });
  const temporary = `${target}.${process.pid}.${performance.now()}.tmp`;
  await link(blob, temporary).catch(() => copyFile(blob, temporary));
  await rename(temporary, target);
  await rm(temporary, { force: true }); // renaming one link onto another of the same file leaves both
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
