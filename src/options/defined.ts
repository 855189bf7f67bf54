type Defined<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/**
 * An object without the keys whose value is undefined. An option that is undefined counts as not given, so options are handed on as they
 * are; this is for what is spread over other values, and for what is printed.
 */
export function defined<T extends object>(options: T): Defined<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Defined<T>;
}
