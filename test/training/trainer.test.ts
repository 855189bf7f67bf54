import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CheckpointError, NumericError } from "../../src/errors.ts";
import { gelu, mul, sub } from "../../src/graph/operators.ts";
import { input } from "../../src/graph/value.ts";
import { meanAll } from "../../src/graph/vjp.ts";
import { linear } from "../../src/models/layers.ts";
import { parameterWeights, Weights } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { floatTensor } from "../../src/tensor.ts";
import { AdamW, warmupCosine } from "../../src/training/adamw.ts";
import { resumeTraining, saveTraining } from "../../src/training/checkpoint-node.ts";
import { initialise, Parameters } from "../../src/training/parameters.ts";
import { Trainer } from "../../src/training/trainer.ts";
import { seededRandom } from "../../training/random.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "halfstep-training-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** A two-layer network that learns a fixed random map of 8 numbers to 4. */
async function smallTrainer(): Promise<Trainer> {
  const { source, parameters: values } = parameterWeights();
  const w = new Weights(source);
  const hidden = gelu(linear(input("x", [16, 8]), w.at("first"), 32), "tanh");
  const error = sub(linear(hidden, w.at("second"), 4), input("y", [16, 4]));
  const shapes = new Map([...values].map(([name, value]) => [name, value.shape as number[]]));
  const parameters = new Parameters(shapes);
  initialise(parameters, seededRandom(1));
  const loss = meanAll(mul(error, error));
  return Trainer.create(nodeRuntime, loss, values, parameters, { emaDecay: 0.9, weightDecay: 0.01 });
}

function batch(step: number) {
  const x = new TorchGenerator(step).randn([16, 8]);
  const y = floatTensor(
    [16, 4],
    Float32Array.from({ length: 64 }, (_, i) => {
      const row = Math.floor(i / 4) * 8;
      return Math.sin(x.data[row + (i % 4)]!) + x.data[row + 4]! * x.data[row + 5]!;
    }),
  );
  return { x, y };
}

async function losses(trainer: Trainer, steps: number): Promise<number[]> {
  const result: number[] = [];
  while (result.length < steps) result.push((await trainer.step(batch(trainer.optimizer.steps), 0.02)).loss);
  return result;
}

describe("training", () => {
  it("learns", async () => {
    const trainer = await smallTrainer();
    const curve = await losses(trainer, 150);
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    expect(mean(curve.slice(-10))).toBeLessThan(0.5 * mean(curve.slice(0, 10)));
  });

  it("goes on from a checkpoint to the very loss curve of a run that was never stopped", async () => {
    const whole = await smallTrainer();
    const expected = await losses(whole, 12);
    const first = await smallTrainer();
    await losses(first, 5);
    const path = join(folder, "state.safetensors");
    await saveTraining(path, first, { note: "kept" });
    const second = await smallTrainer();
    expect(await resumeTraining(path, second)).toMatchObject({ note: "kept", steps: "5" });
    expect(second.optimizer.steps).toBe(5);
    expect(await losses(second, 7)).toEqual(expected.slice(5));
    expect(second.optimizer.ema).toEqual(whole.optimizer.ema);
  });

  it("starts anew where there is no checkpoint, and refuses one that is cut short", async () => {
    const trainer = await smallTrainer();
    expect(await resumeTraining(join(folder, "none.safetensors"), trainer)).toBeNull();
    await writeFile(join(folder, "cut.safetensors"), new Uint8Array(20));
    await expect(resumeTraining(join(folder, "cut.safetensors"), trainer)).rejects.toThrow(CheckpointError);
  });

  it("changes nothing when the gradients are not numbers", async () => {
    const trainer = await smallTrainer();
    const before = trainer.parameters.values.slice();
    const bad = batch(0);
    bad.y.data[3] = Number.NaN;
    await expect(trainer.step(bad, 0.02)).rejects.toThrow(NumericError);
    expect(trainer.parameters.values).toEqual(before);
    expect(trainer.optimizer.steps).toBe(0);
  });
});

describe("AdamW", () => {
  it("takes a first step of the learning rate against the gradient's sign, whatever its size", () => {
    const values = Float32Array.of(1, 1, 1);
    new AdamW(values, { clipNorm: 1e9 }).step(values, Float32Array.of(1e-3, -5, 200), 0.1);
    for (const [i, expected] of [0.9, 1.1, 0.9].entries()) expect(values[i]).toBeCloseTo(expected, 4);
  });

  it("follows algorithm 2 of the paper, worked out in double precision", () => {
    const [beta1, beta2, epsilon, decay, rate] = [0.8, 0.95, 1e-6, 0.1, 0.05];
    const values = Float32Array.of(0.5);
    const adam = new AdamW(values, { beta1, beta2, epsilon, weightDecay: decay, clipNorm: 1e9 });
    let [theta, m, v] = [0.5, 0, 0];
    for (let t = 1; t <= 20; t++) {
      const g = Math.cos(t);
      m = beta1 * m + (1 - beta1) * g;
      v = beta2 * v + (1 - beta2) * g * g;
      theta -= rate * (m / (1 - beta1 ** t) / (Math.sqrt(v / (1 - beta2 ** t)) + epsilon) + decay * theta);
      adam.step(values, Float32Array.of(g), rate);
    }
    expect(values[0]).toBeCloseTo(theta, 5);
  });

  it("clips by the norm of all gradients together, and reports it", () => {
    const clipped = Float32Array.of(0, 0);
    const adam = new AdamW(clipped, { clipNorm: 1 });
    expect(adam.step(clipped, Float32Array.of(30, 40), 0.1)).toBeCloseTo(50, 4);
    expect(adam.m[0]).toBeCloseTo(0.1 * 0.6, 5);
    expect(adam.m[1]).toBeCloseTo(0.1 * 0.8, 5);
  });

  it("averages the weights: a constant is its own average, and the start is forgotten", () => {
    const values = Float32Array.of(10);
    const adam = new AdamW(values, { emaDecay: 0.9 });
    values[0] = 3;
    for (let i = 0; i < 300; i++) adam.step(values, Float32Array.of(0), 0.1);
    expect(adam.ema[0]).toBeCloseTo(3, 4);
  });
});

describe("warmupCosine", () => {
  it("rises in a line, peaks, and falls by half a cosine to its floor", () => {
    expect(warmupCosine(0, 1000, 2, 100, 0.1)).toBeCloseTo(0.02);
    expect(warmupCosine(99, 1000, 2, 100, 0.1)).toBeCloseTo(2);
    expect(warmupCosine(550, 1000, 2, 100, 0.1)).toBeCloseTo(2 * (0.1 + 0.9 * 0.5));
    expect(warmupCosine(1000, 1000, 2, 100, 0.1)).toBeCloseTo(0.2);
    expect(warmupCosine(5000, 1000, 2, 100, 0.1)).toBeCloseTo(0.2);
  });
});
