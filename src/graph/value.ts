/**
 * A lazy graph of tensor operations. A Value is the output of a Node; a graph is whatever a set of values depends on,
 * so there is no builder to pass around and nothing unused is ever serialised.
 */
import { ShapeError } from "../errors.ts";
import type { DTypeArrays } from "../tensor.ts";

/** Element types a value can have; half-precision ones occur only as stored weights, behind a cast to float32. */
export type ValueType = "float32" | "float16" | "bfloat16" | "int64" | "int32" | "int8" | "bool" | "uint8";

/** ONNX's numbers for them. */
export const typeCodes: Readonly<Record<ValueType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
};

/** A dimension: a number, or a name for one that is known only when the graph runs ("batch"). */
export type Dim = number | string;

/** Integers stay plain numbers; `{ float }` marks an ONNX float attribute. */
export type Attribute = number | string | readonly number[] | { readonly float: number };

/** Where a weight's bytes lie: in a file of the checkpoint (never copied), or in memory. */
export type WeightData =
  | { readonly file: string; readonly offset: number; readonly length: number }
  | { readonly bytes: Uint8Array };

/** An operator of a graph, with its inputs and outputs. */
export interface Node {
  /** An ONNX operator, or "Input", "Constant", "Weight" for the leaves. */
  readonly op: string;
  readonly domain: "" | "com.microsoft";
  readonly inputs: readonly (Value | null)[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly outputs: readonly Value[];
  /** Input and Weight: the name. */
  readonly name?: string;
  /** Constant and Weight: the contents. */
  readonly data?: WeightData;
}

/** An output of a node: a tensor that is known by type and shape only. */
export interface Value {
  readonly dtype: ValueType;
  readonly shape: readonly Dim[];
  readonly node: Node;
}

export interface OutputType {
  dtype: ValueType;
  shape: readonly Dim[];
}

/** Appends a node; the caller has checked the inputs and worked out the output types. */
export function makeNode(
  op: string,
  inputs: readonly (Value | null)[],
  outputs: readonly OutputType[],
  attributes: Record<string, Attribute> = {},
  extra: Partial<Pick<Node, "domain" | "name" | "data">> = {},
): readonly Value[] {
  const values: Value[] = [];
  const node: Node = { op, domain: "", inputs, attributes, outputs: values, ...extra };
  for (const { dtype, shape } of outputs) values.push({ dtype, shape, node });
  return values;
}

/** The value of a node with one output. */
export function makeValue(
  op: string,
  inputs: readonly (Value | null)[],
  output: OutputType,
  attributes: Record<string, Attribute> = {},
  domain: Node["domain"] = "",
): Value {
  return makeNode(op, inputs, [output], attributes, { domain })[0]!;
}

/** A named tensor that is fed at every run. */
export function input(name: string, shape: readonly Dim[], dtype: ValueType = "float32"): Value {
  return makeNode("Input", [], [{ dtype, shape }], {}, { name })[0]!;
}

/** A tensor fixed when the graph is built. Kept inline in the model, so meant for small ones. */
export function constant(data: DTypeArrays[keyof DTypeArrays], shape: readonly number[], dtype: ValueType): Value {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return makeNode("Constant", [], [{ dtype, shape }], {}, { data: { bytes } })[0]!;
}

/** A float32 (default), int64 or int32 scalar. */
export function scalar(value: number, dtype: ValueType = "float32"): Value {
  if (dtype === "int64") return constant(BigInt64Array.of(BigInt(value)), [], dtype);
  return constant(dtype === "int32" ? Int32Array.of(value) : Float32Array.of(value), [], dtype);
}

/** A vector of int64, as shapes, axes and indices are. */
export function int64s(values: readonly number[]): Value {
  return constant(BigInt64Array.from(values, BigInt), [values.length], "int64");
}

/** A vector of float32. */
export function floats(values: readonly number[]): Value {
  return constant(Float32Array.from(values), [values.length], "float32");
}

/** A checkpoint tensor as it is stored; see Weights for the float32 value that models use. */
export function weight(name: string, shape: readonly number[], dtype: ValueType, data: WeightData): Value {
  return makeNode("Weight", [], [{ dtype, shape }], {}, { name, data })[0]!;
}

export function describe(shape: readonly Dim[]): string {
  return `[${shape.join(", ")}]`;
}

/** The shape as numbers. Throws ShapeError if a dimension is only known at run time. */
export function staticShape(value: Value, operation: string): number[] {
  return value.shape.map((dim) => {
    if (typeof dim === "number") return dim;
    throw new ShapeError(
      `${operation} needs a shape that is known when the graph is built, got ${describe(value.shape)}`,
    );
  });
}

/** The dimension of an axis (negative counts from the end), which must be known when the graph is built. */
export function staticDim(value: Value, axis: number, operation: string): number {
  const dim = value.shape.at(axis);
  if (typeof dim === "number") return dim;
  throw new ShapeError(`${operation} needs axis ${axis} of ${describe(value.shape)} to be a known number`);
}

/** Axes counted from 0. Throws ShapeError for an axis the shape does not have. */
export function normaliseAxis(axis: number, rank: number, operation: string): number {
  const result = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(result) || result < 0 || result >= rank) {
    throw new ShapeError(`${operation}: axis ${axis} does not exist in a tensor of rank ${rank}`);
  }
  return result;
}

/** Every node that the given values depend on, inputs before their readers. */
export function topologicalOrder(values: readonly Value[]): Node[] {
  const order: Node[] = [];
  const seen = new Set<Node>();
  // An explicit stack: a training graph is thousands of nodes deep.
  const stack: { node: Node; next: number }[] = [];
  for (const value of values) {
    if (!seen.has(value.node)) {
      seen.add(value.node);
      stack.push({ node: value.node, next: 0 });
    }
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      const following = top.node.inputs[top.next++];
      if (following && !seen.has(following.node)) {
        seen.add(following.node);
        stack.push({ node: following.node, next: 0 });
      } else if (top.next > top.node.inputs.length) {
        order.push(top.node);
        stack.pop();
      }
    }
  }
  return order;
}
