/** One change to one file of a case: to the structure of its JSON, to its text, or to its bytes. */
import { Random } from "./random.ts";

export type Files = ReadonlyMap<string, Uint8Array>;

const [encoder, decoder] = [new TextEncoder(), new TextDecoder()];

/** The change that `seed` stands for. */
export function mutated(files: Files, seed: number): Files {
  const random = new Random(seed);
  const path = random.pick([...files.keys()]);
  const bytes = files.get(path)!;
  const change = path.endsWith(".safetensors") ? changedTensors : path.endsWith(".json") ? changedJson : changedText;
  return new Map([...files, [path, change(bytes, random)]]);
}

function changedJson(bytes: Uint8Array, random: Random): Uint8Array {
  if (random.chance(8)) return changedText(bytes, random);
  const value = parsed(bytes);
  if (value === undefined) return changedText(bytes, random);
  return encoder.encode(written(changedValue(value, random)));
}

/** Header and data: the header's structure, its bytes, its length, or the file's end. */
function changedTensors(bytes: Uint8Array, random: Random): Uint8Array {
  const length = bytes.length < 8 ? 0 : Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = length <= bytes.length - 8 ? bytes.subarray(8, 8 + length) : new Uint8Array(0);
  switch (random.below(6)) {
    case 0:
      return changedBytes(bytes, random, Math.min(bytes.length, 8 + length));
    case 1:
      return bytes.slice(0, random.below(bytes.length + 1));
    case 2:
      return withLength(
        bytes,
        random.pick([0, 1, length - 1, length + 1, bytes.length, 2 ** 31, 2 ** 32, 2 ** 53, random.next()]),
      );
    default: {
      const value = parsed(header);
      if (value === undefined) return changedBytes(bytes, random, bytes.length);
      const text = encoder.encode(written(changedValue(value, random)));
      return withLength(joined(new Uint8Array(8), text, bytes.subarray(8 + length)), text.length);
    }
  }
}

function withLength(bytes: Uint8Array, length: number): Uint8Array {
  const copy = bytes.length < 8 ? new Uint8Array(8) : bytes.slice();
  new DataView(copy.buffer).setBigUint64(0, BigInt(Math.max(0, length)), true);
  return copy;
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function changedBytes(bytes: Uint8Array, random: Random, within: number): Uint8Array {
  const copy = bytes.slice();
  if (within > 0) for (let i = random.below(8); i >= 0; i--) copy[random.below(within)] = random.below(256);
  return copy;
}

const snippets = [
  "null",
  "-1",
  "1e999",
  "1e308",
  "0x10",
  "[[[[",
  "{}",
  '"',
  "\\u0000",
  "\ud83d",
  "\ufeff",
  "\u0000",
  "Infinity",
  "NaN",
  ",",
  "[".repeat(70),
  " ",
];

function changedText(bytes: Uint8Array, random: Random): Uint8Array {
  const at = random.below(bytes.length + 1);
  switch (random.below(5)) {
    case 0:
      return changedBytes(bytes, random, bytes.length);
    case 1:
      return bytes.slice(0, at);
    case 2:
      return joined(bytes.subarray(0, at), encoder.encode(random.pick(snippets)), bytes.subarray(at));
    case 3: {
      // A part of it again, some times over.
      const part = bytes.subarray(at, at + 1 + random.below(64));
      return joined(
        bytes.subarray(0, at),
        ...new Array<Uint8Array>(1 + random.below(64)).fill(part),
        bytes.subarray(at),
      );
    }
    default: {
      // A number for another.
      const text = decoder.decode(bytes);
      const numbers = [...text.matchAll(/-?\d+(\.\d+)?(e-?\d+)?/gi)];
      if (numbers.length === 0) return bytes;
      const number = random.pick(numbers);
      return encoder.encode(
        text.slice(0, number.index) + random.pick(snippets) + text.slice(number.index + number[0].length),
      );
    }
  }
}

/** What files say that nobody meant. Infinity is written as 1e999, which is JSON. */
const hostile: readonly unknown[] = [
  ...[
    null,
    true,
    false,
    "",
    " 5 ",
    "0x10",
    "5",
    "__proto__",
    "constructor",
    "toString",
    "../x",
    "/etc/passwd",
    "\u0000",
  ],
  ...[
    0,
    -0,
    -1,
    0.5,
    1,
    2,
    3,
    5,
    7,
    16,
    63,
    1000,
    65536,
    2 ** 24,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32,
    2 ** 53,
    1e15,
    1e-320,
    1e308,
    Infinity,
    -Infinity,
  ],
  ...[[], {}, [0.5], [null], [[]], { length: 5 }, [1, 2], "a".repeat(1000), "(a+)+$", "\ud800", [1e308, 1e308]],
];

/** Large ones, which cost time and are chosen seldom. */
const large: readonly (() => unknown)[] = [
  () => JSON.parse("[".repeat(300) + "]".repeat(300)),
  () => JSON.parse('{"a":'.repeat(200) + "1" + "}".repeat(200)),
  () => new Array(100_000).fill(0),
  () => new Array(20_000).fill([]),
  () => Object.fromEntries(Array.from({ length: 30_000 }, (_, i) => [`k${i}`, i])),
  () => "ab ".repeat(300_000),
  () => "\u732b".repeat(200_000),
];

type Holder = Record<string | number, unknown>;

function changedValue(value: unknown, random: Random): unknown {
  const places = placesOf(value);
  if (places.length === 0) return random.pick(hostile);
  const [holder, key] = random.pick(places);
  const now = holder[key];
  if (random.chance(100)) {
    holder[key] = random.pick(large)();
    return value;
  }
  switch (random.below(9)) {
    case 0:
      if (Array.isArray(holder)) holder.splice(key as number, 1);
      else delete holder[key];
      break;
    case 1:
      holder[key] = [now];
      break;
    case 2: {
      const [other, place] = random.pick(places);
      // A value within itself would be written for ever.
      const copy = JSON.stringify(other[place]);
      holder[key] = copy === undefined || copy.length > 10_000 ? null : JSON.parse(copy);
      break;
    }
    case 3:
      if (Array.isArray(now) && now.length > 0) {
        holder[key] = Array.from(
          { length: now.length * (1 + random.below(20)) },
          (_, i) => now[i % now.length] as unknown,
        );
      } else holder[key] = random.pick(hostile);
      break;
    case 4:
      if (Array.isArray(holder)) holder.push(random.pick(hostile));
      else
        define(
          holder,
          random.pick(["__proto__", "constructor", "", "x".repeat(300), "length", String(random.below(10))]),
          now,
        );
      break;
    case 5:
      if (typeof now === "number") holder[key] = now + random.pick([1, -1, 0.5, 1e-7, -now, now, now * 1000]);
      else holder[key] = random.pick(hostile);
      break;
    default:
      holder[key] = random.pick(hostile);
  }
  return value;
}

/** As JSON.parse does: "__proto__" is a key like any other. */
const define = (holder: Holder, key: string, value: unknown) =>
  Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true });

function placesOf(value: unknown): [Holder, string | number][] {
  const places: [Holder, string | number][] = [];
  const visit = (holder: unknown) => {
    if (typeof holder !== "object" || holder === null || places.length > 5000) return;
    const keys = Array.isArray(holder) ? holder.keys() : Object.keys(holder);
    for (const key of keys) {
      places.push([holder as Holder, key]);
      visit((holder as Holder)[key]);
    }
  };
  visit(value);
  return places;
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(decoder.decode(bytes));
  } catch {
    return undefined;
  }
}

const infinity = "\u0001Infinity";

function written(value: unknown): string {
  const text = JSON.stringify(value, (_, item: unknown) =>
    item === Infinity ? infinity : item === -Infinity ? `-${infinity}` : item,
  );
  return text.replaceAll('"\\u0001Infinity"', "1e999").replaceAll('"-\\u0001Infinity"', "-1e999");
}
