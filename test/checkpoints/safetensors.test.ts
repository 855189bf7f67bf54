import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fileSource } from "../../src/checkpoints/node.ts";
import { maxHeaderBytes, SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { encodeSafetensors, type FloatStorage, type LazyTensor } from "../../src/checkpoints/safetensors-writer.ts";
import { CheckpointError } from "../../src/errors.ts";
import { floatTensor, int64Tensor, type Tensor } from "../../src/tensor.ts";
import { concat, file, StrictSource } from "./support.ts";

const open = (bytes: Uint8Array) => SafetensorsFile.open(new StrictSource(bytes));
const entry = (dtype: unknown, shape: unknown, ...data_offsets: unknown[]) => ({ dtype, shape, data_offsets });

/** JSON text of arrays within one another. */
const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
const manyKeys = (count: number) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, ""]));

describe("a well-formed file", () => {
  it("is the file that the reference writer made for T5", async () => {
    const weights = await SafetensorsFile.open(await fileSource("test/fixtures/t5/model.safetensors"));
    expect(weights.metadata["format"]).toBe("pt");
    // d_model 32, d_kv 8, num_heads 4, d_ff 64, vocab_size 120 and 32 buckets: test/fixtures/t5/config.json
    const shape = (name: string) => weights.entries.get(name)?.shape;
    expect(shape("shared.weight")).toEqual([120, 32]);
    expect(shape("encoder.block.2.layer.1.DenseReluDense.wo.weight")).toEqual([32, 64]);
    expect(shape("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight")).toEqual([32, 4]);
    const io = await SafetensorsFile.open(await fileSource("test/fixtures/t5/io.safetensors"));
    const ids = await io.read("input.input_ids");
    expect(ids.dtype).toBe("int64");
    expect(Array.from(ids.data, Number).every((id) => id >= 0 && id < 120)).toBe(true);
  });

  it("reads every element type", async () => {
    const data = new Uint8Array(
      Buffer.concat(
        [
          Float64Array.of(0.1, -2),
          BigInt64Array.of(-(2n ** 63n), 2n ** 53n + 1n),
          Float32Array.of(0.1),
          Int32Array.of(-5),
          Uint16Array.of(0x3c01),
          Uint16Array.of(0xc049),
          Int16Array.of(-300),
          Int8Array.of(-3),
          Uint8Array.of(200),
          Uint8Array.of(1),
        ].map((array) => Buffer.from(array.buffer)),
      ),
    );
    const header = {
      F64: entry("F64", [2], 0, 16),
      I64: entry("I64", [2], 16, 32),
      F32: entry("F32", [], 32, 36),
      I32: entry("I32", [1], 36, 40),
      F16: entry("F16", [1], 40, 42),
      BF16: entry("BF16", [1], 42, 44),
      I16: entry("I16", [1], 44, 46),
      I8: entry("I8", [1], 46, 47),
      U8: entry("U8", [1], 47, 48),
      BOOL: entry("BOOL", [1], 48, 49),
    };
    // 0 to 7 bytes of padding: the data need not be aligned to anything
    for (let pad = 0; pad < 8; pad++) {
      const found = await open(file(JSON.stringify(header) + " ".repeat(pad), data));
      const read = async (name: string) => {
        const { dtype, data } = await found.read(name);
        return [dtype, ...data];
      };
      expect(await read("F64")).toEqual(["float32", Math.fround(0.1), -2]);
      expect(await read("I64")).toEqual(["int64", -(2n ** 63n), 2n ** 53n + 1n]);
      expect(await read("F32")).toEqual(["float32", Math.fround(0.1)]);
      expect(await read("I32")).toEqual(["int32", -5]);
      expect(await read("F16")).toEqual(["float32", 1.0009765625]);
      expect(await read("BF16")).toEqual(["float32", -3.140625]);
      expect(await read("I16")).toEqual(["int32", -300]);
      expect(await read("I8")).toEqual(["int32", -3]);
      expect(await read("U8")).toEqual(["uint8", 200]);
      expect(await read("BOOL")).toEqual(["bool", 1]);
    }
  });

  it("may be empty, have empty tensors, and names that objects treat specially", async () => {
    expect((await open(file({}))).entries.size).toBe(0);
    const empty = await open(file({ b: entry("F32", [0, 2 ** 50, 2 ** 50], 4, 4), a: entry("F32", [1], 0, 4) }, 4));
    expect((await empty.read("b")).data.length).toBe(0);
    const special = await open(
      file(
        '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
        Uint8Array.of(7, 8),
      ),
    );
    expect([...special.entries.keys()]).toEqual(["__proto__", "constructor"]);
    expect([...(await special.read("__proto__")).data]).toEqual([7]);
    expect(Object.entries((await open(file(`{"__metadata__":{"__proto__":"x"}}`))).metadata)).toEqual([
      ["__proto__", "x"],
    ]);
    await expect(special.read("toString")).rejects.toThrow('has no tensor "toString"');
  });

  it("reads a large half-precision tensor piece by piece to the same values", async () => {
    const size = (1 << 22) + 5;
    const bits = Uint16Array.from({ length: size }, (_, i) => i % 0x7c00);
    const found = await open(file({ x: entry("F16", [size], 0, 2 * size) }, new Uint8Array(bits.buffer)));
    const { data } = await found.read("x");
    expect([data[0x3c00], data[(1 << 22) - 1], data[1 << 22], data[size - 1]]).toEqual(
      [0x3c00, (1 << 22) - 1, 1 << 22, size - 1].map((i) => {
        const half = i % 0x7c00;
        return 2 ** ((half >> 10) - 15) * (1 + (half & 0x3ff) / 1024);
      }),
    );
  });
});

describe("a malformed file is a CheckpointError", () => {
  const one = entry("F32", [2, 3], 0, 24);
  it.each<[string, Uint8Array, RegExp]>([
    ["empty", new Uint8Array(0), /truncated: it has 0 bytes/],
    ["seven bytes", new Uint8Array(7), /truncated: it has 7 bytes/],
    ["header beyond the file", file({ one }, 24, 5000), /header should have 5000 bytes, but only \d+ bytes follow/],
    ["header of 2^64 - 1 bytes", file({}, 0, 2n ** 64n - 1n), /header should have 18446744073709551615 bytes/],
    ["header of no bytes", file("", 0), /does not start with "{"/],
    ["a pickle", new Uint8Array(Buffer.from("\x80\x02}q\x00(X\x04\x00")), /header should have/],
    ["not JSON", file("{]"), /header is not valid JSON/],
    ["not UTF-8", file({ one }, 24).map((byte) => (byte === 0x6f ? 0xff : byte)), /header is not valid JSON/],
    ["an array", file("[]"), /does not start with "{"/],
    ["nested without end", file('{"a":'.repeat(100_000)), /header: its JSON is nested more than 8 deep/],
    ["nested deep", file('{"a":'.repeat(1e5) + "1" + "}".repeat(1e5)), /header: its JSON is nested more than 8 deep/],
    ["nested deep in a shape", file(`{"one":{"shape":${nested(1e4)}}}`), /nested more than 8 deep/],
    ["a list of nothing", file(`{"a":[${"{},".repeat(1e6)}{}]}`), /so many values that .* about 153 MiB.* limit is 48/],
    [
      "metadata of very many keys",
      file({ __metadata__: manyKeys(6e4 + 1) }),
      /an object in its JSON has more than 60000 names/,
    ],
    ["a name twice in metadata", file('{"__metadata__":{"a":"1","\\u0061":"2"}}'), /has the name "a" more than once/],
    [
      "very many dimensions",
      file({ one: entry("F32", Array(65).fill(1), 0, 4) }, 4),
      /has 65 dimensions; the limit is 64/,
    ],
    ["line breaks where it breaks off", file("{\n\n?"), /^[^\n]*not valid JSON[^\n]*$/],
    ["a tensor that is null", file({ one: null }), /tensor "one": expected a JSON object, found null/],
    [
      "the same tensor twice",
      file(
        '{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}',
      ),
      /name "a" more than once/,
    ],
    [
      "the same member twice",
      file('{"a":{"dtype":"U8","shape":[0],"shape":[9],"data_offsets":[0,0]}}'),
      /name "shape" more than once/,
    ],
    ["an unknown member", file({ one: { ...one, stride: 1 } }, 24), /tensor "one" has an unknown member "stride"/],
    ["no dtype", file({ one: { shape: [0], data_offsets: [0, 0] } }), /has dtype undefined, expected one of F64/],
    ["an unknown dtype", file({ one: entry("FLOAT", [1], 0, 4) }, 4), /has dtype "FLOAT"/],
    ["a dtype of the object", file({ one: entry("constructor", [1], 0, 4) }, 4), /has dtype "constructor"/],
    ["fp8", file({ one: entry("F8_E4M3", [4], 0, 4) }, 4), /stored as F8_E4M3, which halfstep does not read; convert/],
    ["no shape", file({ one: { dtype: "F32", data_offsets: [0, 4] } }, 4), /has shape undefined/],
    ["a negative size", file({ one: entry("F32", [-2, -3], 0, 24) }, 24), /has shape \[-2,-3\]/],
    ["a fractional size", file({ one: entry("F32", [1.5, 4], 0, 24) }, 24), /has shape \[1.5,4\]/],
    ["a size as text", file({ one: entry("F32", ["6"], 0, 24) }, 24), /has shape \["6"\]/],
    ["an unsafe size", file({ one: entry("F32", [2 ** 53], 0, 24) }, 24), /has shape \[9007199254740992\]/],
    [
      "sizes whose product overflows",
      file({ one: entry("F32", [2 ** 32, 2 ** 32, 2 ** 32], 0, 24) }, 24),
      /has 24 bytes, which is not what shape/,
    ],
    [
      "a shape for other bytes",
      file({ one: entry("F32", [2, 2], 0, 24) }, 24),
      /has 24 bytes, which is not what shape \[2,2\] takes in F32/,
    ],
    ["no offsets", file({ one: { dtype: "F32", shape: [1] } }, 4), /has data_offsets undefined/],
    ["three offsets", file({ one: entry("F32", [1], 0, 4, 4) }, 4), /has data_offsets \[0,4,4\]/],
    ["a negative offset", file({ one: entry("F32", [1], -4, 0) }, 4), /has data_offsets \[-4,0\]/],
    ["offsets reversed", file({ one: entry("F32", [1], 4, 0) }, 4), /has data_offsets \[4,0\]/],
    [
      "an infinite offset",
      file('{"one":{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}}', 4),
      /has data_offsets \[0,Infinity\]/,
    ],
    [
      "data cut short",
      file({ one }, 23),
      /ends at byte 24 of the data, but the file has only 23 bytes of data: it is truncated/,
    ],
    ["data left over", file({ one }, 25), /tensor "one" ends at byte \d+, but the file has \d+: the bytes after it/],
    ["data without tensors", file({}, 1), /the header ends at byte 10, but the file has 11/],
    ["overlap", file({ one, two: entry("F32", [6], 20, 44) }, 44), /tensor "two" overlaps tensor "one"/],
    ["the same bytes twice", file({ one, two: one }, 24), /tensor "two" overlaps tensor "one"/],
    ["a hole", file({ one, two: entry("F32", [1], 28, 32) }, 32), /tensor "two" leaves a hole after tensor "one"/],
    ["a hole at the start", file({ one: entry("F32", [1], 4, 8) }, 8), /tensor "one" leaves a hole after the header/],
    ["metadata of numbers", file({ __metadata__: { a: 1 } }), /__metadata__ "a" is 1, expected a string/],
    ["metadata of an array", file({ __metadata__: [] }), /__metadata__: expected a JSON object, found \[\]/],
  ])("%s", async (_, bytes, message) => {
    const error = await open(bytes).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toMatch(/^unet\/model\.safetensors: /);
  });

  it("header over the limit, before any of it is read", async () => {
    const start = file("", 0, maxHeaderBytes + 1);
    const source = { name: "big", size: 2 ** 40, read: async (_: number, length: number) => start.subarray(0, length) };
    await expect(SafetensorsFile.open(source)).rejects.toThrow(/limit is 16777216/);
  });

  it("a hostile name does not make a hostile message", async () => {
    const error: Error = await open(file({ ["x".repeat(1e6)]: null })).then(
      () => new Error("opened"),
      (e) => e,
    );
    expect(error.message.length).toBeLessThan(400);
  });
});

/** Opens and reads everything; anything but a CheckpointError fails, and so does a read outside the file. */
async function survives(bytes: Uint8Array): Promise<void> {
  const source = new StrictSource(bytes);
  try {
    const found = await SafetensorsFile.open(source);
    let total = 0;
    for (const { name, shape, length } of found.entries.values()) {
      const tensor = await found.read(name);
      expect(tensor.data.length).toBe(shape.reduce((a, b) => a * b, 1));
      total += length;
    }
    expect(total).toBeLessThanOrEqual(bytes.length);
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
  }
}

const floats = fc.float32Array({ maxLength: 12 });
const tensors: fc.Arbitrary<Map<string, Tensor>> = fc
  .dictionary(
    fc.string().filter((name) => name !== "__metadata__"),
    fc.oneof(
      floats.map((data) => floatTensor([data.length, 1], data)),
      floats.filter(({ length }) => length > 0).map((data) => floatTensor([], data.slice(0, 1))),
      fc.bigInt64Array({ maxLength: 5 }).map((data) => int64Tensor([1, data.length], data)),
      fc.int32Array({ maxLength: 5 }).map((data): Tensor => ({ dtype: "int32", shape: [data.length], data })),
      fc.uint8Array({ maxLength: 5 }).map((data): Tensor => ({ dtype: "uint8", shape: [data.length], data })),
      fc.uint8Array({ max: 1, maxLength: 5 }).map((data): Tensor => ({ dtype: "bool", shape: [data.length], data })),
    ),
    { noNullPrototype: false },
  )
  .map((object) => new Map(Object.entries(object)));
const validFile = tensors.map((found) => encodeSafetensors(found)).map(({ chunks }) => concat(chunks()));

describe("any bytes whatever", () => {
  const runs = { numRuns: 300 };
  it("arbitrary", () => fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), survives), runs));

  it("an arbitrary header length before arbitrary JSON", () =>
    fc.assert(
      fc.asyncProperty(
        fc.json(),
        fc.option(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
        fc.nat(64),
        (json, length, data) => survives(file(json, data, length ?? undefined)),
      ),
      runs,
    ));

  const member = fc.oneof(
    fc.constantFrom("F32", "F16", "I64", "BOOL", "F8_E4M3", "F4"),
    fc.array(fc.oneof(fc.nat(8), fc.integer(), fc.double(), fc.constantFrom(2 ** 53, 2 ** 32)), { maxLength: 4 }),
    fc.jsonValue(),
  );
  it("arbitrary entries", () =>
    fc.assert(
      fc.asyncProperty(
        fc.dictionary(fc.string(), fc.record({ dtype: member, shape: member, data_offsets: member })),
        fc.nat(64),
        (header, data) => survives(file(header, data)),
      ),
      runs,
    ));

  it("a valid file with a byte changed, bytes cut off, added or put in", () =>
    fc.assert(
      fc.asyncProperty(
        validFile,
        fc.nat(),
        fc.uint8Array({ minLength: 1, maxLength: 9 }),
        async (making, where, extra) => {
          const valid = await making;
          const at = where % valid.length;
          const flipped = valid.slice();
          flipped[at] = flipped[at]! ^ extra[0]!;
          const before = valid.subarray(0, at);
          await survives(flipped);
          await survives(before);
          await survives(new Uint8Array([...valid, ...extra]));
          await survives(new Uint8Array([...before, ...extra, ...valid.subarray(at)]));
          await expect(open(before)).rejects.toBeInstanceOf(CheckpointError);
          await expect(open(new Uint8Array([...valid, ...extra]))).rejects.toBeInstanceOf(CheckpointError);
        },
      ),
      runs,
    ));
});

describe("writing", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "halfstep-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it("is undone by reading, bit for bit, each tensor aligned to its element size", () =>
    fc.assert(
      fc.asyncProperty(tensors, fc.dictionary(fc.string(), fc.string()), async (written, metadata) => {
        const encoded = encodeSafetensors(written, { metadata });
        const bytes = await concat(encoded.chunks());
        expect(bytes.length).toBe(encoded.size);
        const read = await open(bytes);
        expect({ ...read.metadata }).toEqual({ format: "pt", ...metadata });
        expect([...read.entries.keys()].sort()).toEqual([...written.keys()].sort());
        for (const [name, tensor] of written) {
          const { offset, length } = read.entries.get(name)!;
          if (length > 0) expect(offset % tensor.data.BYTES_PER_ELEMENT).toBe(0);
          const { dtype, shape, data } = await read.read(name);
          expect({ dtype, shape }).toEqual({ dtype: tensor.dtype, shape: tensor.shape });
          expect(Buffer.from(data.buffer, data.byteOffset, data.byteLength)).toEqual(
            Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength),
          );
        }
      }),
      { numRuns: 150 },
    ));

  it.each<FloatStorage>(["F32", "F16", "BF16"])("stores floats as %s", async (dtype) => {
    const tensor = floatTensor([2, 2], Float32Array.of(1, -0.5, 0.25, Infinity));
    const read = await open(await concat(encodeSafetensors(new Map([["x", tensor]]), { dtype }).chunks()));
    expect(read.entries.get("x")?.dtype).toBe(dtype);
    expect(await read.read("x")).toEqual(tensor);
  });

  it("gives the bytes that the reference writer gave", async () => {
    // Rewriting a file of the Python package, whose order and padding are ours too
    const path = "test/fixtures/t5/io.safetensors";
    const original = await SafetensorsFile.open(await fileSource(path));
    const all = new Map<string, Tensor>();
    for (const name of original.entries.keys()) all.set(name, await original.read(name));
    const copy = join(folder, "copy.safetensors");
    await writeSafetensors(copy, all, { metadata: original.metadata });
    const [ours, theirs] = await Promise.all([copy, path].map((name) => readFile(name)));
    expect(ours!.equals(theirs!)).toBe(true);
  });

  it("asks lazy tensors for their data one at a time, and refuses another shape than was announced", async () => {
    let live = 0;
    const lazy = (length: number): LazyTensor => ({
      dtype: "float32",
      shape: [3],
      load: async () => {
        expect(live++).toBe(0);
        return floatTensor([length]);
      },
    });
    const encoded = encodeSafetensors(
      new Map([
        ["a", lazy(3)],
        ["b", lazy(3)],
      ]),
    );
    for await (const chunk of encoded.chunks()) if (chunk.length === 12) live--;
    expect(live).toBe(0);
    await expect(concat(encodeSafetensors(new Map([["a", lazy(4)]])).chunks())).rejects.toThrow(/"a" was announced as/);
  });

  it("leaves the old file, and nothing else, when it fails", async () => {
    const path = join(folder, "weights.safetensors");
    await writeSafetensors(path, new Map([["a", floatTensor([1])]]));
    const before = await readFile(path);
    const files = await readdir(folder);
    const load = () => Promise.reject(new Error("no more"));
    const failing = new Map<string, Tensor | LazyTensor>([["a", { dtype: "float32", shape: [9], load }]]);
    await expect(writeSafetensors(path, failing)).rejects.toThrow("no more");
    expect(await readFile(path)).toEqual(before);
    expect(await readdir(folder)).toEqual(files);
  });

  it("a file that changes under the reader is an error", async () => {
    const path = join(folder, "changing.safetensors");
    await writeSafetensors(path, new Map([["a", floatTensor([4])]]));
    const found = await SafetensorsFile.open(await fileSource(path, "changing.safetensors"));
    await writeFile(path, "short");
    await expect(found.read("a")).rejects.toThrow(
      "changing.safetensors: the file has changed since it was opened; open the model again.",
    );
    await rm(path);
    await expect(found.read("a")).rejects.toThrow(/changing.safetensors: there is no file at/);
  });
});
