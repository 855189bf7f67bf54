/** Arithmetic on features that caches need. */
import type { FloatTensor } from "../tensor.ts";

export function combine(a: FloatTensor, b: FloatTensor, f: (a: number, b: number) => number): FloatTensor {
  const data = new Float32Array(a.data.length);
  for (let i = 0; i < data.length; i++) data[i] = f(a.data[i]!, b.data[i]!);
  return { dtype: "float32", shape: a.shape, data };
}

export const plus = (a: FloatTensor, b: FloatTensor): FloatTensor => combine(a, b, (x, y) => x + y);
export const minus = (a: FloatTensor, b: FloatTensor): FloatTensor => combine(a, b, (x, y) => x - y);

/** a [batch, channels, ...], to whose first channels b [batch, fewer or as many, ...] is added. */
export function addToFirstChannels(a: FloatTensor, b: FloatTensor): FloatTensor {
  const batch = a.shape[0]!;
  const [rowOfA, rowOfB] = [a.data.length / batch, b.data.length / batch];
  const data = a.data.slice();
  for (let i = 0; i < b.data.length; i++) data[Math.floor(i / rowOfB) * rowOfA + (i % rowOfB)]! += b.data[i]!;
  return { dtype: "float32", shape: a.shape, data };
}

/** mean |a| */
export function meanAbsolute({ data }: FloatTensor): number {
  let sum = 0;
  for (const value of data) sum += Math.abs(value);
  return sum / data.length;
}

/** mean |a - b| */
export function meanAbsoluteDifference(a: FloatTensor, b: FloatTensor): number {
  let sum = 0;
  for (let i = 0; i < a.data.length; i++) sum += Math.abs(a.data[i]! - b.data[i]!);
  return sum / a.data.length;
}
