import { describe, expect, it } from "vitest";
import { ConfigError } from "../../src/errors.ts";
import { createScheduler, schedulerNames } from "../../src/schedulers/registry.ts";

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
    expect(createScheduler({ _class_name: "DDIMScheduler", clip_sample: null }).config).toMatchObject({
      clip_sample: false,
    });
    const dpm = createScheduler({ _class_name: "DPMSolverMultistepScheduler", lambda_min_clipped: null });
    expect(dpm.config).toMatchObject({ lambda_min_clipped: -Infinity, solver_order: 2, algorithm_type: "dpmsolver++" });
  });

  it("ignores keys of other diffusers schedulers", () => {
    const config = { _class_name: "DDIMScheduler", skip_prk_steps: true, use_beta_sigmas: true, sigma_min: 0.1 };
    expect(createScheduler(config).config).toEqual(createScheduler({ _class_name: "DDIMScheduler" }).config);
  });

  // Each is a property of every object; a look-up by name must not find it.
  const inherited = ["__proto__", "constructor", "toString", "hasOwnProperty", "valueOf"];
  it.each(schedulerNames)("refuses names that every object has as values of a %s", (name) => {
    const { config } = createScheduler({ _class_name: name });
    for (const [key, value] of Object.entries(config)) {
      if (typeof value !== "string" && value !== null) continue;
      for (const wrong of inherited) {
        expect(() => createScheduler({ _class_name: name, [key]: wrong }), `${key} ${wrong}`).toThrow(ConfigError);
      }
    }
  });

  it.each(inherited)("refuses %s as a class and as a key, also as JSON's own", (wrong) => {
    expect(() => createScheduler({ _class_name: wrong })).toThrow(ConfigError);
    const config = JSON.parse(`{"_class_name": "DDIMScheduler", "${wrong}": 1}`) as Record<string, unknown>;
    if (!wrong.startsWith("_")) expect(() => createScheduler(config)).toThrow(/unknown configuration key/);
    else expect(createScheduler(config).trainTimesteps).toBe(1000);
  });

  it.each(schedulerNames)("refuses sizes of a %s that would take minutes", (name) => {
    const wrong = [1e9, 100_001, 1e308, "1000", [1000], true, 0.5];
    for (const num_train_timesteps of wrong) {
      expect(() => createScheduler({ _class_name: name, num_train_timesteps })).toThrow(/num_train_timesteps.*100000/);
    }
    if (!Object.hasOwn(createScheduler({ _class_name: name }).config, "trained_betas")) return;
    const trained_betas = new Array<number>(100_001).fill(0.01);
    expect(() => createScheduler({ _class_name: name, trained_betas })).toThrow(/trained_betas.*at most 100000/);
  });

  it.each([
    [{ _class_name: "VQDiffusionScheduler" }, /VQDiffusionScheduler.*supported are DDIM/],
    [{ _class_name: "TCDScheduler", original_inference_steps: 2000 }, /original_inference_steps is 2000.*only 1000/],
    [
      { _class_name: "DEISMultistepScheduler", algorithm_type: "sde-dpmsolver++" },
      /algorithm_type is "sde-dpms.*"deis"/,
    ],
    [{ _class_name: "EDMEulerScheduler", sigma_min: 100 }, /sigma_min is 100, above sigma_max, 80/],
    [{ _class_name: "EDMEulerScheduler", rho: 0 }, /rho is 0.*above 0/],
    [
      { _class_name: "EDMDPMSolverMultistepScheduler", algorithm_type: "sde-dpmsolver++", solver_order: 3 },
      /solver_order is 3.*supports 1, 2/,
    ],
    [{ _class_name: "EDMDPMSolverMultistepScheduler", prediction_type: "sample" }, /prediction_type is "sample"/],
    [{ _class_name: "DDIMInverseScheduler", timestep_spacing: "linspace" }, /"leading", "trailing"/],
    [{ _class_name: "FlowMatchLCMScheduler", scale_factors: [0.5] }, /scale_factors is \[0.5\].*one size/],
    [{ _class_name: "FlowMatchHeunDiscreteScheduler", shift: 0 }, /shift is 0/],
    [{ _class_name: "IPNDMScheduler", trained_betas: [2] }, /trained_betas.*from 0 to 1/],
    [{ _class_name: "SASolverScheduler", tau_func: "lambda t: 1" }, /tau_func is "lambda t: 1".*null/],
    [{ _class_name: "SASolverScheduler", predictor_order: 5 }, /predictor_order is 5.*1, 2, 3, 4/],
    [{ _class_name: "SASolverScheduler", algorithm_type: "dpmsolver++" }, /algorithm_type is "dpmsolver\+\+"/],
    [
      { _class_name: "SASolverScheduler", algorithm_type: "noise_prediction", thresholding: true },
      /thresholding needs algorithm_type "data_prediction"/,
    ],
    [
      { _class_name: "SASolverScheduler", algorithm_type: "noise_prediction", prediction_type: "flow_prediction" },
      /flow_prediction" needs algorithm_type "data_prediction"/,
    ],
    [{ _class_name: "KDPM2DiscreteScheduler", prediction_type: "sample" }, /prediction_type is "sample"/],
    [
      { _class_name: "LMSDiscreteScheduler", use_beta_sigmas: true, use_exponential_sigmas: true },
      /only one of use_exponential_sigmas, use_beta_sigmas/,
    ],
    [{ _class_name: "UniPCMultistepScheduler", solver_p: "DDIMScheduler" }, /solver_p is "DDIMScheduler".*null/],
    [{ _class_name: "UniPCMultistepScheduler", disable_corrector: [-1] }, /disable_corrector is \[-1\]/],
    [{ _class_name: "UniPCMultistepScheduler", shift_terminal: 0.1 }, /shift_terminal needs use_flow_sigmas/],
    [{ _class_name: "LCMScheduler", original_inference_steps: 2000 }, /original_inference_steps is 2000.*only 1000/],
    [
      { _class_name: "DPMSolverSinglestepScheduler", algorithm_type: "sde-dpmsolver" },
      /algorithm_type is "sde-dpmsolver"/,
    ],
    [{ _class_name: "EulerAncestralDiscreteScheduler", prediction_type: "sample" }, /prediction_type is "sample"/],
    [{}, /_class_name is undefined/],
    [{ _class_name: "DDIMScheduler", beta_schedule: "sigmoid" }, /beta_schedule is "sigmoid".*"squaredcos_cap_v2"/],
    [{ _class_name: "DDIMScheduler", prediction_type: "flow" }, /prediction_type is "flow".*"v_prediction"/],
    [{ _class_name: "DDIMScheduler", num_train_timesteps: 0 }, /num_train_timesteps is 0.*from 1 to 100000/],
    [{ _class_name: "DDIMScheduler", clip_sample: "yes" }, /clip_sample is "yes".*true or false/],
    [{ _class_name: "DDIMScheduler", beta_start: -1 }, /beta_start is -1.*from 0 to 1/],
    [{ _class_name: "DDIMScheduler", trained_betas: [0.1, 0.2] }, /trained_betas has 2 values/],
    [{ _class_name: "DDIMScheduler", beta_shedule: "linear" }, /unknown configuration key "beta_shedule"/],
    [{ _class_name: "DDPMScheduler", variance_type: "fixed_large_log" }, /variance_type is "fixed_large_log"/],
    [{ _class_name: "DPMSolverMultistepScheduler", solver_order: 4 }, /solver_order is 4.*1, 2, 3/],
    [{ _class_name: "DPMSolverMultistepScheduler", algorithm_type: "dpmsolver" }, /final_sigmas_type is "zero"/],
    [
      {
        _class_name: "DPMSolverMultistepScheduler",
        algorithm_type: "sde-dpmsolver",
        solver_order: 3,
        final_sigmas_type: "sigma_min",
      },
      /solver_order is 3/,
    ],
    [
      {
        _class_name: "DPMSolverMultistepScheduler",
        algorithm_type: "dpmsolver",
        final_sigmas_type: "sigma_min",
        prediction_type: "flow_prediction",
      },
      /flow_prediction.*dpmsolver\+\+/,
    ],
    [{ _class_name: "DPMSolverMultistepScheduler", steps_offset: 1e9 }, /steps_offset.*from 0 to 100000/],
    [
      { _class_name: "EulerDiscreteScheduler", use_beta_sigmas: true, use_karras_sigmas: true },
      /only one of use_karras_sigmas, use_beta_sigmas/,
    ],
    [{ _class_name: "EulerDiscreteScheduler", use_exponential_sigmas: true, sigma_min: 0 }, /must be above 0/],
    [{ _class_name: "FlowMatchEulerDiscreteScheduler", shift_terminal: 1 }, /shift_terminal is 1/],
    [{ _class_name: "FlowMatchEulerDiscreteScheduler", time_shift_type: "cubic" }, /"exponential", "linear"/],
    [{ _class_name: "FlowMatchEulerDiscreteScheduler", shift: 0 }, /shift is 0/],
    [{ _class_name: "toString" }, /_class_name is "toString"/],
  ])("refuses %j", (config, message) => {
    expect(() => createScheduler(config)).toThrow(ConfigError);
    expect(() => createScheduler(config)).toThrow(message);
  });
});
