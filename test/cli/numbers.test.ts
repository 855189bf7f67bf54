import { InvalidArgumentError } from "commander";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readDecimal } from "../../src/checks.ts";
import { countBetween, numberBetween } from "../../src/cli/numbers.ts";

describe("a number on the command line", () => {
  it("is what JSON would read, with a point anywhere", () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        expect(readDecimal(JSON.stringify(value))).toBe(JSON.parse(JSON.stringify(value)) + 0);
      }),
    );
    expect([".5", "5.", "1e3", "1E-3", "007", "-0"].map(readDecimal)).toEqual([0.5, 5, 1000, 0.001, 7, 0]);
  });

  it.each([
    "",
    " ",
    " 5 ",
    "5\n",
    "0x10",
    "0b1",
    "0o7",
    "1_000",
    "1,000",
    "1e",
    "e5",
    ".",
    "-",
    "--5",
    "+5",
    "Infinity",
    "NaN",
    "1e999",
    "5n",
    "٣",
    "𝟝",
    "１",
    "null",
    "[5]",
  ])("is not %j", (text) => {
    expect(readDecimal(text)).toBeNaN();
    expect(() => numberBetween(-1e9, 1e9)(text)).toThrow(InvalidArgumentError);
  });

  it("lies within its limits, which the error names", () => {
    expect(numberBetween(0, 1)("1")).toBe(1);
    expect(() => numberBetween(0, 1)("1.01")).toThrow("It must be a number from 0 to 1.");
    expect(countBetween(1, 100)("1e2")).toBe(100);
    expect(() => countBetween(1, 100)("2.5")).toThrow("It must be a whole number from 1 to 100.");
    expect(() => countBetween(1, 100)("-1")).toThrow("It must be a whole number from 1 to 100.");
    expect(() => countBetween(1, 100)("1e3")).toThrow("It must be a whole number from 1 to 100.");
  });
});
