import { describe, expectObject } from "../checkpoints/files.ts";
import { ArgumentError } from "../errors.ts";
import { defined } from "../options/defined.ts";
import { createScheduler } from "../schedulers/registry.ts";
import type { CustomSchedule, Scheduler, StepOptions } from "../schedulers/scheduler.ts";
import type { FloatTensor, Tensor } from "../tensor.ts";
import { compare, entry, type OutputError, reference, worst } from "./compare.ts";
import { countOf, MOST_STEPS } from "./recorded-call.ts";

type Io = ReadonlyMap<string, Tensor>;

/**
 * Compares a scheduler with reference vectors, using fixed model outputs: its tables, each step from the stored state, and the
 * whole trajectory from the first state on. `config` is `scheduler_config.json`,
 * `call` has `num_inference_steps` (or `set_timesteps`, arguments of that function) and the arguments of `step` under
 * diffusers' names. The result has one entry for each output. For
 * outputs with one tensor per step it is the step with the largest error relative to that step's standard deviation.
 * Throws ConfigError for a scheduler that is not supported, ArgumentError if tensors or arguments are missing.
 */
export function verifyScheduler(
  config: Readonly<Record<string, unknown>>,
  call: Readonly<Record<string, unknown>>,
  io: Io,
): OutputError[] {
  const scheduler = createScheduler(config);
  const [plan, mu] = planOf(call);
  const options = stepOptions(call["step"]);
  const errors: OutputError[] = [];
  const check = (name: string, actual: () => ArrayLike<number>) => {
    const expected = io.get(name);
    if (expected) errors.push(compare(name, actual(), expected.data));
  };

  check("output.alphas_cumprod", () => scheduler.alphasCumprod ?? []);
  scheduler.setTimesteps(plan, mu);
  check("output.timesteps", () => scheduler.timesteps);
  check("output.sigmas", () => scheduler.sigmas ?? []);
  check("output.init_noise_sigma", () => [scheduler.initNoiseSigma]);
  errors.push(...fromStoredStates(scheduler, options, io));
  check("output.add_noise", () => {
    const timesteps = Array.from(io.get("input.add_noise.timesteps")?.data ?? [], Number);
    const original = reference(io, "input.add_noise.original", "float32");
    return scheduler.addNoise(original, reference(io, "input.add_noise.noise", "float32"), timesteps).data;
  });

  scheduler.setTimesteps(plan, mu);
  errors.push(trajectory(scheduler, options, io));
  return errors;
}

function planOf(call: Readonly<Record<string, unknown>>): [plan: number | CustomSchedule, mu: number | undefined] {
  const where = "call.json: set_timesteps";
  const {
    num_inference_steps: steps = call["num_inference_steps"],
    timesteps,
    sigmas,
    mu,
  } = expectObject(call["set_timesteps"] ?? {}, where);
  if (mu !== undefined && !(typeof mu === "number" && Number.isFinite(mu))) {
    throw new ArgumentError(`${where}: mu is ${describe(mu)}, not a number.`);
  }
  if (timesteps === undefined && sigmas === undefined) {
    return [countOf({ num_inference_steps: steps }, "num_inference_steps", MOST_STEPS), mu];
  }
  const plan = defined({ timesteps, sigmas });
  for (const [name, list] of Object.entries(plan)) {
    const numbers = Array.isArray(list) && list.length <= MOST_STEPS && list.every((value) => Number.isFinite(value));
    if (!numbers)
      throw new ArgumentError(`${where}: ${name} is ${describe(list)}, not a list of at most ${MOST_STEPS} numbers.`);
  }
  return [plan as CustomSchedule, mu];
}

/** Each step, starting from the reference's state at that step. */
function fromStoredStates(scheduler: Scheduler, options: StepOptions, io: Io): OutputError[] {
  const samples = reference(io, "output.sample", "float32");
  const found = new Map<string, OutputError[]>();
  const check = (name: string, i: number, actual: FloatTensor | undefined) => {
    const expected = io.get(name);
    if (expected?.dtype !== "float32" || !actual) return;
    const error = compare(`${name}[${i}]`, actual.data, entry(expected as FloatTensor, i).data);
    found.set(name, [...(found.get(name) ?? []), error]);
  };
  scheduler.timesteps.forEach((timestep, i) => {
    const sample = entry(samples, i);
    check("output.scaled_sample", i, scheduler.scaleModelInput(sample, timestep));
    const result = scheduler.step(modelOutput(io, i), timestep, sample, withNoise(options, io, i));
    check("output.prev_sample", i, result.prevSample);
    check("output.pred_original_sample", i, result.predOriginalSample);
  });
  return [...found.values()].map(worst);
}

/** All steps on the scheduler's own states, from `input.sample`; the result is the state with the largest error. */
function trajectory(scheduler: Scheduler, options: StepOptions, io: Io): OutputError {
  const states = reference(io, "output.prev_sample", "float32");
  const start = reference(io, "input.sample", "float32");
  let sample: FloatTensor = { ...start, data: start.data.map((x) => x * scheduler.initNoiseSigma) };
  const first = compare("trajectory[start]", sample.data, entry(reference(io, "output.sample", "float32"), 0).data);
  const errors = scheduler.timesteps.map((timestep, i) => {
    scheduler.scaleModelInput(sample, timestep);
    sample = scheduler.step(modelOutput(io, i), timestep, sample, withNoise(options, io, i)).prevSample;
    return compare(`trajectory[${i}]`, sample.data, entry(states, i).data);
  });
  return worst([first, ...errors]);
}

function modelOutput(io: Io, i: number): FloatTensor {
  return entry(reference(io, "input.model_output", "float32"), i);
}

function withNoise(options: StepOptions, io: Io, i: number): StepOptions {
  return { ...options, noise: () => entry(reference(io, "input.noise", "float32"), i) };
}

/** Names of diffusers' step arguments, and ours. */
const argumentNames = {
  eta: "eta",
  use_clipped_model_output: "useClippedModelOutput",
  s_churn: "sChurn",
  s_tmin: "sTmin",
  s_tmax: "sTmax",
  s_noise: "sNoise",
} as const satisfies Record<string, keyof StepOptions>;

function stepOptions(step: unknown): StepOptions {
  if (step === undefined || step === null) return {};
  return Object.fromEntries(
    Object.entries(expectObject(step, "call.json: step")).map(([name, value]) => {
      if (!Object.hasOwn(argumentNames, name)) {
        throw new ArgumentError(
          `call.json: step has an argument "${name}"; supported are ${Object.keys(argumentNames).join(", ")}.`,
        );
      }
      const fine = name === "use_clipped_model_output" ? typeof value === "boolean" : isNumber(value);
      if (!fine) throw new ArgumentError(`call.json: step has ${name} ${describe(value)}, which is no value for it.`);
      return [argumentNames[name as keyof typeof argumentNames], value];
    }),
  );
}

/** s_tmax may be Infinity, which means no limit. */
const isNumber = (value: unknown): boolean => typeof value === "number" && !Number.isNaN(value);
