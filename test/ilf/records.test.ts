/** What distillation learns from: recorded steps against the denoisers themselves, drawn batches against marked rows. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { type FeedbackConfig, feedbackCuts } from "../../src/ilf/config.ts";
import { IlfDenoiser } from "../../src/ilf/denoiser.ts";
import { type IlfSessions, StepsInParts } from "../../src/ilf/steps.ts";
import { RecordBuffer, type RecordedStep, RecordingDenoiser, type StepRecord } from "../../src/ilf/training/records.ts";
import { blocksOf } from "../../src/models/split-model.ts";
import { type Action, scheduled } from "../../src/sampling/step-policy.ts";
import { type FloatTensor, floatTensor, int64Tensor, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { seededRandom } from "../../training/random.ts";
import { moduleWith } from "../support/feedback.ts";
import { kinds, tinyTransformer, trajectory } from "../support/tiny-transformer.ts";
import { compileModel, compileParts } from "../support/toy-model.ts";

const schedule: Action[] = ["full", "inner", "inner", "full", "inner"];

/** Stands for a trained module: something that is neither the carried features nor the backbone's. */
const feedback: IlfSessions["feedback"] = async (feeds) => {
  const { "carried.hiddenStates": carried, "embedding.hiddenStates": embedding } = feeds as Record<string, FloatTensor>;
  const hiddenStates = floatTensor(
    carried!.shape,
    carried!.data.map((value, i) => 0.9 * value + 0.1 * embedding!.data[i]!),
  );
  return { hiddenStates };
};

describe.each(kinds)("a recorded run of a tiny %s", (kind) => {
  it.each<Pick<FeedbackConfig, "feedBlock" | "resumeBlock">>([
    { feedBlock: 2, resumeBlock: 2 },
    { feedBlock: 1, resumeBlock: 3 },
    { feedBlock: 3, resumeBlock: 1 },
  ])("with %j samples as it is told and records what a full step gives", async (blocks) => {
    const { model, weights } = await tinyTransformer(kind);
    const { cuts, ...places } = feedbackCuts(model(), { ...blocks, module: moduleWith() });
    const sessions: IlfSessions = { parts: await compileParts(model(), weights, cuts), ...places, feedback };
    const ilf = new IlfDenoiser(new StepsInParts(sessions), scheduled(schedule));
    const own = new RecordingDenoiser(sessions, scheduled(schedule), () => true);
    const backbones = new RecordingDenoiser(sessions, scheduled(schedule), () => false);
    const whole = await compileModel(model(), weights);
    const [head] = await compileParts(model(), weights, [blocksOf(model()).first + blocks.resumeBlock]);
    const close = (actual: Tensor, expected: Tensor) =>
      expect(compare("tensor", actual.data, expected.data).relative).toBeLessThan(1e-5);

    const expected: { sample: Tensor; features: Tensor }[] = [];
    for (const { feeds, step } of trajectory(kind, schedule.length)) {
      const sample = (await whole.run(feeds))["sample"]!;
      expect((await own.run(feeds, step)).data).toEqual((await ilf.run(feeds, step)).data);
      close(await backbones.run(feeds, step), sample);
      if (schedule[step.index] === "inner") {
        expected.push({ sample, features: (await head!.run(feeds))["hiddenStates"]! });
      }
    }
    for (const { actions, records } of [own, backbones]) {
      expect(actions).toEqual(schedule);
      expect(records).toHaveLength(3);
      for (const [i, { target, targetFeatures }] of records.entries()) {
        close(target, expected[i]!.sample);
        close(targetFeatures["hiddenStates"]!, expected[i]!.features);
      }
      // The second inner step in a row goes on from the module's prediction, not from the features of the full step.
      const [first, second] = records as [RecordedStep, RecordedStep, ...RecordedStep[]];
      expect(second.feeds["carried.hiddenStates"]!.data).toEqual((await feedback(first.feeds))["hiddenStates"]!.data);
      expect(second.feeds["carriedEmbedding.hiddenStates"]).toBe(first.feeds["embedding.hiddenStates"]);
    }
  });
});

/** `pictures` inner steps whose every number says record, picture and half: 1000 * record + 10 * picture + half. */
function marked(record: number, pictures: number, guided: boolean): StepRecord {
  const rows = guided ? 2 * pictures : pictures;
  const mark = (row: number) => 1000 * record + 10 * (row % pictures) + Math.floor(row / pictures);
  const floats = (each: number[], sign: number) =>
    floatTensor(
      [rows, ...each],
      Float32Array.from(
        { length: rows * each.reduce((a, b) => a * b, 1) },
        (_, i) => sign * mark(Math.floor(i / each.reduce((a, b) => a * b, 1))),
      ),
    );
  return {
    feeds: {
      carried: floats([3, 2], 1),
      timestep: floats([], 1),
      classLabels: int64Tensor(
        [rows],
        Array.from({ length: rows }, (_, row) => mark(row)),
      ),
      unread: floats([100], 1),
    },
    target: floats([2, 2, 2], -1),
    targetFeatures: { hiddenStates: floats([3, 2], 1) },
  };
}

const reads = ["carried", "timestep", "classLabels"];

describe("a buffer of records", () => {
  it.each([true, false])("draws rows that belong together, guided: %s", (guided) => {
    const buffer = new RecordBuffer(1e9, reads);
    const sizes = [3, 1, 4];
    buffer.add(sizes.map((pictures, record) => marked(record, pictures, guided)));
    const random = seededRandom(1);
    const seen = new Set<number>();
    for (let i = 0; i < 40; i++) {
      const count = 5;
      const { feeds, target, targetFeatures } = buffer.draw(count, guided, random);
      expect(Object.keys(feeds)).toEqual(reads);
      expect(feeds["classLabels"]!.data).toBeInstanceOf(BigInt64Array);
      const rows = guided ? 2 * count : count;
      expect([feeds["carried"]!.shape, target.shape, feeds["classLabels"]!.shape]).toEqual([
        [rows, 3, 2],
        [rows, 2, 2, 2],
        [rows],
      ]);
      const marks = Array.from(feeds["classLabels"]!.data, Number);
      for (const [row, mark] of marks.entries()) {
        const all = (tensor: Tensor, each: number) =>
          Array.from(tensor.data.slice(row * each, (row + 1) * each), Number);
        expect(all(feeds["carried"]!, 6)).toEqual(new Array(6).fill(mark));
        expect(all(feeds["timestep"]!, 1)).toEqual([mark]);
        expect(all(target, 8)).toEqual(new Array(8).fill(mark === 0 ? -0 : -mark));
        expect(all(targetFeatures["hiddenStates"]!, 6)).toEqual(new Array(6).fill(mark));
        // The half with the condition is the same picture's.
        expect(mark).toBe(row < count ? marks[row]! : marks[row - count]! + 1);
        if (row < count) seen.add(mark);
      }
    }
    const pictures = sizes.flatMap((size, record) => Array.from({ length: size }, (_, i) => 1000 * record + 10 * i));
    expect([...seen].sort((a, b) => a - b)).toEqual(pictures);
  });

  it("keeps the latest records that fit, and counts a tensor that several have once", () => {
    const run = fc.record({ pictures: fc.integer({ min: 1, max: 6 }), steps: fc.integer({ min: 1, max: 4 }) });
    fc.assert(
      fc.property(
        fc.array(run, { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 0, max: 4000 }),
        (runs, capacity) => {
          const buffer = new RecordBuffer(capacity, reads);
          const added: StepRecord[] = [];
          for (const { pictures, steps } of runs) {
            const shared = marked(0, pictures, true).feeds["classLabels"]!;
            const records = Array.from({ length: steps }, (_, i) => {
              const record = marked(i, pictures, true);
              return { ...record, feeds: { ...record.feeds, classLabels: shared } };
            });
            buffer.add(records);
            added.push(...records);
            const latest = added.slice(-buffer.size);
            expect(buffer.bytes).toBe(bytesOf(latest));
            if (buffer.size > 1) expect(buffer.bytes).toBeLessThanOrEqual(capacity);
            // None was let go that had room.
            if (buffer.size < added.length) expect(bytesOf(added.slice(-buffer.size - 1))).toBeGreaterThan(capacity);
          }
          expect(buffer.added).toBe(added.length);
          expect(buffer.size).toBeGreaterThanOrEqual(1);
        },
      ),
      { seed: 1 },
    );
  });

  it("says so when there is nothing to draw from", () => {
    const draw = () => new RecordBuffer(1e9, reads).draw(1, true, seededRandom(1));
    expect(draw).toThrow(ArgumentError);
    expect(draw).toThrow("There is no inner step to learn from");
  });
});

/** Of what is read of some records, each array once. */
function bytesOf(records: readonly StepRecord[]): number {
  const arrays = records.flatMap(({ feeds, target, targetFeatures }) => [
    ...reads.map((name) => feeds[name]!.data),
    target.data,
    targetFeatures["hiddenStates"]!.data,
  ]);
  return [...new Set(arrays)].reduce((sum, { byteLength }) => sum + byteLength, 0);
}
