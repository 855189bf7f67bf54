/** What a conservative learner is told: sizes, rewards, start, baseline, threshold, confidence. Reading it from JSON. */
import { ArgumentError } from "../errors.ts";
import { checkDistribution, checkRewards, checkSizes, type Sizes } from "./mdp.ts";
import { checkPolicy } from "./policy.ts";

export interface Problem extends Sizes {
  /** Mean rewards [step][state][action]; undefined if they have to be estimated from what is observed. */
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
   * What StepMix and EpsMix play where optimism is not safe: the baseline, as in the paper, or also what the data vouch for
   * ("certified", which needs tight bounds and is what they have by default).
   */
  readonly fallback?: "baseline" | "certified";
  /** V(pi_b), where it is known: conservative UCBVI and the linear programs use it. */
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

export function checkProblem(problem: Problem): Problem {
  checkSizes(problem);
  const { horizon, states, actions, rewards, threshold, delta, bonusScale, bounds, fallback } = problem;
  const { baselineValue } = problem;
  if (rewards) {
    if (rewards.length !== horizon * states * actions) {
      throw new ArgumentError(`rewards has ${rewards.length} entries, but needs ${horizon * states * actions}.`);
    }
    checkRewards(rewards, problem);
  }
  checkDistribution(problem.initial, states, "initial");
  checkPolicy(problem.baseline, problem);
  if (!(threshold >= 0 && threshold <= horizon)) {
    throw new ArgumentError(`threshold is ${threshold}; returns lie between 0 and the horizon, ${horizon}.`);
  }
  if (!(delta > 0 && delta < 1)) throw new ArgumentError(`delta is ${delta}; it must lie between 0 and 1.`);
  if (!(bonusScale >= 0 && bonusScale < Infinity)) {
    throw new ArgumentError(`bonusScale is ${bonusScale}; it must be a number that is not negative.`);
  }
  if (bounds !== undefined && bounds !== "paper" && bounds !== "tight") {
    throw new ArgumentError(`bounds is ${bounds}; it must be "paper" or "tight".`);
  }
  if (fallback !== undefined && fallback !== "baseline" && fallback !== "certified") {
    throw new ArgumentError(`fallback is ${fallback}; it must be "baseline" or "certified".`);
  }
  if (fallback === "certified" && bounds !== "tight") {
    throw new ArgumentError('fallback is "certified", which needs the bounds "tight".');
  }
  if (baselineValue !== undefined && !(baselineValue >= 0 && baselineValue <= horizon)) {
    throw new ArgumentError(`baselineValue is ${baselineValue}; returns lie between 0 and the horizon, ${horizon}.`);
  }
  return problem;
}

function checkNumber(value: unknown, name: string): void {
  if (typeof value === "number" && Number.isFinite(value)) return;
  throw new ArgumentError(`${name} is ${JSON.stringify(value)}, which is no number.`);
}

export function problemFromJson(json: ProblemJson): Problem {
  if (typeof json !== "object" || json === null) throw new ArgumentError("The state is not a JSON object.");
  checkSizes(json);
  if (!Array.isArray(json.initial)) throw new ArgumentError("initial is missing: the probability of each state.");
  json.initial.forEach((p, s) => {
    checkNumber(p, `initial[${s}]`);
  });
  checkNumber(json.threshold, "threshold");
  checkNumber(json.delta, "delta");
  if (json.bonusScale !== undefined) checkNumber(json.bonusScale, "bonusScale");
  if (json.baselineValue !== undefined) checkNumber(json.baselineValue, "baselineValue");
  return checkProblem({
    horizon: json.horizon,
    states: json.states,
    actions: json.actions,
    ...(json.rewards ? { rewards: tableFromJson(json.rewards, json, "rewards") } : {}),
    initial: Float64Array.from(json.initial),
    baseline: tableFromJson(json.baseline, json, "baseline"),
    threshold: json.threshold,
    delta: json.delta,
    bonusScale: json.bonusScale ?? 1,
    ...(json.bounds === undefined ? {} : { bounds: json.bounds }),
    ...(json.fallback === undefined ? {} : { fallback: json.fallback }),
    ...(json.baselineValue === undefined ? {} : { baselineValue: json.baselineValue }),
  });
}

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

/** Flattens [step][state][action]; an error names the first index that is missing or no number. */
export function tableFromJson(nested: unknown, { horizon, states, actions }: Sizes, name: string): Float64Array {
  const table = new Float64Array(horizon * states * actions);
  const list = (value: unknown, length: number, place: string): readonly unknown[] => {
    if (!Array.isArray(value) || value.length !== length) {
      const found = Array.isArray(value) ? `${value.length} entries` : String(value);
      throw new ArgumentError(`${place} has ${found}; it needs a list of ${length}.`);
    }
    return value;
  };
  let i = 0;
  list(nested, horizon, name).forEach((step, h) => {
    list(step, states, `${name}[${h}]`).forEach((state, s) => {
      list(state, actions, `${name}[${h}][${s}]`).forEach((value, a) => {
        if (typeof value !== "number" || !Number.isFinite(value)) {
          throw new ArgumentError(`${name}[${h}][${s}][${a}] is ${value}, which is no number.`);
        }
        table[i++] = value;
      });
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

/** [step][state] */
export function actionsToJson(policy: Int32Array, { horizon, states }: Sizes): number[][] {
  return Array.from({ length: horizon }, (_, h) => [...policy.subarray(h * states, (h + 1) * states)]);
}
