/** An experiment: one environment, one threshold. A trial (trial.ts) is one algorithm with one seed in it. */
import { readDecimal } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { type CountsJson, readCounts } from "./bounds/counts.ts";
import { checkSupport, type OfflineBaseline, viLcb } from "./learners/vi-lcb.ts";
import type { MdpFile } from "./mdp/environments/file.ts";
import type { GymnasiumTable } from "./mdp/environments/gymnasium.ts";
import { environment } from "./mdp/environments/named.ts";
import { fromOwnUnits, type Mdp, toOwnUnits } from "./mdp/mdp.ts";
import { optimalPlan, policyValue } from "./mdp/planning.ts";
import { always, checkPolicy, softmaxPolicy, uniformPolicy } from "./mdp/policy.ts";
import { type Problem, tableFromJson } from "./mdp/problem.ts";

/** Everything that determines the outcome of an experiment: runs with equal settings and seeds are equal to the last bit. */
export interface ExperimentSettings {
  /** A name with options, such as "random" or "riverswim:states=4,horizon=8", or the JSON of an MDP. */
  readonly env: string | MdpFile | GymnasiumTable;
  /**
   * A return in the environment's own units; "0.95xBASELINE", a share of what the baseline earns above the least return; or
   * "vouched", the most that the data of `offline` vouch for.
   */
  readonly threshold: string;
  /** "softmax:5" (of the optimal action values), "uniform", or a table [step][state][action]. */
  readonly baseline: string | readonly (readonly (readonly number[])[])[];
  readonly delta: number;
  readonly bonusScale: number;
  readonly bounds: "paper" | "tight";
  /** What StepMix and EpsMix play if optimism is not safe; "certified" needs tight bounds. */
  readonly fallback: "baseline" | "certified";
  /** Whether the learner is told the mean rewards, or estimates them from draws. */
  readonly rewards: "known" | "estimated";
  readonly episodes: number;
  /** Episodes under one policy; for the linear programs, `lpBatch`. */
  readonly batch: number;
  readonly lpBatch: number;
  readonly allowUnsafeBaseline: boolean;
  /** Observations made beforehand: the baseline is learned from them, and every trial's counts start with them. */
  readonly offline?: CountsJson | null;
}

/**
 * An experiment, set up. Values are for rewards in [0,1], as the bounds need them; `own` has them in the environment's
 * own units.
 */
export interface Experiment {
  readonly settings: ExperimentSettings;
  readonly mdp: Mdp;
  readonly problem: Problem;
  readonly optimalValue: number;
  readonly baselineValue: number;
  /** If the baseline was learned from data: the lower bound on its value. */
  readonly vouchedFor?: number;
  readonly own: {
    readonly threshold: number;
    readonly optimum: number;
    readonly baseline: number;
    readonly vouchedFor?: number;
  };
}

/**
 * Builds the environment, the baseline and the threshold. Throws ArgumentError for settings that make no sense, and for
 * a baseline below the threshold unless that is allowed.
 */
export function setUp(settings: ExperimentSettings): Experiment {
  const mdp = environment(settings.env);
  const { horizon, states, actions, rewards, initial } = mdp;
  const plan = optimalPlan(mdp);
  const { delta, bonusScale, bounds, fallback } = settings;
  const known = settings.rewards === "known" ? { rewards } : {};
  const told = {
    horizon,
    states,
    actions,
    initial,
    ...known,
    delta,
    bonusScale,
    bounds,
    fallback,
  };
  const learned = settings.offline ? viLcb({ ...told, threshold: 0 }, readCounts(settings.offline, mdp)) : undefined;
  const baseline = learned?.baseline ?? baselineOf(settings.baseline, plan.actionValues, mdp);
  const baselineValue = policyValue(mdp, always(baseline, mdp));
  const { threshold, given } =
    settings.threshold === "vouched"
      ? vouchedThreshold(learned, mdp)
      : thresholdOf(settings.threshold, baselineValue, mdp);
  const own = (value: number) => toOwnUnits(mdp, value);
  if (!settings.allowUnsafeBaseline) {
    if (!(baselineValue >= threshold)) {
      throw new ArgumentError(
        `The baseline's value ${own(baselineValue)} is ${given - own(baselineValue)} below the threshold ${given}: every ` +
          "episode of it would be a violation (--allow-unsafe-baseline goes on all the same).",
      );
    }
    if (learned) checkSupport(learned, { ...told, threshold }, own);
  }
  return {
    settings,
    mdp: settings.rewards === "known" ? mdp : { ...mdp, rewardDraws: "bernoulli" },
    problem: { ...told, baseline, baselineValue, threshold },
    optimalValue: plan.value,
    baselineValue,
    ...(learned ? { vouchedFor: learned.lower } : {}),
    own: {
      threshold: given,
      optimum: own(plan.value),
      baseline: own(baselineValue),
      ...(learned ? { vouchedFor: own(learned.lower) } : {}),
    },
  };
}

function baselineOf(spec: ExperimentSettings["baseline"], actionValues: Float64Array, mdp: Mdp): Float64Array {
  if (typeof spec !== "string") return checkPolicy(tableFromJson(spec, mdp, "baseline"), mdp);
  if (spec === "uniform") return uniformPolicy(mdp);
  const temperature = spec.startsWith("softmax:") ? readDecimal(spec.slice("softmax:".length)) : Number.NaN;
  if (temperature >= 0 && temperature <= mostTemperature) return softmaxPolicy(actionValues, temperature, mdp);
  throw new ArgumentError(
    `The baseline "${spec.slice(0, 60)}" is none of softmax:NUMBER (from 0 to ${mostTemperature}), uniform or a table, and no file.`,
  );
}

const mostTemperature = 1e6;

/** The most that can be asked of a baseline from data without taking anything on trust. */
function vouchedThreshold(learned: OfflineBaseline | undefined, mdp: Mdp) {
  if (!learned) throw new ArgumentError('The threshold "vouched" is what offline data vouch for, and there are none.');
  return { threshold: learned.lower, given: toOwnUnits(mdp, learned.lower) };
}

/**
 * The threshold, and the threshold in the environment's own units, as it was given. A share refers to what the baseline earns above
 * the least possible return, which is zero unless rewards are negative.
 */
function thresholdOf(spec: string, baselineValue: number, mdp: Mdp): { threshold: number; given: number } {
  const share = /^(.*)xBASELINE$/i.exec(spec)?.[1];
  const number = readDecimal(share ?? spec);
  if (Number.isNaN(number)) {
    throw new ArgumentError(
      `The threshold "${spec.slice(0, 60)}" is neither a number nor like 0.95xBASELINE nor "vouched".`,
    );
  }
  const threshold = share === undefined ? fromOwnUnits(mdp, number) : number * baselineValue;
  // A share above one gets its own error, about a baseline that is not safe.
  if (!(threshold >= 0 && (share !== undefined || threshold <= mdp.horizon * (1 + 1e-9)))) {
    throw new ArgumentError(
      `The threshold ${spec} is no return that there can be: returns here lie between ${toOwnUnits(mdp, 0)} and ` +
        `${toOwnUnits(mdp, mdp.horizon)}.`,
    );
  }
  return { threshold, given: share === undefined ? number : toOwnUnits(mdp, threshold) };
}
