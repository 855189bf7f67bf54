import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { type Check, callback, flag, listOf, number, signal, text, whole } from "../checks.ts";
import { ArgumentError, HubError } from "../errors.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { parseModelIndex } from "./diffusers-folder.ts";
import {
  cacheFailure,
  isCommit,
  isStorable,
  isUnwritable,
  isUsable,
  type RemoteFile,
  RepositoryCache,
  type Snapshot,
} from "./hub-cache.ts";
import { type FileResponse, HubClient } from "./hub-client.ts";
import { download } from "./hub-download-node.ts";
import { cacheDirectory, hubEndpoint, hubToken, isOffline } from "./hub-environment.ts";
import { Patience, TransientHubError } from "./hub-retry.ts";
import { type Selection, selectFiles } from "./hub-selection.ts";
import { NodeFolder } from "./node.ts";

export { cacheDirectory } from "./hub-environment.ts";

/** Progress of a download in bytes: of one file, and of all files that are known to be needed so far. */
export interface DownloadProgress {
  /** Path of the file inside the repository. */
  file: string;
  /** Bytes of that file that have been downloaded. */
  fileLoaded: number;
  fileSize: number;
  /** Bytes of all needed files that are there, including those from earlier downloads. */
  loaded: number;
  total: number;
}

/** Options of `downloadModel`: where to download from and to. */
export interface HubOptions extends Selection {
  /** Branch, tag, pull request ("refs/pr/1") or commit; "main" unless given. */
  revision?: string;
  /** Where models are kept; the environment's HALFSTEP_CACHE, or ~/.cache/halfstep, unless given. */
  cacheDir?: string;
  /** For gated and private repositories; the environment's HF_TOKEN unless given. */
  token?: string;
  /** The environment's HF_ENDPOINT, or https://huggingface.co, unless given. */
  endpoint?: string;
  /** Use only the cache and connect to nothing; the environment's HF_HUB_OFFLINE unless given. */
  offline?: boolean;
  /** Paths to download instead of what a pipeline needs, with `*` for any characters. */
  files?: readonly string[];
  signal?: AbortSignal;
  /** Called while files are downloaded. */
  onProgress?: (progress: DownloadProgress) => void;
  /** Called with a sentence for the user, for example that the Hub asks to wait, and for how long. */
  onNotice?: (notice: string) => void;
  /** Attempts in a row that may fail for one request, and milliseconds before the first retry; 5 and 500 unless given. */
  retries?: number;
  retryDelay?: number;
  /** Milliseconds without a byte after which a connection counts as broken; 60,000 unless given. */
  timeout?: number;
}

/** A check whose error message does not show the value. */
const secret: Check = (value) => {
  if (typeof value !== "string") throw new ArgumentError("token must be a text.");
};

const optionTable: OptionTable<HubOptions> = {
  ...{ revision: text, variant: text, components: listOf(text, { most: 1000 }), files: listOf(text, { most: 1000 }) },
  ...{ cacheDir: text, endpoint: text, token: secret, offline: flag, signal, onProgress: callback, onNotice: callback },
  ...{ retries: whole(0, 100), retryDelay: number(0, 600_000), timeout: number(1, 3_600_000) },
};

/** How many files are downloaded at the same time. */
const parallel = 4;

/**
 * Downloads the files that a pipeline needs of a model on the Hugging Face Hub, and returns their folder.
 *
 * Each file is checked against the size and hash that the Hub lists. An interrupted download is resumed, and if the server
 * asks to wait, it waits. Files in the cache with the right content are not downloaded again. Without network, or with
 * `offline`, only the cache is used. Each endpoint has its own cache (see `RepositoryCache` for the layout).
 *
 * Throws HubError (not found, no access, no network, wrong content), ArgumentError for an invalid repository name, token
 * or address.
 */
export async function downloadModel(repoId: string, options: HubOptions = {}): Promise<NodeFolder> {
  const repo = new Repository(repoId, readOptions(options, optionTable, { of: "downloadModel" }));
  const snapshot = await repo.snapshot();
  try {
    return await repo.fetch(snapshot);
  } catch (error) {
    const older = await repo.withoutWriting(error, snapshot);
    if (older) return older;
    throw error;
  }
}

class Repository {
  private readonly id: string;
  private readonly options: HubOptions;
  private readonly revision: string;
  private readonly endpoint: string;
  private readonly offline: boolean;
  private readonly timeout: number;
  private readonly patience: Patience;
  private readonly client: HubClient;
  private readonly cache: RepositoryCache;

  constructor(id: string, options: HubOptions) {
    // "--" stands for the slash in the cache; names on the Hub cannot contain it.
    if (typeof id !== "string" || !/^[\w-][\w.-]*(\/[\w-][\w.-]*)?$/.test(id) || id.includes("--")) {
      throw new ArgumentError(`${JSON.stringify(id)} is not a repository on the Hub; expected "owner/name".`);
    }
    this.id = id;
    this.options = options;
    this.revision = options.revision ?? "main";
    if (!/^[^\0-\x20\x7f]{1,250}$/.test(this.revision)) {
      throw new ArgumentError(
        `${id}: ${JSON.stringify(this.revision.slice(0, 80))} is not a revision; expected a branch, tag or commit.`,
      );
    }
    this.endpoint = hubEndpoint(options.endpoint);
    this.offline = isOffline(options.offline);
    this.timeout = options.timeout ?? 60_000;
    this.patience = new Patience(options);
    const token = hubToken(options.token);
    this.client = new HubClient({ id, endpoint: this.endpoint, token, patience: this.patience, timeout: this.timeout });
    this.cache = new RepositoryCache(options.cacheDir ?? cacheDirectory(), this.endpoint, id);
  }

  /** The current commit of the revision and its files; from the cache when offline or if the Hub cannot be reached. */
  async snapshot(): Promise<Snapshot> {
    const cached = await this.cache.snapshot(this.revision);
    // A commit never changes.
    if (cached && (this.offline || cached.commit === this.revision)) return cached;
    if (this.offline) {
      const older = (await this.cache.hasOlder())
        ? " A cache of version 0.1 has files of it, which are taken over online."
        : "";
      throw new HubError(
        `${this.id}: revision ${this.revision} is not in the cache (${this.cache.path}), and HF_HUB_OFFLINE forbids to ` +
          `fetch it.${older}`,
      );
    }
    try {
      const snapshot = await this.remoteSnapshot(cached ? 1 : undefined);
      await this.cache
        .remember(this.revision, snapshot)
        .catch((error: unknown) => this.refuse(error, `${this.id}: the list of its files`));
      return snapshot;
    } catch (error) {
      if (cached && error instanceof TransientHubError) return cached;
      throw error;
    }
  }

  /** If the cache can replace the Hub's answer, `retries` is small, so that users without network need not wait long. */
  private async remoteSnapshot(retries?: number): Promise<Snapshot> {
    const commit = await this.client.commit(this.revision, retries);
    if (!isCommit(commit)) {
      throw new HubError(`${this.id}: ${this.endpoint} named no commit for revision ${this.revision}; is it a Hub?`);
    }
    const entries = (await this.client.list(commit, retries)) as (ListedFile | null)[];
    const files = entries.flatMap((entry) => {
      if (entry?.type !== "file") return [];
      const { path, size, oid, lfs } = entry;
      return [{ path: String(path), size: Number(lfs?.size ?? size), oid: String(lfs?.oid ?? oid) }];
    });
    // Files without size and hash are left out, which is an error only if they are needed.
    return { commit, files: files.filter(isUsable) };
  }

  async fetch(snapshot: Snapshot): Promise<NodeFolder> {
    await this.fetchAll(snapshot, await this.select(snapshot));
    return this.folder(snapshot);
  }

  /**
   * If the cache cannot be written but has the complete revision as of the last time the Hub was asked, returns that one. So a
   * read-only cache is of use even if the branch has moved on.
   */
  async withoutWriting(error: unknown, wanted: Snapshot): Promise<NodeFolder | undefined> {
    const cached =
      error instanceof HubError && isUnwritable(error.cause) ? await this.cache.snapshot(this.revision) : undefined;
    if (!cached || cached.commit === wanted.commit) return undefined;
    const folder = await this.fetch(cached).catch(() => undefined);
    if (folder)
      this.options.onNotice?.(`${error instanceof Error ? error.message : ""} The older ${cached.commit} is used.`);
    return folder;
  }

  private folder(snapshot: Snapshot): NodeFolder {
    return new NodeFolder(this.cache.snapshotFolder(snapshot), this.id);
  }

  /**
   * The files to download; those that a pipeline needs unless `files` says otherwise. Names that cannot be stored are left
   * out: a pipeline needs none of them, and they are an error only if they are asked for by name.
   */
  private async select(snapshot: Snapshot): Promise<RemoteFile[]> {
    const paths = snapshot.files.map(({ path }) => path);
    const wanted = new Set(await this.selectPaths(snapshot, paths));
    const selected = snapshot.files.filter(({ path }) => wanted.has(path));
    const bad = selected.find(({ path }) => !isStorable(path));
    if (bad) {
      throw new HubError(
        `${this.id}: ${JSON.stringify(bad.path.slice(0, 120))} is needed, but is not a path inside the folder that can be ` +
          "stored on every system.",
      );
    }
    if (selected.length > 0) return selected;
    throw new HubError(
      `${this.id}: revision ${this.revision} has none of the files that are needed, expected a model in the layout ` +
        `of diffusers; it has ${paths.slice(0, 10).join(", ").slice(0, 500)}${paths.length > 10 ? ", ..." : ""}.`,
    );
  }

  private async selectPaths(snapshot: Snapshot, paths: readonly string[]): Promise<string[]> {
    const { files: patterns } = this.options;
    const storable = paths.filter(isStorable);
    if (patterns) {
      const escaped = patterns.map((pattern) => pattern.split("*").map(escapeRegExp).join(".*"));
      const allowed = new RegExp(`^(${escaped.join("|")})$`);
      return [...storable.filter((path) => allowed.test(path)), ...paths.filter((path) => patterns.includes(path))];
    }
    const indexFile = snapshot.files.find(({ path }) => path === "model_index.json");
    if (!indexFile) return selectFiles(storable, undefined, this.options);
    await this.fetchOne(snapshot, indexFile, this.options.signal);
    const index = parseModelIndex(await this.folder(snapshot).json(indexFile.path), `${this.id}/${indexFile.path}`);
    return selectFiles(storable, index, this.options);
  }

  /** Brings all files into the snapshot's folder, a few at a time; the first failure stops the others. */
  private async fetchAll(snapshot: Snapshot, files: readonly RemoteFile[]): Promise<void> {
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
    if (!(await this.cache.has(snapshot, file))) {
      const blob = this.cache.blob(file);
      const there = () => this.cache.holds(blob, file);
      try {
        if (!(await there()) && !(await this.cache.adopt(file))) await this.transfer(snapshot, file, signal, onBytes);
        await this.cache.place(snapshot, file);
      } catch (error) {
        this.refuse(error, `${this.id}/${file.path}`);
      }
    }
    onBytes(file.size);
  }

  private async transfer(
    snapshot: Snapshot,
    file: RemoteFile,
    signal: AbortSignal | undefined,
    onBytes: (loaded: number) => void,
  ): Promise<void> {
    const { path, size } = file;
    const label = `${this.id}/${path}`;
    if (this.offline) throw new HubError(`${label}: is not in the cache, and HF_HUB_OFFLINE forbids to fetch it.`);
    const blob = this.cache.blob(file);
    await mkdir(dirname(blob), { recursive: true });
    const open = async (offset: number) => {
      const range = offset > 0 ? `bytes=${offset}-${size - 1}` : undefined;
      const answer = await this.client.file(snapshot.commit, path, range, signal);
      await checkAnswer(answer, file, label);
      return answer.response;
    };
    const { patience, timeout } = this;
    const isThere = () => this.cache.holds(blob, file);
    await download(blob, { label, ...file }, open, { patience, timeout, signal, onBytes, isThere });
    await this.cache.verified(blob, file);
  }

  private refuse(error: unknown, label: string): never {
    throw cacheFailure(error, label, this.cache.path);
  }
}

/** An entry of the Hub's listing; nothing about it is trusted yet. */
interface ListedFile {
  readonly type?: unknown;
  readonly path?: unknown;
  readonly size?: unknown;
  readonly oid?: unknown;
  readonly lfs?: { readonly size?: unknown; readonly oid?: unknown };
}

/** Refuses wrong content before it is downloaded or appended to a partial file, if the headers show that it is wrong. */
async function checkAnswer(
  { response, linked }: FileResponse,
  { size, oid }: RemoteFile,
  label: string,
): Promise<void> {
  const tag = linked.get("X-Linked-ETag") ?? response.headers.get("ETag") ?? "";
  const etag = tag.replace(/^W\/|"/g, "");
  const isHash = /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag) && etag.length === oid.length;
  const range = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "")?.[1];
  const told = linked.get("X-Linked-Size") ?? range ?? String(size);
  if (told === String(size) && (!isHash || etag === oid)) return;
  await response.body?.cancel();
  throw new HubError(
    `${label}: expected ${size} bytes with hash ${oid}, the server has ${told} with ${etag}; try again, and if it stays ` +
      "so, report it to the repository's owner.",
  );
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
