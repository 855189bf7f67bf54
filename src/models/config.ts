/** Reading config.json with diffusers' keys: typed values, diffusers' defaults, and errors that name key and value. */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";

/** Limits of configuration values, far above every published model: a file beyond them is damaged or hostile. */
export const MOST_LAYERS = 4096;
/** Channels, widths, heads. */
export const MOST_WIDTH = 2 ** 17;
/** Elements of a latent's or picture's side that is a model's own size. */
export const MOST_SIDE = 4096;
const MOST_FLOAT = 3e38;
/** The limit of everything that has no limit of its own, such as rows of a vocabulary or of a label table. */
const MOST = 2 ** 24;

/** Reads the keys of one class, and remembers which: `finish` refuses keys that were not read. */
export class ConfigReader {
  readonly #raw: RawConfig;
  readonly #className: string;
  readonly #known = new Set<string>();

  constructor(raw: RawConfig, className: string) {
    this.#raw = raw;
    this.#className = className;
  }

  has(key: string): boolean {
    const value = this.#own(key);
    return value !== undefined && value !== null;
  }

  /** Whether the file has the key with null, which is not the class's default: diffusers passes None on. */
  isNull(key: string): boolean {
    return this.#own(key) === null;
  }

  /** A whole number from `least` to `most`; `fallback` where the key is missing. */
  integer(key: string, fallback?: number, least = 1, most = MOST): number {
    const value = this.#value(key, fallback);
    if (!isWhole(value, least, most)) this.#refuse(key, value, wholeNumber(least, most));
    return value;
  }

  /** The side of a square: a number, or a list of two equal ones. */
  side(key: string, fallback?: number, most = MOST_SIDE): number {
    const value = this.#value(key, fallback);
    const [side, other] = Array.isArray(value) && value.length === 2 ? value : [value, value];
    if (!isWhole(side, 1, most) || other !== side) this.#refuse(key, value, wholeNumber(1, most));
    return side;
  }

  /** A number that single precision can hold. */
  number(key: string, fallback?: number): number {
    const value = this.#value(key, fallback);
    if (typeof value !== "number" || !(Math.abs(value) <= MOST_FLOAT)) {
      this.#refuse(key, value, `a number from -${MOST_FLOAT} to ${MOST_FLOAT}`);
    }
    return value as number;
  }

  /** What a norm adds to the variance, so that nothing is divided by zero. */
  epsilon(key: string, fallback: number): number {
    const value = this.#value(key, fallback);
    if (typeof value !== "number" || !(value >= 0 && value <= 1)) this.#refuse(key, value, "a number from 0 to 1");
    return value as number;
  }

  /** true or false; null counts as false, as in Python. */
  boolean(key: string, fallback?: boolean): boolean {
    const value = this.isNull(key) ? false : this.#value(key, fallback);
    if (typeof value !== "boolean") this.#refuse(key, value, "true or false");
    return value as boolean;
  }

  /** One boolean for all of `count` blocks, or a list with one for each. */
  booleanPerBlock(key: string, count: number, fallback: boolean): readonly boolean[] {
    const value = this.isNull(key) ? false : this.#value(key, fallback);
    const list = Array.isArray(value) ? value : new Array<unknown>(count).fill(value);
    const fine = list.length === count && list.every((item) => typeof item === "boolean");
    if (!fine) this.#refuse(key, value, `true or false, or a list of ${count} of them`);
    return list as readonly boolean[];
  }

  /** At least `fewest` whole numbers from `least` to `most`. */
  integers(key: string, fallback?: readonly number[], { least = 1, most = MOST, fewest = 1 } = {}): readonly number[] {
    const value = this.#value(key, fallback);
    const fine = Array.isArray(value) && value.length >= fewest && value.every((item) => isWhole(item, least, most));
    if (!fine) this.#refuse(key, value, `a list of whole numbers from ${least} to ${most}`);
    return value as readonly number[];
  }

  /** One whole number for all of `count` blocks, or a list with one for each. */
  integerPerBlock(
    key: string,
    count: number,
    fallback?: number | readonly number[],
    most: number = MOST,
  ): readonly number[] {
    const value = this.#value(key, fallback);
    const list = Array.isArray(value) ? value : new Array<unknown>(count).fill(value);
    const fine = list.length === count && list.every((item) => isWhole(item, 1, most));
    if (!fine) this.#refuse(key, value, `${wholeNumber(1, most)}, or a list of ${count} of them`);
    return list as readonly number[];
  }

  /**
   * One whole number for all blocks, or a list with one for each, or in its place a list with one for each of the block's
   * layers, of which `layers` says how many there are; what is beyond them is not read.
   */
  integerPerLayer(key: string, layers: readonly number[], fallback?: number, most: number = MOST): number[][] {
    const value = this.#value(key, fallback);
    const list = Array.isArray(value) ? (value as readonly unknown[]) : new Array<unknown>(layers.length).fill(value);
    const found = list.map((item, i) => (Array.isArray(item) ? item : new Array<unknown>(layers[i] ?? 0).fill(item)));
    const fine =
      list.length === layers.length &&
      found.every((items, i) => items.length >= layers[i]! && items.every((item) => isWhole(item, 1, most)));
    if (!fine) {
      this.#refuse(
        key,
        value,
        `${wholeNumber(1, most)}, or a list of ${layers.length} of them or of lists for each layer`,
      );
    }
    return found.map((items, i) => items.slice(0, layers[i]!) as number[]);
  }

  strings(key: string, fallback?: readonly string[]): readonly string[] {
    const value = this.#value(key, fallback);
    if (!Array.isArray(value) || value.some((item) => typeof item !== "string"))
      this.#refuse(key, value, "a list of names");
    return value as readonly string[];
  }

  /** One of the values that this implementation supports. */
  choice<T extends string>(key: string, supported: readonly T[], fallback?: T): T {
    const value = this.#value(key, fallback);
    if (!supported.includes(value as T))
      this.#refuse(key, value, `one of ${supported.map((name) => `"${name}"`).join(", ")}`);
    return value as T;
  }

  /** The same, if null has a meaning of its own. */
  choiceOrNull<T extends string>(key: string, supported: readonly T[], fallback: T | null): T | null {
    if (this.isNull(key) || (!this.has(key) && fallback === null)) return null;
    return this.choice(key, supported, fallback ?? undefined);
  }

  /** Refuses a setting that would change the result and is not supported. false and null mean the same. */
  require(
    key: string,
    only: string | number | boolean | null,
    fallback: string | number | boolean | null = only,
  ): void {
    const value = this.#own(key) ?? fallback;
    if (value !== only && !(only === null && value === false)) this.#refuse(key, value, JSON.stringify(only));
  }

  /**
   * Throws ConfigError for a key that was not read and is not in `harmless`: its meaning is unknown, so the result might be
   * wrong without it. Keys that are null or false pass, since they switch something off, and so do keys that start with an
   * underscore, which are notes.
   */
  finish(harmless: readonly string[]): void {
    const strange = Object.keys(this.#raw).filter((key) => {
      const value = this.#raw[key];
      const off = value === null || value === false;
      return !off && !key.startsWith("_") && !this.#known.has(key) && !harmless.includes(key);
    });
    if (strange.length === 0) return;
    const list = strange.slice(0, 10).map((key) => `"${key}" (${shown(this.#raw[key])})`);
    const more = strange.length > list.length ? ` and ${strange.length - list.length} more` : "";
    throw new ConfigError(
      `${this.#className}: config has ${list.join(", ")}${more}, which this version does not know. ` +
        "If you are sure that the result does not depend on it, take it out of the file or put an underscore in front.",
    );
  }

  /** Own keys only, since names come from a file. */
  #own(key: string): unknown {
    this.#known.add(key);
    return Object.hasOwn(this.#raw, key) ? this.#raw[key] : undefined;
  }

  /** The file's value, null too; `fallback` where it has none. */
  #value(key: string, fallback: unknown): unknown {
    const own = this.#own(key);
    const value = own === undefined ? fallback : own;
    if (value === undefined) throw new ConfigError(`${this.#className}: config has no "${key}".`);
    return value;
  }

  #refuse(key: string, value: unknown, wanted: string): never {
    throw new ConfigError(`${this.#className}: config "${key}" is ${shown(value)}; supported is ${wanted}.`);
  }
}

function isWhole(value: unknown, least: number, most: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least && (value as number) <= most;
}

const wholeNumber = (least: number, most: number) =>
  most === MOST
    ? `a whole number of at least ${least} (and at most ${MOST})`
    : `a whole number from ${least} to ${most}`;

/** A value as an error shows it, shortened, since values in files may be long. */
function shown(value: unknown): string {
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = "nested too deeply to be shown";
  }
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}
