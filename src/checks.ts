/** Reading values that come from outside, for all rooms: the command line, files, callers without types. */

/** Digits with a point and an exponent, if any: what a person writes. No spaces, no 0x10, no Infinity, no empty text. */
const decimal = /^-?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** A finite number in decimal notation; NaN for any other text, so that comparisons with limits refuse it. */
export function readDecimal(text: string): number {
  const value = decimal.test(text) ? Number(text) : Number.NaN;
  // Negative zero is a zero that prints as "-0" and sorts before none.
  return Number.isFinite(value) ? value + 0 : Number.NaN;
}
