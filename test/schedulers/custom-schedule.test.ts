import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { betaQuantile } from "../../src/schedulers/beta-quantile.ts";
import { createScheduler } from "../../src/schedulers/registry.ts";
import type { CustomSchedule } from "../../src/schedulers/scheduler.ts";

const make = (_class_name: string, config: object = {}) => createScheduler({ _class_name, ...config });
const descending = (n: number) => Array.from({ length: n }, (_, i) => 0.9 * (1 - i / n));

// What they give is compared with diffusers in golden.test.ts (own-*).
describe("steps of the caller's own", () => {
  const ddpm = make("DDPMScheduler");
  const dpm = make("DPMSolverMultistepScheduler");
  const karras = make("DPMSolverMultistepScheduler", { use_karras_sigmas: true });
  const euler = make("EulerDiscreteScheduler");
  const svd = make("EulerDiscreteScheduler", { timestep_type: "continuous", prediction_type: "v_prediction" });
  const flow = make("FlowMatchEulerDiscreteScheduler");

  it.each<[string, ReturnType<typeof make>, CustomSchedule, RegExp]>([
    ["DDIM takes none", make("DDIMScheduler"), { timesteps: [900, 100] }, /does not take timesteps/],
    ["PNDM takes none", make("PNDMScheduler"), { sigmas: [900, 100] }, /does not take sigmas/],
    ["DDPM takes no sigmas", ddpm, { sigmas: [3, 0] }, /does not take sigmas of your own, only.*timesteps/],
    ["DPM-Solver takes no sigmas", dpm, { sigmas: [3, 0] }, /does not take sigmas/],
    ["none with Karras sigmas", karras, { timesteps: [900, 100] }, /use_karras_sigmas/],
    ["none with continuous timesteps", svd, { timesteps: [900, 100] }, /continuous/],
    ["Euler's ancestral takes none", make("EulerAncestralDiscreteScheduler"), { timesteps: [900] }, /does not take/],
    ["UniPC takes sigmas of a flow alone", make("UniPCMultistepScheduler"), { sigmas: [0.9, 0.1] }, /use_flow_sigmas/],
    ["LCM's are whole", make("LCMScheduler"), { timesteps: [999.5, 20] }, /whole numbers/],
    [
      "Heun's not with Karras'",
      make("HeunDiscreteScheduler", { use_karras_sigmas: true }),
      { timesteps: [9] },
      /karras/,
    ],
    ["not both", euler, { timesteps: [900], sigmas: [3, 0] }, /not both/],
    ["not none", euler, {}, /number of steps, timesteps or sigmas/],
    ["not empty", ddpm, { timesteps: [] }, /from 1 to 1000 values/],
    ["not more than there are", ddpm, { timesteps: descending(1001) }, /from 1 to 1000 values, not 1001/],
    ["no text", ddpm, { timesteps: "900" as unknown as number[] }, /number of steps, timesteps or sigmas/],
    ["no texts", ddpm, { timesteps: ["900"] as unknown as number[] }, /whole numbers from 0 to 999/],
    ["not ascending", dpm, { timesteps: [100, 900] }, /must descend, but 900 follows on 100/],
    ["not twice", dpm, { timesteps: [900, 900] }, /must descend/],
    ["not outside", dpm, { timesteps: [1000, 5] }, /from 0 to 999, not 1000/],
    ["not between two", dpm, { timesteps: [10.5, 5] }, /whole numbers/],
    ["no NaN", euler, { timesteps: [Number.NaN] }, /not NaN/],
    ["no infinity", euler, { sigmas: [Infinity, 0] }, /not Infinity/],
    ["Euler's sigmas have an end", euler, { sigmas: [1] }, /at least 2/],
    ["flow matching's are above 0", flow, { sigmas: [1, 0] }, /above 0, up to 1, not 0/],
    ["flow matching's are at most 1", flow, { sigmas: [1.5, 0.5] }, /up to 1, not 1.5/],
  ])("%s", (_, scheduler, plan, message) => {
    expect(() => scheduler.setTimesteps(plan)).toThrow(ArgumentError);
    expect(() => scheduler.setTimesteps(plan)).toThrow(message);
  });

  it("are told before they are tried", () => {
    expect(make("DDIMScheduler").takes).toEqual(["eta"]);
    expect(euler.takes).toEqual(["timesteps", "sigmas"]);
    expect(dpm.takes).toEqual(["timesteps"]);
  });
});

describe("flow matching with Karras' levels", () => {
  it("has those of diffusers 0.39 and later", () => {
    const scheduler = make("FlowMatchEulerDiscreteScheduler", { shift: 3, use_karras_sigmas: true });
    scheduler.setTimesteps(5);
    const timesteps = [1000, 400.3215, 139.5991, 40.3727, 8.9286];
    const sigmas = [1, 0.400322, 0.139599, 0.040373, 0.008929, 0];
    expect(scheduler.timesteps.map((t) => +t.toFixed(4))).toEqual(timesteps);
    expect(scheduler.sigmas!.map((sigma) => +sigma.toFixed(6))).toEqual(sigmas);
  });

  it("cannot be stretched to an end if its only level is 1", () => {
    const scheduler = make("FlowMatchEulerDiscreteScheduler", { shift_terminal: 0.1 });
    expect(() => scheduler.setTimesteps(1)).toThrow(ArgumentError);
  });
});

describe("the beta distribution's quantiles", () => {
  // scipy.stats.beta.ppf(p, 0.6, 0.6), scipy 1.17.1
  it.each([
    [0, 0],
    [1e-12, 1.8558824624914097e-20],
    [0.001, 1.855873851745199e-5],
    [0.02, 0.002732982024577027],
    [0.1, 0.03958440558878085],
    [0.25, 0.17568037865269498],
    [0.3333, 0.2753710356306094],
    [0.5, 0.5],
    [0.75, 0.824319621347305],
    [0.9, 0.9604155944112192],
    [0.999, 0.9999814412614826],
    [1, 1],
  ])("of %d is scipy's", (p, expected) => {
    expect(Math.abs(betaQuantile(p, 0.6) - expected)).toBeLessThanOrEqual(1e-14 * expected);
  });

  it("are their share for the uniform distribution", () => {
    for (const p of [0.001, 0.2, 0.49, 0.7]) expect(betaQuantile(p, 1)).toBeCloseTo(p, 14);
  });
});
