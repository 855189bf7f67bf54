/** Serialises the graph behind some values as an ONNX model. */
import { create, toBinary } from "@bufbuild/protobuf";
import * as onnx from "onnx-buf";
import { HalfstepError } from "../errors.ts";
import {
  type Attribute,
  type Dim,
  type Node,
  topologicalOrder,
  typeCodes,
  type Value,
  type ValueType,
} from "./value.ts";

/** ai.onnx operator set: the first with Gelu; every operator used here has CPU, WebAssembly and WebGPU kernels in it. */
const OPSET = 20;
const IR_VERSION = 10n;

const INT = 2;
const FLOAT = 1;
const STRING = 3;
const INTS = 7;

/** A serialised ONNX model, with what has to be known to run it. */
export interface OnnxModel {
  /** The serialised ModelProto. */
  readonly bytes: Uint8Array;
  readonly inputs: readonly { name: string; dtype: ValueType; shape: readonly Dim[] }[];
  readonly outputs: readonly { name: string; dtype: ValueType; shape: readonly Dim[] }[];
  /** Files that the weights lie in, as named in the graph; empty if all are inline. */
  readonly weightFiles: readonly string[];
}

/** An ONNX model that computes `outputs` (by name) from the inputs that they depend on. */
export function toOnnx(outputs: Readonly<Record<string, Value>>): OnnxModel {
  const order = topologicalOrder(Object.values(outputs));
  const names = nameValues(order, Object.keys(outputs));
  const nodes = order.filter(({ op }) => op !== "Input" && op !== "Constant" && op !== "Weight");
  const protos = nodes.map((node) => nodeProto(node, names));
  // Outputs get their own names through Identity, so that one value can be two outputs, or an input an output.
  for (const [name, value] of Object.entries(outputs)) {
    protos.push(create(onnx.NodeProtoSchema, { opType: "Identity", input: [names.get(value)!], output: [name] }));
  }
  const leaves = order.filter(({ op }) => op === "Constant" || op === "Weight");
  const inputs = order
    .filter(({ op }) => op === "Input")
    .map(({ outputs: [value] }) => ({ name: names.get(value!)!, dtype: value!.dtype, shape: value!.shape }));
  const described = Object.entries(outputs).map(([name, { dtype, shape }]) => ({ name, dtype, shape }));
  const model = create(onnx.ModelProtoSchema, {
    irVersion: IR_VERSION,
    producerName: "halfstep",
    opsetImport: [
      { domain: "", version: BigInt(OPSET) },
      { domain: "com.microsoft", version: 1n },
    ],
    graph: {
      name: "halfstep",
      node: protos,
      initializer: leaves.map((node) => tensorProto(node, names.get(node.outputs[0]!)!)),
      input: inputs.map(valueInfo),
      output: described.map(valueInfo),
    },
  });
  const files = leaves.flatMap(({ data }) => (data && "file" in data ? [data.file] : []));
  const bytes = toBinary(onnx.ModelProtoSchema, model);
  return { bytes, inputs, outputs: described, weightFiles: [...new Set(files)] };
}

/** Inputs and weights keep their names; everything else gets one that neither they nor the outputs have. */
function nameValues(order: readonly Node[], outputs: readonly string[]): Map<Value, string> {
  const names = new Map<Value, string>();
  const taken = new Set(outputs);
  for (const { name, op, outputs: values } of order) {
    if (!name) continue;
    if (outputs.includes(name))
      throw new HalfstepError(`an output is called "${name}", as one of the inputs or weights`);
    if (taken.has(name)) throw new HalfstepError(`two different ${op} values are called "${name}"`);
    taken.add(name);
    names.set(values[0]!, name);
  }
  let serial = 0;
  for (const { name, op, outputs: values } of order) {
    if (name) continue;
    for (const value of values) {
      do serial++;
      while (taken.has(`${op}_${serial}`));
      names.set(value, `${op}_${serial}`);
    }
  }
  return names;
}

function nodeProto(node: Node, names: ReadonlyMap<Value, string>) {
  return create(onnx.NodeProtoSchema, {
    opType: node.op,
    domain: node.domain,
    name: names.get(node.outputs[0]!)!,
    input: node.inputs.map((value) => (value ? names.get(value)! : "")),
    output: node.outputs.map((value) => names.get(value)!),
    attribute: Object.entries(node.attributes).map(([name, value]) => attributeProto(name, value)),
  });
}

function attributeProto(name: string, value: Attribute) {
  if (typeof value === "number") return create(onnx.AttributeProtoSchema, { name, type: INT, i: BigInt(value) });
  if (typeof value === "string") {
    return create(onnx.AttributeProtoSchema, { name, type: STRING, s: new TextEncoder().encode(value) });
  }
  if ("float" in value) return create(onnx.AttributeProtoSchema, { name, type: FLOAT, f: value.float });
  return create(onnx.AttributeProtoSchema, { name, type: INTS, ints: value.map(BigInt) });
}

function tensorProto(node: Node, name: string) {
  const { dtype, shape } = node.outputs[0]!;
  const base = { name, dataType: typeCodes[dtype], dims: shape.map((dim) => BigInt(dim)) };
  const data = node.data!;
  if ("bytes" in data)
    return create(onnx.TensorProtoSchema, { ...base, rawData: data.bytes as Uint8Array<ArrayBuffer> });
  return create(onnx.TensorProtoSchema, {
    ...base,
    dataLocation: onnx.TensorProto_DataLocation.EXTERNAL,
    externalData: [
      { key: "location", value: data.file },
      { key: "offset", value: String(data.offset) },
      { key: "length", value: String(data.length) },
    ],
  });
}

function valueInfo({ name, dtype, shape }: { name: string; dtype: ValueType; shape: readonly Dim[] }) {
  return create(onnx.ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: "tensorType",
        value: {
          elemType: typeCodes[dtype],
          shape: {
            dim: shape.map((dim) => ({
              value:
                typeof dim === "number"
                  ? { case: "dimValue" as const, value: BigInt(dim) }
                  : { case: "dimParam" as const, value: dim },
            })),
          },
        },
      },
    },
  });
}
