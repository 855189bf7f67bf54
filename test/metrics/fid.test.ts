import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { ArgumentError, CheckpointError, NumericError, ShapeError } from "../../src/errors.ts";
import { averagePool2d, maxPool2d } from "../../src/graph/pooling.ts";
import { input } from "../../src/graph/value.ts";
import { resizeBilinear } from "../../src/media/resample.ts";
import { featureStatistics, frechetDistance, frechetDistanceOf } from "../../src/metrics/frechet.ts";
import { Inception } from "../../src/metrics/inception.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { fidInception } from "../../src/models/fid-inception.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { floatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { drawn } from "../support/drawn.ts";
import { fixture, tensors } from "../support/golden.ts";
import { evaluate } from "../support/gradient-error.ts";
import { temporaryFolder } from "../support/models.ts";

// pytorch-fid's network with the same weights.
describe("InceptionV3", () => {
  let folder: NodeFolder;
  beforeAll(async () => {
    folder = new NodeFolder(await temporaryFolder());
    await writeSafetensors(
      join(folder.path, "model.safetensors"),
      drawn(weightShapes(fidInception.model({}, { batch: 1 }))),
    );
  });

  it("gives pytorch-fid's features", async () => {
    const expected = (await tensors(fixture("fid-inception"))).get("image.features")!;
    const size = { batch: 1, height: 75, width: 75 };
    const model = await loadModel(nodeRuntime, fidInception, {}, await openWeights(folder), size, { threads: 1 });
    const image = new TorchGenerator(1).rand([1, 3, 75, 75]);
    const { features } = await model.run({
      image: floatTensor(
        image.shape,
        image.data.map((x) => x * 2 - 1),
      ),
    });
    await model.release();
    expect(compare("features", features!.data, expected.data).relative).toBeLessThan(1e-4);
  });

  it("of pictures of any size, resized as pytorch-fid does", async () => {
    const expected = (await tensors(fixture("fid-inception"))).get("picture.features")!;
    const inception = await Inception.open(folder, nodeRuntime, { threads: 1 });
    const data = Uint8Array.from({ length: 3 * 20 * 13 }, (_, i) => (i * i * 7 + i * 31) % 256);
    const features = await inception.features([{ width: 20, height: 13, data }]);
    expect(features.shape).toEqual([1, 2048]);
    expect(compare("features", features.data, expected.data).relative).toBeLessThan(1e-4);
    const reason = new Error("enough");
    await expect(inception.features([{ width: 1, height: 1, data }], AbortSignal.abort(reason))).rejects.toBe(reason);
    await inception.release();
  });

  it("says how its weights are made", async () => {
    const path = await temporaryFolder();
    await writeFile(join(path, "pt_inception-2015-12-05-6726825d.pth"), "");
    const error = await Inception.open(new NodeFolder(path), nodeRuntime).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toContain('torch.load("pt_inception-2015-12-05-6726825d.pth"), "model.safetensors")');
  });
});

describe("pooling", () => {
  const x = input("x", [1, 1, 3, 4]);
  const values = floatTensor([1, 1, 3, 4], Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, -12));

  it("takes the largest, or the mean of what is in the picture", async () => {
    const results = await evaluate(
      {
        largest: maxPool2d(x, 3, { padding: 1 }),
        halved: maxPool2d(x, 2, { stride: 2 }),
        mean: averagePool2d(x, 3, { padding: 1 }),
      },
      { x: values },
    );
    expect([...results["largest"]!.data]).toEqual([6, 7, 8, 8, 10, 11, 11, 11, 10, 11, 11, 11]);
    expect(results["halved"]).toMatchObject({ shape: [1, 1, 1, 2], data: Float32Array.of(6, 8) });
    expect(results["mean"]!.data[0]).toBeCloseTo((1 + 2 + 5 + 6) / 4, 5);
    expect(results["mean"]!.data[5]).toBeCloseTo(54 / 9, 5);
    expect(results["mean"]!.data[11]).toBeCloseTo((7 + 8 + 11 - 12) / 4, 5);
  });

  it("needs a picture as large as its window", () => {
    expect(() => maxPool2d(x, 5)).toThrow(ShapeError);
    expect(() => averagePool2d(input("y", [3, 3]), 2)).toThrow(ShapeError);
  });
});

describe("bilinear resizing", () => {
  // torch.nn.functional.interpolate(torch.tensor([[[[0., 1., 4.]]]]), (1, n), mode="bilinear") by its formula.
  it("has pixels' middles in common, and the outer pixels beyond them", () => {
    const line = floatTensor([1, 1, 1, 3], Float32Array.of(0, 1, 4));
    const resized = (n: number) => [...resizeBilinear(line, 1, n).data];
    expect(resized(6)).toEqual([0, 0.25, 0.75, 1.75, 3.25, 4]);
    expect(resized(3)).toEqual([0, 1, 4]);
    expect(resized(1)).toEqual([1]);
  });
});

describe("the Fréchet distance of features", () => {
  const features = (seed: number, shape: [number, number], shift = 0, scale = 1) =>
    floatTensor(
      shape,
      new TorchGenerator(seed).randn(shape).data.map((x) => scale * x + shift),
    );

  it.each<[number, number, number]>([
    [5, 40, 8],
    [40, 5, 8],
    [5, 6, 8],
    [8, 8, 8],
    [30, 40, 8],
  ])("of %i and %i rows of %i is that of their covariances", (m, n, width) => {
    const [a, b] = [features(1, [m, width]), features(2, [n, width], 0.5, 2)];
    const expected = frechetDistance(featureStatistics(a), featureStatistics(b));
    expect(frechetDistanceOf(a, b)).toBeCloseTo(expected, 6);
    expect(frechetDistanceOf(a, a)).toBeCloseTo(0, 6);
  });

  it("of two rows each on a line far apart in many dimensions, by hand", () => {
    // Means (0, 0, 3) and (0, 0, 0), variances 2 along the first and 8 along the second axis: 9 + 2 + 8.
    const a = floatTensor([2, 3], Float32Array.of(1, 0, 3, -1, 0, 3));
    const b = floatTensor([2, 3], Float32Array.of(0, 2, 0, 0, -2, 0));
    expect(frechetDistanceOf(a, b)).toBeCloseTo(9 + 2 + 8, 10);
    // The same axis: (sqrt 2 - sqrt 8)^2.
    const c = floatTensor([2, 3], Float32Array.of(2, 0, 3, -2, 0, 3));
    expect(frechetDistanceOf(a, c)).toBeCloseTo(2, 10);
  });

  it("refuses what has no covariance", () => {
    expect(() => frechetDistanceOf(features(1, [1, 4]), features(2, [3, 4]))).toThrow(ArgumentError);
    expect(() => frechetDistanceOf(features(1, [3, 4]), features(2, [3, 5]))).toThrow(ShapeError);
    const broken = floatTensor([2, 4], new Float32Array(8).fill(Number.NaN));
    expect(() => frechetDistanceOf(broken, features(2, [3, 4]))).toThrow(NumericError);
  });
});
