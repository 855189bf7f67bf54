/** EasyCache on an affine network, c * x + d, whose rate of change is |c| wherever it is measured. */
import { describe, expect, it } from "vitest";
import { EasyCache, type EasyCacheOptions } from "../../src/caching/easy-cache.ts";
import { PlainDenoiser } from "../../src/sampling/denoiser.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare, entry } from "../../src/verify/compare.ts";
import { kinds, tinyTransformer, trajectory } from "../support/tiny-transformer.ts";
import { compileModel, times, toyModel, toyTensor, writeToy } from "../support/toy-model.ts";

/** y = -2 x + 10 on every channel. */
const affine = { embed: [4, 4, 4, 4], blocks: [12, 8].map((a) => [-a, -a, -a, -a]), out: [-0.5, -0.5, -0.5, -0.5] };
const flat = (value: number) => toyTensor(1, () => value);

async function run(inputs: readonly number[], options: EasyCacheOptions) {
  const cache = new EasyCache(await compileModel(toyModel(2), await writeToy(affine)), options);
  const outputs: number[] = [];
  for (const [index, x] of inputs.entries()) {
    const feeds = { hiddenStates: flat(x), timestep: times(1) };
    const { data } = await cache.run(feeds, { index, steps: inputs.length, timestep: 1 });
    expect(new Set(data).size).toBe(1);
    outputs.push(data[0]!);
  }
  return { full: cache.actions.flatMap((action, i) => (action === "full" ? [i] : [])), outputs };
}

describe("EasyCache", () => {
  it("leaves steps out while rate * input change / output, summed from step to step, is below the threshold", async () => {
    // x falls by 0.5 a step, so y rises by 1. After a full step with output y, m steps have accumulated m / y.
    const inputs = Array.from({ length: 16 }, (_, i) => -0.5 * i);
    const { full, outputs } = await run(inputs, { threshold: 0.25, start: 0, end: 1 });
    // Full: 0 and 1, between which the rate is measured; then while m / 11 < 0.25, so m <= 2; from step 4, y = 14 and
    // m <= 3; from step 8, y = 18 and m <= 4; from step 13, y = 23 and m <= 5, but the last step is full.
    expect(full).toEqual([0, 1, 4, 8, 13, 15]);
    for (const [i, y] of outputs.entries()) {
      const last = full.filter((step) => step <= i).at(-1)!;
      expect(y, `step ${i}`).toBeCloseTo(10 - 2 * inputs[last]! + (inputs[i]! - inputs[last]!), 5);
    }
  });

  it("counts the way that the input goes, there and back", async () => {
    // y of the full steps 0 and 1 is 10 and 12; then x goes 1, -1, 1, ... past -1: 4 / 12 a step.
    const { full } = await run([0, -1, 1, -1, 1, -1, 0, 0], { threshold: 0.9, start: 0, end: 1 });
    // 1/3, 2/3, 1: full at step 4 with y = 8, then 4 / 8, 6 / 8, 6 / 8 and the last step.
    expect(full).toEqual([0, 1, 4, 7]);
  });

  it.each<[number, number, number]>([
    [20, 0.15, 0.95],
    [10, 0.15, 0.95],
    [20, 0.55, 0.8],
    [7, 0, 1],
    [40, 0.9, 1],
  ])("of %i steps has only those from share %d to %d left out, and never the last", async (steps, start, end) => {
    const inputs = Array.from({ length: steps }, (_, i) => -0.5 * i);
    const { full } = await run(inputs, { threshold: 1e9, start, end });
    const expected = inputs.flatMap((_, i) => {
      const inside = i >= start * steps - 1e-9 && i < end * steps - 1e-9 && i < steps - 1;
      // The first two are full in any case: nothing is known of the rate.
      return inside && i > 1 ? [] : [i];
    });
    expect(full).toEqual(expected);
  });

  it("runs in full while the input has not moved, which tells nothing of the rate", async () => {
    expect((await run([1, 1, 1, 1], { threshold: 1e9, start: 0, end: 1 })).full).toEqual([0, 1, 2, 3]);
  });

  it.each(kinds)("is the plain run of a tiny %s at threshold 0", async (kind) => {
    const { model, weights } = await tinyTransformer(kind);
    const session = await compileModel(model(), weights);
    const plain = new PlainDenoiser(session);
    const cache = new EasyCache(session, { threshold: 0, start: 0, end: 1 });
    for (const { feeds, step } of trajectory(kind, 5)) {
      expect((await cache.run(feeds, step)).data).toEqual((await plain.run(feeds)).data);
    }
    expect(cache.actions).toEqual(new Array(5).fill("full"));
  });

  it("moves the prediction with the latent and leaves the variance after it as it was", async () => {
    const { model, weights } = await tinyTransformer("pixart");
    const cache = new EasyCache(await compileModel(model(), weights), { threshold: 1e9, start: 0, end: 1 });
    const outputs: FloatTensor[] = [];
    const steps = trajectory("pixart", 4);
    for (const { feeds, step } of steps) outputs.push(await cache.run(feeds, step));
    expect(cache.actions).toEqual(["full", "full", "inner", "full"]);
    const latent = (step: number, row: number) => entry(steps[step]!.feeds["hiddenStates"] as FloatTensor, row).data;
    for (const row of [0, 1]) {
      const [before, after] = [entry(outputs[1]!, row).data, entry(outputs[2]!, row).data];
      const [from, to] = [latent(1, row), latent(2, row)];
      const expected = before.map((value, i) => (i < from.length ? value + (to[i]! - from[i]!) : value));
      expect(before).toHaveLength(2 * from.length);
      expect(compare("sample", after, expected).relative).toBeLessThan(1e-6);
    }
  });
});
