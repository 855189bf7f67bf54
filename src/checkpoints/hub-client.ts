/** Requests to the Hub: limited in size and time, retried if that may help, and with the token sent only to the Hub. */

import { HubError } from "../errors.ts";
import { defined } from "../options/defined.ts";
import { proxiedFetch } from "./hub-proxy.ts";
import { type Patience, TransientHubError, waitAsked } from "./hub-retry.ts";
import { parseJson } from "./json.ts";

export interface HubAccess {
  /** The repository's name in errors. */
  readonly id: string;
  /** Without a final slash. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly patience: Patience;
  /** Milliseconds without a byte after which a connection counts as broken. */
  readonly timeout: number;
}

/** The most bytes in one API response; a page of the listing has about 0.3 MB. */
const maxBody = 16 * 2 ** 20;
/** The most pages of a listing (1,000 files each on the Hub). */
const maxPages = 200;
const maxFiles = 100_000;
const maxRedirects = 8;

export class HubClient {
  readonly #access: HubAccess;

  constructor(access: HubAccess) {
    this.#access = access;
  }

  /** The current commit of a revision. */
  async commit(revision: string, retries?: number): Promise<unknown> {
    const what = `revision ${revision}`;
    const { json } = await this.#json(
      `${this.#api}/revision/${encodeURIComponent(revision)}?expand=sha`,
      what,
      retries,
    );
    return (json as { sha?: unknown } | null)?.sha;
  }

  /** All entries of the repository at a commit, as the Hub returns them. */
  async list(commit: string, retries?: number): Promise<unknown[]> {
    const { id, endpoint, timeout } = this.#access;
    const entries: unknown[] = [];
    const deadline = Date.now() + 5 * timeout;
    const url = new URL(`${this.#api}/tree/${commit}?recursive=true`);
    for (let page = 0; page < maxPages; page++) {
      const { json, next } = await this.#json(url.href, `revision ${commit}`, retries);
      if (!Array.isArray(json)) throw new HubError(`${id}: ${endpoint} sent no list of files; is it a Hub?`);
      for (const entry of json) entries.push(entry);
      if (entries.length > maxFiles) break;
      if (next === undefined) return entries;
      if (Date.now() > deadline) {
        throw new HubError(
          `${id}: the list of its files took more than ${(5 * timeout) / 1000} seconds; try again later.`,
        );
      }
      // Only the link's query is used: the next page is requested from the same address, so the token goes nowhere else.
      url.search = next;
    }
    throw new HubError(
      `${id}: its list of files goes on beyond ${maxFiles} files or ${maxPages} pages, the limits here.`,
    );
  }

  /**
   * A file's bytes from `offset` on. The response is 206, or 200 if the server does not support ranges. `signal` aborts it. Not
   * retried here, since the caller has to retry reading the body as well.
   */
  async file(
    commit: string,
    path: string,
    range: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<FileResponse> {
    const { id, endpoint } = this.#access;
    const encoded = path.split("/").map(encodeURIComponent).join("/");
    const url = `${endpoint}/${id}/resolve/${commit}/${encoded}`;
    // Compressed bodies have other lengths and no ranges.
    const headers = { "Accept-Encoding": "identity", ...defined({ Range: range }) };
    return this.#request(url, path, headers, signal);
  }

  get #api(): string {
    return `${this.#access.endpoint}/api/models/${this.#access.id}`;
  }

  async #json(url: string, what: string, retries?: number): Promise<{ json: unknown; next: string | undefined }> {
    const { patience, id, endpoint, timeout } = this.#access;
    return patience.retry(
      async () => {
        const { response } = await this.#request(url, what, { Accept: "application/json" }, patience.signal);
        const label = `${id}: ${what}: the answer of ${endpoint}`;
        const text = await limitedText(response, label, timeout);
        let json: unknown;
        try {
          json = parseJson(text, label);
        } catch (cause) {
          throw new HubError((cause as Error).message, { cause });
        }
        return { json, next: nextQuery(response.headers.get("Link"), url) };
      },
      { retries },
    );
  }

  /** Follows redirects itself: fetch has its own rules for sending the token along, and hides the responses in between. */
  async #request(
    address: string,
    what: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<FileResponse> {
    const { endpoint, token, id } = this.#access;
    const send = await proxiedFetch();
    const home = new URL(endpoint).origin;
    let url = new URL(address);
    let linked = new Headers();
    for (let hops = 0; hops <= maxRedirects; hops++) {
      const own: Record<string, string> =
        url.origin === home && token !== undefined ? { Authorization: `Bearer ${token}` } : {};
      const response = await this.#send(send, url, { ...headers, ...own }, signal);
      if (response.ok) return { response, linked: hops === 0 ? response.headers : linked };
      await response.body?.cancel().catch(() => undefined);
      const location = response.headers.get("Location");
      if (response.status < 300 || response.status > 399 || location === null) throw this.#failure(response, what);
      // The Hub puts a file's hash and size into the headers of the redirect.
      if (url.origin === home) linked = response.headers;
      const next = URL.canParse(location, url) ? new URL(location, url) : undefined;
      if (!next || !/^https?:$/.test(next.protocol) || (url.protocol === "https:" && next.protocol === "http:")) {
        throw new HubError(`${id}: ${what}: ${url.origin} leads to an address that is not followed (expected https).`);
      }
      url = next;
    }
    throw new HubError(`${id}: ${what}: ${endpoint} leads on more than ${maxRedirects} times.`);
  }

  async #send(send: typeof fetch, url: URL, headers: Record<string, string>, signal?: AbortSignal): Promise<Response> {
    const { endpoint, id, timeout } = this.#access;
    const silent = new AbortController();
    const timer = setTimeout(() => silent.abort(new Error(`no answer within ${timeout / 1000} seconds`)), timeout);
    try {
      const both = signal ? AbortSignal.any([signal, silent.signal]) : silent.signal;
      return await send(url.href, { headers, redirect: "manual", signal: both });
    } catch (cause) {
      signal?.throwIfAborted();
      // fetch only says "fetch failed". The reason is in its cause; if several addresses failed, only as a code.
      const reason = (cause as Error).cause as NodeJS.ErrnoException | undefined;
      const detail = reason?.message || reason?.code || (cause as Error).message;
      const from = url.origin === new URL(endpoint).origin ? endpoint : url.origin;
      throw new TransientHubError(
        `${id}: ${from} cannot be reached${send === fetch ? "" : " through the environment's proxy"} (${detail}). Check the network; models that are in the cache can be used ` +
          "without it.",
        { cause },
      );
    } finally {
      clearTimeout(timer);
    }
  }

  /** The Hub also answers 401 for repositories that do not exist, so as not to reveal which private ones do. */
  #failure({ status, headers }: Response, what: string): HubError {
    const { id, endpoint, token } = this.#access;
    const where = `${id}: ${what}: HTTP ${status} from ${endpoint}`;
    if (status === 401 || status === 403) {
      const how = token
        ? "the access token does not open it"
        : "set HF_TOKEN to an access token of an account that may read it";
      return new HubError(
        `${where}: the repository does not exist, is private, or is gated. Check the name; accept its terms at ` +
          `${endpoint}/${id}; ${how}.`,
      );
    }
    if (status === 404) return new HubError(`${where}: there is no such repository, revision or file.`);
    if (status === 429) {
      return new TransientHubError(`${where}: too many requests.`, { wait: waitAsked(headers) });
    }
    if (status >= 500 || status === 408 || status === 416) {
      const wait = status === 503 ? waitAsked(headers) : undefined;
      return new TransientHubError(`${where}: the server cannot answer now; try again later.`, { wait });
    }
    return new HubError(`${where}.`);
  }
}

export interface FileResponse {
  readonly response: Response;
  /** The headers of the Hub's own response, before any redirect to its storage. */
  readonly linked: Headers;
}

/** The query of the link to the next page; undefined on the last. */
function nextQuery(link: string | null, page: string): string | undefined {
  const target = /<([^>]*)>\s*;[^,]*\brel="?next"?/.exec(link ?? "")?.[1];
  return target !== undefined && URL.canParse(target, page) ? new URL(target, page).search : undefined;
}

async function limitedText(response: Response, label: string, timeout: number): Promise<string> {
  const deadline = Date.now() + 2 * timeout;
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of bodyOf(response, label, timeout)) {
    size += chunk.length;
    if (size > maxBody) throw new HubError(`${label} has more than ${maxBody} bytes (16 MiB), the limit here.`);
    if (Date.now() > deadline) throw new TransientHubError(`${label} took more than ${(2 * timeout) / 1000} seconds.`);
    parts.push(chunk);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** A body's bytes as they arrive. Throws TransientHubError if the connection breaks or is silent for `timeout` ms. */
export async function* bodyOf(response: Response, label: string, timeout: number): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  try {
    for (;;) {
      const read = await within(timeout, reader?.read()).catch((cause: Error) => {
        throw new TransientHubError(`${label}: the connection broke off: ${cause.message}; run it again.`, { cause });
      });
      if (!read || read.done) return;
      yield read.value;
    }
  } finally {
    await reader?.cancel().catch(() => undefined);
  }
}

async function within<T>(milliseconds: number, work: Promise<T> | undefined): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing came for ${milliseconds / 1000} seconds`)), milliseconds);
  });
  try {
    return await Promise.race([work, silence]);
  } finally {
    clearTimeout(timer);
  }
}
