/**
 * Writes WebAssembly functions as expressions: a small assembler with just what a numeric kernel needs (two float64 lanes in a
 * 128-bit vector). An expression is the bytes that leave its value on the stack, so expressions nest like formulas.
 */
export type Code = readonly number[];
export type Type = "i32" | "f64" | "v128";
const typeCodes: Record<Type, number> = { i32: 0x7f, f64: 0x7c, v128: 0x7b };

function leb(value: number): Code {
  const bytes: number[] = [];
  let rest = value;
  for (;;) {
    const byte = rest & 0x7f;
    rest >>= 7;
    if ((rest === 0 && (byte & 0x40) === 0) || (rest === -1 && (byte & 0x40) !== 0)) return [...bytes, byte];
    bytes.push(byte | 0x80);
  }
}

/** Numbers that are never negative, such as lengths and offsets. */
function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)];
}

const sized = (code: Code): Code => [...unsigned(code.length), ...code];
const list = (items: readonly Code[]): Code => [...unsigned(items.length), ...items.flat()];
const binary =
  (...code: number[]) =>
  (a: Code, b: Code): Code => [...a, ...b, ...code];
const unary =
  (...code: number[]) =>
  (a: Code): Code => [...a, ...code];
const load =
  (align: number, ...code: number[]) =>
  (address: Code, offset = 0): Code => [...address, ...code, align, ...unsigned(offset)];
const store =
  (align: number, ...code: number[]) =>
  (address: Code, value: Code, offset = 0): Code => [...address, ...value, ...code, align, ...unsigned(offset)];

/** Vector instructions have the prefix 0xfd before their number. */
const vector = (number: number): number[] => [0xfd, ...unsigned(number)];

export const i32 = {
  const: (value: number): Code => [0x41, ...leb(value)],
  load: load(2, 0x28),
  load8: load(0, 0x2d),
  store: store(2, 0x36),
  add: binary(0x6a),
  mul: binary(0x6c),
  shl: binary(0x74),
  equal: binary(0x46),
  less: binary(0x49), // unsigned
};

export const f64 = {
  const: (value: number): Code => [0x44, ...new Uint8Array(Float64Array.of(value).buffer)],
  load: load(3, 0x2b),
  equal: binary(0x61),
  greater: binary(0x64),
};

export const v128 = {
  load: load(3, ...vector(0)),
  /** Loads one float64 into both lanes. */
  loadSplat: load(3, ...vector(10)),
  store: store(3, ...vector(11)),
  splat: unary(...vector(20)),
  /** The lower lane. */
  first: (a: Code): Code => [...a, ...vector(33), 0],
  /** The lower lane of a, then the lower lane of b. */
  pair: (a: Code, b: Code): Code => [
    ...a,
    ...b,
    ...vector(13),
    ...[0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23],
  ],
  /** The upper lane in both lanes. */
  upper: (a: Code): Code => [
    ...a,
    ...a,
    ...vector(13),
    ...[8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15],
  ],
  sqrt: unary(...vector(239)),
  add: binary(...vector(240)),
  sub: binary(...vector(241)),
  mul: binary(...vector(242)),
  div: binary(...vector(243)),
  /** The smaller or larger of two numbers, as one machine instruction. */
  min: binary(...vector(246)),
  max: binary(...vector(247)),
};

/** A local variable or parameter. */
export interface Variable {
  readonly get: Code;
  set(value: Code): Code;
}

export const when = (condition: Code, yes: Code, no: Code = []): Code =>
  no.length > 0 ? [...condition, 0x04, 0x40, ...yes, 0x05, ...no, 0x0b] : [...condition, 0x04, 0x40, ...yes, 0x0b];

/** Runs the body, and repeats it while the condition holds afterwards. */
export const repeat = (body: Code, condition: Code): Code => [0x03, 0x40, ...body, ...condition, 0x0d, 0x00, 0x0b];

/** Collects the variables of a function, so that code refers to them by name. */
export class FunctionBuilder {
  readonly #types: Type[] = [];
  #parameters = 0;

  parameter(type: Type): Variable {
    this.#parameters++;
    return this.local(type);
  }

  local(type: Type): Variable {
    const index = unsigned(this.#types.push(type) - 1);
    return { get: [0x20, ...index], set: (value) => [...value, 0x21, ...index] };
  }

  signature(): Code {
    return [0x60, ...list(this.#types.slice(0, this.#parameters).map((type) => [typeCodes[type]])), 0];
  }

  code(body: Code): Code {
    const locals = this.#types.slice(this.#parameters).map((type): Code => [1, typeCodes[type]]);
    return sized([...list(locals), ...body, 0x0b]);
  }
}

/** A module of functions without results, with one memory that it exports as "memory". */
export function assemble(
  functions: Readonly<Record<string, { signature: Code; code: Code }>>,
): Uint8Array<ArrayBuffer> {
  const name = (text: string): Code => sized([...new TextEncoder().encode(text)]);
  const entries = Object.entries(functions);
  const section = (id: number, content: Code): Code => [id, ...sized(content)];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, list(entries.map(([, { signature }]) => signature))),
    ...section(3, list(entries.map((_, i) => unsigned(i)))),
    ...section(5, list([[0, ...unsigned(1)]])),
    ...section(
      7,
      list([[...name("memory"), 2, 0], ...entries.map(([key], i): Code => [...name(key), 0, ...unsigned(i)])]),
    ),
    ...section(10, list(entries.map(([, { code }]) => code))),
  ]);
}
