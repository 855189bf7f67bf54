/** The scheduler of a call, the model's own or another one, and the steps that the caller chose. */

import { type ModelIndex, type RawConfig, readConfig } from "../checkpoints/diffusers-folder.ts";
import { type Folder, quote } from "../checkpoints/files.ts";
import { type Check, listOf, number, oneOf, whole } from "../checks.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import type { OptionTable } from "../options/options.ts";
import { dynamicShift } from "../schedulers/dynamic-shift.ts";
import {
  createScheduler,
  processOf,
  type SchedulerChoice,
  schedulerChoices,
  schedulerNames,
  schedulers,
} from "../schedulers/registry.ts";
import type { CustomSchedule, Scheduler } from "../schedulers/scheduler.ts";
import { type TimestepSpacing, timestepSpacings } from "../schedulers/spacing.ts";

/**
 * The pipeline's own scheduler, or another class for its configuration, as diffusers' `from_config`: keys that the class
 * has carry over (noise schedule, spacing, offset, prediction type, Karras sigmas, ...), others have no effect, and
 * missing ones take the class's defaults. `spacing` replaces the configuration's `timestep_spacing`. Throws ConfigError and
 * ArgumentError for what cannot be.
 */
export function pickScheduler(own: RawConfig, choice?: SchedulerChoice, spacing?: TimestepSpacing): Scheduler {
  return createScheduler(spaced(chosenConfig(own, choice), spacing));
}

function chosenConfig(own: RawConfig, choice: SchedulerChoice | undefined): RawConfig {
  if (choice === undefined) return own;
  if (!Object.hasOwn(schedulerChoices, choice)) {
    throw new ConfigError(
      `Scheduler ${quote(String(choice))} is not known; there are ${Object.keys(schedulerChoices).join(", ")}.`,
    );
  }
  const chosen = schedulerChoices[choice];
  const process = processOf(String(own["_class_name"]));
  if (process !== processOf(chosen._class_name)) {
    const fitting = schedulers.filter((entry) => entry.name !== null && entry.process === process);
    throw new ConfigError(
      `This model was trained with ${process}; scheduler "${choice}" cannot sample from it` +
        `${fitting.length > 0 ? `, but ${fitting.map(({ name }) => name).join(", ")} can` : ""}.`,
    );
  }
  return { ...own, ...chosen };
}

/** Throws ArgumentError where the class spaces its timesteps in one way only. */
function spaced(config: RawConfig, spacing: TimestepSpacing | undefined): RawConfig {
  if (spacing === undefined) return config;
  const scheduler = createScheduler(config);
  if (Object.hasOwn(scheduler.config, "timestep_spacing")) return { ...config, timestep_spacing: spacing };
  throw new ArgumentError(`timestepSpacing: ${scheduler.className} spaces its timesteps in one way only.`);
}

/** A warning for a scheduler of the caller's choice that clips latents only because the model's configuration does not mention it. */
export function clippingNotes(own: RawConfig, choice: SchedulerChoice | undefined, scheduler: Scheduler): string[] {
  if (choice === undefined || scheduler.config["clip_sample"] !== true || Object.hasOwn(own, "clip_sample")) return [];
  return [
    `${scheduler.className} clips latents to [-1, 1], since the model's scheduler_config.json says nothing of clip_sample ` +
      '(diffusers does the same); add "clip_sample": false there for sharper pictures.',
  ];
}

/**
 * A pipeline's scheduler_config.json. model_index.json and the file itself must both name a scheduler; between two
 * schedulers the file's own class counts, and model_index.json's if the file names none. Throws ConfigError.
 */
export async function readSchedulerConfig(folder: Folder, { components }: ModelIndex): Promise<RawConfig> {
  const listed = components.get("scheduler")?.className;
  const config = await readConfig(folder.sub("scheduler"));
  const own = config["_class_name"] ?? listed;
  const needed = `a pipeline's scheduler is one of ${schedulerNames.join(", ")}`;
  for (const [name, file] of [
    [listed, "model_index.json"],
    [own, "scheduler/scheduler_config.json"],
  ] as const) {
    if (name === undefined || (typeof name === "string" && name.endsWith("Scheduler"))) continue;
    throw new ConfigError(`${folder.name}/${file}: the scheduler is ${JSON.stringify(name)}, but ${needed}.`);
  }
  return { ...config, _class_name: own };
}

/** Which scheduler a call uses, and its steps. */
export interface SolverOptions {
  /** Inference steps. */
  steps?: number;
  /** Another solver than the model's own. */
  scheduler?: SchedulerChoice;
  /** How the timesteps are spaced, instead of as the model's configuration says: distilled models often want "trailing". */
  timestepSpacing?: TimestepSpacing;
  /** How much noise DDIM and TCD add at each step, from 0 (none, the default) to 1 (DDIM: as ancestral sampling). */
  eta?: number;
  /** Timesteps of your own instead of a number of steps, for schedulers that take them. */
  timesteps?: readonly number[];
  /** Noise levels of your own, likewise. */
  sigmas?: readonly number[];
}

/** Most steps of a call. */
const MOST_STEPS = 1000;
export const stepsCheck: Check = whole(1, MOST_STEPS);

export const solverOptions: OptionTable<SolverOptions> = {
  steps: stepsCheck,
  scheduler: oneOf(Object.keys(schedulerChoices)),
  timestepSpacing: oneOf(timestepSpacings),
  eta: number(0, 1),
  timesteps: listOf(number(0), { least: 1, most: MOST_STEPS }),
  sigmas: listOf(number(0), { least: 1, most: MOST_STEPS }),
};

/** What the sampler is told of them. */
export interface Solver {
  readonly scheduler: Scheduler;
  readonly steps: number;
  readonly schedule?: CustomSchedule;
  readonly eta?: number;
}

/**
 * `patches`: of an image, for schedulers whose shift depends on its size. Throws ArgumentError for what the scheduler does not take,
 * and for steps that cannot be planned; ConfigError.
 */
export function solverOf(own: RawConfig, options: SolverOptions, usualSteps: number, patches?: number): Solver {
  const { scheduler: choice, timestepSpacing, timesteps, sigmas } = options;
  const scheduler = pickScheduler(own, choice, timestepSpacing);
  const eta = etaOf(scheduler, options.eta);
  const mu = patches === undefined ? undefined : dynamicShift(scheduler, patches);
  if (timesteps === undefined && sigmas === undefined) {
    const { steps = usualSteps } = options;
    stepsCheck(steps, "steps");
    scheduler.setTimesteps(steps, mu);
    return { scheduler, steps, eta };
  }
  const schedule = { timesteps, sigmas };
  scheduler.setTimesteps(schedule, mu);
  const steps = scheduler.timesteps.length;
  if (options.steps !== undefined && options.steps !== steps) {
    throw new ArgumentError(
      `steps is ${options.steps}, but the ${timesteps ? "timesteps" : "sigmas"} are for ${steps}.`,
    );
  }
  return { scheduler, steps, schedule, eta };
}

/** No noise unless it is asked for, as in diffusers' pipelines; TCD alone would take 0.3. */
function etaOf(scheduler: Scheduler, eta: number | undefined): number | undefined {
  const takes = scheduler.takes.includes("eta");
  if (eta === undefined) return takes ? 0 : undefined;
  if (!takes) throw new ArgumentError(`eta is for DDIM and TCD; ${scheduler.className} does not take it.`);
  number(0, 1)(eta, "eta");
  return eta;
}
