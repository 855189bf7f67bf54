import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
  ".json": "application/json",
};

export interface StaticServer {
  readonly url: string;
  /** `GET /path` for each request so far. */
  readonly requests: string[];
  close(): Promise<void>;
}

/**
 * Serves folders on 127.0.0.1 under prefixes such as "/models/x/", with ranges, and with the two headers that make a page
 * cross-origin isolated unless `isolated` is false.
 */
export async function serve(folders: Readonly<Record<string, string>>, isolated = true): Promise<StaticServer> {
  const requests: string[] = [];
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname);
    requests.push(`${request.method} ${path}`);
    if (isolated) {
      response.setHeader("Cross-Origin-Opener-Policy", "same-origin");
      response.setHeader("Cross-Origin-Embedder-Policy", "require-corp");
    }
    const prefix = Object.keys(folders).findLast((each) => path.startsWith(each));
    const file = prefix && join(folders[prefix]!, normalize(`/${path.slice(prefix.length)}`));
    const found = file ? await stat(file).catch(() => undefined) : undefined;
    if (!file || !found?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    const start = range ? Number(range[1]) : 0;
    const end = range ? Math.min(Number(range[2]), found.size - 1) : found.size - 1;
    if (range && start >= found.size) {
      response.writeHead(416, { "Content-Range": `bytes */${found.size}` }).end();
      return;
    }
    response.writeHead(range ? 206 : 200, {
      "Content-Type": types[extname(file)] ?? "application/octet-stream",
      "Content-Length": end - start + 1,
      "Accept-Ranges": "bytes",
      "Last-Modified": found.mtime.toUTCString(),
      // What the Cache API keeps is what is tested, not the browser's own cache.
      "Cache-Control": "no-store",
      ...(range && { "Content-Range": `bytes ${start}-${end}/${found.size}` }),
    });
    if (request.method === "HEAD") response.end();
    else createReadStream(file, { start, end }).pipe(response);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}
