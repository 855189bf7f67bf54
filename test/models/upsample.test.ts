import { describe, expect, it } from "vitest";
import { toOnnx } from "../../src/graph/onnx.ts";
import { conv2d, upsampleNearest } from "../../src/graph/operators.ts";
import { input } from "../../src/graph/value.ts";
import { upsampleConv } from "../../src/models/upsample.ts";
import { parameterWeights, Weights } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { compare } from "../../src/verify/compare.ts";

describe("enlarging before a convolution", () => {
  it.each([
    [1, 3, 2, 1, 1],
    [2, 5, 4, 3, 7],
    [4, 16, 32, 8, 8],
  ])("%d pictures, %d to %d channels, %d x %d: is the convolution of the enlarged picture", async (...sizes) => {
    const [batch, inner, out, height, width] = sizes;
    const weights = new Weights(parameterWeights("").source);
    const [kernel, bias] = [weights.tensor("weight", [out, inner, 3, 3]), weights.tensor("bias", [out])];
    const x = input("x", ["batch", inner, height, width]);
    const graph = toOnnx({
      actual: upsampleConv(x, weights, out),
      expected: conv2d(upsampleNearest(x), kernel, bias, { padding: 1 }),
    });
    const noise = new TorchGenerator(7);
    const session = await nodeRuntime.compile(graph);
    const { actual, expected } = await session.run({
      x: noise.randn([batch, inner, height, width]),
      weight: noise.randn([out, inner, 3, 3]),
      bias: noise.randn([out]),
    });
    expect(actual!.shape).toEqual([batch, out, 2 * height, 2 * width]);
    expect(compare("pixels", actual!.data as Float32Array, expected!.data as Float32Array).relative).toBeLessThan(3e-6);
    await session.release();
  });
});
