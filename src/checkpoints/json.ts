/**
 * JSON from a checkpoint, within limits. Files are not trusted: JSON.parse accepts any depth and can need up to 60 times the
 * text's size in memory (`[[[[`), and the code that walks over the result afterwards is recursive.
 */
import { CheckpointError } from "../errors.ts";

/** The limits of a JSON text. */
export interface JsonLimits {
  /** Bytes of the file. */
  readonly bytes: number;
  /** Nesting depth of objects and arrays. */
  readonly depth: number;
  /** Keys of one object. */
  readonly keys: number;
  /** Bytes that its values take in memory besides the text, as estimated by a scan. */
  readonly memory: number;
}

const MiB = 2 ** 20;

/** For configurations and indexes. Published ones have up to a few hundred kB; an index of 100,000 tensors would have 10 MB. */
export const configLimits: JsonLimits = { bytes: 16 * MiB, depth: 64, keys: 200_000, memory: 40 * MiB };
/** For tokenizers, which contain whole vocabularies: 2 MB and 32,000 pieces for T5, 17 MB and 250,000 for XLM-R. */
export const tokenizerLimits: JsonLimits = { bytes: 64 * MiB, depth: 64, keys: 400_000, memory: 64 * MiB };
/** For a whole file read as text, such as a list of merges. */
export const maxTextBytes = 64 * MiB;

/** The limits for a file of this name. */
export function limitsOf(path: string): JsonLimits {
  return /(^|\/)(tokenizer|vocab)\.json$/.test(path) ? tokenizerLimits : configLimits;
}

/**
 * Memory that values take while V8 (Node 20) parses them, from peak memory with 4 to 16 MB of each kind: 60 to 86 bytes per
 * object or array, 125 to 138 per key with its value in objects with many keys, 16 to 80 per array element.
 */
const cost = { container: 96, key: 136, element: 64 };

/**
 * Scans a JSON text, which need not be valid, before it is parsed. Returns the number of keys. Throws
 * CheckpointError if it is nested too deeply or would take too much memory.
 */
export function checkJson(text: string, name: string, limits: Omit<JsonLimits, "bytes">): number {
  const open: number[] = []; // keys so far of each object or array that is open
  let bytes = 0;
  let keys = 0;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22: // a string: nothing in it counts
        for (i++; i < text.length && text.charCodeAt(i) !== 0x22; i++) if (text.charCodeAt(i) === 0x5c) i++;
        break;
      case 0x5b: // [
      case 0x7b: // {
        bytes += cost.container;
        if (open.push(0) <= limits.depth) break;
        throw new CheckpointError(
          `${name}: its JSON is nested more than ${limits.depth} deep, which is the limit here.`,
        );
      case 0x5d: // ]
      case 0x7d: // }
        open.pop();
        break;
      case 0x2c: // ,
        bytes += cost.element;
        break;
      case 0x3a: // :
        keys++;
        if (++open[open.length - 1]! > limits.keys) {
          throw new CheckpointError(
            `${name}: an object in its JSON has more than ${limits.keys} names, the limit here.`,
          );
        }
    }
  }
  bytes += keys * cost.key;
  if (bytes > limits.memory) {
    throw new CheckpointError(
      `${name}: its JSON has so many values that they would take about ${Math.round(bytes / MiB)} MiB of memory; ` +
        `the limit is ${limits.memory / MiB}.`,
    );
  }
  return keys;
}

/**
 * Parses JSON as Python's json module writes it: scheduler configurations contain a bare `-Infinity` (`lambda_min_clipped`),
 * which is not JSON. Throws CheckpointError that names the file if it is not JSON or exceeds its limits.
 */
export function parseJson(text: string, name: string, limits: Omit<JsonLimits, "bytes"> = configLimits): unknown {
  checkJson(text, name, limits);
  try {
    return JSON.parse(text);
  } catch (cause) {
    try {
      if (text.length < MiB && text.includes("Infinity")) return JSON.parse(withInfinities(text));
    } catch {
      // report the first error, which is about the original text
    }
    throw new CheckpointError(`${name}: not valid JSON: ${oneLine(cause as Error)}`, { cause });
  }
}

/** JSON.parse's error message on one line; it quotes the text, including line breaks. */
export function oneLine({ message }: Error): string {
  return message.replace(/\s+/g, " ");
}

/** Writes Infinity as 1e999, which is valid JSON. Strings are matched first, so that nothing inside them is replaced. */
function withInfinities(text: string): string {
  return text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|Infinity/g, (match) => (match === "Infinity" ? "1e999" : match));
}

/** Returns `value` if it is a JSON object; otherwise throws CheckpointError that says what it is instead. */
export function expectObject(value: unknown, name: string): Record<string, unknown> {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new CheckpointError(`${name}: expected a JSON object, found ${describe(value)}.`);
}

/** A value as shown in error messages: its kind, and the value itself if it is short and flat. */
export function describe(value: unknown): string {
  if (Array.isArray(value)) {
    const flat = value.length <= 8 && value.every((element) => typeof element !== "object" || element === null);
    return flat ? clip(`[${value.map(describe).join(",")}]`) : `an array of ${value.length}`;
  }
  if (typeof value === "object" && value !== null) return "an object";
  if (typeof value === "function") return "a function";
  return typeof value === "string" ? quote(value) : String(value);
}

/** A name from a file, quoted and shortened for error messages. */
export function quote(name: string): string {
  const shown = JSON.stringify(name.slice(0, longest));
  return name.length <= longest ? clip(shown) : `${shown.slice(0, longest)}... (${name.length} characters)`;
}

const longest = 120;

function clip(text: string): string {
  return text.length <= longest ? text : `${text.slice(0, longest)}... (${text.length} characters)`;
}
