/** The table of schedulers. A new scheduler is a file in this folder and an entry here. */
import { ConfigError } from "../errors.ts";
import { DDIMScheduler } from "./ddim.ts";
import { DDIMInverseScheduler } from "./ddim-inverse.ts";
import { DDIMParallelScheduler } from "./ddim-parallel.ts";
import { DDPMScheduler } from "./ddpm.ts";
import { DDPMParallelScheduler } from "./ddpm-parallel.ts";
import { DEISMultistepScheduler } from "./deis-multistep.ts";
import { DPMSolverMultistepScheduler } from "./dpm-solver-multistep.ts";
import { DPMSolverSinglestepScheduler } from "./dpm-solver-singlestep.ts";
import { EDMDPMSolverMultistepScheduler } from "./edm-dpm-solver-multistep.ts";
import { EDMEulerScheduler } from "./edm-euler.ts";
import { EulerAncestralDiscreteScheduler } from "./euler-ancestral-discrete.ts";
import { EulerDiscreteScheduler } from "./euler-discrete.ts";
import { FlowMatchEulerDiscreteScheduler } from "./flow-match-euler-discrete.ts";
import { FlowMatchHeunDiscreteScheduler } from "./flow-match-heun-discrete.ts";
import { FlowMatchLCMScheduler } from "./flow-match-lcm.ts";
import { HeunDiscreteScheduler } from "./heun-discrete.ts";
import { IPNDMScheduler } from "./ipndm.ts";
import { KDPM2AncestralDiscreteScheduler } from "./k-dpm-2-ancestral-discrete.ts";
import { KDPM2DiscreteScheduler } from "./k-dpm-2-discrete.ts";
import { LCMScheduler } from "./lcm.ts";
import { LMSDiscreteScheduler } from "./lms-discrete.ts";
import { PNDMScheduler } from "./pndm.ts";
import { SASolverScheduler } from "./sasolver.ts";
import type { Scheduler } from "./scheduler.ts";
import { TCDScheduler } from "./tcd.ts";
import { UniPCMultistepScheduler } from "./unipc-multistep.ts";

/** The process that a model was trained on. A scheduler can only sample from models of its own process. */
export type SamplingProcess = "diffusion" | "flow matching" | "EDM preconditioning" | "continuous v-diffusion";

export interface SchedulerEntry {
  /** Short name, for `--scheduler` and the option `scheduler`; null for a class that only a model's own configuration names. */
  readonly name: string | null;
  /** The class name in diffusers, which is `_class_name` in scheduler_config.json. */
  readonly className: string;
  /** Keys that distinguish solvers of one class; they are set in addition to those of the model's configuration. */
  readonly config?: Readonly<Record<string, unknown>>;
  readonly process: SamplingProcess;
  /** For help and docs. */
  readonly summary: string;
  readonly create: new (config: Readonly<Record<string, unknown>>) => Scheduler;
}

export const schedulers = [
  {
    name: "ddim",
    className: "DDIMScheduler",
    process: "diffusion",
    summary: "first order; deterministic unless eta adds noise",
    create: DDIMScheduler,
  },
  {
    name: "ddpm",
    className: "DDPMScheduler",
    process: "diffusion",
    summary: "ancestral sampling: adds noise at every step and needs many",
    create: DDPMScheduler,
  },
  {
    name: "dpm-solver++",
    className: "DPMSolverMultistepScheduler",
    config: { algorithm_type: "dpmsolver++" },
    process: "diffusion",
    summary: "second or third order, from the steps before",
    create: DPMSolverMultistepScheduler,
  },
  {
    name: "sde-dpm-solver++",
    className: "DPMSolverMultistepScheduler",
    config: { algorithm_type: "sde-dpmsolver++" },
    process: "diffusion",
    summary: "the same with noise at every step",
    create: DPMSolverMultistepScheduler,
  },
  {
    name: "single-dpm-solver++",
    className: "DPMSolverSinglestepScheduler",
    config: { algorithm_type: "dpmsolver++" },
    process: "diffusion",
    summary: "second or third order, starting anew every two or three steps",
    create: DPMSolverSinglestepScheduler,
  },
  {
    name: "unipc",
    className: "UniPCMultistepScheduler",
    process: "diffusion",
    summary: "predictor and corrector; good with few steps",
    create: UniPCMultistepScheduler,
  },
  {
    name: "deis",
    className: "DEISMultistepScheduler",
    config: { algorithm_type: "deis" },
    process: "diffusion",
    summary: "second or third order, from the steps before",
    create: DEISMultistepScheduler,
  },
  {
    name: "sasolver",
    className: "SASolverScheduler",
    config: { algorithm_type: "data_prediction" },
    process: "diffusion",
    summary: "predictor and corrector with noise in the middle steps; PixArt's authors use it",
    create: SASolverScheduler,
  },
  {
    name: "euler",
    className: "EulerDiscreteScheduler",
    process: "diffusion",
    summary: "first order; deterministic",
    create: EulerDiscreteScheduler,
  },
  {
    name: "euler-a",
    className: "EulerAncestralDiscreteScheduler",
    process: "diffusion",
    summary: "Euler with noise at every step",
    create: EulerAncestralDiscreteScheduler,
  },
  {
    name: "heun",
    className: "HeunDiscreteScheduler",
    process: "diffusion",
    summary: "second order; runs the model twice a step",
    create: HeunDiscreteScheduler,
  },
  {
    name: "kdpm2",
    className: "KDPM2DiscreteScheduler",
    process: "diffusion",
    summary: "second order, by the midpoint; runs the model twice a step",
    create: KDPM2DiscreteScheduler,
  },
  {
    name: "kdpm2-a",
    className: "KDPM2AncestralDiscreteScheduler",
    process: "diffusion",
    summary: "the same with noise at every step",
    create: KDPM2AncestralDiscreteScheduler,
  },
  {
    name: "lms",
    className: "LMSDiscreteScheduler",
    process: "diffusion",
    summary: "fourth order, from the steps before",
    create: LMSDiscreteScheduler,
  },
  {
    name: "lcm",
    className: "LCMScheduler",
    process: "diffusion",
    summary: "2 to 8 steps, for latent consistency models",
    create: LCMScheduler,
  },
  {
    name: "tcd",
    className: "TCDScheduler",
    process: "diffusion",
    summary: "2 to 8 steps, for models distilled by TCD; eta adds noise",
    create: TCDScheduler,
  },
  {
    name: "pndm",
    className: "PNDMScheduler",
    process: "diffusion",
    summary: "fourth order, from the steps before",
    create: PNDMScheduler,
  },
  {
    name: null,
    className: "DDIMParallelScheduler",
    process: "diffusion",
    summary: "DDIM under another name",
    create: DDIMParallelScheduler,
  },
  {
    name: null,
    className: "DDPMParallelScheduler",
    process: "diffusion",
    summary: "DDPM under another name",
    create: DDPMParallelScheduler,
  },
  {
    name: "flow-euler",
    className: "FlowMatchEulerDiscreteScheduler",
    process: "flow matching",
    summary: "flow matching: first order",
    create: FlowMatchEulerDiscreteScheduler,
  },
  {
    name: "flow-heun",
    className: "FlowMatchHeunDiscreteScheduler",
    process: "flow matching",
    summary: "flow matching: second order; runs the model twice a step",
    create: FlowMatchHeunDiscreteScheduler,
  },
  {
    name: "flow-lcm",
    className: "FlowMatchLCMScheduler",
    process: "flow matching",
    summary: "flow matching: 2 to 8 steps, for consistency models",
    create: FlowMatchLCMScheduler,
  },
  {
    name: "edm-euler",
    className: "EDMEulerScheduler",
    process: "EDM preconditioning",
    summary: "EDM: first order",
    create: EDMEulerScheduler,
  },
  {
    name: "edm-dpm-solver++",
    className: "EDMDPMSolverMultistepScheduler",
    config: { algorithm_type: "dpmsolver++" },
    process: "EDM preconditioning",
    summary: "EDM: second or third order, from the steps before",
    create: EDMDPMSolverMultistepScheduler,
  },
  {
    name: null,
    className: "IPNDMScheduler",
    process: "continuous v-diffusion",
    summary: "fourth order, from the steps before",
    create: IPNDMScheduler,
  },
  {
    name: null,
    className: "DDIMInverseScheduler",
    process: "diffusion",
    summary: "DDIM backwards, from a clean sample to its noise",
    create: DDIMInverseScheduler,
  },
] as const satisfies readonly SchedulerEntry[];

/** Short names for `--scheduler` and the option `scheduler`. */
export type SchedulerChoice = NonNullable<(typeof schedulers)[number]["name"]>;

/** The keys of scheduler_config.json for a short name: a class, and the keys that distinguish solvers of that class. */
export type ChosenConfig = Readonly<{ _class_name: string } & Record<string, unknown>>;

/** By short name, the keys that make a configuration one of that scheduler. */
export const schedulerChoices = Object.fromEntries(
  schedulers.flatMap(({ name, className, ...entry }) =>
    name === null ? [] : [[name, { _class_name: className, ...("config" in entry ? entry.config : {}) }]],
  ),
) as Readonly<Record<SchedulerChoice, ChosenConfig>>;

const byClass = new Map<string, SchedulerEntry>(schedulers.map((entry) => [entry.className, entry]));

/** Class names that `createScheduler` knows. */
export const schedulerNames: readonly string[] = [...byClass.keys()].sort();

/**
 * The process that a model with a scheduler of this class was trained on. For a class that is not in the table its name
 * tells, since all of diffusers' classes for flow matching begin with "FlowMatch".
 */
export function processOf(className: string): SamplingProcess {
  return byClass.get(className)?.process ?? (className.startsWith("FlowMatch") ? "flow matching" : "diffusion");
}

/**
 * The scheduler that a `scheduler_config.json` describes, by its `_class_name`.
 * Throws ConfigError for classes, keys and values that are not supported.
 */
export function createScheduler(config: Readonly<Record<string, unknown>>): Scheduler {
  const name = config["_class_name"];
  const entry = typeof name === "string" ? byClass.get(name) : undefined;
  if (entry) return new entry.create(config);
  throw new ConfigError(
    `Scheduler: _class_name is ${JSON.stringify(name)}, but supported are ${schedulerNames.join(", ")}.`,
  );
}
