/**
 * Targets of inner steps that go beyond the solver's own error. A run of few full steps ends elsewhere than one of twice as many
 * from the same noise. What the first lacks can be made part of what inner steps learn, so that sampling is led a share of the
 * way there at no cost.
 */
import { addToFirstChannels, combine } from "../../caching/arrays.ts";
import { ArgumentError } from "../../errors.ts";
import { stack } from "../../sampling/guidance.ts";
import type { Scheduler } from "../../schedulers/scheduler.ts";
import { type FloatTensor, floatTensor } from "../../tensor.ts";
import type { RecordedStep, StepRecord } from "./records.ts";

/** The latent after each step of a run. */
export type Path = readonly FloatTensor[];

/**
 * Records whose targets lead `share` of the way from the run `coarse` to the run `fine`, which has twice as many steps, both with full
 * steps alone. Each inner step makes up for how far the two went apart since the inner step before it.
 * `responses`: of the latent to the guided output at each step of `coarse` (`responsesOf`).
 */
export function lookAheadTargets(
  records: readonly RecordedStep[],
  { coarse, fine, responses, share }: { coarse: Path; fine: Path; responses: readonly number[]; share: number },
): StepRecord[] {
  let before: FloatTensor | null = null;
  return records.map(({ index, ...record }) => {
    const apart = combine(coarse[index]!, fine[2 * index + 1]!, (from, to) => to - from);
    const toGo: FloatTensor = before ? combine(apart, before, (now, then) => now - then) : apart;
    before = apart;
    const shift = combine(toGo, toGo, (way) => (share * way) / responses[index]!);
    // The same for both halves of guidance is the same for what they are combined to.
    const rows = record.target.shape[0] === shift.shape[0] ? shift : stack(shift, shift);
    return { ...record, target: addToFirstChannels(record.target, rows) };
  });
}

/**
 * How much the latent changes with the network's output at each step, for a solver that is linear in it: after that step, and after
 * the next ones by what a multistep solver remembers of it. Throws ArgumentError for a solver that draws noise, or whose steps are
 * not every second one of twice as many. `mu`: of schedulers whose shift depends on the size of the image.
 */
export function responsesOf(open: () => Scheduler, steps: number, mu?: number): number[] {
  const timestepsOf = (count: number) => {
    const scheduler = open();
    scheduler.setTimesteps(count, mu);
    return [...scheduler.timesteps];
  };
  const [timesteps, finer] = [timestepsOf(steps), timestepsOf(2 * steps)];
  if (finer.length !== 2 * timesteps.length || timesteps.some((timestep, i) => timestep !== finer[2 * i])) {
    throw new ArgumentError(
      `${open().className}: its ${steps} steps are not every second one of ${2 * steps}, so targets cannot look ahead to these.`,
    );
  }
  const pixel = (value: number) => floatTensor([1, 1, 1, 1], Float32Array.of(value));
  return timesteps.map((_, changed) => {
    const scheduler = open();
    scheduler.setTimesteps(steps, mu);
    return timesteps.reduce((sum, timestep, i) => {
      const { prevSample } = scheduler.step(pixel(i === changed ? 1 : 0), timestep, pixel(0));
      return sum + prevSample.data[0]!;
    }, 0);
  });
}
