/** The features that run through a model's blocks, as caches hold them: a tensor for each. */
import type { Feeds } from "../sampling/denoiser.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine } from "./arrays.ts";

export type Streams = Readonly<Record<string, FloatTensor>>;

/** `names` are those of features that are float32. */
export const pickStreams = (features: Feeds, names: readonly string[]): Streams =>
  Object.fromEntries(names.map((name) => [name, features[name] as FloatTensor]));

/** For each stream of `a`, element by element with the same one of `b`. */
export const combineStreams = (a: Streams, b: Streams, f: (a: number, b: number) => number): Streams =>
  Object.fromEntries(Object.entries(a).map(([name, tensor]) => [name, combine(tensor, b[name]!, f)]));

export const plusStreams = (a: Streams, b: Streams): Streams => combineStreams(a, b, (x, y) => x + y);
export const minusStreams = (a: Streams, b: Streams): Streams => combineStreams(a, b, (x, y) => x - y);
