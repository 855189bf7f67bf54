/** onnxruntime-web runs in Node too, which spares these tests a browser; that itself is in test/browser. */
import { describe, expect, it } from "vitest";
import { type ByteSource, Folder } from "../../src/checkpoints/files.ts";
import type { NodeFolder } from "../../src/checkpoints/node.ts";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { add, cast, mul } from "../../src/graph/operators.ts";
import { input, type ValueType, weight } from "../../src/graph/value.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { WeightLocation } from "../../src/runtime/runtime.ts";
import { configureWebRuntime, webRuntime } from "../../src/runtime/web.ts";
import { floatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

const one = { threads: 1 };

/** The same value in a file of its own, which many models may call by the same name. */
function weighted(value: number, file = "model.safetensors") {
  const w = weight("w", [1], "float32", { file, offset: 4, length: 4 });
  const bytes = new Uint8Array(Float32Array.of(-1, value).buffer);
  const locations = new Map<string, WeightLocation>([[file, { bytes: async () => bytes }]]);
  return { model: toOnnx({ y: add(input("x", [1]), w) }), locations };
}

describe("a session of onnxruntime-web", () => {
  it("reads views, and writes into views of a buffer that we own, and nowhere else", async () => {
    const session = await webRuntime.compile(toOnnx({ y: mul(input("x", ["n"]), 2) }), new Map(), one);
    const buffer = Float32Array.of(1, 2, 3, 0, 0, 0);
    const y = floatTensor([2], buffer.subarray(3, 5));
    const out = await session.run({ x: floatTensor([2], buffer.subarray(1, 3)) }, { y });
    expect([...buffer]).toEqual([1, 2, 3, 4, 6, 0]);
    expect(out["y"]).toBe(y);
    await expect(session.run({ x: floatTensor([3]) }, { y })).rejects.toThrow(ShapeError);
    await expect(session.run({})).rejects.toThrow(ArgumentError);
    await session.release();
  });

  it.each<[ValueType, number[]]>([
    ["float32", [0, 0, 0x20, 0x40]],
    ["float16", [0x00, 0x41]],
    ["bfloat16", [0x20, 0x40]],
  ])("has weights in %s at odd offsets of a file in a folder", async (dtype, stored) => {
    const file = "transformer/weights.safetensors";
    const w = cast(weight("w", [1], dtype, { file, offset: 3, length: stored.length }), "float32");
    const bytes = Uint8Array.of(255, 255, 255, ...stored, 255);
    const locations = new Map([[file, { bytes: async () => bytes }]]);
    const session = await webRuntime.compile(toOnnx({ y: add(input("x", [1]), w) }), locations, one);
    expect((await session.run({ x: floatTensor([1]) }))["y"]!.data[0]).toBe(2.5);
    await session.release();
  });

  it("keeps apart sessions that are made at the same time from files of the same name", async () => {
    const sessions = await Promise.all(
      [10, 20, 30].map((value) => {
        const { model, locations } = weighted(value);
        return webRuntime.compile(model, locations, one);
      }),
    );
    const results = await Promise.all(sessions.map((session) => session.run({ x: floatTensor([1]) })));
    expect(results.map(({ y }) => y!.data[0])).toEqual([10, 20, 30]);
    await Promise.all(sessions.map((session) => session.release()));
  });

  it("is made after one that could not be", async () => {
    const { model, locations } = weighted(10);
    const cut = new Map([["model.safetensors", { bytes: async () => new Uint8Array(6) }]]);
    const [failed, made] = await Promise.allSettled([
      webRuntime.compile(model, cut, one),
      webRuntime.compile(model, locations, one),
    ]);
    expect(failed.status).toBe("rejected");
    expect(made.status).toBe("fulfilled");
  });

  it("refuses providers and files that a browser does not have, and settings that come too late", async () => {
    const { model } = weighted(1);
    await expect(webRuntime.compile(model, new Map(), { provider: "cuda" })).rejects.toThrow(
      "there are auto, wasm, webgpu",
    );
    await expect(webRuntime.compile(model, new Map(), one)).rejects.toThrow('"model.safetensors"');
    const path = new Map([["model.safetensors", { path: "/model.safetensors" }]]);
    await expect(webRuntime.compile(model, path, one)).rejects.toThrow(ArgumentError);
    expect(() => configureWebRuntime({ wasmPaths: "/ort/" })).toThrow(ArgumentError);
  });

  it("says what it is", () => {
    expect(webRuntime.name).toBe("onnxruntime-web");
    expect(webRuntime.version).toMatch(/^1\.\d+\.\d+$/);
    expect(webRuntime.peakMemory()).toBeNull();
  });
});

/** A folder that is elsewhere, as one behind a URL is, and counts how often a whole file is read. */
class RemoteFolder extends Folder {
  readonly name = "remote";
  readonly wholeReads = new Map<string, number>();
  private readonly local: NodeFolder;

  constructor(local: NodeFolder) {
    super();
    this.local = local;
  }

  override has(path: string): Promise<boolean> {
    return this.local.has(path);
  }

  override async source(path: string): Promise<ByteSource> {
    const { nativePath: _, ...source } = await this.local.source(path);
    const read = (offset: number, length: number) => {
      if (length === source.size) this.wholeReads.set(path, (this.wholeReads.get(path) ?? 0) + 1);
      return source.read(offset, length);
    };
    return { ...source, read };
  }
}

describe("a pipeline on onnxruntime-web", () => {
  it("gives what it gives on onnxruntime-node, and reads each file of weights once", async () => {
    const local = await writeTinyPipeline(await temporaryFolder(), "pixart", { dtype: "F16" });
    const remote = new RemoteFolder(local);
    const pipes = {
      node: await TextToImagePipeline.fromFolder(local, nodeRuntime, one),
      web: await TextToImagePipeline.fromFolder(remote, webRuntime, one),
    };
    for (const size of [{}, { width: 24, height: 8 }, {}]) {
      const settings = { seed: 7, steps: 4, ...size };
      const [node, web] = [await pipes.node("a red cat", settings), await pipes.web("a red cat", settings)];
      const [expected, found] = [node.images[0]!.data, web.images[0]!.data];
      expect(compare("pixels", found, expected).maxAbs).toBeLessThanOrEqual(1);
    }
    const weights = [...remote.wholeReads].filter(([path]) => path.endsWith(".safetensors"));
    expect(weights.map(([, count]) => count)).toEqual([1, 1, 1]);
  });
});
