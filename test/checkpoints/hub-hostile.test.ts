/** The Hub's limits and a Hub that does not behave: waits, names, redirects, endless answers, other endpoints, proxies. */
import { chmod, mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { createServer, request as httpRequest, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { downloadModel, type HubOptions } from "../../src/checkpoints/hub.ts";
import { endpointFolder } from "../../src/checkpoints/hub-cache.ts";
import { waitAsked } from "../../src/checkpoints/hub-retry.ts";
import { ArgumentError, HalfstepError, HubError } from "../../src/errors.ts";
import { FakeHub, hubVariables } from "./hub-server.ts";

const weights = "diffusion_pytorch_model.safetensors";
let hub: FakeHub;
let cacheDir: string;
const stopping: (() => unknown)[] = [];
const get = (options: HubOptions = {}) =>
  downloadModel("owner/model", { endpoint: hub.endpoint, cacheDir, retryDelay: 1, retries: 2, ...options });
const failure = (options?: HubOptions): Promise<Error> =>
  get(options).then(
    () => expect.fail("it should have failed"),
    (error: Error) => error,
  );

async function newHub(content = "weights"): Promise<FakeHub> {
  const server = new FakeHub();
  await server.start();
  stopping.push(() => server.stop());
  server.add("config.json", "{}");
  server.add(weights, content);
  return server;
}

beforeEach(async () => {
  for (const name of hubVariables) vi.stubEnv(name, "");
  cacheDir = await mkdtemp(join(tmpdir(), "halfstep-"));
  hub = await newHub();
});
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const stop of stopping.splice(0)) await stop();
  await rm(cacheDir, { recursive: true });
});

describe("a Hub that asks to wait", () => {
  it("is asked again when it says, which counts against no limit, and the caller is told", async () => {
    let until = 0;
    const early: string[] = [];
    hub.intercept = (path, _, response) => {
      if (!path.includes("/resolve/")) return false;
      if (until === 0) until = Date.now() + 2000;
      const left = until - Date.now();
      if (left <= 0) return false;
      early.push(path);
      const seconds = Math.ceil(left / 1000);
      const rateLimit = { RateLimit: `"resolvers";r=0;t=${seconds}`, "Retry-After": String(seconds) };
      hub.json(response, 429, { error: "rate limit" }, rateLimit);
      return true;
    };
    const notices: string[] = [];
    const folder = await get({ retries: 0, onNotice: (notice) => notices.push(notice) });
    expect(await folder.text(weights)).toBe("weights");
    expect(early.length).toBeLessThanOrEqual(2); // one for each of the two files that were asked for at once
    expect(notices).toEqual(["The Hub asks to wait; going on in 2 seconds."]);
  });

  it("is named by a warning of the process where nobody listens", async () => {
    let asked = 0;
    hub.intercept = (path, _, response) => {
      if (!path.includes("/revision/") || asked++ > 0) return false;
      hub.json(response, 429, {}, { "Retry-After": "1" });
      return true;
    };
    const warnings: string[] = [];
    const listen = (warning: Error) => warnings.push(warning.message);
    process.on("warning", listen);
    await get();
    process.off("warning", listen);
    expect(warnings).toEqual(["The Hub asks to wait; going on in 1 second."]);
  });

  it("is not waited for longer than is sensible, nor for ever", async () => {
    hub.intercept = (_, __, response) => {
      hub.json(response, 429, {}, { "Retry-After": "7200" });
      return true;
    };
    const error = await failure();
    expect(error).toBeInstanceOf(HubError);
    expect(error.message).toMatch(/HTTP 429 .*asks to wait 120 minutes, until .*at most 15 minutes are waited/);
    expect(hub.log.length).toBe(1);
  });

  it("can be left", async () => {
    hub.intercept = (_, __, response) => {
      hub.json(response, 429, {}, { "Retry-After": "60" });
      return true;
    };
    const abort = new AbortController();
    const onNotice = () => abort.abort(new Error("Ctrl-C"));
    expect((await failure({ signal: abort.signal, onNotice })).message).toBe("Ctrl-C");
  });

  // RFC 9110 (seconds, dates); draft-ietf-httpapi-ratelimit-headers 10, 7 and 3
  it.each([
    [{ "Retry-After": "25" }, 25_000],
    [{ "Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT" }, 90_000],
    [{ RateLimit: '"resolvers";r=0;t=300' }, 300_000],
    [{ RateLimit: "limit=100, remaining=0, reset=7" }, 7000],
    [{ "RateLimit-Reset": "9", "Retry-After": "3" }, 9000],
    [{ "Retry-After": "0" }, undefined],
    [{ "Retry-After": "soon" }, undefined],
    [{ RateLimit: '"resolvers";r=0' }, undefined],
    [{}, undefined],
  ])("%j is %s ms", (headers, wait) => {
    expect(waitAsked(new Headers(headers as Record<string, string>), 10_000)).toBe(wait);
  });
});

describe("the two calls of the API", () => {
  it("are repeated as downloads are", async () => {
    const failures = new Map<string, number>();
    hub.intercept = (path, request, response) => {
      const failed = failures.get(path) ?? 0;
      if (!path.startsWith("/api/") || failed === 2) return false;
      failures.set(path, failed + 1);
      if (failed === 0) request.socket.destroy();
      else response.writeHead(503).end();
      return true;
    };
    expect(await (await get()).text(weights)).toBe("weights");
    expect([...failures.values()]).toEqual([2, 2]);
  });

  it("are limited in bytes, depth, pages and time", async () => {
    const answer = (path: string, body: string, headers: Record<string, string> = {}) => {
      hub.intercept = (asked, _, response) => {
        if (!asked.includes(path)) return false;
        response.writeHead(200, { "Content-Type": "application/json", ...headers }).end(body);
        return true;
      };
    };
    answer("/revision/", `"${"x".repeat(2 ** 24)}"`);
    expect((await failure()).message).toMatch(/more than 16777216 bytes/);
    answer("/revision/", "[".repeat(1e5));
    expect((await failure()).message).toMatch(/nested more than 64 deep/);
    answer("/tree/", "[]", { Link: `<${hub.endpoint}/x?cursor=again>; rel="next"` });
    expect((await failure()).message).toMatch(/its list of files goes on beyond 100000 files or 200 pages/);
    answer("/tree/", JSON.stringify({ not: "a list" }));
    expect((await failure()).message).toMatch(/sent no list of files; is it a Hub/);
    hub.intercept = (path) => path.includes("/revision/"); // never answers
    expect((await failure({ timeout: 50, retries: 1 })).message).toMatch(/no answer within 0.05 seconds/);
    hub.intercept = (path, _, response) => {
      if (!path.includes("/tree/")) return false;
      response.writeHead(200).write("["); // and never ends
      return true;
    };
    expect((await failure({ timeout: 50, retries: 1 })).message).toMatch(/nothing came for 0.05 seconds/);
  });

  it("list what has no usable name, size or hash, which is skipped unless it is needed", async () => {
    hub.add("samples/step 100: a cat.txt", "x"); // as trainers name them
    hub.add("long/" + "x".repeat(300), "x");
    const folder = await get();
    expect((await readdir(folder.path)).sort()).toEqual(["config.json", weights]);
    expect((await failure({ files: ["samples/step 100: a cat.txt"] })).message).toMatch(
      /"samples\/step 100: a cat.txt" is needed, but is not a path .* that can be stored/,
    );
  });
});

describe("answers that are anything", () => {
  const odd = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom("../x", "/etc/x", "a:b", "config.json", "f".repeat(40), 2, -1, 1e300),
  );
  const entry = fc.record(
    { type: fc.constantFrom("file", "directory", 1), path: odd, size: odd, oid: odd, lfs: odd },
    { requiredKeys: ["type"] },
  );
  const listing = fc.oneof(fc.jsonValue(), fc.array(fc.oneof(entry, odd)));
  const header = fc.constantFrom(undefined, "", '<x>; rel="next"', "<http://[>; rel=next", "<?a=1>;rel=next", ",;<>");

  it("give a typed error or what is right, and nothing outside the cache", async () => {
    const commit = fc.oneof(fc.constant({ sha: hub.commit }), fc.record({ sha: odd }), fc.jsonValue());
    const run = async (revision: unknown, tree: unknown, link: string | undefined, status: number) => {
      let pages = 0;
      hub.intercept = (path, _, response) => {
        const isTree = path.includes("/tree/");
        if (!path.startsWith("/api/")) return false;
        hub.json(response, isTree ? status : 200, isTree ? tree : revision, link && pages++ < 3 ? { Link: link } : {});
        return true;
      };
      const error = await get({ retries: 0 }).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      if (error !== undefined) expect(error).toBeInstanceOf(HalfstepError);
      const files = await readdir(cacheDir, { recursive: true });
      expect(files.filter((name) => /(^|\/)(x|a:b)$/.test(name))).toEqual([]);
    };
    const statuses = fc.constantFrom(200, 200, 200, 204, 304, 400, 404, 500);
    await fc.assert(fc.asyncProperty(commit, listing, header, statuses, run), { numRuns: 150 });
  });
});

describe("without network", () => {
  it("what is in the cache is used after one more try, and somebody who waits is told", async () => {
    const { path } = await get();
    hub.log.length = 0;
    hub.intercept = (_, request) => Boolean(request.socket.destroy());
    const notices: string[] = [];
    expect((await get({ retries: 5, onNotice: (notice) => notices.push(notice) })).path).toBe(path);
    expect(hub.log.length).toBe(2);
    expect(notices.length).toBe(1);
    expect(notices[0]).toMatch(/cannot be reached .* Trying again\.$/);
  });

  it("and so it is when the Hub asks for too long a wait", async () => {
    const { path } = await get();
    hub.intercept = (_, __, response) => {
      hub.json(response, 429, {}, { "Retry-After": "7200" });
      return true;
    };
    expect((await get()).path).toBe(path);
  });

  it("a pause before the next try ends with the signal's reason", async () => {
    hub.status = 503;
    const abort = new AbortController();
    const onNotice = () => setTimeout(() => abort.abort(new Error("Ctrl-C")), 20);
    expect((await failure({ signal: abort.signal, onNotice, retryDelay: 60_000 })).message).toBe("Ctrl-C");
  });
});

describe("options", () => {
  it.each([
    [{ ofline: true }, /downloadModel has no option "ofline". Did you mean "offline"/],
    [{ retries: -1 }, /retries must be a whole number/],
    [{ timeout: Number.NaN }, /timeout must be a number/],
    [{ files: "a" }, /files must be a list/],
    [{ revision: "a b" }, /"a b" is not a revision/],
  ])("%j is refused before anything is asked", async (options, message) => {
    const error = await failure(options as HubOptions);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).toMatch(message);
    expect(hub.log).toEqual([]);
  });

  it("a token that is no text is refused without being shown", async () => {
    const error = await failure({ token: 12345678 as unknown as string });
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).not.toContain("12345678");
  });
});

describe("a file that goes on without end or stops", () => {
  it("is a broken connection after a while of silence", async () => {
    let times = 0;
    hub.intercept = (path, request, response) => {
      if (!path.endsWith("/config.json") || times++ > 0) return false;
      response.writeHead(200, { ETag: `"${hub.oid("config.json")}"`, "Content-Length": "2" }).write("{");
      request.on("close", () => undefined);
      return true;
    };
    expect(await (await get({ timeout: 100 })).text("config.json")).toBe("{}");
    expect(times).toBe(2);
  });
});

describe("the token", () => {
  it.each(["hf_a\n", "hf_a\r\nX: y", "hf_a b", "hf_\u00e9", "hf_a\0"])(
    "is refused without being shown: %j",
    async (token) => {
      const error = await failure({ token });
      expect(error).toBeInstanceOf(ArgumentError);
      expect(error.message).toMatch(/HF_TOKEN\) has a line break, a space or another character/);
      expect(`${error.message}${error.stack}`).not.toContain(token.slice(0, 4));
      expect(hub.log).toEqual([]);
    },
  );

  it("goes to the endpoint alone: not along a Link, nor along a redirect of the API or of a file", async () => {
    const seen: (string | undefined)[] = [];
    const other = createServer((request, response) => {
      seen.push(request.headers.authorization);
      response.setHeader("Content-Type", "application/json");
      response.end(request.url?.includes("/config") ? "{}" : JSON.stringify({ sha: hub.commit }));
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    stopping.push(() => new Promise((resolve) => other.close(resolve)));
    const elsewhere = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
    hub.token = "hf_secret";
    hub.intercept = (path, request, response) => {
      expect(request.headers.authorization).toBe("Bearer hf_secret");
      if (path.includes("/revision/") || path.endsWith("/config.json")) {
        response.writeHead(302, { Location: `${elsewhere}/${path.endsWith(".json") ? "config" : ""}` }).end();
        return true;
      }
      const cursor = new URL(request.url!, hub.endpoint).searchParams.get("cursor");
      if (!path.includes("/tree/") || cursor === "2") return false;
      const first = [{ type: "file", path: "config.json", size: 2, oid: hub.oid("config.json") }];
      hub.json(response, 200, first, { Link: `<${elsewhere}/tree?cursor=2>; rel="next"` });
      return true;
    };
    hub.files.delete(weights);
    hub.add("a.txt", "");
    hub.add("b.txt", "");
    hub.add("c.txt", "");
    await get({ token: "hf_secret" });
    expect(seen).toEqual([undefined, undefined]);
    expect(hub.log.filter((line) => line.includes("/tree/")).length).toBeGreaterThan(1);
  });

  it("does not go around in redirects, and not to other protocols", async () => {
    const lead = (location: string) => {
      hub.intercept = (_, __, response) => {
        response.writeHead(302, { Location: location }).end();
        return true;
      };
    };
    lead("/api/models/owner/model/revision/main");
    expect((await failure()).message).toMatch(/leads on more than 8 times/);
    for (const location of ["file:///etc/passwd", "data:,x", "http://["]) {
      lead(location);
      expect((await failure()).message).toMatch(/leads to an address that is not followed/);
    }
  });

  it.each(["ftp://x", "x", "https://user:word@host", "https://host/?a"])("endpoint %s is refused", async (endpoint) => {
    const error = await failure({ endpoint });
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).not.toContain("word");
  });
});

describe("the cache", () => {
  const blob = (name: string) =>
    join(cacheDir, "hub", endpointFolder(hub.endpoint), "owner--model/blobs", hub.oid(name));

  it("of one endpoint is not another's, though both serve the same commit", async () => {
    const evil = await newHub();
    evil.add("config.json", '{"evil":true}');
    hub.add("config.json", '{"good":true}');
    await get({ endpoint: evil.endpoint });
    expect(await (await get({ revision: hub.commit })).json("config.json")).toEqual({ good: true });
    expect(await (await get()).json("config.json")).toEqual({ good: true });
    expect(await (await get({ endpoint: evil.endpoint })).json("config.json")).toEqual({ evil: true });
    const another = { endpoint: (await newHub()).endpoint, offline: true };
    expect((await failure(another)).message).toMatch(/is not in the cache/);
  });

  it("is believed by content: what has changed at the same size is fetched again, or refused offline", async () => {
    const folder = await get();
    const path = join(folder.path, weights);
    await rm(path); // else the blob, of which it is a hard link, would change too
    await writeFile(path, "w3ights");
    hub.log.length = 0;
    expect(await (await get()).text(weights)).toBe("weights");
    expect(hub.bodies(weights)).toBe(0); // the blob was still right
    await writeFile(blob(weights), "w3ights"); // both
    expect((await failure({ offline: true })).message).toMatch(/is not in the cache, and HF_HUB_OFFLINE/);
    expect(await (await get()).text(weights)).toBe("weights");
    expect(hub.bodies(weights)).toBe(1);
  });

  it("of an older version is taken over where its content is right", async () => {
    const old = join(cacheDir, "hub/owner--model/blobs");
    await mkdir(old, { recursive: true });
    await writeFile(join(old, hub.oid(weights)), "weights");
    await writeFile(join(old, hub.oid("config.json")), "[]"); // right in size alone
    await mkdir(join(cacheDir, "hub/owner--model/refs"));
    await writeFile(join(cacheDir, "hub/owner--model/refs/main"), hub.commit);
    // Of which endpoint it is is not known
    expect((await failure({ offline: true })).message).toMatch(/is not in the cache .*version 0.1 has files of it/);
    const folder = await get();
    expect([await folder.text(weights), await folder.text("config.json")]).toEqual(["weights", "{}"]);
    expect([hub.bodies(weights), hub.bodies("config.json")]).toEqual([0, 1]);
    expect((await stat(join(old, hub.oid(weights)))).nlink).toBe(3); // not copied
  });

  it("that is damaged is as good as none", async () => {
    await get();
    const at = join(cacheDir, "hub", endpointFolder(hub.endpoint), "owner--model");
    for (const listing of ["", "{}", "[[[", '{"files":[null]}', '{"files":[{"path":"../x","size":1,"oid":"a"}]}']) {
      await writeFile(join(at, "listings", `${hub.commit}.json`), listing);
      expect((await failure({ offline: true })).message).toMatch(/is not in the cache/);
    }
    await get();
    await writeFile(join(at, "refs/main"), "../../../etc");
    expect((await failure({ offline: true })).message).toMatch(/is not in the cache/);
  });

  it("that can only be read is used where it is whole, and named where it is not", async () => {
    const { path } = await get();
    await asReader(cacheDir, async () => {
      expect((await get()).path).toBe(path);
      expect((await get({ revision: hub.commit, offline: true })).path).toBe(path);
      expect(await (await get()).text(weights)).toBe("weights");
      hub.add("README.md", "new");
      hub.commit = "d".repeat(40); // the branch has moved on
      const notices: string[] = [];
      const error = await failure({ files: ["README.md"] });
      expect(error).toBeInstanceOf(HubError);
      expect(error.message).toMatch(
        /owner\/model\/README.md: is not in the cache .* and cannot be put there .*HALFSTEP_CACHE/,
      );
      expect((await get({ onNotice: (notice) => notices.push(notice) })).path).toBe(path);
      expect(notices.join()).toMatch(/cannot be put there .* The older a{40} is used/);
    });
  });

  it("does not read what it has checked: a file that was written when it was checked", async () => {
    const folder = await get();
    const path = join(folder.path, weights);
    const { mtime } = await stat(path);
    expect(mtime.getTime() % 1000).toBe(0); // which archives keep
    // Same size and time: this is what is not noticed, and why nothing else may set that time.
    await writeFile(path, "w3ights");
    await utimes(path, mtime, mtime);
    expect(await (await get()).text(weights)).toBe("w3ights");
  });
});

/** Runs `work` as one who cannot write into the folder: another user if this one may write anywhere. */
async function asReader(folder: string, work: () => Promise<void>): Promise<void> {
  if (process.geteuid?.() === 0) {
    await chmod(folder, 0o755);
    process.seteuid!(65534);
    try {
      return await work();
    } finally {
      process.seteuid!(0);
    }
  }
  const folders = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((entry) =>
    entry.isDirectory(),
  );
  const paths = [folder, ...folders.map((entry) => join(entry.parentPath, entry.name))];
  for (const path of paths) await chmod(path, 0o555);
  try {
    await work();
  } finally {
    for (const path of paths) await chmod(path, 0o755);
  }
}

describe("proxies of the environment", () => {
  /** A proxy that knows tunnels and plain requests, and notes both. */
  async function proxy(): Promise<{ address: string; log: string[] }> {
    const log: string[] = [];
    const server: Server = createServer((incoming, outgoing) => {
      log.push(`${incoming.method} ${incoming.url} ${incoming.headers["proxy-authorization"] ?? ""}`);
      const { hostname, port, pathname, search } = new URL(incoming.url!);
      const options = { hostname, port, path: pathname + search, headers: incoming.headers };
      incoming.pipe(
        httpRequest(options, (answer) => {
          outgoing.writeHead(answer.statusCode!, answer.headers);
          answer.pipe(outgoing);
        }),
      );
    });
    server.on("connect", (request, socket) => {
      log.push(`CONNECT ${request.url} ${request.headers["proxy-authorization"] ?? ""}`);
      const [host, port] = request.url!.split(":");
      const through = connect(Number(port), host!, () => {
        socket.write("HTTP/1.1 200 OK\r\n\r\n");
        through.pipe(socket).pipe(through);
      });
      for (const end of [through, socket]) end.on("error", () => end.destroy());
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    stopping.push(() => {
      server.closeAllConnections();
      server.close();
    });
    return { address: `127.0.0.1:${(server.address() as AddressInfo).port}`, log };
  }

  it.each(["HTTP_PROXY", "http_proxy", "ALL_PROXY"])("%s is gone through", async (name) => {
    const { address, log } = await proxy();
    vi.stubEnv(name, `http://user:word@${address}`);
    expect(await (await get()).text(weights)).toBe("weights");
    expect(log.length).toBeGreaterThan(0);
    const basic = `Basic ${Buffer.from("user:word").toString("base64")}`;
    for (const line of log) expect(line).toContain(basic);
    expect(log[0]).toContain(new URL(hub.endpoint).host);
  });

  it("NO_PROXY is gone around", async () => {
    const { address, log } = await proxy();
    vi.stubEnv("HTTP_PROXY", `http://${address}`);
    vi.stubEnv("NO_PROXY", "example.com,127.0.0.1");
    await get();
    expect(log).toEqual([]);
  });

  it("a proxy that cannot be used is named without its password", async () => {
    vi.stubEnv("HTTP_PROXY", "socks5://user:word@127.0.0.1:1");
    const refused = await failure();
    expect(refused).toBeInstanceOf(ArgumentError);
    expect(refused.message).toMatch(/HTTP_PROXY.*no http/);
    vi.stubEnv("HTTP_PROXY", "http://user:word@127.0.0.1:9");
    const unreachable = await failure({ retries: 0 });
    expect(unreachable).toBeInstanceOf(HubError);
    expect(unreachable.message).toMatch(/cannot be reached through the environment's proxy \(/);
    for (const { message, stack } of [refused, unreachable]) expect(`${message}${stack}`).not.toContain("word");
  });
});
