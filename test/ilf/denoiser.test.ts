/** Full and inner steps: against numbers worked out by hand, plain caching written out, and the whole network. */
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { blockCuts } from "../../src/caching/block-cuts.ts";
import { PlainCache } from "../../src/caching/plain-cache.ts";
import { fileSource } from "../../src/checkpoints/node.ts";
import { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { WeightFiles } from "../../src/checkpoints/weights.ts";
import { constant } from "../../src/graph/value.ts";
import { type FeedbackConfig, feedbackCuts } from "../../src/ilf/config.ts";
import { IlfDenoiser } from "../../src/ilf/denoiser.ts";
import { feedbackModel } from "../../src/ilf/feedback-module.ts";
import { FEEDBACK_PREFIX, type IlfSessions, StepsInParts, WholeSteps, wholeSteps } from "../../src/ilf/steps.ts";
import { describeModel, type StagedModel, weightShapes } from "../../src/models/architecture.ts";
import { blocksOf, splitModel } from "../../src/models/split-model.ts";
import { StagedSession } from "../../src/models/staged-session.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type Feeds, runParts } from "../../src/sampling/denoiser.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type Action, type Schedule, scheduled } from "../../src/sampling/step-policy.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { type Additions, moduleWith } from "../support/feedback.ts";
import { temporaryFolder } from "../support/models.ts";
import { kinds, tinyTransformer, trajectory } from "../support/tiny-transformer.ts";
import {
  compileModel,
  compileParts,
  times,
  toyModel,
  toyTensor,
  writeToy,
  writeVectors,
} from "../support/toy-model.ts";

const config = (feedBlock: number, resumeBlock: number, additions: Additions = {}): FeedbackConfig => ({
  ...{ feedBlock, resumeBlock, module: moduleWith(additions) },
  ...{ schedule: { every: 2 }, backbone: "" },
});

/** A backbone and a feedback module ready to run: in parts that full and inner steps share, or as one call each. */
const compilations = {
  "in parts": async (model: StagedModel, settings: FeedbackConfig, weights: WeightFiles, own: WeightFiles) => {
    const feedback = await compileModel(feedbackModel(model, settings), own);
    const { cuts, ...places } = feedbackCuts(model, settings);
    return new StepsInParts({
      parts: await compileParts(model, weights, cuts),
      ...places,
      feedback: (feeds) => feedback.run(feeds),
    });
  },
  "as one call": async (model: StagedModel, settings: FeedbackConfig, weights: WeightFiles, own: WeightFiles) => {
    const { full, inner } = wholeSteps(model, settings);
    const all = weights.joined(
      own.renamed((name) => FEEDBACK_PREFIX + name),
      "module",
    );
    return new WholeSteps(await compileModel(full, weights), await compileModel(inner, all));
  },
};

describe.each(Object.entries(compilations))(
  "an inner step %s goes on from h + embedding change + trendScale * trend + scale * (F(h) - h)",
  (_, compile) => {
    const four = (value: number) => [value, value, value, value];

    /** x + 2 t after the first block, + 3 t after the second; the module's block adds 4 t. */
    async function outputs(extra: Additions): Promise<number[]> {
      const own = { "block.weight": four(4), scale: four(0.5), ...(extra.trend && { trend_scale: four(0.25) }) };
      return run(extra, await writeVectors(own));
    }

    const [x, t] = [
      [1, 2, 4, 5, 5, 3],
      [8, 6, 4, 2, 1, 0.5],
    ] as const;

    async function run(extra: Additions, own: WeightFiles): Promise<number[]> {
      const model = toyModel(2);
      const weights = await writeToy({ embed: four(1), blocks: [four(2), four(3)], out: four(1) });
      const module = feedbackModel(model, config(1, 1, extra));
      expect([...weightShapes(module).keys()].sort()).toEqual([...own.entries.keys()].sort());
      const steps = await compile(model, config(1, 1, extra), weights, own);
      const schedule: Action[] = ["full", "full", "inner", "inner", "full", "inner"];
      const denoiser = new IlfDenoiser(steps, scheduled(schedule));
      const results: number[] = [];
      for (const [index, timestep] of t.entries()) {
        const feeds = { hiddenStates: toyTensor(1, () => x[index]!), timestep: times(timestep) };
        const { data } = await denoiser.run(feeds, { index, steps: 6, timestep });
        expect(new Set(data).size).toBe(1);
        results.push(data[0]!);
      }
      expect(denoiser.actions).toEqual(schedule);
      return results;
    }

    const near = (actual: readonly number[], expected: readonly number[]) => {
      for (const [i, value] of expected.entries()) expect(actual[i], `step ${i}`).toBeCloseTo(value, 5);
    };

    it("with neither change nor trend", async () => {
      // Carried: 17, 14, 14 + 8, 22 + 4, 7, 7 + 1; the second block adds 3 t.
      near(await outputs({ embeddingChange: false, trend: false }), [41, 32, 22 + 12, 26 + 6, 10, 8 + 1.5]);
    });

    it("with the change of the embedding, from step to step", async () => {
      // The input goes 2 -> 4 -> 5 over the inner steps, and 5 -> 3 in the last.
      near(await outputs({ embeddingChange: true, trend: false }), [41, 32, 24 + 12, 29 + 6, 10, 6 + 1.5]);
    });

    it("with the trend of the last two full steps, by the steps between them", async () => {
      // 17 -> 14 in one step, then 14 -> 7 in three.
      const trends = [-3, -7 / 3];
      const [first, second] = [22 + trends[0]! / 4, 26 + trends[0]! / 2];
      const last = 8 + trends[1]! / 4;
      near(await outputs({ embeddingChange: false, trend: true }), [41, 32, first + 12, second + 6, 10, last + 1.5]);
    });

    it("with both", async () => {
      near(await outputs({ embeddingChange: true, trend: true }), [41, 32, 35.25, 33.5, 10, 7.5 - 7 / 12]);
    });

    it("with what it reads mixed, gated and scaled by the time", async () => {
      const parts = ["change", "embedding", "trend", "features"] as const;
      const mix = { change: 0.3, embedding: -0.2, trend: 0.5, features: 0.1 };
      const gate = { change: 0.4, embedding: -0.6, trend: 0.7, features: 0.25 };
      // The first sinusoid is cos(t / 20); the 33rd, the first after the cosines, sin(t / 20).
      const own = await writeMatrices({
        "block.weight": [[4], (row) => (row < 4 ? 4 : 0)],
        "mix.weight": [[4, 16], (row, column) => (column % 4 === row ? mix[parts[Math.floor(column / 4)]!] : 0)],
        "gate.weight": [[16, 64], (_, column) => (column === 32 ? 2 : 0)],
        "gate.bias": [[16], (row) => gate[parts[Math.floor(row / 4)]!]],
        "scale.weight": [[4, 64], (_, column) => (column === 0 ? 0.8 : 0)],
        "scale.bias": [[4], () => -0.3],
      });
      const actual = await run({ embeddingChange: true, trend: true, mixing: true }, own);
      const expected = [41, 32];
      let features = x[1] + 2 * t[1];
      const trends = [0, 0, -3, -3, 0, -7 / 3];
      for (const i of [2, 3, 4, 5] as const) {
        if (i === 4) {
          features = x[i] + 2 * t[i];
          expected.push(features + 3 * t[i]);
          continue;
        }
        const known = { change: x[i] - x[i - 1]!, embedding: x[i], trend: trends[i]!, features };
        const gates = (name: (typeof parts)[number]) => 1 + gate[name] + 2 * Math.sin(t[i] / 20);
        const mixed = parts.reduce((sum, name) => sum + mix[name] * gates(name) * known[name], 0);
        features += known.change + mixed + (0.8 * Math.cos(t[i] / 20) - 0.3) * 4 * t[i];
        expected.push(features + 3 * t[i]);
      }
      near(actual, expected);
    });

    it("through blocks of its own, with the features from before them carried on", async () => {
      const own = { "block.weight": four(4), scale: four(0.5), "own_blocks.0.weight": four(7) };
      const actual = await run({ ownBlocks: true }, await writeVectors(own));
      // As above, but the block after the module adds 7 t in inner steps.
      near(actual, [41, 32, 22 + 28, 26 + 14, 10, 8 + 3.5]);
    });
  },
);

/** Tensors by shape and the value at each row and column. */
async function writeMatrices(
  matrices: Readonly<Record<string, [shape: number[], value: (row: number, column: number) => number]>>,
): Promise<WeightFiles> {
  const tensors = Object.entries(matrices).map(([name, [shape, value]]) => {
    const columns = shape[1] ?? 1;
    const data = floatTensor(shape).data.map((_, i) => value(Math.floor(i / columns), i % columns));
    return [name, floatTensor(shape, data)] as const;
  });
  const path = join(await temporaryFolder(), "matrices.safetensors");
  await writeSafetensors(path, new Map(tensors));
  return WeightFiles.of(await SafetensorsFile.open(await fileSource(path)));
}

describe("a limit on drift", () => {
  /** Features that grow by a tenth at every inner step, so that drift is a tenth of the inner steps since the last full one. */
  async function actions(mostDrift: number | undefined): Promise<string> {
    const model = toyModel(2);
    const ones = [1, 1, 1, 1];
    const weights = await writeToy({ embed: ones, blocks: [ones, ones], out: ones });
    const { cuts, ...places } = feedbackCuts(model, config(1, 1));
    const feedback = async ({ "carried.hiddenStates": carried }: Feeds) => {
      const { shape, data } = carried as FloatTensor;
      const hiddenStates = floatTensor(
        shape,
        data.map((value) => 1.1 * value),
      );
      return { hiddenStates };
    };
    const sessions = { parts: await compileParts(model, weights, cuts), ...places, feedback };
    const denoiser = new IlfDenoiser(new StepsInParts(sessions), scheduled({ every: 5 }), mostDrift);
    for (let index = 0; index < 10; index++) {
      await denoiser.run(
        { hiddenStates: toyTensor(1, () => 1), timestep: times(1) },
        { index, steps: 10, timestep: 1 },
      );
    }
    return denoiser.actions.map((action) => action[0]).join("");
  }

  it.each([
    [undefined, "fiiiifiiii"],
    [0.45, "fiiiifiiii"],
    [0.25, "fiififiifi"],
    [0.15, "fififfifif"],
    [0, "ffffffffff"],
  ])("of %s, beside every fifth step full: %s", async (mostDrift, expected) => {
    expect(await actions(mostDrift)).toBe(expected);
  });
});

describe.each(kinds)("a tiny %s of four blocks", (kind) => {
  const schedule: Action[] = ["full", "inner", "inner", "full", "inner"];
  let tiny: Awaited<ReturnType<typeof tinyTransformer>>;
  beforeAll(async () => {
    tiny = await tinyTransformer(kind);
  });

  describe.each([
    [2, 2],
    [1, 3],
    [3, 1],
    [4, 4],
  ])("fed from block %i into what comes after %i", (feedBlock, resumeBlock) => {
    async function open(feedback: IlfSessions["feedback"], policy: Schedule) {
      const { model, weights } = tiny;
      const { cuts, ...places } = feedbackCuts(model(), config(feedBlock, resumeBlock));
      const parts = await compileParts(model(), weights, cuts);
      return new IlfDenoiser(new StepsInParts({ parts, ...places, feedback }), scheduled(policy));
    }

    async function openCache(policy: Schedule) {
      const { model, weights } = tiny;
      const { cuts, ...places } = blockCuts(model(), { feedBlock, resumeBlock });
      return new PlainCache(await compileParts(model(), weights, cuts), places, scheduled(policy));
    }

    it("is plain caching at scale zero, to the last bit", async () => {
      const { model } = tiny;
      const module = feedbackModel(model(), config(feedBlock, resumeBlock));
      const generator = new TorchGenerator(5);
      const session = await StagedSession.compile(
        nodeRuntime,
        module,
        (name, shape) => {
          const { data } = generator.randn(shape);
          return constant(name === "scale" ? data.fill(0) : data, shape, "float32");
        },
        new Map(),
        { threads: 1 },
      );
      const zero = await open((feeds) => session.run(feeds), schedule);
      const cache = await openCache(schedule);
      for (const { feeds, step } of trajectory(kind, schedule.length)) {
        expect((await zero.run(feeds, step)).data).toEqual((await cache.run(feeds, step)).data);
      }
      expect(zero.actions).toEqual(schedule);
    });

    it("keeps the features of the last full step in plain caching", async () => {
      const { model, weights } = tiny;
      const { first } = blocksOf(model());
      const [head] = await compileParts(model(), weights, [first + feedBlock]);
      const [enter, tail] = await compileParts(model(), weights, [first + resumeBlock]);
      const whole = await compileModel(model(), weights);
      const cache = await openCache(schedule);
      let kept: Feeds = {};
      for (const { feeds, step } of trajectory(kind, schedule.length)) {
        const actual = await cache.run(feeds, step);
        let expected: FloatTensor;
        if (schedule[step.index] === "full") {
          kept = await head!.run(feeds);
          expected = (await whole.run(feeds))["sample"] as FloatTensor;
        } else {
          const features = await runParts([enter!], feeds);
          const { sample } = await tail!.run({ ...features, hiddenStates: kept["hiddenStates"]! });
          expected = sample as FloatTensor;
        }
        expect(compare("sample", actual.data, expected.data).relative, `step ${step.index}`).toBeLessThan(1e-5);
      }
    });

    it("is the network itself when every step is full", async () => {
      const { model, weights } = tiny;
      const { cuts } = feedbackCuts(model(), config(feedBlock, resumeBlock));
      const parts = await compileParts(model(), weights, cuts);
      const whole = await compileModel(model(), weights);
      const denoiser = await open(() => Promise.reject(new Error("no inner step")), { every: 1 });
      for (const { feeds, step } of trajectory(kind, 3)) {
        const actual = (await denoiser.run(feeds, step)).data;
        expect(actual).toEqual((await runParts(parts, feeds))["sample"]!.data);
        // Compiled as one, operators beside a cut may be fused: the same up to rounding.
        const { sample } = await whole.run(feeds);
        expect(compare("sample", actual, sample!.data).relative).toBeLessThan(1e-5);
      }
      expect(denoiser.actions).toEqual(["full", "full", "full"]);
    });
  });
});

describe("steps that are one call each", () => {
  const schedule: Action[] = ["full", "full", "inner", "inner", "full", "inner"];

  const scaled = ({ shape, data }: FloatTensor, by: number) =>
    floatTensor(
      shape,
      data.map((value) => by * value),
    );

  /** Weights of a module that make its part felt. */
  async function randomModule(model: StagedModel, settings: FeedbackConfig): Promise<WeightFiles> {
    const generator = new TorchGenerator(5);
    const path = join(await temporaryFolder(), "feedback.safetensors");
    const tensors = [...weightShapes(feedbackModel(model, settings))].map(
      ([name, shape]) => [name, scaled(generator.randn(shape), name.endsWith("scale") ? 0.1 : 1)] as const,
    );
    await writeSafetensors(path, new Map(tensors));
    return WeightFiles.of(await SafetensorsFile.open(await fileSource(path)));
  }

  it.each(
    kinds.flatMap((kind) =>
      [
        [2, 2],
        [1, 3],
        [3, 1],
        [4, 4],
      ].map(([feedBlock, resumeBlock]) => ({ kind, feedBlock: feedBlock!, resumeBlock: resumeBlock! })),
    ),
  )("give what those in parts do: $kind, $feedBlock into $resumeBlock", async ({ kind, feedBlock, resumeBlock }) => {
    const { model, weights } = await tinyTransformer(kind);
    for (const [both, ...more] of [
      [true, false, false],
      [false, false, false],
      [true, true, false],
      [false, true, true],
      [true, false, true],
    ] as const) {
      const [mixing, ownBlocks] = more;
      const settings = config(feedBlock, resumeBlock, { trend: both, embeddingChange: both, mixing, ownBlocks });
      const own = await randomModule(model(), settings);
      const [parts, whole] = await Promise.all(
        Object.values(compilations).map(
          async (compile) => new IlfDenoiser(await compile(model(), settings, weights, own), scheduled(schedule)),
        ),
      );
      for (const { feeds, step } of trajectory(kind, schedule.length)) {
        const [expected, actual] = [await parts!.run(feeds, step), await whole!.run(feeds, step)];
        expect(compare("sample", actual.data, expected.data).relative, `step ${step.index}`).toBeLessThan(1e-5);
      }
      expect(whole!.actions).toEqual(schedule);
    }
  });

  it.each([2, 3])("are refused by a limit on drift at the same steps: %d", async (mostDrift) => {
    const { model, weights } = await tinyTransformer("pixart");
    const settings = config(2, 2, { trend: true, embeddingChange: true });
    const own = await randomModule(model(), settings);
    const actions = await Promise.all(
      Object.values(compilations).map(async (compile) => {
        const steps = await compile(model(), settings, weights, own);
        const denoiser = new IlfDenoiser(steps, scheduled({ every: 6 }), mostDrift);
        for (const { feeds, step } of trajectory("pixart", 12)) await denoiser.run(feeds, step);
        return denoiser.actions;
      }),
    );
    expect(actions[1]).toEqual(actions[0]);
    // More full steps than the schedule's two, and not all.
    const full = actions[0]!.filter((action) => action === "full").length;
    expect(full).toBeGreaterThan(2);
    expect(full).toBeLessThan(12);
  });

  it("have twice what comes before the blocks and what comes after the module, and nothing else", async () => {
    const { model } = await tinyTransformer("dit");
    const { full, inner, shared } = wholeSteps(model(), config(3, 3));
    const names = (some: StagedModel) => new Set(weightShapes(some).keys());
    const twice = [...names(full)].filter((name) => names(inner).has(name));
    expect(new Set(twice)).toEqual(new Set(shared.flatMap((part) => [...names(part)])));
    expect(names(full)).toEqual(names(model()));
    expect([...names(inner)].some((name) => name.startsWith("transformer_blocks.3."))).toBe(true);
    expect([...names(inner)].some((name) => name.startsWith("transformer_blocks.2."))).toBe(false);
  });
});

describe("a feedback module", () => {
  it("asks for the weights of one block, and a scale a channel", async () => {
    const { model } = await tinyTransformer("pixart");
    const backbone = model();
    const { first } = blocksOf(backbone);
    const own = weightShapes(feedbackModel(backbone, config(2, 2, { trend: true })));
    const block = [...weightShapes(splitModel(backbone, [first + 1, first + 2])[1]!)];
    const expected = block.map(([name, shape]) => [name.replace("transformer_blocks.1.", "block."), shape] as const);
    expect(own).toEqual(new Map([...expected, ["scale", [16]], ["trend_scale", [16]]] as const));
    expect(describeModel(feedbackModel(backbone, config(2, 2)))).toContain("feedback of PixArtTransformer2DModel");
  });
});
