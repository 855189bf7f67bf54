import { describe, expect, it } from "vitest";
import { bfloatToFloat, floatToBfloat, floatToHalf, halfToFloat } from "../../src/checkpoints/half.ts";

/** The value of a binary float with these field widths, straight from IEEE 754's definition. */
function ieee(bits: number, exponentBits: number, mantissaBits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = bits >> (exponentBits + mantissaBits) ? -1 : 1;
  const exponent = (bits >> mantissaBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** mantissaBits - 1)) / 2 ** mantissaBits;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

const all = Uint16Array.from({ length: 0x10000 }, (_, i) => i);
const float32 = (value: number) => Float32Array.of(value);

describe.each([
  { name: "binary16", exponent: 5, mantissa: 10, widen: halfToFloat, narrow: floatToHalf },
  { name: "bfloat16", exponent: 8, mantissa: 7, widen: bfloatToFloat, narrow: floatToBfloat },
])("$name", ({ exponent, mantissa, widen, narrow }) => {
  const infinity = (2 ** exponent - 1) << mantissa;

  it("widens every bit pattern to the value that IEEE 754 gives it", () => {
    const floats = widen(all);
    const wrong = all.filter((bits) => !Object.is(floats[bits], ieee(bits, exponent, mantissa)));
    expect([...wrong]).toEqual([]);
  });

  it("gives every bit pattern back, NaN payloads included", () => {
    expect(Buffer.compare(Buffer.from(narrow(widen(all)).buffer), Buffer.from(all.buffer))).toBe(0);
  });

  it("rounds to the nearest neighbour, ties to even", () => {
    // Neighbours differ by one bit pattern; their mean is exact in float32, and so are the floats on either side of it.
    const word = new Uint32Array(1);
    const single = new Float32Array(word.buffer);
    const wrong: number[] = [];
    for (let low = 0; low < infinity; low++) {
      const a = ieee(low, exponent, mantissa);
      // Overflow rounds as if the exponent range had no end.
      const b = low + 1 === infinity ? 2 * a - ieee(low - 1, exponent, mantissa) : ieee(low + 1, exponent, mantissa);
      single[0] = (a + b) / 2;
      const middle = word[0]!;
      for (const [bits, expected] of [
        [middle - 1, low],
        [middle, low % 2 === 0 ? low : low + 1],
        [middle + 1, low + 1],
      ] as const) {
        word[0] = bits;
        const signBit = 1 << (exponent + mantissa);
        if (narrow(single)[0] !== expected || narrow(float32(-single[0]!))[0] !== (expected | signBit))
          wrong.push(bits);
      }
    }
    expect(wrong).toEqual([]);
  });

  it("keeps a NaN whose payload is only in the lost bits a NaN", () => {
    const nan = new Float32Array(Uint32Array.of(0x7f800001).buffer);
    expect(widen(narrow(nan))[0]).toBeNaN();
  });

  it("writes into a view of a larger array", () => {
    const out = new Float32Array(4);
    widen(narrow(float32(1.5)), out.subarray(2));
    expect([...out]).toEqual([0, 0, 1.5, 0]);
  });
});

it.each([
  // From the tables in Wikipedia's "Half-precision floating-point format"
  [0x0001, 0.000000059604645],
  [0x03ff, 0.000060975552],
  [0x0400, 0.00006103515625],
  [0x3555, 0.33325195],
  [0x3bff, 0.99951172],
  [0x3c00, 1],
  [0x3c01, 1.00097656],
  [0x7bff, 65504],
  [0xfc00, -Infinity],
  [0xc000, -2],
])("binary16 0x%s is the published value", (bits, value) => {
  const [float] = halfToFloat(Uint16Array.of(bits));
  expect(float === value || Math.abs(float! / value - 1) < 1e-7).toBe(true);
  expect(floatToHalf(float32(value))[0]).toBe(bits);
});
