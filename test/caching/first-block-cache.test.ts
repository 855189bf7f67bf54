/** First-block cache on a network whose first block adds t * a, so that its relative change is that of t. */
import { describe, expect, it } from "vitest";
import { FirstBlockCache } from "../../src/caching/first-block-cache.ts";
import { blocksOf } from "../../src/models/split-model.ts";
import type { StagedSession } from "../../src/models/staged-session.ts";
import { type Denoiser, PlainDenoiser } from "../../src/sampling/denoiser.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { kinds, tinyTransformer, trajectory } from "../support/tiny-transformer.ts";
import { compileModel, compileParts, times, toyModel, toyTensor, toyWeights, writeToy } from "../support/toy-model.ts";

type Four = [StagedSession, StagedSession, StagedSession, StagedSession];

/** x * embed + t * a0, then the second block's t * a1 of its own step, then * out. */
const toyOutput = (x: FloatTensor, first: number, second: number) =>
  toyTensor(1, (_, patch, i) => {
    const { embed, blocks, out } = toyWeights;
    return (x.data[4 * patch + i]! * embed[i]! + first * blocks[0]![i]! + second * blocks[1]![i]!) * out[i]!;
  });

const runAll = async (denoiser: Denoiser, timesteps: readonly number[], x: FloatTensor) => {
  const outputs: FloatTensor[] = [];
  for (const [index, timestep] of timesteps.entries()) {
    const feeds = { hiddenStates: x, timestep: times(timestep) };
    outputs.push(await denoiser.run(feeds, { index, steps: timesteps.length, timestep }));
  }
  return outputs;
};

describe("first-block cache", () => {
  it("leaves the other blocks out while the first one's residual has changed by less than the threshold", async () => {
    const parts = (await compileParts(toyModel(2), await writeToy(), [1, 2, 3])) as Four;
    const cache = new FirstBlockCache(parts, { threshold: 0.25 });
    const x = toyTensor(1, (_, patch, i) => 0.3 * patch - 0.2 * i);
    // |t - t of the last full step| / t of the last full step
    const timesteps = [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.55, 0.7];
    const changes = [null, 0.1, 0.2, 0.3, 0.1 / 0.7, 0.2 / 0.7, 0.05 / 0.5, 0.2 / 0.5];
    const lastFull = [1, 1, 1, 0.7, 0.7, 0.5, 0.5, 0.7];
    const outputs = await runAll(cache, timesteps, x);
    expect(cache.actions).toEqual(changes.map((change) => (change === null || change > 0.25 ? "full" : "inner")));
    for (const [i, output] of outputs.entries()) {
      const expected = toyOutput(x, timesteps[i]!, lastFull[i]!);
      expect(compare("sample", output.data, expected.data).relative, `step ${i}`).toBeLessThan(1e-6);
    }
  });

  it("runs them at a change of exactly the threshold, as ParaAttention does", async () => {
    const ones = { embed: [1, 1, 1, 1], blocks: [2, 4].map((a) => [a, a, a, a]), out: [1, 1, 1, 1] };
    const parts = (await compileParts(toyModel(2), await writeToy(ones), [1, 2, 3])) as Four;
    const cache = new FirstBlockCache(parts, { threshold: 0.25 });
    await runAll(
      cache,
      [1, 0.75, 0.75],
      toyTensor(1, () => 0),
    );
    expect(cache.actions).toEqual(["full", "full", "inner"]);
  });

  it("has the default of 0.05", async () => {
    const parts = (await compileParts(toyModel(2), await writeToy(), [1, 2, 3])) as Four;
    const cache = new FirstBlockCache(parts);
    await runAll(
      cache,
      [1, 0.96, 0.94, 0.9],
      toyTensor(1, () => 1),
    );
    expect(cache.actions).toEqual(["full", "inner", "full", "inner"]);
  });

  it.each(kinds)("is the plain run of a tiny %s at threshold 0, and one full step at a huge one", async (kind) => {
    const { model, weights } = await tinyTransformer(kind);
    const { first, end } = blocksOf(model());
    const parts = (await compileParts(model(), weights, [first, first + 1, end])) as Four;
    const plain = new PlainDenoiser(await compileModel(model(), weights));
    const never = new FirstBlockCache(parts, { threshold: 0 });
    const always = new FirstBlockCache(parts, { threshold: 1e9 });
    for (const { feeds, step } of trajectory(kind, 4)) {
      const expected = await plain.run(feeds);
      expect(compare("sample", (await never.run(feeds)).data, expected.data).relative).toBeLessThan(1e-5);
      const reused = compare("sample", (await always.run(feeds)).data, expected.data).relative;
      if (step.index === 0) expect(reused).toBeLessThan(1e-5);
      else expect(reused).toBeGreaterThan(1e-3);
    }
    expect(never.actions).toEqual(["full", "full", "full", "full"]);
    expect(always.actions).toEqual(["full", "inner", "inner", "inner"]);
  });
});
