import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const proxies = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"];
/** Variables of the environment that would make tests another on another machine. */
export const hubVariables = [
  ...["HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HALFSTEP_CACHE"],
  ...[...proxies, ...proxies.map((name) => name.toUpperCase())],
];

/** What goes wrong with the next body of a file, once each. */
export type Fault = "cut" | "corrupt" | "long" | "overloaded" | "ignores ranges" | "stale etag";

/**
 * A server that plays the Hub on 127.0.0.1: the API for a revision and its tree (in pages), and resolve URLs, which for
 * LFS files lead to a second server that plays the storage. Requests and responses after those that
 * https://huggingface.co gives, as far as this library looks at them.
 */
export class FakeHub {
  readonly files = new Map<string, { content: Buffer; lfs: boolean }>();
  /** For each path, what goes wrong with its next bodies, in order. */
  readonly faults = new Map<string, Fault[]>();
  /** "GET /path range", of both servers. */
  readonly log: string[] = [];
  commit = "a".repeat(40);
  /** Answers this to everything, such as 401. */
  status: number | undefined;
  /** Where set, requests without it get 401. */
  token: string | undefined;
  /** Sees every request first; answers it itself if it returns true. */
  intercept: (path: string, request: IncomingMessage, response: ServerResponse) => boolean = () => false;
  /** Called when a body's first bytes have gone out; the rest follows when it resolves. */
  onBody: (path: string) => void | Promise<void> = () => undefined;
  readonly repo = "owner/model";
  private readonly hub: Server = createServer((request, response) => this.answer(request, response));
  private readonly storage: Server = createServer((request, response) => {
    // Storage gets signed URLs: a client that sends it the token leaks it.
    if (request.headers.authorization) return response.writeHead(400).end("token sent to storage");
    this.log.push(`storage ${request.headers.range ?? "all"}`);
    return this.send(decodeURIComponent(request.url!.slice(1)), request, response);
  });

  async start(): Promise<void> {
    for (const server of [this.hub, this.storage]) {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    }
  }

  async stop(): Promise<void> {
    for (const server of [this.hub, this.storage]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.hub.address() as AddressInfo).port}`;
  }

  add(path: string, content: Buffer | string, lfs = path.endsWith(".safetensors")): void {
    this.files.set(path, { content: Buffer.from(content), lfs });
  }

  oid(path: string): string {
    const { content, lfs } = this.files.get(path)!;
    const hash = lfs ? createHash("sha256") : createHash("sha1").update(`blob ${content.length}\0`);
    return hash.update(content).digest("hex");
  }

  /** How many requests there were for a file's bytes, without the one-byte probes. */
  bodies(path: string): number {
    return this.log.filter((line) => line.startsWith(`body ${path} `)).length;
  }

  private answer(request: IncomingMessage, response: ServerResponse): unknown {
    const url = new URL(request.url!, this.endpoint);
    const path = decodeURIComponent(url.pathname);
    this.log.push(`hub ${path}`);
    if (this.intercept(path, request, response)) return;
    const authorised = !this.token || request.headers.authorization === `Bearer ${this.token}`;
    if (this.status || !authorised) return this.json(response, this.status ?? 401, { error: "no" });
    const [api, tree, files] = [`/api/models/${this.repo}`, `/tree/${this.commit}`, `/${this.repo}/resolve/`];
    if (path === `${api}/revision/main` || path === `${api}/revision/${this.commit}`) {
      return this.json(response, 200, { _id: "1", id: this.repo, sha: this.commit, lastModified: "2024-01-01" });
    }
    if (path === `${api}${tree}`) return this.tree(url, response);
    if (path.startsWith(`${files}${this.commit}/`)) {
      const file = path.slice(`${files}${this.commit}/`.length);
      const found = this.files.get(file);
      if (!found) return this.json(response, 404, { error: "Entry not found" }, { "X-Error-Code": "EntryNotFound" });
      if (!found.lfs) return this.send(file, request, response);
      const { port } = this.storage.address() as AddressInfo;
      return response.writeHead(302, { Location: `http://127.0.0.1:${port}/${encodeURIComponent(file)}` }).end();
    }
    return this.json(response, 404, { error: "Repository not found" });
  }

  /** The listing, two files a page. */
  private tree(url: URL, response: ServerResponse): void {
    const all = [...this.files].map(([path, { content, lfs }]) => ({
      type: "file",
      path,
      size: content.length,
      oid: lfs ? "f".repeat(40) : this.oid(path),
      ...(lfs && { lfs: { oid: this.oid(path), size: content.length, pointerSize: 130 } }),
    }));
    const at = Number(url.searchParams.get("cursor") ?? 0);
    url.searchParams.set("cursor", String(at + 2));
    const next: Record<string, string> =
      at + 2 < all.length ? { Link: `<${this.endpoint}${url.pathname}${url.search}>; rel="next"` } : {};
    this.json(response, 200, [{ type: "directory", path: "vae", oid: "0", size: 0 }, ...all.slice(at, at + 2)], next);
  }

  private async send(path: string, request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const { content } = this.files.get(path)!;
    const probe = request.headers.range === "bytes=0-0";
    const faults = this.faults.get(path) ?? [];
    const early = faults[0] === "overloaded" || faults[0] === "stale etag";
    const fault = early || !probe ? faults.shift() : undefined;
    if (!probe) this.log.push(`body ${path} ${request.headers.range ?? "all"}`);
    if (fault === "overloaded") return response.writeHead(503).end();
    const range = fault === "ignores ranges" ? null : /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const [from, to] = range ? [Number(range[1]), Number(range[2])] : [0, content.length - 1];
    let body = Buffer.from(content.subarray(from, to + 1));
    if (fault === "corrupt") body[body.length >> 1] = body[body.length >> 1]! ^ 1;
    if (fault === "long") body = Buffer.concat([body, Buffer.alloc(10)]);
    response.writeHead(range ? 206 : 200, {
      ETag: `"${fault === "stale etag" ? "b".repeat(this.oid(path).length) : this.oid(path)}"`,
      "Content-Length": body.length,
      ...(range && { "Content-Range": `bytes ${from}-${to}/${content.length}` }),
    });
    if (probe) return response.end(body);
    const half = body.length >> 1;
    // Bytes that are still in the server's buffer when it drops the connection never arrive.
    await new Promise((resolve) => response.write(body.subarray(0, half), resolve));
    await this.onBody(path);
    if (fault === "cut") return setTimeout(() => response.destroy(), 50);
    return response.end(body.subarray(half));
  }

  json(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
    response.writeHead(status, { "Content-Type": "application/json", ...headers }).end(JSON.stringify(body));
  }
}
