/** Nearest-neighbour enlargement to any size, like PyTorch's interpolate. */
import { gather, slice, transpose, upsampleNearest } from "../graph/operators.ts";
import { constant, staticDim, type Value } from "../graph/value.ts";

/** For each new row, the row that it copies. PyTorch computes the ratio in single precision. */
export function nearestRows(from: number, to: number): number[] {
  const ratio = Math.fround(from / to);
  return Array.from({ length: to }, (_, i) => Math.min(Math.floor(Math.fround(i * ratio)), from - 1));
}

/** x: [batch, channels, h, w] -> [batch, channels, height, width], no smaller than x. */
export function resizeNearest(x: Value, height: number, width: number): Value {
  const [h, w] = [staticDim(x, 2, "resizeNearest"), staticDim(x, 3, "resizeNearest")];
  if (height === 2 * h && width === 2 * w) return upsampleNearest(x);
  const [rows, columns] = [nearestRows(h, height), nearestRows(w, width)];
  // Twice the size, possibly without the last row, which covers most odd sizes: doubling and slicing need no gather.
  const doubled = [rows, columns].every((places) => places.every((place, i) => place === i >> 1));
  if (doubled) return slice(slice(upsampleNearest(x), 2, 0, height), 3, 0, width);
  const picked = (value: Value, places: number[]) =>
    gather(value, constant(BigInt64Array.from(places, BigInt), [places.length], "int64"));
  const tall = picked(transpose(x, [2, 3, 0, 1]), rows);
  return transpose(picked(transpose(tall, [1, 0, 2, 3]), columns), [2, 3, 1, 0]);
}
