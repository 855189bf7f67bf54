import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import {
  classNameOf,
  componentFolder,
  isPipeline,
  parseModelIndex,
  readConfig,
  readModelIndex,
} from "../../src/checkpoints/diffusers-folder.ts";
import {
  blobSource,
  describe as describeValue,
  type Folder,
  insidePath,
  MemoryFolder,
  parseJson,
} from "../../src/checkpoints/files.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import { encodeSafetensors } from "../../src/checkpoints/safetensors-writer.ts";
import { HttpFolder, httpSource } from "../../src/checkpoints/web.ts";
import { chooseWeights } from "../../src/checkpoints/weight-names.ts";
import { checkVariant, checkWeights, openWeights, WeightFiles } from "../../src/checkpoints/weights.ts";
import { CheckpointError, HubError } from "../../src/errors.ts";
import { floatTensor, int64Tensor, type Tensor } from "../../src/tensor.ts";
import { concat, file } from "./support.ts";

/** A safetensors file with one float tensor of one element for each name. */
const weights = (values: Record<string, number>) =>
  concat(
    encodeSafetensors(
      new Map(Object.entries(values).map(([name, value]) => [name, floatTensor([1], Float32Array.of(value))])),
    ).chunks(),
  );

const folderOf = (files: Record<string, Uint8Array | string>) => new MemoryFolder("m", new Map(Object.entries(files)));

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function serve(listener: RequestListener): Promise<string> {
  const server: Server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function temporary(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "halfstep-"));
  closing.push(() => rm(path, { recursive: true }));
  return path;
}

describe("model_index.json", () => {
  it("is read as diffusers writes it", async () => {
    const folder = folderOf({
      "model_index.json": JSON.stringify({
        _class_name: "DiTPipeline",
        _diffusers_version: "0.30.3",
        id2label: { 0: "tench" },
        scheduler: ["diffusers", "DDIMScheduler"],
        text_encoder: [null, null],
        requires_safety_checker: false,
      }),
    });
    const { className, components, options } = await readModelIndex(folder);
    expect(className).toBe("DiTPipeline");
    expect([...components]).toEqual([["scheduler", { library: "diffusers", className: "DDIMScheduler" }]]);
    expect({ ...options }).toEqual({
      _diffusers_version: "0.30.3",
      id2label: { 0: "tench" },
      requires_safety_checker: false,
    });
    expect(await isPipeline(folder)).toBe(true);
  });

  it.each([
    [[], /expected a JSON object, found \[\]/],
    [{}, /_class_name is undefined/],
    [{ _class_name: "P", vae: ["diffusers", null] }, /component "vae" is \["diffusers",null\], expected \[library/],
    [{ _class_name: "P", vae: ["diffusers"] }, /component "vae"/],
    [{ _class_name: "P", "../vae": ["diffusers", "AutoencoderKL"] }, /"..\/vae" is not a component's name/],
    [{ _class_name: "P", "..": ["diffusers", "AutoencoderKL"] }, /".." is not a path inside the folder/],
  ])("%j is refused", (json, message) => {
    expect(() => parseModelIndex(json, "model_index.json")).toThrow(CheckpointError);
    expect(() => parseModelIndex(json, "model_index.json")).toThrow(message);
  });

  it("is missed where there is none", async () => {
    await expect(readModelIndex(folderOf({}))).rejects.toThrow(/m: has no model_index.json/);
  });
});

describe("a component that another pipeline has", () => {
  const index = (partsFrom: unknown) =>
    parseModelIndex({ _class_name: "P", vae: ["diffusers", "V"], _parts_from: partsFrom }, "m");

  it("is in the folder beside, on disk and on a server", async () => {
    const path = await temporary();
    for (const [model, value] of Object.entries({ own: 1, other: 2 })) {
      await mkdir(join(path, model, "vae"), { recursive: true });
      await writeFile(join(path, model, "vae", "config.json"), JSON.stringify({ value }));
    }
    const server = await serve((request, response) => {
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify({ url: request.url }));
    });
    const onDisk = new NodeFolder(join(path, "own"));
    expect(await readConfig(componentFolder(onDisk, index(undefined), "vae"))).toEqual({ value: 1 });
    expect(await readConfig(componentFolder(onDisk, index({ unet: "other" }), "vae"))).toEqual({ value: 1 });
    expect(await readConfig(componentFolder(onDisk, index({ vae: "other" }), "vae"))).toEqual({ value: 2 });
    const remote = componentFolder(new HttpFolder(`${server}/models/own/`), index({ vae: "other" }), "vae");
    expect(await readConfig(remote)).toEqual({ url: "/models/other/vae/config.json" });
  });

  it.each(["..", "../other", "a/b", "/etc", ".hidden", "", 1, null, ["other"]])("is not at %j", (other) => {
    const open = () => componentFolder(new NodeFolder("/models/own"), index({ vae: other }), "vae");
    expect(open).toThrow(CheckpointError);
    expect(open).toThrow('"vae", which is no folder beside this one');
  });

  it("is not beside a folder that lies nowhere", () => {
    expect(() => componentFolder(folderOf({}), index({ vae: "other" }), "vae")).toThrow(CheckpointError);
  });
});

describe("configurations", () => {
  it("may hold the infinities that Python writes, outside strings", () => {
    const text = '{"lambda_min_clipped": -Infinity, "a": [Infinity], "b": "-Infinity \\" Infinity"}';
    expect(parseJson(text, "x")).toEqual({ lambda_min_clipped: -Infinity, a: [Infinity], b: '-Infinity " Infinity' });
    expect(() => parseJson('{"a": Infinity', "x.json")).toThrow(/^x.json: not valid JSON/);
  });

  it("have limits in size, depth and number of values, and errors show no more than is readable", async () => {
    const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
    const keys = (count: number) => `{${Array.from({ length: count }, (_, i) => `"k${i}":0`).join(",")}}`;
    const files = new Map<string, string | Blob>([
      ["deep/config.json", nested(1e5)],
      ["just/config.json", nested(64)],
      ["wide/config.json", `[${"{},".repeat(1e6)}1]`],
      ["keys/config.json", keys(200_001)],
      ["vocab.json", keys(300_000)],
      ["large/config.json", new Blob([new Uint8Array(2 ** 24 + 1)])],
      ["strings/config.json", JSON.stringify(["x".repeat(1e6), null, 1])],
    ]);
    const folder = new MemoryFolder("m", files);
    const refused = (name: string) => expect(readConfig(folder.sub(name))).rejects;
    await refused("deep").toThrow(
      new CheckpointError("deep/config.json: its JSON is nested more than 64 deep, which is the limit here."),
    );
    await refused("just").toThrow(
      new CheckpointError("m/just/config.json: expected a JSON object, found an array of 1."),
    );
    await refused("wide").toThrow(/^wide\/config.json: its JSON has so many values .* the limit is 40\.$/);
    await refused("keys").toThrow(/^keys\/config.json: an object in its JSON has more than 200000 names/);
    expect(Object.keys((await folder.json("vocab.json")) as object).length).toBe(300_000);
    await refused("large").toThrow(/^large\/config.json: has 16777217 bytes; the limit .* is 16777216 \(16 MiB\)/);
    await refused("strings").toThrow(/found \["x{100,}\.\.\. \(\d+ characters\)\.$/);
  });

  it.each([
    [Number.NaN, "NaN"],
    [Number.NEGATIVE_INFINITY, "-Infinity"],
    [5n, "5"],
    ["a\n", '"a\\n"'],
    [undefined, "undefined"],
    [() => 1, "a function"],
    [[1, null, "a"], '[1,null,"a"]'],
    [[[1]], "an array of 1"],
    [Array(9).fill(0), "an array of 9"],
    [{ a: 1 }, "an object"],
  ])("describes %s as %s", (value, text) => expect(describeValue(value)).toBe(text));

  it("are found under the name that the component's kind has", async () => {
    const folder = folderOf({
      "scheduler/scheduler_config.json": '{"_class_name": "DDIMScheduler"}',
      "text_encoder/config.json": '{"architectures": ["T5EncoderModel"]}',
      "vae/config.json": "[1]",
      "unet/config.json": "{",
    });
    expect(classNameOf(await readConfig(folder.sub("scheduler")))).toBe("DDIMScheduler");
    expect(classNameOf(await readConfig(folder.sub("text_encoder")))).toBe("T5EncoderModel");
    expect(classNameOf({})).toBeUndefined();
    await expect(readConfig(folder.sub("vae"))).rejects.toThrow("m/vae/config.json: expected a JSON object, found [1]");
    await expect(readConfig(folder.sub("unet"))).rejects.toThrow(/^unet\/config.json: not valid JSON/);
    await expect(readConfig(folder.sub("transformer"))).rejects.toThrow(/m\/transformer: has no configuration; looked/);
    // What is there instead is named: the layout of huggingface_hub's cache, a checkpoint in one file, nothing
    const cache = folderOf({ "refs/main": "", "snapshots/abc/model_index.json": "{}" });
    await expect(readModelIndex(cache)).rejects.toThrow(
      /has no model_index.json.* give the folder .* in its folder snapshots/,
    );
    await expect(readConfig(folderOf({ "v1-5.safetensors": "" }))).rejects.toThrow(/It has "v1-5.safetensors"\.$/);
    await expect(readConfig(folderOf({}))).rejects.toThrow(/It is empty\.$/);
  });

  it("is a component alone in a folder of real files", async () => {
    const t5 = new NodeFolder("test/fixtures/t5", "t5");
    expect(classNameOf(await readConfig(t5))).toBe("T5EncoderModel");
    const found = await openWeights(t5);
    expect(found.parameters * 4).toBe(found.bytes);
    expect((await found.read("shared.weight")).shape).toEqual([120, 32]);
    expect(found.nativePath("shared.weight")).toMatch(/t5.model\.safetensors$/);
  });
});

describe("weights in a folder", () => {
  const first = async (folder: Folder, variant?: string) =>
    (await (await openWeights(folder, variant)).read("a")).data[0];

  it("are the variant that was asked for, then full precision, then fp16", async () => {
    const both = folderOf({
      "diffusion_pytorch_model.safetensors": await weights({ a: 1 }),
      "diffusion_pytorch_model.fp16.safetensors": await weights({ a: 2 }),
    });
    expect([await first(both), await first(both, "fp16"), await first(both, "bf16")]).toEqual([1, 2, 1]);
    expect(await first(folderOf({ "model.fp16.safetensors": await weights({ a: 3 }) }))).toBe(3);
  });

  it("are the only variant that is there, and are named where there are several", async () => {
    // What save_pretrained(variant="bf16") of diffusers 0.39 writes
    const single = folderOf({ "unet/diffusion_pytorch_model.bf16.safetensors": await weights({ a: 4 }) }).sub("unet");
    expect([await first(single), await first(single, "bf16"), await first(single, "fp16")]).toEqual([4, 4, 4]);
    const several = folderOf({
      "model.bf16.safetensors": await weights({ a: 5 }),
      "model.fp32.safetensors": await weights({ a: 6 }),
    });
    expect(await first(several, "fp32")).toBe(6);
    await expect(openWeights(several)).rejects.toThrow(/^m: .*variants bf16, fp32 .* \(--variant bf16\)\.$/);
  });

  it("have the variant that is asked for in one component at least", async () => {
    const folder = folderOf({ "unet/model.fp16.safetensors": "", "vae/model.safetensors": "" });
    await checkVariant(folder, ["unet", "vae", "scheduler"], "fp16");
    await expect(checkVariant(folder, ["unet", "vae"], "bf16")).rejects.toThrow(
      new CheckpointError('m: has no weights of variant "bf16"; there is "fp16", full precision (no variant).'),
    );
  });

  // Names in use since shards came: diffusers before and after 0.31, transformers
  it.each([
    ["diffusion_pytorch_model.safetensors.index.fp16.json", "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"],
    ["diffusion_pytorch_model.safetensors.fp16.index.json", "diffusion_pytorch_model-00001-of-00002.fp16.safetensors"],
    ["diffusion_pytorch_model.fp16.safetensors.index.json", "diffusion_pytorch_model.fp16-00001-of-00002.safetensors"],
    ["model.safetensors.index.fp16.json", "model.fp16-00001-of-00002.safetensors"],
    ["model.safetensors.index.json", "model-00001-of-00002.safetensors"],
  ])("may be in shards with the index %s", async (index, shard) => {
    const folder = folderOf({
      [index]: JSON.stringify({ weight_map: { a: shard } }),
      [shard]: await weights({ a: 7 }),
    });
    expect(await first(folder)).toBe(7);
    expect(await first(folder, "fp16")).toBe(7);
    const names = (await folder.list())!;
    expect(chooseWeights(names, undefined, "m")).toMatchObject({ file: index, sharded: true, shards: [shard] });
  });

  it("may be in shards", async () => {
    const folder = folderOf({
      "unet/diffusion_pytorch_model.safetensors.index.json": JSON.stringify({
        metadata: { total_size: 8 },
        weight_map: { a: "one.safetensors", b: "two.safetensors", c: "one.safetensors" },
      }),
      "unet/one.safetensors": await weights({ a: 1, c: 3 }),
      "unet/two.safetensors": await weights({ b: 2, unlisted: 4 }),
    });
    const found = await openWeights(folder.sub("unet"));
    expect([...found.entries.keys()]).toEqual(["a", "b", "c"]);
    expect(found.entries.get("b")?.file).toBe("unet/two.safetensors");
    expect([...(await found.read("b")).data, ...(await found.read("c")).data]).toEqual([2, 3]);
    await expect(found.read("unlisted")).rejects.toThrow(CheckpointError);
  });

  it.each([
    ["/etc/passwd", /not a path inside the folder/],
    ["../other.safetensors", /not a path inside the folder/],
    ["a/../../b.safetensors", /not a path inside the folder/],
    ["a\\b.safetensors", /not a path inside the folder/],
    ["C:x.safetensors", /not a path inside the folder/],
    ["a//b.safetensors", /not a path inside the folder/],
    ["", /not a path inside the folder/],
    ["absent.safetensors", /m: has no file "absent.safetensors"/],
    ["one.safetensors", /says that tensor "x" is in one.safetensors, but it is not/],
    [7, /weight_map has 7 for "x", expected a file name/],
  ])("shard path %j is refused", async (path, message) => {
    const error = await openWeights(
      folderOf({
        "model.safetensors.index.json": JSON.stringify({ weight_map: { x: path } }),
        "one.safetensors": await weights({ a: 1 }),
      }),
    ).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toMatch(message);
  });

  it("are missed with what was looked for, and pickles are named", async () => {
    await expect(openWeights(folderOf({}))).rejects.toThrow(/looked for diffusion_pytorch_model.safetensors, /);
    for (const pickle of [
      "pytorch_model.bin",
      "diffusion_pytorch_model.fp16.bin",
      "pytorch_model-00001-of-00002.bin",
      "pytorch_model.bin.index.json",
      "v1-5-pruned.ckpt",
    ]) {
      await expect(openWeights(folderOf({ [pickle]: "" }))).rejects.toThrow(
        new RegExp(`^m: has its weights only as "${pickle}": Python pickles.*not read. Convert`),
      );
    }
    await expect(openWeights(folderOf({ "optimizer.bin": "" }))).rejects.toThrow(/m: has no weights; looked for/);
    await expect(openWeights(folderOf({ "lora.safetensors": "" }))).rejects.toThrow(
      /m: has "lora.safetensors", but no weights by a name that is known; looked for/,
    );
    await expect(openWeights(folderOf({ "model-00001-of-00002.safetensors": "" }))).rejects.toThrow(
      /m: has "model-00001-of-00002.safetensors" without their index \(model.safetensors.index.json\)/,
    );
    const index = folderOf({ "model.safetensors.index.json": "{}" });
    await expect(openWeights(index)).rejects.toThrow(/weight_map: expected a JSON object, found undefined/);
  });
});

describe("checkWeights", () => {
  const context = "PixArtTransformer2DModel with out_channels 16 and patch_size 2";
  const found = async (shapes: Record<string, number[]>) => {
    const tensors = Object.entries(shapes).map(([name, shape]) => [name, floatTensor(shape)] as const);
    const all = new Map<string, Tensor>([...tensors, ["ids", int64Tensor([1], [1])]]);
    const blob = new Blob([new Uint8Array(await concat(encodeSafetensors(all).chunks()))]);
    return WeightFiles.of(await SafetensorsFile.open(blobSource("transformer/model.safetensors", blob)));
  };

  it("accepts what fits, and what is to be ignored", async () => {
    const expected = new Map([["w", [2, 3]]]);
    checkWeights(await found({ w: [2, 3] }), expected, context, (name) => name === "ids");
  });

  it("says what has another shape, in the words of the style guide", async () => {
    const weights = await found({ "proj_out.weight": [32, 11] });
    const expected = new Map(Object.entries({ "proj_out.weight": [64, 11], ids: [1] }));
    expect(() => checkWeights(weights, expected, context)).toThrow(
      new CheckpointError(
        'transformer/model.safetensors: tensor "proj_out.weight" has shape [32, 11],\n' +
          "but PixArtTransformer2DModel with out_channels 16 and patch_size 2 needs [64, 11].\n" +
          'tensor "ids" is stored as I64,\n' +
          "but PixArtTransformer2DModel with out_channels 16 and patch_size 2 needs floating-point numbers.",
      ),
    );
  });

  it("lists what is missing and what is extra, ten of each", async () => {
    const names = (prefix: string) => Array.from({ length: 12 }, (_, i) => `${prefix}${i}`);
    const weights = await found(Object.fromEntries(names("extra").map((name) => [name, [1]])));
    const expected = new Map(names("lost").map((name) => [name, [4]]));
    expect(() => checkWeights(weights, expected, "T5", (name) => name === "ids")).toThrow(
      new CheckpointError(
        'transformer/model.safetensors: 12 tensors are missing that T5 needs: "lost0" [4], "lost1" [4], "lost2" [4], ' +
          '"lost3" [4], "lost4" [4], "lost5" [4], "lost6" [4], "lost7" [4], "lost8" [4], "lost9" [4] and 2 more.\n' +
          '12 tensors are not known to T5: "extra0", "extra1", "extra10", "extra11", "extra2", "extra3", "extra4", ' +
          '"extra5", "extra6", "extra7" and 2 more.',
      ),
    );
  });
});

describe("NodeFolder", () => {
  it("reads files and links to files, and nothing outside", async () => {
    const root = await temporary();
    await mkdir(join(root, "blobs"));
    await mkdir(join(root, "model/vae"), { recursive: true });
    await writeFile(join(root, "blobs/abc"), await weights({ a: 5 }));
    await symlink(join(root, "blobs/abc"), join(root, "model/vae/model.safetensors"));
    const folder = new NodeFolder(join(root, "model"));
    expect([await folder.has("vae/model.safetensors"), await folder.has("vae"), await folder.has("vae/x")]).toEqual([
      true,
      false,
      false,
    ]);
    const source = await folder.sub("vae").source("model.safetensors");
    expect(source.name).toBe("vae/model.safetensors");
    expect(source.nativePath).toMatch(/blobs.abc$/); // where it really is
    await expect(folder.has("../blobs/abc")).rejects.toThrow(CheckpointError);
    await expect(folder.sub("vae").source("../x")).rejects.toThrow(CheckpointError);
    await expect(folder.source("vae")).rejects.toThrow(/vae: expected a file at/);
    await expect(folder.json("config.json")).rejects.toThrow(/config.json: there is no file at/);
    await expect(source.read(0, source.size + 1)).rejects.toThrow(/were asked for, but the file has/);
  });

  it("insidePath lets ordinary paths through", () => {
    for (const path of ["a", "a/b.json", ".hidden", "a..b", "..."]) expect(insidePath(path, "x")).toBe(path);
  });
});

describe("HttpFolder", () => {
  const large = file(
    { x: { dtype: "U8", shape: [5000], data_offsets: [0, 5000] } },
    Uint8Array.from({ length: 5000 }, (_, i) => i),
  );

  /** A static server; `ranges` false ignores the Range header, as simple ones do. */
  const listener =
    (ranges: boolean, log: string[] = []): RequestListener =>
    (request, response) => {
      log.push(`${request.method} ${request.headers.range ?? ""}`);
      if (request.url === "/m/page") return response.writeHead(200, { "Content-Type": "text/html" }).end("<html>");
      if (request.url === "/m/broken") return response.writeHead(503).end();
      if (request.url === "/m/empty") return response.writeHead(416, { "Content-Range": "bytes */0" }).end();
      if (request.url !== "/m/model.safetensors") return response.writeHead(404).end();
      const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "");
      if (!range || !ranges) return response.writeHead(200, { "Content-Length": large.length }).end(large);
      const part = large.subarray(Number(range[1]), Number(range[2]) + 1);
      const end = Number(range[1]) + part.length - 1;
      return response.writeHead(206, { "Content-Range": `bytes ${range[1]}-${end}/${large.length}` }).end(part);
    };

  it.each([
    ["ranges, after a first part with the header", true, 1000, ["GET bytes=0-999", "GET bytes=72-5071"]],
    ["one request, if the file is small", true, 10_000, ["GET bytes=0-9999"]],
    ["one request, if the server knows no ranges", false, 1000, ["GET bytes=0-999"]],
  ])("reads with %s", async (_, ranges, firstBytes, requests) => {
    const log: string[] = [];
    const folder = new HttpFolder(`${await serve(listener(ranges, log))}/m/`, { firstBytes });
    const found = await SafetensorsFile.open(await folder.source("model.safetensors"));
    const { data } = await found.read("x");
    expect(Buffer.compare(data as Uint8Array, large.subarray(large.length - 5000))).toBe(0);
    const start = large.length - 5000;
    expect(log).toEqual(requests.map((line) => line.replace("72-5071", `${start}-${large.length - 1}`)));
  });

  it("tells missing files from servers in trouble", async () => {
    const base = await serve(listener(true));
    const folder = new HttpFolder(`${base}/m`);
    expect(await folder.has("model.safetensors")).toBe(true);
    expect(await folder.has("config.json")).toBe(false);
    expect(await folder.has("page")).toBe(false);
    expect((await folder.source("empty")).size).toBe(0);
    await expect(folder.source("config.json")).rejects.toThrow(CheckpointError);
    await expect(folder.has("broken")).rejects.toThrow(/broken: .* answered HTTP 503/);
    await expect(new HttpFolder("http://127.0.0.1:1").has("x")).rejects.toThrow(HubError);
    const aborted = new HttpFolder(base, { signal: AbortSignal.abort(new Error("stop")) });
    await expect(aborted.has("x")).rejects.toThrow("stop");
  });

  it("reads no more than a file of its kind may have, nor than was asked for, of a server that goes on for ever", async () => {
    const base = await serve((request, response) => {
      const ranges = request.url?.includes("ranges");
      response.writeHead(ranges ? 206 : 200, ranges ? { "Content-Range": "bytes 0-99/100" } : {});
      const more = () => response.destroyed || response.write("[".repeat(1 << 20), more);
      more();
    });
    const folder = new HttpFolder(`${base}/m`);
    await expect(folder.json("config.json")).rejects.toThrow(/config.json: .* sends more than the 16777216 bytes/);
    const source = httpSource(`${base}/ranges`, "x", { firstBytes: 100 });
    await expect(source).rejects.toThrow(/x: .* sends more than the 100 bytes/);
  });

  it("notices a file that changes", async () => {
    let changed = false;
    const base = await serve((request, response) => {
      const plain = listener(!changed);
      return plain(request, response);
    });
    const folder = new HttpFolder(`${base}/m`, { firstBytes: 1000 });
    const source = await folder.source("model.safetensors");
    changed = true;
    await expect(source.read(1000, 1000)).rejects.toThrow(/was asked for 1000 of \d+ bytes and sent 0/);
    expect((await source.read(source.size, 0)).length).toBe(0);
  });
});
