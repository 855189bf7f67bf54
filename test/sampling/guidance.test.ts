import { expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import type { Denoiser } from "../../src/sampling/denoiser.ts";
import {
  checkGuidanceInterval,
  type GuidanceInterval,
  guidedDenoise,
  guideHalves,
  isGuided,
  pickRows,
  repeatRow,
  stack,
} from "../../src/sampling/guidance.ts";
import { type FloatTensor, floatTensor, int64Tensor } from "../../src/tensor.ts";

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

it("stacks batches of any element type", () => {
  expect(stack(int64Tensor([2], [1, 2]), int64Tensor([1], [3]))).toEqual(int64Tensor([3], [1, 2, 3]));
});

it.each<[GuidanceInterval, steps: number, first: number, last: number]>([
  [[0, 1], 3, 0, 2],
  [[0.1, 1], 20, 2, 19],
  [[0.1, 1], 50, 5, 49],
  [[0.1, 1], 9, 0, 8],
  [[0, 0.95], 20, 0, 18],
  // 0.29 * 100 is a hair below 29 in floating point.
  [[0.29, 0.57], 100, 29, 56],
])("guides in %j of %i steps from step %i to %i", (interval, steps, first, last) => {
  const guided = Array.from({ length: steps }, (_, index) => index).filter((index) =>
    isGuided({ index, steps, timestep: 0 }, interval),
  );
  expect([guided[0], guided.at(-1), guided.length]).toEqual([first, last, last - first + 1]);
});

it("guides nowhere in an empty interval", () => {
  for (const index of [0, 1, 2, 3]) expect(isGuided({ index, steps: 4, timestep: 0 }, [0.5, 0.5])).toBe(false);
});

it.each([[[0.5, 0.2]], [[-0.1, 1]], [[0, 1.1]], [[0]], [[0, 0.5, 1]], [[Number.NaN, 1]]])("refuses %j", (interval) => {
  const check = () => checkGuidanceInterval(interval as unknown as GuidanceInterval);
  expect(check).toThrow(ArgumentError);
  expect(check).toThrow(`not [${interval.join(", ")}]`);
});

it("runs the condition's rows alone where there is no guidance, both halves where there is", async () => {
  const seen: (readonly number[])[] = [];
  // Two channels, of which the second is a variance: 10 x + condition, and a thousand.
  const denoiser: Denoiser = {
    actions: [],
    async run({ hiddenStates, timestep, condition }) {
      seen.push([hiddenStates!.shape[0]!, ...(timestep as FloatTensor).data]);
      const of = (row: number) => 10 * (hiddenStates as FloatTensor).data[row]! + (condition as FloatTensor).data[row]!;
      const rows = hiddenStates!.shape[0]!;
      const data = Array.from({ length: rows }, (_, row) => [of(row), 1000]).flat();
      return floatTensor([rows, 2, 1, 1], Float32Array.from(data));
    },
  };
  const denoise = guidedDenoise({
    input: "hiddenStates",
    ...{ denoiser, channels: 1, guidanceScale: 3, guidanceInterval: [0.25, 0.75] as const },
    conditions: { condition: floatTensor([2], Float32Array.of(5, 7)) },
    bothConditions: { condition: floatTensor([4], Float32Array.of(1, 1, 5, 7)) },
  });
  const latents = floatTensor([2, 1, 1, 1], Float32Array.of(2, 4));
  const outputs = [];
  for (const index of [0, 1, 2, 3]) outputs.push([...(await denoise(latents, { index, steps: 4, timestep: 9 })).data]);
  // 20 + 5 and 40 + 7; with guidance 20 + 1 + 3 * 4 and 40 + 1 + 3 * 6.
  expect(outputs).toEqual([
    [25, 47],
    [33, 59],
    [33, 59],
    [25, 47],
  ]);
  expect(seen).toEqual([
    [2, 9, 9],
    [4, 9, 9, 9, 9],
    [4, 9, 9, 9, 9],
    [2, 9, 9],
  ]);
});
