import { describe, expect, it } from "vitest";
import { ShapeError } from "../src/errors.ts";
import { floatOf, floatTensor, int64Tensor } from "../src/tensor.ts";

describe("a network's outputs", () => {
  const outputs = { sample: floatTensor([1], Float32Array.of(2)), ids: int64Tensor([1], [3]) };

  it("are found by name, if they are float32", () => {
    expect(floatOf(outputs, "sample")).toBe(outputs.sample);
  });

  it.each([
    ["ids", '"ids" should be a float32 tensor, but is int64.'],
    ["noise", '"noise" should be a float32 tensor, but is missing; there are sample, ids.'],
    ["constructor", '"constructor" should be a float32 tensor, but is missing'],
  ])("of another type, or missing, are an error: %s", (name, message) => {
    expect(() => floatOf(outputs, name)).toThrow(ShapeError);
    expect(() => floatOf(outputs, name)).toThrow(message);
  });
});
