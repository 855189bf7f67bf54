import { CheckpointError, HubError } from "../errors.ts";
import { defined } from "../options/defined.ts";
import { type ByteSource, checkRange, Folder, insidePath, memorySource } from "./files.ts";

/** Options for requesting files. */
export interface HttpOptions {
  /** Sent with every request, such as `Authorization`. */
  headers?: Readonly<Record<string, string>>;
  signal?: AbortSignal;
  /** Used instead of the global fetch. */
  fetch?: typeof fetch;
  /**
   * Bytes of the first request; 16 MiB unless given. Smaller files are then completely in memory; for larger ones
   * the header is, and each tensor is fetched when it is read.
   */
  firstBytes?: number;
  /** The most bytes to fetch if the server sends the file whole; no limit unless given. */
  most?: number;
}

/**
 * A file at a URL, read in ranges if the server supports them, otherwise fetched whole. Throws CheckpointError if
 * there is no such file, HubError if the server cannot be reached or sends an unexpected response.
 */
export async function httpSource(url: string, name: string, options: HttpOptions = {}): Promise<ByteSource> {
  const { firstBytes = 1 << 24, most } = options;
  const response = await request(url, name, options, { Range: `bytes=0-${firstBytes - 1}` });
  // An empty file cannot satisfy any range.
  if (response.status === 416) return memorySource(name, new Uint8Array(0));
  if (isMissing(response)) throw new CheckpointError(`${name}: there is no file at ${url}.`);
  const start = await body(response, url, name, response.status === 206 ? firstBytes : most);
  if (response.status !== 206) return memorySource(name, start);
  const size = totalOf(response) ?? (await lengthByHead(url, name, options));
  if (start.length !== Math.min(firstBytes, size)) {
    throw new HubError(`${name}: ${url} sent ${start.length} bytes, expected ${Math.min(firstBytes, size)}.`);
  }
  if (start.length === size) return memorySource(name, start);

  const source: ByteSource = {
    name,
    size,
    async read(offset, length) {
      checkRange(source, offset, length);
      if (length === 0) return new Uint8Array(0); // no Range header says that
      if (offset + length <= start.length) return start.subarray(offset, offset + length);
      const part = await request(url, name, options, { Range: `bytes=${offset}-${offset + length - 1}` });
      const bytes = part.status === 206 ? await body(part, url, name, length) : new Uint8Array(0);
      if (bytes.length !== length || (totalOf(part) ?? size) !== size) {
        throw new HubError(
          `${name}: ${url} was asked for ${length} of ${size} bytes and sent ${bytes.length} of ` +
            `${totalOf(part) ?? "?"} (HTTP ${part.status}); if the file has changed, open it again.`,
        );
      }
      return bytes;
    },
  };
  return source;
}

/** A checkpoint's folder at a URL, such as `models/fluent-emoji/` on the page's own server. */
export class HttpFolder extends Folder {
  readonly name: string;
  private readonly base: string;
  private readonly options: HttpOptions;

  constructor(url: string, options: HttpOptions = {}) {
    super();
    this.name = url.replace(/\/+$/, "");
    this.base = this.name;
    this.options = options;
  }

  override async has(path: string): Promise<boolean> {
    return !isMissing(await request(this.url(path), path, this.options, {}, "HEAD"));
  }

  override async source(path: string, most?: number): Promise<ByteSource> {
    return httpSource(this.url(path), path, { ...this.options, ...defined({ most }) });
  }

  override beside(name: string): HttpFolder {
    return new HttpFolder(
      `${this.base.replace(/[^/]*$/, "")}${encodeURIComponent(insidePath(name, this.name))}`,
      this.options,
    );
  }

  /** The address of a file. */
  url(path: string): string {
    return `${this.base}/${insidePath(path, this.name).split("/").map(encodeURIComponent).join("/")}`;
  }
}

/** Development servers answer unknown paths with their index page; no file of a checkpoint is HTML. */
export function isMissing(response: Response): boolean {
  const html = response.headers.get("Content-Type")?.startsWith("text/html") ?? false;
  return response.status === 404 || response.status === 410 || (response.ok && html);
}

export async function request(
  url: string,
  name: string,
  { fetch: send = fetch, headers, signal }: HttpOptions,
  more: Record<string, string>,
  method = "GET",
): Promise<Response> {
  let response: Response;
  try {
    response = await send(url, { method, headers: { ...headers, ...more }, ...(signal && { signal }) });
  } catch (cause) {
    if (signal?.aborted) throw signal.reason;
    throw new HubError(`${name}: ${url} cannot be reached: ${(cause as Error).message}.`, { cause });
  }
  if (response.ok || isMissing(response) || response.status === 416) return response;
  throw new HubError(`${name}: ${url} answered HTTP ${response.status} ${response.statusText}.`);
}

/** Throws HubError if more than `most` bytes arrive, regardless of the headers. */
async function body(response: Response, url: string, name: string, most?: number): Promise<Uint8Array> {
  try {
    if (most === undefined) return new Uint8Array(await response.arrayBuffer());
    const announced = Number(response.headers.get("Content-Length") ?? most);
    let bytes = new Uint8Array(Math.min(most, Number.isSafeInteger(announced) && announced >= 0 ? announced : most));
    let done = 0;
    // No `for await`, since Safari's streams are not iterable.
    const reader = response.body?.getReader();
    for (let read = await reader?.read(); read && !read.done; read = await reader?.read()) {
      const { value } = read;
      if (done + value.length > most) {
        await reader?.cancel();
        throw new HubError(`${name}: ${url} sends more than the ${most} bytes that were asked for or are the limit.`);
      }
      if (done + value.length > bytes.length) {
        const larger = new Uint8Array(Math.min(most, 2 * (done + value.length))); // compressed: the header is too small
        larger.set(bytes);
        bytes = larger;
      }
      bytes.set(value, done);
      done += value.length;
    }
    return done === bytes.length ? bytes : bytes.slice(0, done);
  } catch (cause) {
    if (cause instanceof HubError || (cause as Error).name === "AbortError") throw cause;
    throw new HubError(`${name}: the connection to ${url} broke off: ${(cause as Error).message}.`, { cause });
  }
}

/** The whole file's size, from "bytes 0-99/1234". A server of another origin may hide this header from the page. */
function totalOf(response: Response): number | undefined {
  const total = /\/(\d+)$/.exec(response.headers.get("Content-Range") ?? "")?.[1];
  return total === undefined ? undefined : Number(total);
}

async function lengthByHead(url: string, name: string, options: HttpOptions): Promise<number> {
  const length = (await request(url, name, options, {}, "HEAD")).headers.get("Content-Length");
  if (length !== null && /^\d+$/.test(length)) return Number(length);
  throw new HubError(`${name}: ${url} does not say how long it is (expected Content-Range or Content-Length).`);
}
