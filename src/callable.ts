/**
 * An object that can be called as a function too, as pipelines are in diffusers and transformers.js: `await pipe(prompt)`
 * runs `call`, everything else is the object's own.
 */
export function callable<T extends object, A extends unknown[], R>(
  target: T,
  call: (...args: A) => R,
): T & ((...args: A) => R) {
  return new Proxy(call, {
    get(_, key) {
      const value: unknown = Reflect.get(target, key, target);
      // Private fields exist on the target alone, so its methods must run on it.
      return typeof value === "function" ? value.bind(target) : value;
    },
    has: (_, key) => Reflect.has(target, key),
    getPrototypeOf: () => Object.getPrototypeOf(target) as object,
  }) as unknown as T & ((...args: A) => R);
}
