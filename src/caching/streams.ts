/** The features that run through a model's blocks, as caches hold them: a tensor for each. */
import type { Feeds } from "../sampling/denoiser.ts";
import { type FloatTensor, floatOf } from "../tensor.ts";
import { combine } from "./arrays.ts";

/** Named features that run through the blocks, all float32. */
export type Streams = Readonly<Record<string, FloatTensor>>;

export const mapStreams = (streams: Streams, f: (tensor: FloatTensor) => FloatTensor): Streams =>
  Object.fromEntries(Object.entries(streams).map(([name, tensor]) => [name, f(tensor)]));

/** `names` are those of features that are float32. */
export const pickStreams = (features: Feeds, names: readonly string[]): Streams =>
  Object.fromEntries(names.map((name) => [name, floatOf(features, name)]));

/** For each stream of `a`, element by element with the same one of `b`. */
export const combineStreams = (a: Streams, b: Streams, f: (a: number, b: number) => number): Streams =>
  Object.fromEntries(Object.entries(a).map(([name, tensor]) => [name, combine(tensor, b[name]!, f)]));

export const plusStreams = (a: Streams, b: Streams): Streams => combineStreams(a, b, (x, y) => x + y);
export const minusStreams = (a: Streams, b: Streams): Streams => combineStreams(a, b, (x, y) => x - y);

/** mean |from - to| / mean |from|, over all elements of all streams. */
export function relativeChange(from: Streams, to: Streams): number {
  let [changed, size, count] = [0, 0, 0];
  for (const [name, { data }] of Object.entries(from)) {
    const other = to[name]!.data;
    for (let i = 0; i < data.length; i++) {
      changed += Math.abs(data[i]! - other[i]!);
      size += Math.abs(data[i]!);
    }
    count += data.length;
  }
  return changed / count / Math.max(size / count, 1e-12);
}
