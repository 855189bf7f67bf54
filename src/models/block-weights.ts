/**
 * Weights in ggml's blocks (checkpoints/gguf/blocks.ts) as graph values: scale * quant. Their bytes are used in place. ONNX Runtime
 * separates scales and quants when a session is created, and keeps the quants in 8 bits. DequantizeLinear computes the float32
 * weights of an operator just before it runs, and they are released afterwards.
 */
import { type BlockDType, blockBytes } from "../checkpoints/gguf/blocks.ts";
import { halfToFloat } from "../checkpoints/half.ts";
import { add, cast, concat, expand, gather, mul, reshape, slice, sub } from "../graph/operators.ts";
import { constant, makeValue, type Value, type WeightData, weight } from "../graph/value.ts";

/**
 * All binary16 numbers as float32, since ONNX has no operator that reads two bytes as one number. One table for all
 * weights.
 */
let halves: Value | undefined;

function halfTable(): Value {
  const every = Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits);
  halves ??= constant(halfToFloat(every), [2 ** 16], "float32");
  return halves;
}

/**
 * The float32 weight of this shape whose blocks are at `data`. With `folded` it is computed once, for constants derived
 * from it.
 */
export function blockWeight(
  name: string,
  dtype: BlockDType,
  data: Extract<WeightData, { file: string }>,
  shape: readonly number[],
  { folded = false } = {},
): Value {
  const size = blockBytes[dtype];
  const blocks = data.length / size;
  const bytes = weight(name, [blocks, size], "uint8", data);
  const byte = (at: number) => cast(slice(bytes, 1, at, at + 1), "float32");
  const half = reshape(add(byte(0), mul(byte(1), 256)), [blocks]);
  const scale = gather(halfTable(), cast(half, "int64"));
  if (dtype === "Q8_0") {
    const signed = slice(weight(`${name} signed`, [blocks, size], "int8", data), 1, 2, size);
    if (folded) return reshape(mul(cast(signed, "float32"), reshape(scale, [blocks, 1])), shape);
    return reshape(dequantise(signed, scale), shape);
  }
  const pairs = slice(bytes, 1, 2, size);
  const low = makeValue("BitwiseAnd", [pairs, uint8(15)], pairs);
  const high = makeValue("BitShift", [pairs, uint8(4)], pairs, { direction: "RIGHT" });
  const quants = concat([low, high], 1);
  // 8 stands for zero.
  if (folded) return reshape(mul(sub(cast(quants, "float32"), 8), reshape(scale, [blocks, 1])), shape);
  return reshape(dequantise(quants, scale, expand(uint8(8), [blocks])), shape);
}

const uint8 = (value: number) => constant(Uint8Array.of(value), [1], "uint8");

/** A row of quants for each scale. */
function dequantise(quants: Value, scale: Value, zero?: Value): Value {
  const inputs = zero ? [quants, scale, zero] : [quants, scale];
  return makeValue("DequantizeLinear", inputs, { dtype: "float32", shape: quants.shape }, { axis: 0 });
}

/**
 * Rows `start` to `end` of such a weight as a weight of their own; undefined if they are not whole blocks or it is no
 * such weight.
 */
export function blockRows(value: Value, start: number, end: number): Value | undefined {
  const [made] = value.node.inputs;
  if (value.node.op !== "Reshape" || made?.node.op !== "DequantizeLinear") return undefined;
  const [rows, ...rest] = value.shape as number[];
  const each = (made.shape[0] as number) / rows!;
  if (!Number.isInteger(each)) return undefined;
  const [quants, scale, zero] = made.node.inputs.map((input) => slice(input!, 0, start * each, end * each));
  return reshape(dequantise(quants!, scale!, zero), [end - start, ...rest]);
}
