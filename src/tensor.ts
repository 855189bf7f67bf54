import { ShapeError } from "./errors.ts";

/** Element types that tensors hold in memory. Half-precision weights are widened when they are read. */
export interface DTypeArrays {
  float32: Float32Array;
  int64: BigInt64Array;
  int32: Int32Array;
  uint8: Uint8Array;
  bool: Uint8Array;
}
/** Element types of tensors. */
export type DType = keyof DTypeArrays;

/** A dense array in row-major order that the caller owns; `data` may be a view of a larger buffer. */
export interface Tensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly data: DTypeArrays[D];
}
/** A tensor of float32. */
export type FloatTensor = Tensor<"float32">;

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

/** A float32 tensor over `data`, or zeros. Throws ShapeError if `data` has another number of elements. */
export function floatTensor(
  shape: readonly number[],
  data: Float32Array = new Float32Array(sizeOf(shape)),
): FloatTensor {
  return checked({ dtype: "float32", shape, data });
}

/** The float32 tensor of this name among a network's outputs, or other named tensors. Throws ShapeError if it is none, or missing. */
export function floatOf(tensors: Readonly<Record<string, Tensor>>, name: string): FloatTensor {
  const tensor = Object.hasOwn(tensors, name) ? tensors[name] : undefined;
  if (tensor?.dtype === "float32") return tensor as FloatTensor;
  const found = tensor ? `is ${tensor.dtype}` : `is missing; there are ${Object.keys(tensors).join(", ")}`;
  throw new ShapeError(`"${name}" should be a float32 tensor, but ${found}.`);
}

/** An int64 tensor from numbers, as timesteps, labels and token ids are. */
export function int64Tensor(shape: readonly number[], values: ArrayLike<number | bigint>): Tensor<"int64"> {
  return checked({ dtype: "int64", shape, data: BigInt64Array.from(Array.from(values), BigInt) });
}

function checked<D extends DType>(tensor: Tensor<D>): Tensor<D> {
  if (tensor.data.length !== sizeOf(tensor.shape)) {
    throw new ShapeError(`${tensor.data.length} values cannot have shape [${tensor.shape.join(", ")}]`);
  }
  return tensor;
}
