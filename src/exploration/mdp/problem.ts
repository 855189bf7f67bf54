/**
 * The problem that a conservative learner is given: sizes, rewards, start, baseline, threshold, confidence. And its
 * JSON form.
 */
import { shown } from "../../checks.ts";
import { ArgumentError } from "../../errors.ts";
import { checkDistribution, checkRewards, checkSizes, numbers, type Sizes } from "./mdp.ts";
import { checkPolicy } from "./policy.ts";
import { checkList, checkNumber, checkObject } from "./reading.ts";

export interface Problem extends Sizes {
  /** Mean rewards [step][state][action]; undefined if they have to be estimated from observations. */
  readonly rewards?: Float64Array;
  readonly initial: Float64Array;
  /** pi_b, [step][state][action]. */
  readonly baseline: Float64Array;
  /** gamma: no episode's policy may have a smaller value. */
  readonly threshold: number;
  readonly delta: number;
  /** Multiplies the bonuses; the theorems need 1. */
  readonly bonusScale: number;
  /** Which confidence bounds: those of the paper, or the tighter ones of docs/stepmix.md ("paper"). */
  readonly bounds?: "paper" | "tight";
  /**
   * What StepMix and EpsMix play if optimism is not safe: the baseline, as in the paper, or also other policies that the data
   * certify ("certified", which needs tight bounds and is their default).
   */
  readonly fallback?: "baseline" | "certified";
  /** V(pi_b), if it is known; conservative UCBVI and the linear programs use it. */
  readonly baselineValue?: number;
}

/** `Problem` in JSON, tables nested. */
export interface ProblemJson extends Sizes {
  readonly rewards?: readonly (readonly (readonly number[])[])[] | null;
  readonly initial: readonly number[];
  readonly baseline: readonly (readonly (readonly number[])[])[];
  readonly threshold: number;
  readonly delta: number;
  readonly bonusScale?: number;
  readonly bounds?: "paper" | "tight";
  readonly fallback?: "baseline" | "certified";
  readonly baselineValue?: number;
}

/** Checks a problem, and returns it; tables are copied if their probabilities had to be rescaled because of rounding. */
export function checkProblem(problem: Problem): Problem {
  checkSizes(problem);
  const { horizon, states, actions, rewards, threshold, delta, bonusScale, bounds, fallback } = problem;
  const { baselineValue } = problem;
  const rows = horizon * states * actions;
  if (rewards !== undefined) checkRewards(checkTable(rewards, "rewards", rows), problem);
  const initial = checkDistribution(checkTable(problem.initial, "initial", states), states, "initial");
  const baseline = checkPolicy(checkTable(problem.baseline, "baseline", rows), problem);
  // For callers without types: a threshold of null would be below every bound.
  checkReturn(threshold, "threshold", horizon);
  checkNumber(delta, "delta");
  if (!(delta > 0 && delta < 1)) throw new ArgumentError(`delta is ${delta}; it must lie between 0 and 1.`);
  checkNumber(bonusScale, "bonusScale", 0);
  if (bounds !== undefined && bounds !== "paper" && bounds !== "tight") {
    throw new ArgumentError(`bounds is ${bounds}; it must be "paper" or "tight".`);
  }
  if (fallback !== undefined && fallback !== "baseline" && fallback !== "certified") {
    throw new ArgumentError(`fallback is ${fallback}; it must be "baseline" or "certified".`);
  }
  if (fallback === "certified" && bounds !== "tight") {
    throw new ArgumentError('fallback is "certified", which needs the bounds "tight".');
  }
  if (baselineValue !== undefined) checkReturn(baselineValue, "baselineValue", horizon);
  return initial === problem.initial && baseline === problem.baseline ? problem : { ...problem, initial, baseline };
}

/** Returns lie between 0 and the horizon, up to the rounding of probabilities. */
function checkReturn(value: unknown, name: string, horizon: number): void {
  if (checkNumber(value, name) >= 0 && (value as number) <= horizon * (1 + 1e-9)) return;
  throw new ArgumentError(`${name} is ${shown(value)}; returns lie between 0 and the horizon, ${horizon}.`);
}

function checkTable(table: unknown, name: string, length: number): Float64Array {
  const isTable = Object.prototype.toString.call(table) === "[object Float64Array]";
  if (isTable && (table as Float64Array).length === length) return table as Float64Array;
  throw new ArgumentError(`${name} is ${shown(table)}; it must be a Float64Array of ${length}.`);
}

/** Reads a problem from its JSON form. Throws ArgumentError for anything else. */
export function problemFromJson(json: ProblemJson): Problem {
  checkObject(json, "The state");
  checkSizes(json);
  // Lists are read before tables are allocated, so that no table is larger than the file justifies.
  const initial = numbers(json.initial, "initial", json.states);
  checkNumber(json.threshold, "threshold");
  checkNumber(json.delta, "delta");
  if (json.bonusScale !== undefined) checkNumber(json.bonusScale, "bonusScale");
  if (json.baselineValue !== undefined) checkNumber(json.baselineValue, "baselineValue");
  return checkProblem({
    horizon: json.horizon,
    states: json.states,
    actions: json.actions,
    ...((json.rewards ?? null) === null ? {} : { rewards: tableFromJson(json.rewards, json, "rewards") }),
    initial,
    baseline: tableFromJson(json.baseline, json, "baseline"),
    threshold: json.threshold,
    delta: json.delta,
    bonusScale: json.bonusScale ?? 1,
    ...(json.bounds === undefined ? {} : { bounds: json.bounds }),
    ...(json.fallback === undefined ? {} : { fallback: json.fallback }),
    ...(json.baselineValue === undefined ? {} : { baselineValue: json.baselineValue }),
  });
}

/** A problem as JSON; `problemFromJson` reads it. */
export function problemToJson(problem: Problem): ProblemJson {
  const { horizon, states, actions, rewards, initial, baseline, threshold, delta, bonusScale } = problem;
  const { bounds, fallback, baselineValue } = problem;
  return {
    horizon,
    states,
    actions,
    rewards: rewards ? tableToJson(rewards, problem) : null,
    initial: [...initial],
    baseline: tableToJson(baseline, problem),
    threshold,
    delta,
    bonusScale,
    ...(bounds === undefined ? {} : { bounds }),
    ...(fallback === undefined ? {} : { fallback }),
    ...(baselineValue === undefined ? {} : { baselineValue }),
  };
}

/** Flattens [step][state][action]. An error names the first index that is missing or not a number. */
export function tableFromJson(nested: unknown, { horizon, states, actions }: Sizes, name: string): Float64Array {
  const steps = checkList(nested, name, horizon);
  checkList(checkList(steps[0], `${name}[0]`, states)[0], `${name}[0][0]`, actions);
  const table = new Float64Array(horizon * states * actions);
  let i = 0;
  steps.forEach((step, h) => {
    checkList(step, `${name}[${h}]`, states).forEach((state, s) => {
      // Names are built only for errors, since tables have millions of entries.
      const list =
        Array.isArray(state) && state.length === actions ? state : checkList(state, `${name}[${h}][${s}]`, actions);
      for (let a = 0; a < actions; a++) {
        const value: unknown = list[a];
        table[i++] = Number.isFinite(value) ? (value as number) : checkNumber(value, `${name}[${h}][${s}][${a}]`);
      }
    });
  });
  return table;
}

export function tableToJson(table: Float64Array, { horizon, states, actions }: Sizes): number[][][] {
  return Array.from({ length: horizon }, (_, h) =>
    Array.from({ length: states }, (_, s) => {
      const from = (h * states + s) * actions;
      return [...table.subarray(from, from + actions)];
    }),
  );
}

/** The first key in which two problems differ. */
export function difference(one: Problem, other: Problem): keyof Problem | undefined {
  const keys = new Set([...Object.keys(one), ...Object.keys(other)] as (keyof Problem)[]);
  return [...keys].find((key) => {
    const [a, b] = [one[key], other[key]];
    if (!(a instanceof Float64Array && b instanceof Float64Array)) return a !== b;
    return a.length !== b.length || a.some((value, i) => value !== b[i]);
  });
}

/** [step][state] */
export function actionsToJson(policy: Int32Array, { horizon, states }: Sizes): number[][] {
  return Array.from({ length: horizon }, (_, h) => [...policy.subarray(h * states, (h + 1) * states)]);
}
