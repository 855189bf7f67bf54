import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { mul, sub } from "../../src/graph/operators.ts";
import { input } from "../../src/graph/value.ts";
import { meanAll } from "../../src/graph/vjp.ts";
import { linear } from "../../src/models/layers.ts";
import { parameterWeights, Weights } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { floatTensor } from "../../src/tensor.ts";
import { resumeTraining, saveTraining } from "../../src/training/checkpoint-node.ts";
import { initialise, Parameters } from "../../src/training/parameters.ts";
import { Trainer } from "../../src/training/trainer.ts";
import type { EmojiEntry } from "../../training/data.ts";
import { seededRandom } from "../../training/random.ts";
import {
  drawPicture,
  drawTimestep,
  learningRate,
  noisy,
  type Pictures,
  type Shares,
  train,
} from "../../training/sampling.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "halfstep-sampling-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("drawTimestep", () => {
  it("draws everywhere, and a third or more where only the text can tell", () => {
    const random = seededRandom(3);
    const drawn = Array.from({ length: 4000 }, () => drawTimestep(random));
    const share = (from: number, to: number) => drawn.filter((t) => t >= from && t < to).length / drawn.length;
    expect(share(0, 1000)).toBe(1);
    expect(share(600, 1000)).toBeGreaterThan(0.45);
    expect(share(0, 200)).toBeGreaterThan(0.03);
    expect(share(950, 1000)).toBeGreaterThan(0.03);
  });
});

/** Two pictures whose latents are all 10 * set + number, mirrored all negative. */
function pictures(set: number, group: string): Pictures {
  const entries = [1, 2].map((n) => ({ group, captions: [{ text: `${set} ${n}`, weight: 1 }] }) as EmojiEntry);
  const mean = floatTensor(
    [2, 3, 1, 1],
    Float32Array.from([1, 1, 1, 2, 2, 2], (n) => 10 * set + n),
  );
  const flippedMean = floatTensor(
    mean.shape,
    mean.data.map((value) => -value),
  );
  return { data: { count: 2, images: new Uint8Array(0), entries }, latents: { mean, flippedMean } };
}

describe("drawPicture", () => {
  const sources = {
    plain: pictures(1, "animals-nature"),
    recoloured: pictures(2, "objects"),
    others: pictures(3, "objects"),
  };
  const draw = (count: number, shares: Shares) => {
    const random = seededRandom(1);
    return Array.from({ length: count }, () => drawPicture(random, sources, shares));
  };

  it("gives latents and a caption of one entry, in the shares that were asked for", () => {
    const drawn = draw(4000, { dropout: 0.1, recolour: 0.2, others: 0.25 });
    const share = (test: (one: (typeof drawn)[number]) => boolean) => drawn.filter(test).length / drawn.length;
    for (const { latent, caption } of drawn) {
      expect(latent).toHaveLength(3);
      if (caption) expect(`${Math.floor(Math.abs(latent[0]!) / 10)} ${Math.abs(latent[0]!) % 10}`).toBe(caption);
    }
    expect(share(({ caption }) => caption === "")).toBeCloseTo(0.1, 1);
    expect(share(({ latent }) => latent[0]! > 30)).toBeCloseTo(0.25, 1);
    expect(share(({ caption }) => caption.startsWith("2"))).toBeCloseTo(0.75 * 0.9 * 0.2, 1);
  });

  it("mirrors half of what looks the same mirrored, and nothing else", () => {
    const drawn = draw(2000, { dropout: 0, recolour: 0.5 });
    const mirrored = drawn.filter(({ latent }) => latent[0]! < 0);
    expect(mirrored.length / drawn.length).toBeCloseTo(0.25, 1);
    expect(mirrored.every(({ caption }) => caption.startsWith("1"))).toBe(true);
  });
});

describe("noisy", () => {
  it("gives a sample and a velocity that lead back to the clean latents", () => {
    const clean = floatTensor(
      [2, 8],
      Float32Array.from({ length: 16 }, (_, i) => Math.sin(i)),
    );
    const { sample, target, timestep } = noisy(clean, [0, 999], 5);
    expect([...timestep.data]).toEqual([0, 999]);
    // x0 = alpha x - sigma v: nearly the sample at the first timestep, nearly minus the velocity at the last
    for (let i = 0; i < 8; i++) expect(sample.data[i]!).toBeCloseTo(clean.data[i]!, 0);
    for (let i = 8; i < 16; i++) expect(-target.data[i]!).toBeCloseTo(clean.data[i]!, 2);
  });
});

describe("learningRate", () => {
  it("rises, stays, and falls to nothing in a line", () => {
    const rate = { peak: 2, steps: 1000, decay: 400 };
    expect([0, 299, 600, 800, 999].map((step) => learningRate(step, rate))).toEqual([2 / 300, 2, 2, 1, 0.005]);
  });
});

describe("train", () => {
  /** y = W x, whose batches follow from the step's number; stopped after each of the given minutes, then gone on with. */
  async function run(name: string, stops: readonly number[]) {
    const out = await mkdtemp(join(folder, name));
    const state = join(out, "state.safetensors");
    const finished: boolean[] = [];
    let last: Trainer;
    for (const minutes of stops) {
      const { source, parameters: values } = parameterWeights();
      const error = sub(linear(input("x", [4, 3]), new Weights(source).at("layer"), 2), input("y", [4, 2]));
      const parameters = new Parameters(new Map([...values].map(([key, value]) => [key, value.shape as number[]])));
      initialise(parameters, seededRandom(1));
      const trainer = await Trainer.create(nodeRuntime, meanAll(mul(error, error)), values, parameters, {
        emaDecay: 0.9,
      });
      await resumeTraining(state, trainer);
      let drawn = 0;
      const done = await train({
        trainer,
        batch: 4,
        unit: "videos",
        steps: 6,
        peak: 0.01,
        decay: 2,
        seed: 0,
        out,
        log: 2,
        // The clock is read before each step: with no minutes left nothing is drawn.
        minutes,
        every: 3,
        save: () => saveTraining(state, trainer),
        draw(step, random) {
          if (++drawn === 4 && stops.length > 1 && !finished.length) throw new Error("killed");
          const x = floatTensor([4, 3], Float32Array.from({ length: 12 }, random));
          return {
            x,
            y: floatTensor(
              [4, 2],
              Float32Array.from({ length: 8 }, () => step),
            ),
          };
        },
      }).catch(() => false);
      finished.push(done);
      last = trainer;
    }
    const lines = (await readFile(join(out, "log.jsonl"), "utf8")).trim().split("\n");
    return {
      finished,
      values: last!.parameters.values,
      ema: last!.optimizer.ema,
      lines: lines.map((line) => JSON.parse(line)),
    };
  }

  it("ends with the same weights whether it was killed, out of time, or neither", async () => {
    const whole = await run("whole", [1]);
    const parts = await run("parts", [1, 0, 1]);
    expect(whole.finished).toEqual([true]);
    expect(parts.finished).toEqual([false, false, true]);
    expect(parts.values).toEqual(whole.values);
    expect(parts.ema).toEqual(whole.ema);
    expect(whole.lines.map(({ step, videos }) => [step, videos])).toEqual([
      [2, 8],
      [4, 16],
      [6, 24],
    ]);
  });
});
