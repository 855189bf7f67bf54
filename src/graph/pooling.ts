/**
 * Pooling over windows of a picture, for networks that only judge: unlike those in operators.ts these have no rule in
 * vjp.ts, and `gradients` says so.
 */
import { ShapeError } from "../errors.ts";
import { describe, makeValue as node, staticDim, type Value } from "./value.ts";

export interface PoolOptions {
  /** 1 unless given. */
  stride?: number;
  /** Places around the picture that windows may reach into; what lies there never counts. 0 unless given. */
  padding?: number;
}

/** The largest value in each window of x [batch, channels, height, width]. */
export const maxPool2d = (x: Value, kernel: number, options: PoolOptions = {}) => pool("MaxPool", x, kernel, options);

/** The mean of each window of x [batch, channels, height, width], of those of its places that are in the picture. */
export const averagePool2d = (x: Value, kernel: number, options: PoolOptions = {}) =>
  pool("AveragePool", x, kernel, options);

function pool(
  op: "MaxPool" | "AveragePool",
  x: Value,
  kernel: number,
  { stride = 1, padding = 0 }: PoolOptions,
): Value {
  if (x.shape.length !== 4) throw new ShapeError(`${op}: ${describe(x.shape)} is not [batch, channels, height, width]`);
  const size = (axis: 2 | 3) => Math.floor((staticDim(x, axis, op) + 2 * padding - kernel) / stride) + 1;
  const shape = [x.shape[0]!, x.shape[1]!, size(2), size(3)];
  if (size(2) < 1 || size(3) < 1)
    throw new ShapeError(`${op}: ${describe(x.shape)} is smaller than a window of ${kernel}`);
  const attributes = {
    kernel_shape: [kernel, kernel],
    strides: [stride, stride],
    pads: new Array<number>(4).fill(padding),
  };
  return node(op, [x], { dtype: x.dtype, shape }, attributes);
}
