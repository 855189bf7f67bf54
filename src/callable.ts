/**
 * A pipeline that can be called as a function too, as in diffusers and transformers.js: `await pipe(prompt)` is
 * `await pipe.generate(prompt)`, everything else is the pipeline's own.
 */
export function callable<Pipeline extends { generate(...args: never[]): unknown }>(
  pipeline: Pipeline,
): Pipeline & Pipeline["generate"] {
  return new Proxy((...args: never[]) => pipeline.generate(...args), {
    get(_, key) {
      const value: unknown = Reflect.get(pipeline, key, pipeline);
      // Private fields exist on the target alone, so its methods must run on it.
      return typeof value === "function" ? value.bind(pipeline) : value;
    },
    has: (_, key) => Reflect.has(pipeline, key),
    getPrototypeOf: () => Object.getPrototypeOf(pipeline) as object,
  }) as unknown as Pipeline & Pipeline["generate"];
}
