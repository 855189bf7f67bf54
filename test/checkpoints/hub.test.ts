import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, realpath, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { type DownloadProgress, downloadModel, type HubOptions } from "../../src/checkpoints/hub.ts";
import { endpointFolder } from "../../src/checkpoints/hub-cache.ts";
import { selectFiles } from "../../src/checkpoints/hub-selection.ts";
import { ArgumentError, HubError } from "../../src/errors.ts";
import { FakeHub, hubVariables } from "./hub-server.ts";

const weights = "unet/diffusion_pytorch_model.safetensors";
const content = Buffer.from(Uint32Array.from({ length: 50_000 }, (_, i) => i * 2654435761).buffer);

let hub: FakeHub;
let cacheDir: string;
const get = (options: HubOptions = {}) =>
  downloadModel(hub.repo, { endpoint: hub.endpoint, cacheDir, retryDelay: 1, retries: 2, ...options });
const failure = (options?: HubOptions): Promise<Error> =>
  get(options).then(
    () => expect.fail("it should have failed"),
    (error: Error) => error,
  );
/** An address where nobody listens. */
async function nowhere(): Promise<string> {
  const gone = new FakeHub();
  await gone.start();
  const { endpoint } = gone;
  await gone.stop();
  return endpoint;
}
const blobs = () => readdir(join(cacheDir, "hub", endpointFolder(hub.endpoint), "owner--model/blobs"));

beforeEach(async () => {
  for (const name of hubVariables) vi.stubEnv(name, "");
  cacheDir = await mkdtemp(join(tmpdir(), "halfstep-"));
  hub = new FakeHub();
  await hub.start();
  const index = {
    _class_name: "P",
    unet: ["diffusers", "UNetMotionModel"],
    safety_checker: ["a", "B"],
    x: [null, null],
  };
  hub.add("model_index.json", JSON.stringify(index));
  hub.add("README.md", "# no");
  hub.add("unet/config.json", "{}");
  hub.add(weights, content);
  hub.add("unet/diffusion_pytorch_model.fp16.safetensors", "half");
  hub.add("unet/diffusion_pytorch_model.bin", "pickle");
  hub.add("safety_checker/model.safetensors", "no");
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  await rm(cacheDir, { recursive: true });
});

describe("downloadModel", () => {
  it("fetches what a pipeline needs, once, and says how far it is", async () => {
    const progress: DownloadProgress[] = [];
    const folder = await get({ onProgress: (event) => progress.push(event) });
    expect(folder.name).toBe("owner/model");
    expect((await readdir(folder.path, { recursive: true })).sort()).toEqual([
      "model_index.json",
      "unet",
      "unet/config.json",
      weights,
    ]);
    const source = await folder.source(weights);
    expect(content.equals(await source.read(0, source.size))).toBe(true);
    expect(source.nativePath?.startsWith(await realpath(folder.path))).toBe(true); // no link out of the model's folder
    const last = progress.at(-1)!;
    expect(last.loaded).toBe(last.total);
    expect(progress.every((event, i) => i === 0 || event.loaded >= progress[i - 1]!.loaded)).toBe(true);
    expect((await blobs()).length).toBe(3);

    hub.log.length = 0;
    await get();
    expect(hub.log.every((line) => line.startsWith("hub /api/"))).toBe(true);
    hub.log.length = 0;
    await get({ revision: hub.commit });
    expect(hub.log).toEqual([]); // a commit does not change
  });

  it("goes on in one call where a connection broke off", async () => {
    hub.faults.set(weights, ["cut", "overloaded", "cut"]);
    const folder = await get();
    expect(content.equals(await readFile(join(folder.path, weights)))).toBe(true);
    expect(hub.bodies(weights)).toBeGreaterThanOrEqual(3);
    const ranges = hub.log.filter((line) => line.startsWith(`body ${weights} bytes=`));
    expect(ranges.length).toBeGreaterThanOrEqual(2);
    expect(ranges.every((line) => Number(/=(\d+)-/.exec(line)![1]) > 0)).toBe(true);
    expect((await blobs()).filter((name) => name.includes("."))).toEqual([]); // no .incomplete, no .lock
  });

  it("goes on in a later call, and leaves no half-written file in between", async () => {
    hub.faults.set(weights, ["cut", "overloaded", "overloaded", "overloaded", "overloaded"]);
    expect(await failure()).toBeInstanceOf(HubError);
    const [partial] = (await blobs()).filter((name) => name.endsWith(".incomplete"));
    const { size } = await stat(join(cacheDir, "hub", endpointFolder(hub.endpoint), "owner--model/blobs", partial!));
    expect(size).toBeGreaterThan(0);
    hub.faults.clear();
    hub.log.length = 0;
    const folder = await get();
    expect(hub.log).toContain(`body ${weights} bytes=${size}-${content.length - 1}`);
    expect(content.equals(await readFile(join(folder.path, weights)))).toBe(true);
  });

  it("starts over where the server knows no ranges", async () => {
    hub.faults.set(weights, ["cut", "ignores ranges"]);
    const folder = await get();
    expect(content.equals(await readFile(join(folder.path, weights)))).toBe(true);
  });

  it.each([
    ["corrupt", /diffusion_pytorch_model.safetensors: expected content with hash [0-9a-f]{64}, found [0-9a-f]{64}/],
    ["long", /diffusion_pytorch_model.safetensors: expected 200000 bytes, but more came/],
    ["stale etag", /expected 200000 bytes with hash [0-9a-f]{64}, the server has 200000 with b{64}/],
  ] as const)("refuses a body that is %s, keeps none of it, and works when asked again", async (fault, message) => {
    hub.faults.set(weights, [fault]);
    const error = await failure();
    expect(error).toBeInstanceOf(HubError);
    expect(error.message).toMatch(message);
    expect((await blobs()).filter((name) => name.startsWith(hub.oid(weights)))).toEqual([]);
    const folder = await get();
    expect(content.equals(await readFile(join(folder.path, weights)))).toBe(true);
  });

  it("refuses what was damaged on disk before it went on", async () => {
    hub.faults.set(weights, ["cut", ...Array(4).fill("overloaded")]);
    await failure();
    hub.faults.clear();
    await writeFile(
      join(cacheDir, "hub", endpointFolder(hub.endpoint), "owner--model/blobs", `${hub.oid(weights)}.incomplete`),
      "damaged",
    );
    expect((await failure()).message).toMatch(/expected content with hash/);
    await get();
  });

  it("checks small files by git's hash", async () => {
    hub.faults.set("unet/config.json", ["corrupt"]);
    hub.add("unet/config.json", '{"a": 1}');
    expect((await failure()).message).toMatch(/unet\/config.json: expected content with hash [0-9a-f]{40}, found/);
  });

  it("says what to do about 401, 404 and no connection", async () => {
    hub.status = 401;
    expect((await failure()).message).toMatch(
      /owner\/model: revision main: HTTP 401 .* does not exist, is private, or is gated.*accept its terms at http.*\/owner\/model; set HF_TOKEN/,
    );
    expect((await failure({ token: "hf_secret" })).message).toMatch(/the access token does not open it/);
    hub.status = undefined;
    expect((await failure({ revision: "v2" })).message).toMatch(/revision v2: HTTP 404 .*no such repository, revision/);
    hub.status = 503;
    expect((await failure()).message).toMatch(/HTTP 503 .*try again later/);
    const unreachable = await failure({ endpoint: await nowhere() });
    expect(unreachable).toBeInstanceOf(HubError);
    expect(unreachable.message).toMatch(/http:\/\/127.0.0.1:\d+ cannot be reached \(.*ECONNREFUSED.*Check the network/);
  });

  it("sends the token to the Hub, not to where the Hub leads, and not into messages", async () => {
    hub.token = "hf_secret";
    expect((await failure()).message).toMatch(/HTTP 401/);
    vi.stubEnv("HF_TOKEN", "hf_secret");
    await get();
    const error = await failure({ revision: "v2" });
    expect(`${error.message} ${error.stack}`).not.toContain("hf_secret");
    await expect(get({ token: "secret" })).rejects.toThrow(ArgumentError);
  });

  it("uses the cache without network", async () => {
    expect((await failure({ offline: true })).message).toMatch(/revision main is not in the cache .*HF_HUB_OFFLINE/);
    const online = await get();
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    hub.log.length = 0;
    expect((await get()).path).toBe(online.path);
    expect((await failure({ variant: "fp16" })).message).toMatch(/fp16.safetensors: is not in the cache/);
    expect(hub.log).toEqual([]);
    vi.stubEnv("HF_HUB_OFFLINE", "");
    hub.intercept = (_, request) => Boolean(request.socket.destroy());
    expect((await get()).path).toBe(online.path);
  });

  it("follows a branch that moves, and fetches only what is new", async () => {
    const before = await get();
    hub.commit = "c".repeat(40);
    hub.add("unet/config.json", '{"new": true}');
    hub.log.length = 0;
    const after = await get();
    expect(after.path).not.toBe(before.path);
    expect(await after.json("unet/config.json")).toEqual({ new: true });
    expect(await before.json("unet/config.json")).toEqual({});
    expect([hub.bodies("unet/config.json"), hub.bodies(weights)]).toEqual([1, 0]);
  });

  it("transfers a file once for callers at the same time", async () => {
    const folders = await Promise.all([get(), get(), get()]);
    expect(new Set(folders.map(({ path }) => path)).size).toBe(1);
    expect(hub.bodies(weights)).toBe(1);
  });

  it("takes over from a process that died", async () => {
    await get({ files: ["README.md"] });
    const lock = join(cacheDir, "hub", endpointFolder(hub.endpoint), "owner--model/blobs", `${hub.oid(weights)}.lock`);
    await writeFile(lock, "elsewhere 1");
    await utimes(lock, new Date(0), new Date(0)); // not touched for long
    await get();
    await rm(join(cacheDir, "hub"), { recursive: true });
    await get({ files: ["README.md"] });
    const { pid } = spawnSync(process.execPath, ["-e", ""]);
    await writeFile(lock, `${hostname()} ${pid}`);
    await get();
  });

  it("stops when it is told to, and goes on later", async () => {
    const abort = new AbortController();
    hub.onBody = async (path) => {
      if (path !== weights || abort.signal.aborted) return;
      await new Promise((resolve) => setTimeout(resolve, 50)); // let the first half arrive
      abort.abort(new Error("Ctrl-C"));
    };
    expect((await failure({ signal: abort.signal })).message).toBe("Ctrl-C");
    expect((await blobs()).filter((name) => name.endsWith(".lock"))).toEqual([]);
    hub.log.length = 0;
    await get();
    expect(hub.log.some((line) => line.startsWith(`body ${weights} bytes=`))).toBe(true);
  });

  it("fetches what is asked for by name", async () => {
    const folder = await get({ files: ["*.md", "unet/*.json"] });
    expect((await readdir(folder.path, { recursive: true })).sort()).toEqual(["README.md", "unet", "unet/config.json"]);
    expect((await failure({ files: ["nothing"] })).message).toMatch(/has none of the files .* it has model_index.json/);
  });

  it("takes no paths out of the cache and no odd names from a hostile listing", async () => {
    for (const name of ["../../evil.json", "/evil.json", "unet/../../evil.json", "unet\\evil.json"])
      hub.add(name, "{}");
    await get();
    expect(await readdir(cacheDir)).toEqual(["hub"]);
    expect((await readdir(cacheDir, { recursive: true })).filter((name) => name.includes("evil"))).toEqual([]);
    expect((await failure({ files: ["../../evil.json"] })).message).toMatch(
      /evil.json" is needed, but is not a path inside/,
    );
    await get({ files: ["*"] });
    for (const id of ["", "../x", "a/b/c", "a/..", "/etc", "a b", "a--b/c"]) {
      await expect(downloadModel(id, { endpoint: hub.endpoint, cacheDir })).rejects.toThrow(ArgumentError);
    }
  });

  it("fetches names that a URL must escape", async () => {
    hub.add("unet/a b#c?.json", "[]");
    hub.add("unet/empty.json", "");
    const folder = await get();
    expect(await folder.json("unet/a b#c?.json")).toEqual([]);
    expect(await folder.text("unet/empty.json")).toBe("");
  });
});

describe("selectFiles", () => {
  const index = (...names: string[]) => ({
    components: new Map(names.map((name) => [name, { library: "diffusers", className: "X" }])),
  });

  it("takes one set of weights a component, tokenizers, and nothing else", () => {
    const common = ["model_index.json", "tokenizer/spiece.model", "tokenizer/tokenizer_config.json", "vae/config.json"];
    const paths = [
      ...common,
      "v1-5-pruned.safetensors",
      "vae/diffusion_pytorch_model.safetensors",
      "vae/diffusion_pytorch_model.fp16.safetensors",
      "vae/diffusion_pytorch_model.bin",
      "vae/model.onnx",
      "vae/onnx/config.json",
      "vae_decoder/model.onnx",
      "text_encoder/model-00001-of-00002.safetensors",
      "text_encoder/model-00002-of-00002.safetensors",
      "text_encoder/model.safetensors.index.json",
      "text_encoder/model.fp16-00001-of-00002.safetensors",
      "text_encoder/model.fp16-00002-of-00002.safetensors",
      "text_encoder/model.safetensors.index.fp16.json",
      "text_encoder/pytorch_model.bin.index.json",
      "text_encoder/flax_model.msgpack",
      ".gitattributes",
    ];
    const names = index("vae", "text_encoder", "tokenizer");
    expect(selectFiles(paths, names).sort()).toEqual(
      [
        ...common,
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors.index.json",
        "text_encoder/model-00001-of-00002.safetensors",
        "text_encoder/model-00002-of-00002.safetensors",
      ].sort(),
    );
    expect(selectFiles(paths, names, { variant: "fp16" }).sort()).toEqual(
      [
        ...common,
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.safetensors.index.fp16.json",
        "text_encoder/model.fp16-00001-of-00002.safetensors",
        "text_encoder/model.fp16-00002-of-00002.safetensors",
      ].sort(),
    );
    expect(selectFiles(paths, names, { components: ["tokenizer"] })).toEqual(common.slice(0, 3));
    // how older versions of diffusers named a variant's shards
    const older = paths.map((path) => path.replace(/model\.fp16(-.*)\.safetensors/, "model$1.fp16.safetensors"));
    expect(selectFiles(older, names, { variant: "fp16" })).toContain(
      "text_encoder/model-00001-of-00002.fp16.safetensors",
    );
  });

  it("takes a single component's repository as it is", () => {
    const paths = [
      "config.json",
      "diffusion_pytorch_model.fp16.safetensors",
      "diffusion_pytorch_model.safetensors",
      "a.ckpt",
    ];
    expect(selectFiles(paths, undefined)).toEqual(["config.json", "diffusion_pytorch_model.safetensors"]);
  });

  it("refuses weights that are only pickles", () => {
    const paths = ["model_index.json", "transformer/config.json", "transformer/diffusion_pytorch_model.bin"];
    expect(() => selectFiles(paths, index("transformer"))).toThrow(
      /transformer: has its weights only as "diffusion_pytorch_model.bin": Python pickles/,
    );
  });
});
