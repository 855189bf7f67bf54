/** TaylorSeer on a network whose blocks add (step number ^ power) * a: their series is known. */
import { describe, expect, it } from "vitest";
import { TaylorSeer, type TaylorSeerOptions, taylor } from "../../src/caching/taylor-seer.ts";
import { blocksOf } from "../../src/models/split-model.ts";
import type { StagedSession } from "../../src/models/staged-session.ts";
import { PlainDenoiser } from "../../src/sampling/denoiser.ts";
import { floatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { kinds, tinyTransformer, trajectory } from "../support/tiny-transformer.ts";
import { compileModel, compileParts, times, toyModel, toyTensor, toyWeights, writeToy } from "../support/toy-model.ts";

type Three = [StagedSession, StagedSession, StagedSession];

/** What was done, and at each step the factor f in (x * embed + f * (a0 + a1)) * out. */
async function run(power: number, steps: number, options: TaylorSeerOptions) {
  const parts = (await compileParts(toyModel(2, "batch", power), await writeToy(), [1, 3])) as Three;
  const seer = new TaylorSeer(parts, options);
  const { embed, blocks, out } = toyWeights;
  const factors: number[] = [];
  for (let index = 0; index < steps; index++) {
    const x = toyTensor(1, (_, patch, i) => Math.sin(7 * index + 3 * patch + i));
    const feeds = { hiddenStates: x, timestep: times(index) };
    const { data } = await seer.run(feeds, { index, steps, timestep: index });
    const each = Array.from(data, (y, i) => {
      const channel = i % 4;
      return (y / out[channel]! - x.data[i]! * embed[channel]!) / (blocks[0]![channel]! + blocks[1]![channel]!);
    });
    const mean = each.reduce((a, b) => a + b, 0) / each.length;
    for (const factor of each) expect(Math.abs(factor - mean)).toBeLessThan(1e-5 * Math.max(1, Math.abs(mean)));
    factors.push(mean);
  }
  return { actions: seer.actions, factors };
}

const expectSeries = (factors: readonly number[], expected: readonly number[]) => {
  expect(factors).toHaveLength(expected.length);
  for (const [i, value] of expected.entries()) expect(factors[i], `step ${i}`).toBeCloseTo(value, 3);
};

describe("TaylorSeer", () => {
  it("has the authors' schedule and order for DiT unless told otherwise", async () => {
    const { actions, factors } = await run(1, 11, {});
    const full = actions.flatMap((action, i) => (action === "full" ? [i] : []));
    expect(full).toEqual([0, 1, 5, 9]);
    expectSeries(factors, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    const unless = await run(2, 16, {});
    const given = (order: number) => run(2, 16, { interval: 4, order, warmUp: 2 });
    expect(unless.factors).toEqual((await given(4)).factors);
    expect(unless.factors).not.toEqual((await given(3)).factors);
  });

  it.each([1, 2, 3])("forecasts what changes evenly exactly, at order %i", async (order) => {
    const { actions, factors } = await run(1, 14, { interval: 3, warmUp: 2, order });
    expect(actions.filter((action) => action === "inner")).toHaveLength(8);
    expectSeries(
      factors,
      Array.from({ length: 14 }, (_, i) => i),
    );
  });

  it("forecasts squares with the lag of its backward differences, as worked out by hand", async () => {
    const { factors } = await run(2, 13, { interval: 4, warmUp: 2, order: 2 });
    // Step 1: f = 1, f' = (1 - 0) / 1. Step 5: f = 25, f' = (25 - 1) / 4, f'' = (6 - 1) / 4.
    // Step 9: f = 81, f' = (81 - 25) / 4, f'' = (14 - 6) / 4: (9 + k)^2 - 4 k.
    const then = (f: number, f1: number, f2: number) => [1, 2, 3].map((k) => f + f1 * k + (f2 * k * k) / 2);
    expectSeries(factors, [0, 1, ...then(1, 1, 0), 25, ...then(25, 6, 1.25), 81, ...then(81, 14, 2)]);
    expect(factors[12]).toBeCloseTo(12 ** 2 - 4 * 3, 3);
  });

  it("of order 0 holds what the blocks added at the last full step", async () => {
    const { factors } = await run(2, 10, { interval: 4, warmUp: 2, order: 0 });
    expectSeries(factors, [0, 1, 1, 1, 1, 25, 25, 25, 25, 81]);
  });

  it("follows a policy, but for a first step that it cannot forecast", async () => {
    const { actions, factors } = await run(1, 5, { order: 1, policy: ({ index }) => (index === 2 ? "full" : "inner") });
    expect(actions).toEqual(["full", "inner", "full", "inner", "inner"]);
    expectSeries(factors, [0, 0, 2, 3, 4]);
  });

  it.each(kinds)("is the plain run of a tiny %s when every step is full", async (kind) => {
    const { model, weights } = await tinyTransformer(kind);
    const { first, end } = blocksOf(model());
    const seer = new TaylorSeer((await compileParts(model(), weights, [first, end])) as Three, { interval: 1 });
    const plain = new PlainDenoiser(await compileModel(model(), weights));
    for (const { feeds, step } of trajectory(kind, 4)) {
      const [actual, expected] = [await seer.run(feeds, step), await plain.run(feeds)];
      expect(compare("sample", actual.data, expected.data).relative).toBeLessThan(1e-5);
    }
  });
});

describe("taylor", () => {
  const scalar = (value: number) => floatTensor([1], Float32Array.of(value));

  it("sums derivative i * distance^i / i!", () => {
    // 1 + 2 * 3 + 5 * 9 / 2 + 7 * 27 / 6
    expect(taylor([1, 2, 5, 7].map(scalar), 3).data[0]).toBeCloseTo(61, 5);
    expect(taylor([scalar(4)], 3).data[0]).toBe(4);
    // The series of e^x at 0.
    const ones = new Array(12).fill(scalar(1));
    expect(taylor(ones, 1.5).data[0]).toBeCloseTo(Math.exp(1.5), 5);
  });
});
