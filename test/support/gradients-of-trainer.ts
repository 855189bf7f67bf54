/** Gradients of a distillation, against finite differences. */
import { expect } from "vitest";
import type { FeedbackTrainer } from "../../src/ilf/training/feedback-trainer.ts";
import type { StepRecord } from "../../src/ilf/training/records.ts";

/** Of all weights of the module on this batch; gives how many tensors they are. */
export async function expectGradients(
  distillation: FeedbackTrainer,
  batch: StepRecord,
  random: () => number,
): Promise<number> {
  const { parameters, optimizer } = distillation.trainer;
  const values = parameters.values;
  // Away from the start, where the scale of zero lets nothing through to the block.
  for (const [name, { start, end }] of parameters.slots) {
    const parts = name.split("/")[1]!.split(".");
    const is = (names: readonly string[]) => parts.some((part) => names.includes(part));
    if (is(["scale", "trend_scale"])) for (let i = start; i < end; i++) values[i] = 0.5 + random();
    if (is(["mix", "gate"])) for (let i = start; i < end; i++) values[i] = 0.4 * (random() - 0.5);
  }
  // A learning rate of zero leaves the weights as they are; the first moment is a tenth of the gradient.
  await distillation.step(batch, 0);
  const gradient = optimizer.m.map((value) => value / (1 - 0.9));
  const errors: number[] = [];
  let largest = 0;
  for (const { start, end } of parameters.slots.values()) {
    const along = direction(gradient.subarray(start, end), random);
    const slope = along.reduce((sum, value, i) => sum + value * gradient[start + i]!, 0);
    const kept = values.slice(start, end);
    const lossAt = async (distance: number) => {
      for (const [i, value] of along.entries()) values[start + i] = kept[i]! + distance * value;
      const { loss } = await distillation.step(batch, 0);
      values.set(kept, start);
      return loss;
    };
    const central = async (h: number) => ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
    const expected = (4 * (await central(0.02)) - (await central(0.04))) / 3;
    errors.push(Math.abs(slope - expected));
    largest = Math.max(largest, Math.abs(expected));
  }
  expect(Math.max(...errors) / largest).toBeLessThan(1e-3);
  return errors.length;
}

/** Half along the gradient, half at random, of length 1: what is missing from either shows. */
function direction(gradient: Float32Array, random: () => number): Float64Array {
  const norm = (values: Iterable<number>) => Math.hypot(...values) || 1;
  const noise = Float64Array.from(gradient, () => random() - 0.5);
  const [ofGradient, ofNoise] = [norm(gradient), norm(noise)];
  const sum = noise.map((value, i) => value / ofNoise + gradient[i]! / ofGradient);
  const length = norm(sum);
  return sum.map((value) => value / length);
}
