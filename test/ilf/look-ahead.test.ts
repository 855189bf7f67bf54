import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { lookAheadTargets, type Path, responsesOf } from "../../src/ilf/training/look-ahead.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { sample } from "../../src/sampling/sampler.ts";
import { createScheduler } from "../../src/schedulers/registry.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";

const STEPS = 5;
const shape = [2, 3, 2, 2];
const solvers = {
  euler: { _class_name: "EulerDiscreteScheduler", timestep_spacing: "trailing" },
  ddim: { _class_name: "DDIMScheduler", clip_sample: false, timestep_spacing: "trailing" },
  "dpm-solver++": { _class_name: "DPMSolverMultistepScheduler", prediction_type: "v_prediction" },
};
type Solver = keyof typeof solvers;
const open = (name: Solver) => () => createScheduler(solvers[name]);

/** What a network gives that does not look at the latent, and the latents of a run with it. */
async function run(name: Solver, outputs: readonly FloatTensor[], noise: FloatTensor): Promise<Path> {
  const path: FloatTensor[] = [];
  await sample({
    scheduler: open(name)(),
    steps: outputs.length,
    noise,
    denoise: async (_, { index }) => outputs[index]!,
    onStep: ({ latents }) => void path.push(latents),
  });
  return path;
}

const add = (to: FloatTensor, change: number): FloatTensor => ({ ...to, data: to.data.map((value) => value + change) });
const away = (from: FloatTensor, to: FloatTensor) => to.data.map((value, i) => value - from.data[i]!);

describe("responses of a solver to what it is given", () => {
  it.each(Object.keys(solvers) as Solver[])(
    "%s: are what a change of the output does to the latents after it",
    (name) => {
      const random = new TorchGenerator(3);
      const outputs = Array.from({ length: STEPS }, () => random.randn(shape));
      const latents = Array.from({ length: STEPS }, () => random.randn(shape));
      /** Where each step leads from a latent that is what it is, whatever the step before gave. */
      const steps = (given: readonly FloatTensor[]) => {
        const scheduler = open(name)();
        scheduler.setTimesteps(STEPS);
        return [...scheduler.timesteps].map((t, i) => scheduler.step(given[i]!, t, latents[i]!).prevSample);
      };
      const plain = steps(outputs);
      for (const [i, response] of responsesOf(open(name), STEPS).entries()) {
        const changed = steps(outputs.with(i, add(outputs[i]!, 0.5)));
        const sum = plain.reduce((sum, from, j) => sum + away(from, changed[j]!)[0]!, 0);
        expect(sum).toBeCloseTo(0.5 * response, 4);
        expect(Math.abs(response)).toBeGreaterThan(1e-3);
      }
    },
  );

  it("are not there where twice as many steps are others, or the solver draws noise", () => {
    const flow = () => createScheduler({ _class_name: "FlowMatchEulerDiscreteScheduler" });
    expect(() => responsesOf(flow, STEPS)).toThrow(/FlowMatchEulerDiscreteScheduler: its 5 steps are not every second/);
    const ancestral = () => createScheduler({ _class_name: "DDPMScheduler" });
    expect(() => responsesOf(ancestral, STEPS)).toThrow(ArgumentError);
  });
});

describe("targets that look ahead", () => {
  it.each([false, true])("lead the share of the way to the finer run (with guidance: %s)", async (guided) => {
    const random = new TorchGenerator(4);
    const noise = random.randn(shape);
    const outputs = Array.from({ length: STEPS }, () => random.randn(shape));
    const coarse = await run("euler", outputs, noise);
    const fine = Array.from({ length: 2 * STEPS }, () => random.randn(shape));
    const inner = [1, 2, 4];
    const guidance = 3;
    // The two halves of guidance, so that they are combined to `output`; and channels of a variance after the others.
    const rows = (output: FloatTensor): FloatTensor => {
      const half = (bias: number) =>
        Array.from({ length: 2 }, (_, i) => [
          ...output.data.subarray(12 * i, 12 * i + 12).map((value) => value + bias),
          ...new Array<number>(12).fill(77),
        ]);
      const halves = guided ? [half(-guidance), half(1 - guidance)] : [half(0)];
      const data = Float32Array.from(halves.flat(2));
      return { dtype: "float32", shape: [data.length / 24, 6, 2, 2], data };
    };
    const combined = ({ data }: FloatTensor): FloatTensor => {
      const latent = (row: number) => data.subarray(24 * row, 24 * row + 12);
      const each = (row: number) =>
        guided ? latent(row).map((without, i) => without + guidance * (latent(row + 2)[i]! - without)) : latent(row);
      return { dtype: "float32", shape, data: Float32Array.from([...each(0), ...each(1)]) };
    };
    const records = inner.map((index) => ({
      index,
      feeds: {},
      target: rows(outputs[index]!),
      targetFeatures: { hiddenStates: noise },
    }));
    const aims = lookAheadTargets(records, { coarse, fine, responses: responsesOf(open("euler"), STEPS), share: 0.6 });
    const led = outputs.slice();
    for (const [i, index] of inner.entries()) {
      led[index] = combined(aims[i]!.target);
      expect(aims[i]!.target.data.filter((value) => value === 77)).toHaveLength(guided ? 48 : 24);
    }
    const path = await run("euler", led, noise);
    for (const index of inner) {
      const goal = coarse[index]!.data.map((from, i) => from + 0.6 * (fine[2 * index + 1]!.data[i]! - from));
      expect(compare("latent", path[index]!.data, goal).relative).toBeLessThan(1e-4);
    }
  });
});
