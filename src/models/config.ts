/** Reading config.json with diffusers' keys: typed values, diffusers' defaults, and errors that name key and value. */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";

export class ConfigReader {
  readonly #raw: RawConfig;
  readonly #className: string;

  constructor(raw: RawConfig, className: string) {
    this.#raw = raw;
    this.#className = className;
  }

  has(key: string): boolean {
    return this.#raw[key] !== undefined && this.#raw[key] !== null;
  }

  /** A whole number of at least `least`; `fallback` where the key is missing or null. */
  integer(key: string, fallback?: number, least = 1): number {
    const value = this.#value(key, fallback);
    if (!Number.isSafeInteger(value) || (value as number) < least)
      this.#refuse(key, value, `a whole number of at least ${least}`);
    return value as number;
  }

  number(key: string, fallback?: number): number {
    const value = this.#value(key, fallback);
    if (typeof value !== "number" || !Number.isFinite(value)) this.#refuse(key, value, "a number");
    return value as number;
  }

  boolean(key: string, fallback?: boolean): boolean {
    const value = this.#value(key, fallback);
    if (typeof value !== "boolean") this.#refuse(key, value, "true or false");
    return value as boolean;
  }

  integers(key: string, fallback?: readonly number[]): readonly number[] {
    const value = this.#value(key, fallback);
    const fine =
      Array.isArray(value) && value.length > 0 && value.every((item) => Number.isSafeInteger(item) && item > 0);
    if (!fine) this.#refuse(key, value, "a list of positive whole numbers");
    return value as readonly number[];
  }

  /** One whole number for all of `count` blocks, or a list with one for each. */
  integerPerBlock(key: string, count: number, fallback?: number | readonly number[]): readonly number[] {
    const value = this.#value(key, fallback);
    const list = Array.isArray(value) ? value : new Array<unknown>(count).fill(value);
    const fine = list.length === count && list.every((item) => Number.isSafeInteger(item) && item > 0);
    if (!fine) this.#refuse(key, value, `a positive whole number, or a list of ${count} of them`);
    return list as readonly number[];
  }

  strings(key: string, fallback?: readonly string[]): readonly string[] {
    const value = this.#value(key, fallback);
    if (!Array.isArray(value) || value.some((item) => typeof item !== "string"))
      this.#refuse(key, value, "a list of names");
    return value as readonly string[];
  }

  /** One of the values that this implementation serves. */
  choice<T extends string>(key: string, supported: readonly T[], fallback?: T): T {
    const value = this.#value(key, fallback);
    if (!supported.includes(value as T))
      this.#refuse(key, value, `one of ${supported.map((name) => `"${name}"`).join(", ")}`);
    return value as T;
  }

  /** Refuses a setting that would change the result and is not served. */
  require(
    key: string,
    only: string | number | boolean | null,
    fallback: string | number | boolean | null = only,
  ): void {
    const value = this.#raw[key] ?? fallback;
    if (value !== only) this.#refuse(key, value, JSON.stringify(only));
  }

  #value(key: string, fallback: unknown): unknown {
    const value = this.#raw[key] ?? fallback;
    if (value === undefined) throw new ConfigError(`${this.#className}: config has no "${key}".`);
    return value;
  }

  #refuse(key: string, value: unknown, wanted: string): never {
    throw new ConfigError(`${this.#className}: config "${key}" is ${JSON.stringify(value)}; supported is ${wanted}.`);
  }
}
