import { expect, it } from "vitest";
import { median, trimmedMean } from "../../src/cli/bench/averages.ts";

it.each<[number[], number]>([
  [[3], 3],
  [[10, 9, 1], 9],
  [[4, 10, 1, 3], 3.5],
])("the median of %j is %d", (values, expected) => {
  const given = [...values];
  expect(median(given)).toBe(expected);
  expect(given).toEqual(values);
});

it("the trimmed mean leaves out a tenth on either side, and nothing of fewer than ten", () => {
  expect(trimmedMean([1000, 2, 3, 4, 5, 6, 7, 8, 9, 0])).toBe(5.5); // (2 + ... + 9) / 8
  expect(trimmedMean([1, 2, 9])).toBe(4);
});
