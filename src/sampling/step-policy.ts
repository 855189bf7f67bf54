/** Which of a sampler's steps are done in full, and which only in part. */
import { type Check, listOf, oneOf, shown, whole } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { settings } from "../options/options.ts";

/** `full`: the whole denoiser; `inner`: in part, from what earlier steps left (ILF, caches); `rehash`: likewise (Step Rehash). */
export type Action = "full" | "inner" | "rehash";
const actions: readonly Action[] = ["full", "inner", "rehash"];

/** One call of the denoiser within a run of the sampler. */
export interface StepContext {
  /** Counts from 0. */
  readonly index: number;
  /** How many there are in all. */
  readonly steps: number;
  readonly timestep: number;
  /** Whether the rows of the batch are the two halves of guidance: those without the condition, then those with it. */
  readonly guided?: boolean;
}

/**
 * Decides for each step, in order. The first step is full whatever the policy says, because there is nothing yet to
 * reuse.
 */
export type StepPolicy = (step: StepContext) => Action;

/** A fixed schedule: every `every`-th step is full, and so are the first `warmUp` and the last `final`. */
export interface PeriodicSchedule {
  every: number;
  warmUp?: number;
  final?: number;
}

/** A period, or the actions themselves, one a step. */
export type Schedule = PeriodicSchedule | readonly Action[];

/** Which steps a method does in full: by a schedule, or as a policy of the caller's own decides when a step comes. */
export type StepChoice = Schedule | StepPolicy;

/** 8 of 20 steps in full, the first three among them: what feedback modules are trained for unless told otherwise. */
export const defaultSchedule = "fffifiifiiifiiifiifi";

export const isList = (schedule: Schedule): schedule is readonly Action[] => Array.isArray(schedule);

/** Far more than there are steps. */
const MOST_STEPS = 1e6;
const period = settings<PeriodicSchedule>({
  every: whole(1, Number.MAX_SAFE_INTEGER),
  warmUp: whole(1, MOST_STEPS),
  final: whole(0, MOST_STEPS),
});

/** The form of a schedule; whether it can be followed says `checkSchedule`. */
export const scheduleCheck: Check = (value, name) =>
  (Array.isArray(value) ? listOf(oneOf(actions), { least: 1, most: MOST_STEPS }) : period)(value, name);

/** The form of a schedule; of a policy, that it is a function. */
export const stepChoiceCheck: Check = (value, name) => {
  if (typeof value !== "function") scheduleCheck(value, name);
};

/** Throws ArgumentError for a schedule that no sampler can follow. */
export function checkSchedule(schedule: Schedule): void {
  if (isList(schedule)) {
    const wrong = schedule.find((action) => !actions.includes(action));
    if (wrong !== undefined) {
      throw new ArgumentError(`A schedule has the actions ${actions.join(", ")}, not "${String(wrong)}".`);
    }
    if (schedule[0] === "full") return;
    throw new ArgumentError(
      `A schedule starts with a full step, not "${schedule[0] ?? "nothing"}": an inner step needs features to go on from.`,
    );
  }
  const { every, warmUp = 1, final = 0 } = schedule;
  const whole = (value: number, least: number) => Number.isInteger(value) && value >= least;
  if (whole(every, 1) && whole(warmUp, 1) && whole(final, 0)) return;
  throw new ArgumentError(
    `A schedule needs whole numbers: every and warmUp of at least 1, final of at least 0, not ` +
      `${JSON.stringify({ every, warmUp, final })}.`,
  );
}

/** The policy that follows a schedule. A list of actions must have one for every step of the run. */
export function scheduled(schedule: Schedule, partial: Exclude<Action, "full"> = "inner"): StepPolicy {
  checkSchedule(schedule);
  if (isList(schedule)) {
    return ({ index, steps }) => {
      if (schedule.length === steps) return schedule[index]!;
      throw new ArgumentError(`The schedule has ${schedule.length} actions, but the run has ${steps} steps.`);
    };
  }
  const { every, warmUp = 1, final = 0 } = schedule;
  return ({ index, steps }) => {
    const full = index < warmUp || index >= steps - final || (index - warmUp + 1) % every === 0;
    return full ? "full" : partial;
  };
}

/**
 * The policy that a choice stands for. Of a caller's policy only "full" or anything else counts: how a step is done in
 * part is up to the method. It throws ArgumentError at a step for which the policy gives no action.
 */
export function policyOf(choice: StepChoice, partial: Exclude<Action, "full"> = "inner"): StepPolicy {
  if (typeof choice !== "function") return scheduled(choice, partial);
  return (step) => {
    const action = choice(step);
    if (action === "full") return action;
    if (actions.includes(action)) return partial;
    throw new ArgumentError(
      `The policy gave ${shown(action)} for step ${step.index}; it has to give one of ${actions.join(", ")}.`,
    );
  };
}

const named = new Map<string, Action>([
  ["f", "full"],
  ["full", "full"],
  ["i", "inner"],
  ["inner", "inner"],
  ["r", "rehash"],
  ["rehash", "rehash"],
]);

/**
 * Stretches a schedule that was made for one number of steps to any number: up to each point of the run, the same share
 * of steps is full as in the list. So with twice as many steps every action occurs twice.
 */
export function stretched(schedule: Schedule, partial: Exclude<Action, "full"> = "inner"): StepPolicy {
  if (!isList(schedule)) return scheduled(schedule, partial);
  checkSchedule(schedule);
  const { length } = schedule;
  // One more than the list has: its end.
  const isFull = [...schedule.map((action) => Number(action === "full")), 0];
  const before = isFull.map((_, i) => isFull.slice(0, i).reduce((a, b) => a + b, 0));
  return ({ index, steps }) => {
    if (steps === length) return schedule[index]!;
    /** How many full steps there are before a step of this run. */
    const due = (step: number) => {
      const at = Math.floor((step * length) / steps);
      return Math.ceil((steps * before[at]! + ((step * length) % steps) * isFull[at]!) / length);
    };
    return due(index + 1) > due(index) ? "full" : partial;
  };
}

/**
 * "2" (every second step is full), "2:3:1" (and the first three and the last), "full,inner,full", "fif" or "frf" (rehash). Throws
 * ArgumentError for other text.
 */
export function parseSchedule(text: string): Schedule {
  const [every, warmUp = 1, final = 0] = text.split(":").map(Number);
  const words = /^[fir]+$/i.test(text) ? [...text] : text.split(",");
  const list = words.map((word) => named.get(word.trim().toLowerCase()));
  const schedule: Schedule | null = /^\d+(:\d+){0,2}$/.test(text)
    ? { every: every!, warmUp, final }
    : list.every((action) => action !== undefined)
      ? list
      : null;
  if (!schedule) {
    throw new ArgumentError(
      `"${text}" is not a schedule. "2" makes every second step full, "2:3:1" also the first three and the last; ` +
        `or give every step's action: "full,inner,full" or "fif".`,
    );
  }
  checkSchedule(schedule);
  return schedule;
}
