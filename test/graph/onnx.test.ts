import { fromBinary } from "@bufbuild/protobuf";
import * as onnx from "onnx-buf";
import { describe, expect, it } from "vitest";
import { HalfstepError } from "../../src/errors.ts";
import { gradients } from "../../src/graph/gradient.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { add, cast, gelu, layerNorm, mul, neg, split } from "../../src/graph/operators.ts";
import { input, type Value, weight } from "../../src/graph/value.ts";
import { sumAll } from "../../src/graph/vjp.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { floatTensor } from "../../src/tensor.ts";
import { evaluate } from "../support/gradient-error.ts";

const parse = (outputs: Readonly<Record<string, Value>>) => fromBinary(onnx.ModelProtoSchema, toOnnx(outputs).bytes);
const two = floatTensor([2], Float32Array.of(1, 2));

describe("a serialised graph", () => {
  it("reads back: operators, attributes, types, named dimensions", () => {
    const { graph, opsetImport, irVersion } = parse({ y: gelu(mul(input("x", ["batch", 3]), 2), "tanh") });
    expect(graph!.node.map(({ opType }) => opType)).toEqual(["Mul", "Gelu", "Identity"]);
    expect(new TextDecoder().decode(graph!.node[1]!.attribute[0]!.s)).toBe("tanh");
    expect(opsetImport.map(({ domain, version }) => [domain, version])).toEqual([
      ["", 20n],
      ["com.microsoft", 1n],
    ]);
    expect(irVersion).toBe(10n);
    const type = graph!.input[0]!.type!.value;
    if (type.case !== "tensorType") throw new Error("the input has no tensor type");
    expect(type.value.shape!.dim.map(({ value }) => value.value)).toEqual(["batch", 3n]);
  });

  it("of a norm without a learned scale holds no scale, however much is normalised", () => {
    const norm = (width: number) => toOnnx({ y: layerNorm(input("x", [2, width]), null, null, 1e-5) }).bytes.length;
    expect(norm(2 ** 27)).toBeLessThan(1000);
  });

  it("has unique names, also beside inputs that are called like generated names", async () => {
    const [a, b] = [input("Mul_3", [2]), input("Identity_1", [2])];
    const outputs = { Add_5: add(mul(a, 3), neg(b)), Split_9: split(a, 2)[1]! };
    const { graph } = parse(outputs);
    const names = [...graph!.input, ...graph!.initializer].map(({ name }) => name);
    names.push(...graph!.node.flatMap(({ output }) => output));
    expect(new Set(names).size).toBe(names.length);
    const out = await evaluate(outputs, { Mul_3: two, Identity_1: two });
    expect([...out.Add_5.data, ...out.Split_9.data]).toEqual([2, 4, 2]);
  });

  it("keeps weights in their file: external data entries, and which files they are", () => {
    const at = (file: string, offset: number) => ({ file, offset, length: 12 });
    const w = weight("net.weight", [2, 3], "float16", at("a.safetensors", 12345));
    const v = weight("net.bias", [3], "float32", at("b.safetensors", 7));
    const outputs = { y: add(cast(w, "float32"), v) };
    const { graph } = parse(outputs);
    expect(graph!.initializer.map(({ name, dataType, dims }) => [name, dataType, dims])).toEqual([
      ["net.weight", 10, [2n, 3n]],
      ["net.bias", 1, [3n]],
    ]);
    const entries = graph!.initializer.map(({ externalData }) =>
      externalData.map(({ key, value }) => `${key}=${value}`),
    );
    expect(entries[0]).toEqual(["location=a.safetensors", "offset=12345", "length=12"]);
    expect(graph!.initializer.every(({ rawData }) => rawData!.length === 0)).toBe(true);
    expect(toOnnx(outputs).weightFiles).toEqual(["a.safetensors", "b.safetensors"]);
  });

  it("may have an input as an output, and one value as two outputs", async () => {
    const x = input("x", [2]);
    const y = mul(x, 2);
    const out = await evaluate({ same: x, y, again: y }, { x: two });
    expect([out.same, out.y, out.again].map(({ data }) => [...data])).toEqual([
      [1, 2],
      [2, 4],
      [2, 4],
    ]);
  });

  it("refuses two inputs, or an input and an output, of one name", () => {
    const [x, other] = [input("x", [2]), input("x", [2])];
    expect(() => toOnnx({ y: add(x, other) })).toThrow(HalfstepError);
    expect(() => toOnnx({ y: add(x, other) })).toThrow('"x"');
    expect(() => toOnnx({ x: mul(x, 2) })).toThrow('"x"');
  });

  it("leaves out what no output depends on", () => {
    const [x, unused] = [input("x", [2]), input("unused", [2])];
    mul(unused, x);
    expect(toOnnx({ y: neg(x) }).inputs.map(({ name }) => name)).toEqual(["x"]);
  });

  it("may be 10,000 nodes deep, with its gradient", async () => {
    const x = input("x", [2]);
    let y = x;
    for (let i = 0; i < 10_000; i++) y = add(y, i % 2 ? 1 : -1);
    const [dx] = gradients(sumAll(mul(y, y)), [x]);
    expect(toOnnx({ y, dx: dx! }).bytes.length).toBeGreaterThan(100_000);
    const session = await nodeRuntime.compile(toOnnx({ y, dx: dx! }));
    const out = await session.run({ x: two });
    await session.release();
    expect([...out["y"]!.data, ...out["dx"]!.data]).toEqual([1, 2, 2, 4]);
  });
});
