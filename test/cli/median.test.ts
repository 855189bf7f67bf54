import { expect, it } from "vitest";
import { median } from "../../src/cli/median.ts";

it.each<[number[], number]>([
  [[3], 3],
  [[10, 9, 1], 9],
  [[4, 10, 1, 3], 3.5],
])("the median of %j is %d", (values, expected) => {
  const given = [...values];
  expect(median(given)).toBe(expected);
  expect(given).toEqual(values);
});
