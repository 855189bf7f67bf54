import { describe, expect, it } from "vitest";
import { ConfigError } from "../../src/errors.ts";
import { createScheduler, schedulerNames } from "../../src/schedulers/scheduler.ts";

describe("createScheduler", () => {
  it.each(schedulerNames)("makes a %s with diffusers' defaults", (name) => {
    const scheduler = createScheduler({ _class_name: name, _diffusers_version: "0.30.3" });
    expect(scheduler.className).toBe(name);
    expect(scheduler.trainTimesteps).toBe(1000);
    expect(scheduler.timesteps).toHaveLength(1000);
  });

  it("fills in the defaults that the class has in diffusers", () => {
    expect(createScheduler({ _class_name: "DDIMScheduler" }).config).toMatchObject({
      clip_sample: true,
      steps_offset: 0,
    });
    expect(createScheduler({ _class_name: "PNDMScheduler" }).config).toMatchObject({ set_alpha_to_one: false });
    const dpm = createScheduler({ _class_name: "DPMSolverMultistepScheduler", lambda_min_clipped: null });
    expect(dpm.config).toMatchObject({ lambda_min_clipped: -Infinity, solver_order: 2, algorithm_type: "dpmsolver++" });
  });

  it("ignores keys of other diffusers schedulers, and newer keys that are off", () => {
    const config = { _class_name: "EulerDiscreteScheduler", skip_prk_steps: true, use_beta_sigmas: false };
    expect(createScheduler(config).config).not.toHaveProperty("skip_prk_steps");
  });

  it.each([
    [{ _class_name: "UniPCMultistepScheduler" }, /UniPCMultistepScheduler.*supported are DDIMScheduler/],
    [{}, /_class_name is undefined/],
    [{ _class_name: "DDIMScheduler", beta_schedule: "sigmoid" }, /beta_schedule is "sigmoid".*"squaredcos_cap_v2"/],
    [{ _class_name: "DDIMScheduler", prediction_type: "flow" }, /prediction_type is "flow".*"v_prediction"/],
    [{ _class_name: "DDIMScheduler", num_train_timesteps: 0 }, /num_train_timesteps is 0.*at least 1/],
    [{ _class_name: "DDIMScheduler", clip_sample: "yes" }, /clip_sample is "yes".*true or false/],
    [{ _class_name: "DDIMScheduler", beta_start: -1 }, /beta_start is -1.*from 0 to 1/],
    [{ _class_name: "DDIMScheduler", trained_betas: [0.1, 0.2] }, /trained_betas has 2 values/],
    [{ _class_name: "DDIMScheduler", beta_shedule: "linear" }, /unknown configuration key "beta_shedule"/],
    [{ _class_name: "DDPMScheduler", variance_type: "fixed_large_log" }, /variance_type is "fixed_large_log"/],
    [{ _class_name: "DPMSolverMultistepScheduler", solver_order: 4 }, /solver_order is 4.*1, 2, 3/],
    [{ _class_name: "DPMSolverMultistepScheduler", algorithm_type: "dpmsolver" }, /final_sigmas_type is "zero"/],
    [
      { _class_name: "DPMSolverMultistepScheduler", algorithm_type: "sde-dpmsolver++", solver_order: 3 },
      /solver_order is 3/,
    ],
    [{ _class_name: "EulerDiscreteScheduler", use_beta_sigmas: true }, /use_beta_sigmas is true/],
    [{ _class_name: "FlowMatchEulerDiscreteScheduler", shift: 0 }, /shift is 0/],
    [{ _class_name: "toString" }, /_class_name is "toString"/],
  ])("refuses %j", (config, message) => {
    expect(() => createScheduler(config)).toThrow(ConfigError);
    expect(() => createScheduler(config)).toThrow(message);
  });
});
