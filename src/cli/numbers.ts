/** Numbers on the command line. */
import { InvalidArgumentError } from "commander";
import { readDecimal } from "../checks.ts";

/** A number within limits, in decimal notation (12, 0.5, 1e6); commander names the option in its error. */
export function numberBetween(least: number, most: number, { whole = false } = {}): (text: string) => number {
  return (text) => {
    const value = readDecimal(text);
    if (!(value >= least && value <= most) || (whole && !Number.isInteger(value))) {
      throw new InvalidArgumentError(`It must be a ${whole ? "whole " : ""}number from ${least} to ${most}.`);
    }
    return value;
  };
}

/** A count within limits. Every count has an upper limit, so that a typing mistake is an error and not a hang. */
export const countBetween = (least: number, most: number) => numberBetween(least, most, { whole: true });
