/** A model in parts gives what the whole gives, wherever it is cut. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { concat } from "../../src/graph/operators.ts";
import type { Stage } from "../../src/models/architecture.ts";
import { blocksOf, splitModel } from "../../src/models/split-model.ts";
import { runParts } from "../../src/sampling/denoiser.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { kinds, tinyTransformer, trajectory } from "../support/tiny-transformer.ts";
import { compileModel, compileParts, toyModel } from "../support/toy-model.ts";

describe.each(kinds)("a tiny %s", (kind) => {
  it("is the same cut at any stages", async () => {
    const { model, weights } = await tinyTransformer(kind);
    const whole = model();
    const { feeds } = trajectory(kind, 1)[0]!;
    const session = await compileModel(whole, weights);
    const expected = (await session.run(feeds))["sample"] as FloatTensor;
    const every = whole.stages.slice(1).map((_, i) => i + 1);
    const some = fc.subarray(every, { minLength: 1 });
    const check = async (cuts: readonly number[]) => {
      const parts = await compileParts(whole, weights, cuts);
      const { sample } = await runParts(parts, feeds);
      expect(compare("sample", sample!.data, expected.data).relative, `cut at ${cuts}`).toBeLessThan(1e-5);
      await Promise.all(parts.map((part) => part.release()));
    };
    await check(every);
    await fc.assert(fc.asyncProperty(some, check), { numRuns: 8, seed: 1 });
  });

  it("has parts that take and give no more than crosses their borders", async () => {
    const { model } = await tinyTransformer(kind);
    const whole = model();
    const parts = splitModel(
      whole,
      whole.stages.slice(1).map((_, i) => i + 1),
    );
    const declared = whole.stages.map(({ reads, writes }) => ({
      reads: [...reads].sort(),
      writes: [...writes].sort(),
    }));
    expect(
      parts.map(({ inputs, outputs }) => ({ reads: Object.keys(inputs).sort(), writes: [...outputs].sort() })),
    ).toEqual(declared);
  });

  it("has its blocks between an input and an output layer", async () => {
    const { model } = await tinyTransformer(kind, { layers: 3 });
    const { stages } = model();
    const { first, end } = blocksOf(model());
    expect(stages.slice(first, end).map(({ name }) => name)).toEqual([0, 1, 2].map((i) => `transformer_blocks.${i}`));
  });
});

describe("cuts", () => {
  const model = toyModel(2); // four stages

  it("leave a model whole when there are none", () => {
    const [only, ...others] = splitModel(model, []);
    expect(others).toEqual([]);
    expect(only!.stages).toEqual(model.stages);
  });

  it.each([[[0]], [[4]], [[2, 2]], [[3, 1]], [[-1]], [[1.5]], [[Number.NaN]], [[1, 9]]])("cannot be %j", (cuts) => {
    expect(() => splitModel(model, cuts)).toThrow(ArgumentError);
    expect(() => splitModel(model, cuts)).toThrow(`Toy has 4 stages; it cannot be cut at [${cuts.join(", ")}].`);
  });
});

describe("blocksOf", () => {
  const { stages, ...rest } = toyModel(2);
  const [enter, one, two, leave] = stages as [Stage, Stage, Stage, Stage];

  const cases: readonly [string, Stage[]][] = [
    ["without blocks", [enter, leave]],
    ["that begins with a block", [one, two, leave]],
    ["that ends with a block", [enter, one, two]],
    ["with a stage between its blocks", [enter, one, leave, two, leave]],
  ];

  it.each(cases)("refuses a model %s", (_, changed) => {
    expect(() => blocksOf({ ...rest, stages: changed })).toThrow(ArgumentError);
    expect(() => blocksOf({ ...rest, stages: changed })).toThrow("Toy is not a row of blocks");
  });

  it("refuses a model whose features have another name after every stage, as a UNet's", () => {
    const { streams: _, ...named } = rest;
    expect(() => blocksOf({ ...named, stages })).toThrow(ArgumentError);
    expect(() => blocksOf({ ...named, stages })).toThrow("Toy has no features that run through its blocks");
  });
});

describe("what runs through the blocks", () => {
  const { stages, ...rest } = toyModel(2);
  const [enter, one, two, leave] = stages as [Stage, Stage, Stage, Stage];

  it("must be there before the first", () => {
    const model = { ...rest, streams: ["hiddenStates", "words"], stages };
    expect(() => splitModel(model, [1])).toThrow(ArgumentError);
    expect(() => splitModel(model, [1])).toThrow('before stage "transformer_blocks.0" the feature "words"');
  });

  it("must have one shape before and after each, whether or not the blocks can do with another", () => {
    const twice: Stage = {
      ...two,
      build: ({ hiddenStates }) => ({ hiddenStates: concat([hiddenStates!, hiddenStates!], 1) }),
    };
    const model = { ...rest, stages: [enter, one, twice, leave] };
    expect(splitModel(model, [1, 2])).toHaveLength(3);
    expect(() => splitModel(model, [1, 3])).toThrow(ArgumentError);
    expect(() => splitModel(model, [1, 3])).toThrow("is [batch, 6, 4], but [batch, 3, 4] earlier");
  });
});
