import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { add, cast, gather, matmul, mul } from "../../src/graph/operators.ts";
import { input, type ValueType, weight } from "../../src/graph/value.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Session } from "../../src/runtime/runtime.ts";
import { floatTensor, int64Tensor } from "../../src/tensor.ts";
import { random, randomTensor } from "../support/gradient-error.ts";

describe("a session", () => {
  let session: Session;
  beforeAll(async () => {
    const x = input("x", ["frames", 2]);
    session = await nodeRuntime.compile(toOnnx({ doubled: mul(x, 2), sum: add(x, input("y", [2])) }));
  });
  afterAll(() => session.release());
  const y = floatTensor([2], Float32Array.of(100, 200));

  it("names its inputs and outputs", () => {
    expect(session.inputNames).toEqual(["x", "y"]);
    expect(session.outputNames).toEqual(["doubled", "sum"]);
  });

  it("writes into views of a buffer that we own, and nowhere else", async () => {
    const buffer = new Float32Array(10).fill(-1);
    const into = { doubled: floatTensor([2, 2], buffer.subarray(3, 7)) };
    const out = await session.run({ x: floatTensor([2, 2], Float32Array.of(1, 2, 3, 4)), y }, into);
    expect([...buffer]).toEqual([-1, -1, -1, 2, 4, 6, 8, -1, -1, -1]);
    expect(out["doubled"]).toBe(into.doubled);
    expect([...out["sum"]!.data]).toEqual([101, 202, 103, 204]);
  });

  it("reads slices of frames from views, and writes each back to its place", async () => {
    const frames = randomTensor([6, 2], random(1));
    const result = floatTensor([6, 2]);
    for (let from = 0; from < 6; from += 2) {
      const part = (data: Float32Array) => floatTensor([2, 2], data.subarray(2 * from, 2 * (from + 2)));
      await session.run({ x: part(frames.data), y }, { doubled: part(result.data) });
    }
    expect([...result.data]).toEqual(Array.from(frames.data, (value) => 2 * value));
  });

  it("may write over its own input", async () => {
    const x = floatTensor([1, 2], Float32Array.of(5, 7));
    await session.run({ x, y }, { doubled: x });
    expect([...x.data]).toEqual([10, 14]);
  });

  it("says which input is missing, and refuses tensors of the wrong shape or type", async () => {
    await expect(session.run({ x: floatTensor([1, 2]) })).rejects.toThrow(ArgumentError);
    await expect(session.run({ x: floatTensor([1, 2]) })).rejects.toThrow('"y"');
    await expect(session.run({ x: floatTensor([1, 3]), y })).rejects.toThrow(/x/);
    await expect(session.run({ x: int64Tensor([1, 2], [1, 2]), y })).rejects.toThrow(/x/);
    const small = floatTensor([1, 2]);
    await expect(session.run({ x: floatTensor([3, 2]), y }, { doubled: small })).rejects.toThrow();
  });
});

describe("weights in a file", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "halfstep-session-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  /** Values that both halves hold exactly. */
  const values = Array.from({ length: 6 }, (_, i) => (i - 2.5) / 4);
  const half = (x: number) => {
    // Exact for these: sign, exponent and the top ten bits of the fraction.
    const bits = new Uint32Array(Float32Array.of(x).buffer)[0]!;
    return ((bits >>> 16) & 0x8000) | ((((bits >>> 23) & 0xff) - 127 + 15) << 10) | ((bits >>> 13) & 0x3ff);
  };
  const stored: Partial<Record<ValueType, Uint8Array>> = {
    float32: new Uint8Array(Float32Array.from(values).buffer),
    float16: new Uint8Array(Uint16Array.from(values, half).buffer),
    bfloat16: new Uint8Array(
      Uint16Array.from(values, (x) => new Uint32Array(Float32Array.of(x).buffer)[0]! >>> 16).buffer,
    ),
  };
  const cases = (["float32", "float16", "bfloat16"] as const).flatMap((dtype) =>
    [0, 1, 3, 13, 4099].map((offset) => [dtype, offset] as const),
  );

  it.each(cases)(
    "%s at offset %i are read as they are, elementwise, in products and as tables",
    async (dtype, offset) => {
      const bytes = stored[dtype]!;
      const file = `${dtype}-${offset}.safetensors`;
      const path = join(folder, file);
      const contents = new Uint8Array(offset + bytes.length + 5).fill(0xff);
      contents.set(bytes, offset);
      await writeFile(path, contents);
      const w = cast(weight("w", [2, 3], dtype, { file, offset, length: bytes.length }), "float32");
      const outputs = {
        sum: add(w, input("zero", [])),
        product: matmul(input("x", [1, 2]), w),
        row: gather(w, input("at", [1], "int64")),
      };
      for (const prepack of [true, false]) {
        const session = await nodeRuntime.compile(toOnnx(outputs), new Map([[file, { path }]]), { prepack });
        const feeds = {
          zero: floatTensor([]),
          x: floatTensor([1, 2], Float32Array.of(1, 10)),
          at: int64Tensor([1], [1]),
        };
        const out = await session.run(feeds);
        await session.release();
        expect([...out["sum"]!.data]).toEqual(values);
        expect([...out["product"]!.data]).toEqual([0, 1, 2].map((i) => values[i]! + 10 * values[i + 3]!));
        expect([...out["row"]!.data]).toEqual(values.slice(3));
      }
    },
  );

  it("need a path, under the name that the graph has, and one folder", async () => {
    const at = (file: string) => weight(file, [1], "float32", { file, offset: 0, length: 4 });
    const one = toOnnx({ y: add(at("a.safetensors"), 1) });
    await expect(nodeRuntime.compile(one)).rejects.toThrow('"a.safetensors"');
    const path = join(folder, "b.safetensors");
    await writeFile(path, new Uint8Array(4));
    await expect(nodeRuntime.compile(one, new Map([["a.safetensors", { path }]]))).rejects.toThrow("b.safetensors");
  });

  it("that are cut off are an error, not zeros", async () => {
    const path = join(folder, "short.safetensors");
    await writeFile(path, new Uint8Array(10));
    const w = weight("w", [4], "float32", { file: "short.safetensors", offset: 0, length: 16 });
    const model = toOnnx({ y: add(w, 1) });
    await expect(nodeRuntime.compile(model, new Map([["short.safetensors", { path }]]))).rejects.toThrow();
  });
});
