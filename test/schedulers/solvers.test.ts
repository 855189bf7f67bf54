import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError, NumericError, ShapeError } from "../../src/errors.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { DDPMScheduler } from "../../src/schedulers/ddpm.ts";
import { dpmCoefficients, preservingLevel } from "../../src/schedulers/dpm-coefficients.ts";
import { FlowMatchEulerDiscreteScheduler } from "../../src/schedulers/flow-match-euler-discrete.ts";
import { createScheduler } from "../../src/schedulers/registry.ts";
import { saCoefficients } from "../../src/schedulers/sa-coefficients.ts";
import type { Scheduler } from "../../src/schedulers/scheduler.ts";
import { roundHalfToEven } from "../../src/schedulers/spacing.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";

const shape = [2, 4, 8, 8];
const random = (seed: number, of = shape) => new TorchGenerator(seed).randn(of);
const clean = random(1);
const noise = random(2);

/** Samples with what a model that knows the clean sample and the noise would say at each step. */
function denoise(scheduler: Scheduler, steps: number, output: FloatTensor, start: FloatTensor): FloatTensor {
  scheduler.setTimesteps(steps);
  let sample = start;
  for (const timestep of scheduler.timesteps) {
    sample = scheduler.step(output, timestep, sample, { noise: () => random(3) }).prevSample;
  }
  return sample;
}

describe("a model that is always right", () => {
  // On x_t = alpha x0 + sigma noise with fixed x0 and noise, every ODE solver's step is exact: the derivatives that
  // higher orders estimate are zero. So any number of steps ends at x0 (up to the last noise level that is kept).
  const solvers: [string, Record<string, unknown>][] = [
    ["DDIMScheduler", { clip_sample: false }],
    ["DDIMScheduler", { clip_sample: false, beta_schedule: "squaredcos_cap_v2" }],
    ["PNDMScheduler", { set_alpha_to_one: true }],
    ["PNDMScheduler", { set_alpha_to_one: true, skip_prk_steps: true }],
    ["DPMSolverMultistepScheduler", { solver_order: 1 }],
    ["DPMSolverMultistepScheduler", { solver_order: 2, solver_type: "heun" }],
    ["DPMSolverMultistepScheduler", { solver_order: 3, use_karras_sigmas: true }],
    ["DPMSolverMultistepScheduler", { solver_order: 3, use_lu_lambdas: true }],
    ["EulerDiscreteScheduler", {}],
    ["EulerDiscreteScheduler", { use_karras_sigmas: true }],
    ["HeunDiscreteScheduler", {}],
    ["KDPM2DiscreteScheduler", {}],
    ["KDPM2DiscreteScheduler", { use_exponential_sigmas: true }],
    ["LMSDiscreteScheduler", {}],
    ["LMSDiscreteScheduler", { use_karras_sigmas: true }],
    ["UniPCMultistepScheduler", {}],
    ["UniPCMultistepScheduler", { solver_order: 3, solver_type: "bh1" }],
    ["DPMSolverSinglestepScheduler", { solver_order: 3 }],
    ["DPMSolverSinglestepScheduler", { solver_order: 3, solver_type: "heun" }],
  ];
  it.each(solvers)("is followed exactly by %s %j", (_class_name, config) => {
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 30 }), (steps) => {
        const scheduler = createScheduler({ _class_name, ...config });
        scheduler.setTimesteps(steps);
        const start = scheduler.addNoise(clean, noise, [scheduler.timesteps[0]!]);
        const end = denoise(scheduler, steps, noise, start);
        expect(compare("x0", end.data, clean.data).relative).toBeLessThan(1e-3);
      }),
      { numRuns: 10 },
    );
  });

  it.each([1, 2, 3])("is followed exactly by DEIS of order %d, down to the last noise level of training", (order) => {
    const scheduler = createScheduler({ _class_name: "DEISMultistepScheduler", solver_order: order });
    scheduler.setTimesteps(12);
    const end = denoise(scheduler, 12, noise, scheduler.addNoise(clean, noise, [scheduler.timesteps[0]!]));
    const { alpha, sigma } = preservingLevel(scheduler.sigmas!.at(-1)!);
    const expected = clean.data.map((x, i) => alpha * x + sigma * noise.data[i]!);
    expect(compare("end", end.data, expected).relative).toBeLessThan(1e-4);
  });

  it("is followed exactly along a rectified flow", () => {
    const flow = floatTensor(
      shape,
      noise.data.map((e, i) => e - clean.data[i]!),
    );
    for (const _class_name of ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]) {
      const scheduler = createScheduler({ _class_name, shift: 3 });
      const end = denoise(scheduler, 7, flow, noise);
      expect(compare(_class_name, end.data, clean.data).relative).toBeLessThan(1e-5);
    }
  });

  it.each(["epsilon", "v_prediction"])(
    "leads DDIM backwards to the noise, and DDIM back from there: %s",
    (prediction_type) => {
      const config = { prediction_type, clip_sample: false, set_alpha_to_one: true };
      const [inverse, forth] = ["DDIMInverseScheduler", "DDIMScheduler"].map((_class_name) =>
        createScheduler({ _class_name, ...config }),
      ) as [Scheduler, Scheduler];
      /** What a model says that sees all there is of x0 and noise, at signal variance `kept`. */
      const output = (kept: number) =>
        prediction_type === "epsilon"
          ? noise
          : floatTensor(
              shape,
              noise.data.map((e, i) => Math.sqrt(kept) * e - Math.sqrt(1 - kept) * clean.data[i]!),
            );
      let sample = clean;
      inverse.setTimesteps(10);
      expect(inverse.timesteps).toEqual(inverse.timesteps.toSorted((a, b) => a - b));
      // Its model is told the timestep that it goes to, but works on the level before.
      for (const t of inverse.timesteps)
        sample = inverse.step(output(inverse.alphasCumprod![t - 100] ?? 1), t, sample).prevSample;
      expect(compare("noised", sample.data, forth.addNoise(clean, noise, [900]).data).relative).toBeLessThan(1e-4);
      forth.setTimesteps(10);
      for (const t of forth.timesteps) sample = forth.step(output(forth.alphasCumprod![t]!), t, sample).prevSample;
      expect(compare("clean", sample.data, clean.data).relative).toBeLessThan(1e-3);
    },
  );

  it("gives the clean sample at each step, for each prediction type", () => {
    for (const _class_name of ["DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler"]) {
      for (const prediction_type of ["epsilon", "sample", "v_prediction"]) {
        const scheduler = createScheduler({ _class_name, clip_sample: false, prediction_type });
        scheduler.setTimesteps(4);
        const t = scheduler.timesteps[1]!;
        const [alpha, sigma] = [scheduler.alphasCumprod![t]! ** 0.5, (1 - scheduler.alphasCumprod![t]!) ** 0.5];
        const v = floatTensor(
          shape,
          noise.data.map((e, i) => alpha * e - sigma * clean.data[i]!),
        );
        const output = { epsilon: noise, sample: clean, v_prediction: v }[prediction_type]!;
        const sample = scheduler.addNoise(clean, noise, [t]);
        const { predOriginalSample } = scheduler.step(output, t, sample, { noise: () => random(3) });
        expect(compare(_class_name, predOriginalSample!.data, clean.data).relative).toBeLessThan(1e-4);
      }
    }
  });
});

describe("noise", () => {
  it("keeps unit variance when it is added (variance-preserving process)", () => {
    const [x, e] = [random(4, [1, 50_000]), random(5, [1, 50_000])];
    for (const _class_name of ["DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"]) {
      const scheduler = createScheduler({ _class_name });
      for (const t of [0, 250, 999]) {
        const { data } = scheduler.addNoise(x, e, [t]);
        expect(data.reduce((sum, value) => sum + value * value, 0) / data.length).toBeCloseTo(1, 1);
      }
    }
  });

  it("is added to each row at its own timestep", () => {
    const scheduler = createScheduler({ _class_name: "DDIMScheduler" });
    const both = scheduler.addNoise(clean, noise, [10, 900]).data;
    const half = both.length / 2;
    expect(both.subarray(0, half)).toEqual(scheduler.addNoise(clean, noise, [10]).data.subarray(0, half));
    expect(both.subarray(half)).toEqual(scheduler.addNoise(clean, noise, [900]).data.subarray(half));
    expect(() => scheduler.addNoise(clean, noise, [1, 2, 3])).toThrow(ShapeError);
    expect(() => scheduler.addNoise(clean, noise, [1000])).toThrow(ArgumentError);
  });

  it("is drawn by the steps that need it, and asked for where it is missing", () => {
    const scheduler = createScheduler({ _class_name: "DDIMScheduler" });
    scheduler.setTimesteps(10);
    const t = scheduler.timesteps[0]!;
    const step = (options: object) => scheduler.step(noise, t, clean, options);
    expect(() => step({ noise: () => expect.unreachable() })).not.toThrow();
    expect(() => step({ eta: 1 })).toThrow(ArgumentError);
    const ddpm = new DDPMScheduler();
    ddpm.setTimesteps(10);
    expect(() => ddpm.step(noise, ddpm.timesteps[0]!, clean)).toThrow(ArgumentError);
    expect(() => ddpm.step(noise, 0, clean)).not.toThrow();
  });

  it("of DDIM at eta 1 is DDPM's ancestral sampling (Song et al. 2021, section 4.1)", () => {
    const ddim = createScheduler({ _class_name: "DDIMScheduler", clip_sample: false });
    const ddpm = createScheduler({ _class_name: "DDPMScheduler", clip_sample: false });
    for (const scheduler of [ddim, ddpm]) scheduler.setTimesteps(20);
    for (const t of ddim.timesteps.slice(0, -1)) {
      const options = { eta: 1, noise: () => random(6) };
      const [a, b] = [ddim, ddpm].map((scheduler) => scheduler.step(noise, t, clean, options).prevSample.data);
      expect(compare(`timestep ${t}`, a!, b!).relative).toBeLessThan(1e-5);
    }
  });
});

describe("state", () => {
  const solversWithMemory = [
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "HeunDiscreteScheduler",
    "DEISMultistepScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "EDMDPMSolverMultistepScheduler",
    "IPNDMScheduler",
    "FlowMatchHeunDiscreteScheduler",
  ];
  it.each(solversWithMemory)("of %s is forgotten by setTimesteps", (_class_name) => {
    const scheduler = createScheduler({ _class_name, prediction_type: "epsilon" });
    const once = denoise(scheduler, 7, noise, clean);
    scheduler.step(random(8), scheduler.timesteps[0]!, clean);
    expect(denoise(scheduler, 7, noise, clean)).toEqual(once);
  });

  it.each(solversWithMemory)("of %s is not the caller's buffer", (_class_name) => {
    const run = (output: () => FloatTensor) => {
      const scheduler = createScheduler({ _class_name });
      scheduler.setTimesteps(6);
      let sample = clean;
      for (const t of scheduler.timesteps) sample = scheduler.step(output(), t, sample).prevSample;
      return sample;
    };
    const buffer = floatTensor(shape);
    let seed = 10;
    const reused = run(() => {
      buffer.data.set(random(seed++).data);
      return buffer;
    });
    seed = 10;
    expect(run(() => random(seed++))).toEqual(reused);
  });

  it("of DPM-Solver falls back to order 1 after a jump", () => {
    const jump = createScheduler({ _class_name: "DPMSolverMultistepScheduler" });
    const fresh = createScheduler({ _class_name: "DPMSolverMultistepScheduler" });
    for (const scheduler of [jump, fresh]) scheduler.setTimesteps(10);
    jump.step(noise, jump.timesteps[0]!, clean);
    const t = jump.timesteps[5]!;
    expect(jump.step(noise, t, clean)).toEqual(fresh.step(noise, t, clean));
  });
});

describe("a run from the middle of the schedule", () => {
  // As an image and a strength begin it. With constant noise every ODE solver is exact from wherever it begins.
  it.each([
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
  ])("of %s ends at the clean sample", (_class_name) => {
    const scheduler: Scheduler = createScheduler({ _class_name });
    scheduler.setTimesteps(10);
    const rest = scheduler.timesteps.slice(6 * (scheduler.order ?? 1));
    expect(rest).toHaveLength(scheduler.order === 2 ? 7 : 4);
    let sample = scheduler.addNoise(clean, noise, [rest[0]!]);
    for (const t of rest) sample = scheduler.step(noise, t, sample).prevSample;
    expect(compare("x0", sample.data, clean.data).relative).toBeLessThan(1e-3);
  });

  it("of Heun along a flow ends at the clean sample", () => {
    const scheduler: Scheduler = createScheduler({ _class_name: "FlowMatchHeunDiscreteScheduler" });
    scheduler.setTimesteps(10);
    const rest = scheduler.timesteps.slice(6 * scheduler.order!);
    let sample = scheduler.addNoise(clean, noise, [rest[0]!]);
    const velocity = floatTensor(
      shape,
      noise.data.map((e, i) => e - clean.data[i]!),
    );
    for (const t of rest) sample = scheduler.step(velocity, t, sample).prevSample;
    expect(compare("x0", sample.data, clean.data).relative).toBeLessThan(1e-5);
  });
});

describe("DPM-Solver's coefficients", () => {
  it("tend to DDIM's exact step where outputs are constant, whatever the order", () => {
    for (const solver of ["midpoint", "heun"] as const) {
      for (const levels of [
        [1, 2],
        [1, 2, 5],
        [1, 2, 5, 9],
      ]) {
        const { sample, outputs } = dpmCoefficients("dpmsolver++", solver, levels.map(preservingLevel));
        const total = outputs.reduce((a, b) => a + b);
        // x = alpha x0 + sigma e at level 2 must land on the same at level 1, for x0 = 1 and e = 0.
        expect(sample / Math.sqrt(5) + total).toBeCloseTo(1 / Math.sqrt(2), 12);
      }
    }
  });

  it("agree to third order in the step with a smaller one: an output linear in lambda is integrated exactly", () => {
    // dx/dlambda for x / sigma: integral of e^lambda m(lambda); with m = lambda the closed form is e^lambda (lambda - 1).
    const levels = [1, 1.5, 2.5, 4];
    const [l, l0, l1, l2] = levels.map((level) => -Math.log(level)) as [number, number, number, number];
    const sigma = Math.SQRT1_2;
    const exact = sigma * (Math.exp(l) * (l - 1) - Math.exp(l0) * (l0 - 1));
    const places = levels.map(preservingLevel);
    const order3 = dpmCoefficients("dpmsolver++", "heun", places).outputs;
    expect(order3[0]! * l0 + order3[1]! * l1 + order3[2]! * l2).toBeCloseTo(exact, 12);
    const order2 = dpmCoefficients("dpmsolver++", "heun", places.slice(0, 3)).outputs;
    expect(order2[0]! * l0 + order2[1]! * l1).toBeCloseTo(exact, 12);
  });
});

describe("a step of length 0", () => {
  const algorithms = ["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"] as const;
  it("changes nothing, whatever the formula", () => {
    for (const algorithm of algorithms) {
      for (const solver of ["midpoint", "heun"] as const) {
        for (const order of [1, 2, 3].slice(0, algorithm === "sde-dpmsolver" ? 2 : 3)) {
          const levels = [0.03, 0.03, 0.5, 2].slice(0, order + 1).map(preservingLevel);
          const { sample, outputs, noise: fresh } = dpmCoefficients(algorithm, solver, levels);
          expect([sample, fresh, ...outputs].map(Math.abs), `${algorithm} ${solver} ${order}`).toEqual([
            1,
            ...new Array<number>(order + 1).fill(0),
          ]);
        }
      }
    }
  });

  // Karras' levels end at the lowest level of training, which "sigma_min" has once more.
  const kinds = algorithms.flatMap((algorithm) =>
    ["midpoint", "heun"].flatMap((solver) => [2, 3].map((order) => ({ algorithm, solver, order }))),
  );
  it.each(kinds.filter(({ algorithm, order }) => algorithm !== "sde-dpmsolver" || order < 3))(
    "ends a run on Karras' levels: %j",
    ({ algorithm, solver, order }) => {
      const scheduler = createScheduler({
        ...{ _class_name: "DPMSolverMultistepScheduler", use_karras_sigmas: true, final_sigmas_type: "sigma_min" },
        ...{ algorithm_type: algorithm, solver_type: solver, solver_order: order },
      });
      for (const steps of [15, 20, 37]) {
        scheduler.setTimesteps(steps);
        let sample = noise;
        let before = sample;
        for (const timestep of scheduler.timesteps) {
          before = sample;
          sample = scheduler.step(random(timestep), timestep, sample, { noise: () => random(3) }).prevSample;
        }
        expect(compare(`${steps} steps`, sample.data, before.data).relative).toBeLessThan(1e-3);
      }
    },
  );
});

describe("SA-Solver's coefficients", () => {
  const levels = [0.4, 1, 2, 5, 9].map(preservingLevel);
  const cases = [true, false].flatMap((data) => [0, 1].flatMap((tau) => [1, 2, 3, 4].map((n) => ({ data, tau, n }))));

  it.each(cases)("keep mean and variance where outputs are constant: %j", ({ data, tau, n }) => {
    const [end, start] = [levels[0]!, levels[1]!];
    for (const nodes of [levels.slice(1, n + 1), levels.slice(0, n)]) {
      const { sample, outputs, noise: fresh } = saCoefficients(data, tau, start, end, nodes);
      const total = outputs.reduce((a, b) => a + b);
      // x = alpha x0 + sigma e, and the outputs are x0, or e. What the SDE forgets of the noise it draws anew.
      expect(sample * start.alpha + (data ? total : 0)).toBeCloseTo(end.alpha, 10);
      const kept = sample * start.sigma + (data ? 0 : total);
      if (data || tau === 0) expect(Math.hypot(kept, fresh)).toBeCloseTo(end.sigma, 10);
    }
  });
});

describe("timesteps", () => {
  it.each([
    ["DDIMScheduler", "linspace", 5],
    ["DDIMScheduler", "leading", 7],
    ["DDIMScheduler", "trailing", 61],
    ["DPMSolverMultistepScheduler", "trailing", 61],
    ["EulerDiscreteScheduler", "trailing", 61],
  ])("of %s with %s spacing are as many as asked for, descending, in range", (_class_name, timestep_spacing, steps) => {
    const scheduler = createScheduler({ _class_name, timestep_spacing });
    scheduler.setTimesteps(steps);
    const { timesteps } = scheduler;
    expect(timesteps).toHaveLength(steps);
    expect(timesteps.every((t, i) => t >= 0 && t < (timesteps[i - 1] ?? 1000))).toBe(true);
  });

  it("of trailing spacing round as numpy's arange does", () => {
    // diffusers 0.42.1: DDIMScheduler(num_train_timesteps=777, timestep_spacing="trailing").set_timesteps(18)
    const scheduler = createScheduler({
      _class_name: "DDIMScheduler",
      num_train_timesteps: 777,
      timestep_spacing: "trailing",
    });
    scheduler.setTimesteps(18);
    expect(scheduler.timesteps.slice(0, 2)).toEqual([776, 733]);
    expect(scheduler.timesteps[9]).toBe(388);
  });

  it("are refused where there are too few or none", () => {
    const scheduler = createScheduler({ _class_name: "DDIMScheduler", steps_offset: 1 });
    for (const steps of [0, -1, 1.5, 1000, 1001]) expect(() => scheduler.setTimesteps(steps)).toThrow(ArgumentError);
    expect(() => scheduler.step(noise, 1, clean)).toThrow(/setTimesteps/);
    const pndm = createScheduler({ _class_name: "PNDMScheduler" });
    expect(() => pndm.setTimesteps(3)).toThrow(/skip_prk_steps/);
    const euler = createScheduler({ _class_name: "EulerDiscreteScheduler" });
    euler.setTimesteps(4);
    expect(() => euler.step(noise, 1, clean)).toThrow(ArgumentError);
  });

  it("round halves to even, as numpy does", () => {
    expect([0.5, 1.5, 2.5, 2.4999, 937.5].map(roundHalfToEven)).toEqual([0, 2, 2, 2, 938]);
  });

  it("that clip the log signal-to-noise ratio leave out the noisiest", () => {
    const scheduler = createScheduler({
      _class_name: "DPMSolverMultistepScheduler",
      beta_schedule: "squaredcos_cap_v2",
      lambda_min_clipped: -5.1,
    });
    scheduler.setTimesteps(20);
    const kept = scheduler.alphasCumprod![scheduler.timesteps[0]!]!;
    expect(0.5 * Math.log(kept / (1 - kept))).toBeGreaterThanOrEqual(-5.1);
    expect(scheduler.timesteps[0]).toBeGreaterThan(980);
  });

  it("of flow matching take a shift that depends on the picture", () => {
    const scheduler = new FlowMatchEulerDiscreteScheduler({ use_dynamic_shifting: true });
    expect(() => scheduler.setTimesteps(4)).toThrow(ArgumentError);
    scheduler.setTimesteps(4, 1.15);
    // e^mu / (e^mu + 1 / sigma - 1) at the grid's second point (Esser et al. 2024, section 5.3.2).
    const second = 1 - (1 - 0.001) / 3;
    expect(scheduler.sigmas[1]).toBeCloseTo(Math.exp(1.15) / (Math.exp(1.15) + 1 / second - 1), 6);
    expect(scheduler.sigmas.at(-1)).toBe(0);
  });
});

describe("zero terminal signal-to-noise ratio", () => {
  const config = { rescale_betas_zero_snr: true, timestep_spacing: "trailing", clip_sample: false };
  it("starts from pure noise, which v-prediction can denoise and epsilon cannot", () => {
    const v = createScheduler({ _class_name: "DDIMScheduler", prediction_type: "v_prediction", ...config });
    expect(v.alphasCumprod!.at(-1)).toBe(0);
    v.setTimesteps(4);
    expect(v.step(noise, 999, clean).prevSample.data.every(Number.isFinite)).toBe(true);
    const epsilon = createScheduler({ _class_name: "DDIMScheduler", ...config });
    epsilon.setTimesteps(4);
    expect(() => epsilon.step(noise, 999, clean)).toThrow(NumericError);
  });

  it("is bounded for solvers on sigmas", () => {
    const euler = createScheduler({ _class_name: "EulerDiscreteScheduler", ...config });
    euler.setTimesteps(4);
    expect(euler.sigmas![0]).toBeCloseTo(4096, 0);
  });
});

describe("operands", () => {
  it.each([
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
  ])("of %s that do not fit are refused with both shapes", (_class_name) => {
    const scheduler = createScheduler({ _class_name });
    scheduler.setTimesteps(4);
    const wrong = random(9, [2, 8, 8, 8]);
    expect(() => scheduler.step(wrong, scheduler.timesteps[0]!, clean)).toThrow(/\[2, 4, 8, 8\].*\[2, 8, 8, 8\]/);
  });

  it("thresholding bounds the clean sample by its own quantile", () => {
    const scheduler = createScheduler({ _class_name: "DDIMScheduler", thresholding: true, sample_max_value: 100 });
    scheduler.setTimesteps(4);
    const { predOriginalSample } = scheduler.step(noise, 750, clean);
    expect(Math.max(...predOriginalSample!.data.map(Math.abs))).toBeCloseTo(1, 6);
  });

  it("churn raises Euler's noise level first (Karras et al. 2022, algorithm 2)", () => {
    const scheduler = createScheduler({ _class_name: "EulerDiscreteScheduler" });
    scheduler.setTimesteps(10);
    const [t, sigma, next] = [scheduler.timesteps[3]!, scheduler.sigmas![3]!, scheduler.sigmas![4]!];
    const raised = sigma * (1 + 1 / 10);
    const { prevSample } = scheduler.step(noise, t, clean, { sChurn: 1, noise: () => random(7) });
    const extra = Math.sqrt(raised ** 2 - sigma ** 2);
    const expected = clean.data.map((x, i) => x + extra * random7[i]! + (next - raised) * noise.data[i]!);
    expect(compare("churn", prevSample.data, expected).relative).toBeLessThan(1e-5);
  });
});
const random7 = random(7).data;

describe("more steps than there are noise levels", () => {
  it.each([
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "SASolverScheduler",
  ])("is refused by %s, which would divide by the difference of two equal ones", (_class_name) => {
    const scheduler = createScheduler({ _class_name });
    expect(() => scheduler.setTimesteps(1000)).toThrow(ArgumentError);
    scheduler.setTimesteps(999);
    expect(new Set(scheduler.sigmas).size).toBe(1000);
  });
});
