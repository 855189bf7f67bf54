import { ArgumentError, ConfigError } from "../errors.ts";
import { type ConfigOf, type Field, flag, oneOf, oneOfNumbers, optional, real } from "./config.ts";
import { type CustomSchedule, checkDescending, readPlan, stepsOf } from "./custom-schedule.ts";
import type { Algorithm } from "./dpm-coefficients.ts";
import { checkSigmaSpacing, respaced, sigmaSpacingFields, sigmaSpacingOf } from "./sigma-spacing.ts";
import { evenly, interpolate, sigmaToTimestep } from "./sigmas.ts";
import { checkSteps, roundHalfToEven, spacedTimesteps, type TimestepSpacing } from "./spacing.ts";

export const lambdaField: Field<number> = {
  fallback: -Infinity,
  expected: "a number, or -Infinity",
  read: (v) => (typeof v === "number" && v < Infinity ? v : undefined),
};

export const varianceTypeField = optional(
  oneOf("learned", ["learned", "learned_range", "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"]),
);

/** Keys that both DPM-Solver classes share, except those of the noise schedule and the algorithm. */
export const dpmSolverFields = {
  solver_order: oneOfNumbers(2, [1, 2, 3]),
  prediction_type: oneOf("epsilon", ["epsilon", "sample", "v_prediction", "flow_prediction"]),
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995, 0, 1),
  sample_max_value: real(1, 0),
  // Values from configurations of other multistep solvers, interpreted as in diffusers.
  solver_type: oneOf("midpoint", ["midpoint", "heun"], { logrho: "midpoint", bh1: "midpoint", bh2: "midpoint" }),
  variance_type: varianceTypeField,
  ...sigmaSpacingFields,
  use_flow_sigmas: flag(false),
  flow_shift: real(1, Number.MIN_VALUE),
  // If set, the caller's mu replaces flow_shift.
  use_dynamic_shifting: flag(false),
  time_shift_type: oneOf("exponential", ["exponential"]),
  final_sigmas_type: oneOf("zero", ["zero", "sigma_min"]),
  lambda_min_clipped: lambdaField,
};

export const algorithmField = <const T extends Algorithm>(algorithms: readonly T[]) =>
  oneOf<T | "dpmsolver++">("dpmsolver++", ["dpmsolver++", ...algorithms], { deis: "dpmsolver++" });

/** Throws ConfigError for keys that exclude each other. */
export function checkDpm(
  className: string,
  config: ConfigOf<typeof dpmSolverFields> & { readonly algorithm_type: Algorithm },
): void {
  checkSigmaSpacing(className, config);
  const { algorithm_type: algorithm, final_sigmas_type: final, prediction_type: type } = config;
  if (algorithm.endsWith("++")) return;
  if (final === "zero") {
    throw new ConfigError(
      `${className}: final_sigmas_type is "zero", but algorithm_type "${algorithm}" supports only "sigma_min".`,
    );
  }
  if (type === "flow_prediction") {
    throw new ConfigError(
      `${className}: prediction_type "flow_prediction" needs algorithm_type "dpmsolver++" or "sde-dpmsolver++".`,
    );
  }
}

/** The keys that a schedule is planned from; some classes lack some of them. */
interface LevelsConfig extends ConfigOf<typeof sigmaSpacingFields> {
  readonly num_train_timesteps: number;
  readonly beta_schedule: string;
  readonly use_flow_sigmas: boolean;
  readonly flow_shift: number;
  readonly use_dynamic_shifting?: boolean;
  readonly use_lu_lambdas?: boolean;
  readonly lambda_min_clipped?: number;
  readonly timestep_spacing?: TimestepSpacing;
  readonly steps_offset?: number;
}
export interface DpmScheduleConfig extends LevelsConfig {
  readonly final_sigmas_type: "zero" | "sigma_min";
}

/** Timesteps, and noise levels with one more for the end. */
export interface DpmSchedule {
  readonly timesteps: readonly number[];
  readonly sigmas: readonly number[];
}

/**
 * Plans the steps. `trained` has the noise level of each training timestep, ascending. As in the reference, fractional
 * timesteps are rounded with Karras' and Lu's levels (but truncated with a cosine schedule in the multistep class), and
 * truncated with exponential, beta and flow levels. Throws ArgumentError for steps that cannot be planned.
 */
export function planDpm(
  className: string,
  config: DpmScheduleConfig,
  trained: Float32Array,
  plan: number | CustomSchedule,
  mu?: number,
): DpmSchedule {
  const chosen = readPlan(className, plan, ["timesteps"], config.num_train_timesteps);
  const cut = config.timestep_spacing !== undefined && config.beta_schedule === "squaredcos_cap_v2";
  const { timesteps, sigmas } = chosenLevels(className, config, trained, { ...chosen, cut, mu });
  const all = [...sigmas, config.final_sigmas_type === "zero" ? 0 : trained[0]!].map(Math.fround);
  checkDistinct(className, all);
  return { timesteps, sigmas: all };
}

/**
 * The same for solvers that never reach the clean sample: the last step ends at the smallest noise level of training. If a
 * key gives the levels, it stays at the last of them, as in the reference.
 */
export function planToLowest(
  className: string,
  config: LevelsConfig,
  trained: Float32Array,
  plan: number | CustomSchedule,
  mu?: number,
): DpmSchedule {
  const steps = stepsOf(className, plan);
  const { timesteps, sigmas } = chosenLevels(className, config, trained, { steps, mu });
  const all = [...sigmas, fixedLevels(config) ? sigmas.at(-1)! : trained[0]!].map(Math.fround);
  checkDistinct(className, all);
  return { timesteps, sigmas: all };
}

/** Throws ArgumentError for a step between equal noise levels, which would divide by zero. */
export function checkDistinct(className: string, sigmas: readonly number[]): void {
  const steps = sigmas.length - 1;
  const repeated = sigmas.slice(0, -1).findIndex((sigma, i) => i > 0 && sigma === sigmas[i - 1]);
  if (repeated < 0) return;
  throw new ArgumentError(
    `${className}: ${steps} steps are too many, steps ${repeated} and ${repeated + 1} would have the same noise level. ` +
      `Take fewer than ${steps}.`,
  );
}

interface Chosen {
  readonly steps?: number | undefined;
  readonly timesteps?: readonly number[] | undefined;
  /** Truncate fractional timesteps even if they would otherwise be rounded. */
  readonly cut?: boolean;
  readonly mu?: number | undefined;
}

function chosenLevels(
  className: string,
  config: LevelsConfig,
  trained: Float32Array,
  { steps, timesteps, cut = false, mu }: Chosen,
): { timesteps: number[]; sigmas: number[] } {
  if (mu !== undefined && !config.use_dynamic_shifting) {
    throw new ArgumentError(`${className}: it takes mu only if its configuration has use_dynamic_shifting.`);
  }
  const total = config.num_train_timesteps;
  const logSigmas = trained.map(Math.log);
  const fixed = fixedLevels(config);
  if (timesteps) {
    if (fixed) throw new ArgumentError(`${className}: it does not take timesteps of your own with ${fixed}.`);
    checkDescending(className, "timesteps", timesteps, { least: 0, most: total - 1, whole: true });
    return { timesteps: [...timesteps], sigmas: timesteps.map((t) => interpolate(trained, t)) };
  }
  const count = steps!;
  if (fixed) checkSteps(className, count, total);
  switch (fixed) {
    case undefined: {
      const spaced = spacedAbove(className, config, logSigmas, count);
      return { timesteps: spaced, sigmas: spaced.map((t) => interpolate(trained, t)) };
    }
    case "use_flow_sigmas": {
      const shift = mu === undefined ? config.flow_shift : Math.exp(mu);
      const sigmas = evenly(1, 1 / total, count + 1)
        .map((alpha) => 1 - alpha)
        .map((sigma) => (shift * sigma) / (1 + (shift - 1) * sigma))
        .reverse()
        .slice(0, -1);
      return { timesteps: sigmas.map((sigma) => Math.trunc(sigma * total)), sigmas };
    }
    default: {
      const [first, last] = [trained.at(-1)!, trained[0]!];
      const sigmas =
        fixed === "use_lu_lambdas"
          ? // Lu et al. 2022, section 4.1: even in lambda = -log(sigma).
            evenly(logSigmas.at(-1)!, logSigmas[0]!, count).map(Math.exp)
          : respaced(config, first, last, count)!;
      const rounded = fixed === "use_karras_sigmas" || fixed === "use_lu_lambdas";
      const round = rounded && !cut ? roundHalfToEven : Math.trunc;
      return { timesteps: sigmas.map((sigma) => round(sigmaToTimestep(sigma, logSigmas))), sigmas };
    }
  }
}

/** The key that gives the noise levels instead of timesteps; if there are several, the one that the reference uses. */
function fixedLevels(config: LevelsConfig) {
  const spacing = sigmaSpacingOf(config);
  if (config.use_lu_lambdas && spacing !== "use_karras_sigmas") return "use_lu_lambdas";
  return spacing ?? (config.use_flow_sigmas ? "use_flow_sigmas" : undefined);
}

/** Without the noisiest timesteps, whose log signal-to-noise ratio is below `lambda_min_clipped`. */
function spacedAbove(className: string, config: LevelsConfig, logSigmas: Float32Array, steps: number): number[] {
  const { num_train_timesteps: total, timestep_spacing: spacing = "linspace", steps_offset: offset = 0 } = config;
  const { lambda_min_clipped: lowest = -Infinity } = config;
  const clipped = logSigmas.findIndex((logSigma) => -logSigma < lowest);
  const last = clipped < 0 ? total : clipped;
  return spacedTimesteps(className, steps, { spacing, total, offset, last, extraPoint: spacing !== "trailing" });
}

interface OrderConfig {
  readonly solver_order: number;
  readonly lower_order_final: boolean;
  readonly euler_at_final: boolean;
  readonly final_sigmas_type: "zero" | "sigma_min";
}

/** The order of step i of `count`, given the number of available outputs; lower at the end, where high orders are unstable. */
export function multistepOrder(config: OrderConfig, i: number, count: number, available: number): number {
  const few = config.lower_order_final && count < 15;
  // At sigma 0 lambda is infinite, and only order 1 has a limit.
  const toFirst = config.euler_at_final || few || config.final_sigmas_type === "zero";
  const limit = i === count - 1 && toFirst ? 1 : i === count - 2 && few ? 2 : 3;
  return Math.min(config.solver_order, available, limit);
}
