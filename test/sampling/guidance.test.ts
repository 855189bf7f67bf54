import { expect, it } from "vitest";
import { guideHalves, pickRows, repeatRow } from "../../src/sampling/guidance.ts";
import { floatTensor } from "../../src/tensor.ts";

it("picks rows of a batch in any order, as a copy", () => {
  const batch = floatTensor([3, 2, 1], Float32Array.of(1, 2, 3, 4, 5, 6));
  const picked = pickRows(batch, [2, 0, 2, 1]);
  expect(picked).toEqual(floatTensor([4, 2, 1], Float32Array.of(5, 6, 1, 2, 5, 6, 3, 4)));
  picked.data.fill(0);
  expect([...batch.data]).toEqual([1, 2, 3, 4, 5, 6]);
});

it("repeats a row, as a copy each time", () => {
  const batch = floatTensor([2, 2], Float32Array.of(1, 2, 3, 4));
  const repeated = repeatRow(batch, 1, 3);
  expect(repeated).toEqual(floatTensor([3, 2], Float32Array.of(3, 4, 3, 4, 3, 4)));
  repeated.data[0] = 5;
  expect([...repeated.data]).toEqual([5, 4, 3, 4, 3, 4]);
  expect([...batch.data]).toEqual([1, 2, 3, 4]);
});

it("guides from the first half of a batch to the second", () => {
  const both = floatTensor([4, 2], Float32Array.of(0, 1, 2, 3, 10, 1, 4, 0));
  expect(guideHalves(both, 1)).toEqual(floatTensor([2, 2], Float32Array.of(10, 1, 4, 0)));
  expect(guideHalves(both, 3)).toEqual(floatTensor([2, 2], Float32Array.of(30, 1, 8, -6)));
});
