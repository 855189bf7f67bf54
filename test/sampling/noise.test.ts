import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { verifyRng } from "../../src/verify/rng-case.ts";
import { fixture, tensors } from "../support/golden.ts";

describe("TorchGenerator", () => {
  // Draws of torch.Generator("cpu") for seeds below and above 2^32, in lengths that take each of its paths.
  it("gives torch.randn's values", async () => {
    const folder = fixture("rng");
    const errors = verifyRng((await folder.json("config.json")) as Record<string, unknown>, await tensors(folder));
    expect(errors).toHaveLength(18);
    for (const { name, maxAbs } of errors) expect(maxAbs, name).toBeLessThanOrEqual(1e-6);
  });

  it("gives 32-bit outputs of the reference Mersenne Twister", () => {
    // mt19937ar.c, init_genrand(5489): 3499211612, 581869302, 3890346734; torch.rand keeps their low 24 bits.
    const expected = [3499211612, 581869302, 3890346734].map((word) => (word & 0xffffff) / 2 ** 24);
    expect([...new TorchGenerator(5489).rand([3]).data]).toEqual(expected);
  });

  it("has the mean and variance of a standard normal, and uniforms in [0, 1)", () => {
    const generator = new TorchGenerator(7);
    const normal = generator.randn([100_003]).data;
    const mean = normal.reduce((a, b) => a + b) / normal.length;
    const variance = normal.reduce((a, b) => a + (b - mean) ** 2, 0) / normal.length;
    expect(Math.abs(mean)).toBeLessThan(0.01);
    expect(Math.abs(variance - 1)).toBeLessThan(0.015);
    const uniform = generator.rand([1000]).data;
    expect(uniform.every((x) => x >= 0 && x < 1)).toBe(true);
  });

  it("uses the low 32 bits of the seed", () => {
    const low = new TorchGenerator(3).randn([2, 9]);
    expect(new TorchGenerator(2n ** 32n + 3n).randn([2, 9])).toEqual(low);
    expect(new TorchGenerator(2n ** 64n - 1n).randn([4])).toEqual(new TorchGenerator(2 ** 32 - 1).randn([4]));
  });

  it.each([-1, 0.5, Number.NaN, 2 ** 60, 2n ** 64n])("refuses the seed %s", (seed) => {
    expect(() => new TorchGenerator(seed)).toThrow(ArgumentError);
  });
});
