/** Names of what a feedback module reads and writes of each feature that runs through the blocks. */

/** What a module reads and writes of each stream that runs through the backbone's blocks. */
export type StreamPart = "carried" | "embedding" | "carriedEmbedding" | "trend" | "features" | "targetFeatures";

/** The name of it: "carried.hiddenStates". */
export const ofStream = (part: StreamPart, stream: string): string => `${part}.${stream}`;

/** Streams under the names that one part has. */
export const named = <T>(part: StreamPart, streams: Readonly<Record<string, T>>): Record<string, T> =>
  Object.fromEntries(Object.entries(streams).map(([stream, value]) => [ofStream(part, stream), value]));

/** And back: what there is of one part, by stream. */
export function allOf<T>(part: StreamPart, values: Readonly<Record<string, T>>): Record<string, T> {
  const prefix = ofStream(part, "");
  const found = Object.entries(values).filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(found.map(([name, value]) => [name.slice(prefix.length), value]));
}

/** A feedback module's outputs, by stream. */
export interface Predicted<T> {
  /** Of block `resumeBlock`: what the next inner step carries on from. */
  readonly features: Readonly<Record<string, T>>;
  /** What the backbone's part `after` reads: these features, or what the module's own blocks made of them. */
  readonly streams: Readonly<Record<string, T>>;
}

/** The outputs of `feedbackModel`, which names them once where they are the same. */
export function predictedOf<T>(outputs: Readonly<Record<string, T>>): Predicted<T> {
  const features = allOf("features", outputs);
  if (Object.keys(features).length === 0) return { features: outputs, streams: outputs };
  const others = Object.entries(outputs).filter(([name]) => !Object.hasOwn(named("features", features), name));
  return { features, streams: Object.fromEntries(others) };
}
