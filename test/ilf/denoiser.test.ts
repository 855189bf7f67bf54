/** Full and inner steps: against numbers worked out by hand, plain caching written out, and the whole network. */
import { beforeAll, describe, expect, it } from "vitest";
import { constant } from "../../src/graph/value.ts";
import { type FeedbackConfig, feedbackCuts } from "../../src/ilf/config.ts";
import { carriedOn, IlfDenoiser, type IlfSessions } from "../../src/ilf/denoiser.ts";
import { feedbackModel } from "../../src/ilf/feedback.ts";
import { describeModel, weightShapes } from "../../src/models/architecture.ts";
import { blockRange, segmentModel } from "../../src/models/segments.ts";
import { StagedSession } from "../../src/models/staged.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type Feeds, runSegments } from "../../src/sampling/denoiser.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type Action, type Schedule, scheduled } from "../../src/sampling/step-policy.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
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

const config = (feedBlock: number, resumeBlock: number, extra: Partial<FeedbackConfig> = {}): FeedbackConfig => ({
  ...{ feedBlock, resumeBlock, embeddingChange: false, trend: false, schedule: { every: 2 }, backbone: "" },
  ...extra,
});

describe("an inner step goes on from h + embedding change + trendScale * trend + scale * (F(h) - h)", () => {
  const four = (value: number) => [value, value, value, value];

  /** x + 2 t after the first block, + 3 t after the second; the module's block adds 4 t. */
  async function outputs(extra: Pick<FeedbackConfig, "embeddingChange" | "trend">): Promise<number[]> {
    const model = toyModel(2);
    const weights = await writeToy({ embed: four(1), blocks: [four(2), four(3)], out: four(1) });
    const module = feedbackModel(model, config(1, 1, extra));
    const own = { "block.weight": four(4), scale: four(0.5), ...(extra.trend && { trend_scale: four(0.25) }) };
    expect([...weightShapes(module).keys()].sort()).toEqual(Object.keys(own).sort());
    const feedback = await compileModel(module, await writeVectors(own));
    const { cuts, feed, resume } = feedbackCuts(model, config(1, 1));
    const sessions: IlfSessions = {
      parts: await compileParts(model, weights, cuts),
      feed,
      resume,
      feedback: async (feeds) => (await feedback.run(feeds))["hiddenStates"] as FloatTensor,
    };
    const schedule: Action[] = ["full", "full", "inner", "inner", "full", "inner"];
    const denoiser = new IlfDenoiser(sessions, scheduled(schedule));
    const [x, t] = [
      [1, 2, 4, 5, 5, 3],
      [8, 6, 4, 2, 1, 0.5],
    ] as const;
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
});

describe("a limit on drift", () => {
  /** Features that grow by a tenth at every inner step, so that drift is a tenth of the inner steps since the last full one. */
  async function actions(mostDrift: number | undefined): Promise<string> {
    const model = toyModel(2);
    const ones = [1, 1, 1, 1];
    const weights = await writeToy({ embed: ones, blocks: [ones, ones], out: ones });
    const { cuts, feed, resume } = feedbackCuts(model, config(1, 1));
    const feedback = async ({ carried }: Feeds) => {
      const { data } = carried as FloatTensor;
      return { ...carried, data: data.map((value) => 1.1 * value) } as FloatTensor;
    };
    const sessions = { parts: await compileParts(model, weights, cuts), feed, resume, feedback };
    const denoiser = new IlfDenoiser(sessions, scheduled({ every: 5 }), mostDrift);
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
      const { cuts, feed, resume } = feedbackCuts(model(), config(feedBlock, resumeBlock));
      const parts = await compileParts(model(), weights, cuts);
      return new IlfDenoiser({ parts, feed, resume, feedback }, scheduled(policy));
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
      const zero = await open(async (feeds) => (await session.run(feeds))["hiddenStates"] as FloatTensor, schedule);
      const cache = await open(carriedOn, schedule);
      for (const { feeds, step } of trajectory(kind, schedule.length)) {
        expect((await zero.run(feeds, step)).data).toEqual((await cache.run(feeds, step)).data);
      }
      expect(zero.actions).toEqual(schedule);
    });

    it("keeps the features of the last full step in plain caching", async () => {
      const { model, weights } = tiny;
      const { first } = blockRange(model());
      const [head] = await compileParts(model(), weights, [first + feedBlock]);
      const [enter, tail] = await compileParts(model(), weights, [first + resumeBlock]);
      const whole = await compileModel(model(), weights);
      const cache = await open(carriedOn, schedule);
      let kept: Feeds = {};
      for (const { feeds, step } of trajectory(kind, schedule.length)) {
        const actual = await cache.run(feeds, step);
        let expected: FloatTensor;
        if (schedule[step.index] === "full") {
          kept = await head!.run(feeds);
          expected = (await whole.run(feeds))["sample"] as FloatTensor;
        } else {
          const features = await runSegments([enter!], feeds);
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
        expect(actual).toEqual((await runSegments(parts, feeds))["sample"]!.data);
        // Compiled as one, operators beside a cut may be fused: the same up to rounding.
        const { sample } = await whole.run(feeds);
        expect(compare("sample", actual, sample!.data).relative).toBeLessThan(1e-5);
      }
      expect(denoiser.actions).toEqual(["full", "full", "full"]);
    });
  });
});

describe("a feedback module", () => {
  it("asks for the weights of one block, and a scale a channel", async () => {
    const { model } = await tinyTransformer("pixart");
    const backbone = model();
    const { first } = blockRange(backbone);
    const own = weightShapes(feedbackModel(backbone, config(2, 2, { trend: true })));
    const block = [...weightShapes(segmentModel(backbone, [first + 1, first + 2])[1]!)];
    const expected = block.map(([name, shape]) => [name.replace("transformer_blocks.1.", "block."), shape] as const);
    expect(own).toEqual(new Map([...expected, ["scale", [16]], ["trend_scale", [16]]] as const));
    expect(describeModel(feedbackModel(backbone, config(2, 2)))).toContain("feedback of PixArtTransformer2DModel");
  });
});
