/**
 * Half-precision storage formats, IEEE 754 binary16 ("F16") and bfloat16 ("BF16"), to and from float32.
 * Everything works on bit patterns to preserve NaN payloads, which may be lost when a NaN passes through a number.
 */

/** The float32 bits of each binary16 value; 256 KiB, made at first use. A look-up is faster than bit arithmetic. */
let halfTable: Uint32Array | undefined;

/** Widens binary16 bit patterns to float32, exactly. `out` has at least as many elements as `bits`. */
export function halfToFloat(bits: Uint16Array, out = new Float32Array(bits.length)): Float32Array {
  halfTable ??= Uint32Array.from({ length: 0x10000 }, (_, half) => halfToFloatBits(half));
  const words = wordsOf(out);
  for (let i = 0; i < bits.length; i++) words[i] = halfTable[bits[i]!]!;
  return out;
}

/** Rounds float32 to binary16, to nearest with ties to even; from 65520 on, to infinity. */
export function floatToHalf(values: Float32Array, out = new Uint16Array(values.length)): Uint16Array {
  const words = wordsOf(values);
  for (let i = 0; i < words.length; i++) out[i] = floatToHalfBits(words[i]!);
  return out;
}

/** Widens bfloat16 bit patterns to float32, exactly. `out` has at least as many elements as `bits`. */
export function bfloatToFloat(bits: Uint16Array, out = new Float32Array(bits.length)): Float32Array {
  const words = wordsOf(out);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return out;
}

/** Rounds float32 to bfloat16, to nearest with ties to even. */
export function floatToBfloat(values: Float32Array, out = new Uint16Array(values.length)): Uint16Array {
  const words = wordsOf(values);
  for (let i = 0; i < words.length; i++) out[i] = floatToBfloatBits(words[i]!);
  return out;
}

function wordsOf(floats: Float32Array): Uint32Array {
  return new Uint32Array(floats.buffer, floats.byteOffset, floats.length);
}

function halfToFloatBits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent !== 0) return sign | ((exponent + 127 - 15) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  // Subnormal, mantissa * 2^-24: shift its leading one up to where float32 leaves it implicit.
  const shift = Math.clz32(mantissa) - 21;
  return sign | ((127 - 14 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13);
}

function floatToHalfBits(float: number): number {
  const sign = (float >>> 16) & 0x8000;
  const magnitude = float & 0x7fffffff;
  // A NaN keeps its upper payload bits; one whose payload is all in the lower bits must not turn into infinity.
  if (magnitude > 0x7f800000) return sign | 0x7c00 | ((magnitude >>> 13) & 0x3ff || 0x200);
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520, halfway between the largest half and 2^16
  if (magnitude >= 0x38800000) {
    // 2^-14, the smallest normal half. A mantissa that rounds up to 2 carries into the exponent, as it should.
    const rebiased = magnitude - ((127 - 15) << 23);
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
  }
  if (magnitude <= 0x33000000) return sign; // 2^-25, halfway between zero and the smallest subnormal
  // Subnormal: the value in units of 2^-24, rounded.
  const shift = 126 - (magnitude >>> 23);
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const quotient = significand >>> shift;
  const remainder = significand & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return sign | (quotient + (remainder > tie || (remainder === tie && (quotient & 1) === 1) ? 1 : 0));
}

function floatToBfloatBits(float: number): number {
  const upper = float >>> 16;
  if ((float & 0x7fffffff) > 0x7f800000) return (upper & 0x7f) === 0 ? upper | 0x40 : upper;
  return (float + 0x7fff + (upper & 1)) >>> 16;
}
