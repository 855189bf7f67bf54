import { ConfigError } from "../errors.ts";

/** One key of a scheduler's configuration: its default, what it accepts (for the error message), and how it is read. */
export interface Field<T> {
  readonly fallback: T;
  /** The meaning of null, if it is not the default. */
  readonly whenNull?: T;
  readonly expected: string;
  /** The value, or undefined if it is not supported. */
  read(value: unknown): T | undefined;
}
export type Fields = Readonly<Record<string, Field<unknown>>>;
export type ConfigOf<F extends Fields> = { readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never };

/** A finite number in [min, max]. */
export function real(fallback: number, min = -Infinity, max = Infinity): Field<number> {
  const above = min === Number.MIN_VALUE ? "a number above 0" : `a number of at least ${min}`;
  const expected = min === -Infinity ? "a finite number" : max === Infinity ? above : `a number from ${min} to ${max}`;
  return {
    fallback,
    expected,
    read: (v) => (Number.isFinite(v) && inside(v as number, min, max) ? Number(v) : undefined),
  };
}

/** A whole number in [min, max]. */
export function whole(fallback: number, min: number, max: number): Field<number> {
  const expected = `a whole number from ${min} to ${max}`;
  return {
    fallback,
    expected,
    read: (v) => (Number.isInteger(v) && inside(v as number, min, max) ? Number(v) : undefined),
  };
}

export function flag(fallback: boolean): Field<boolean> {
  // As Python interprets it.
  return {
    fallback,
    whenNull: false,
    expected: "true or false",
    read: (v) => (typeof v === "boolean" ? v : undefined),
  };
}

/** One of `values`, or an alias for one of them. */
export function oneOf<const T extends string>(
  fallback: NoInfer<T>,
  values: readonly T[],
  aliases: Readonly<Record<string, T>> = {},
): Field<T> {
  return {
    fallback,
    expected: values.map((value) => JSON.stringify(value)).join(", "),
    read: (v) =>
      values.find((value) => value === v) ??
      (typeof v === "string" && Object.hasOwn(aliases, v) ? aliases[v] : undefined),
  };
}

export function oneOfNumbers<const T extends number>(fallback: NoInfer<T>, values: readonly T[]): Field<T> {
  return { fallback, expected: values.join(", "), read: (v) => values.find((value) => value === v) };
}

/** Like `field`, but null if the configuration has null or lacks the key. */
export function optional<T>(field: Field<T>): Field<T | null> {
  return { ...field, fallback: null };
}

/** At most `most` numbers in [min, max]; null if the configuration has null or lacks the key. */
export function list(min: number, max: number, most: number): Field<readonly number[] | null> {
  const fits = (v: unknown): v is number[] =>
    Array.isArray(v) &&
    v.length > 0 &&
    v.length <= most &&
    v.every((x) => typeof x === "number" && inside(x, min, max));
  return {
    fallback: null,
    expected: `null or a list of at most ${most} numbers from ${min} to ${max}`,
    read: (v) => (fits(v) ? v : undefined),
  };
}

/**
 * Reads a scheduler's configuration as in `scheduler_config.json`. `fields` has every key of the class in diffusers.
 * Missing keys and nulls get the field's default (a null flag is off). Keys that begin with `_` are about the file, and keys
 * of other diffusers schedulers have no effect (diffusers keeps them when a configuration moves from one class to
 * another). Any other key might change the result, so it throws ConfigError that names it, as for values out of range.
 */
export function readConfig<const F extends Fields>(
  className: string,
  fields: F,
  given: Readonly<Record<string, unknown>>,
): ConfigOf<F> {
  const config: Record<string, unknown> = {};
  for (const [key, field] of Object.entries(fields)) {
    const value = (Object.hasOwn(given, key) ? (given[key] ?? field.whenNull) : undefined) ?? field.fallback;
    const read = value === field.fallback ? value : field.read(value);
    if (read === undefined) {
      throw new ConfigError(`${className}: ${key} is ${show(value)}, but this scheduler supports ${field.expected}.`);
    }
    config[key] = read;
  }
  for (const [key, value] of Object.entries(given)) {
    if (key.startsWith("_") || Object.hasOwn(fields, key) || otherKeys.has(key)) continue;
    throw new ConfigError(
      `${className}: unknown configuration key ${show(key)} (its value is ${show(value)}). ` +
        `Supported: ${Object.keys(fields).join(", ")}.`,
    );
  }
  return config as ConfigOf<F>;
}

/** Keys of diffusers' schedulers, without effect on classes that do not list them. */
const otherKeys = new Set(
  `num_train_timesteps beta_start beta_end beta_schedule trained_betas clip_sample clip_sample_range
  set_alpha_to_one set_alpha_to_zero steps_offset prediction_type thresholding dynamic_thresholding_ratio
  sample_max_value timestep_spacing timestep_type rescale_betas_zero_snr variance_type solver_order algorithm_type
  solver_type solver_p lower_order_final euler_at_final use_karras_sigmas use_exponential_sigmas use_beta_sigmas
  use_lu_lambdas use_flow_sigmas flow_shift final_sigmas_type lambda_min_clipped sigma_min sigma_max sigma_data
  sigma_schedule rho interpolation_type skip_prk_steps shift use_dynamic_shifting base_shift max_shift
  base_image_seq_len max_image_seq_len time_shift_type invert_sigmas shift_terminal stochastic_sampling
  scale_factors upscale_mode predict_x0 disable_corrector predictor_order corrector_order tau_func
  original_inference_steps timestep_scaling snr_shift_scale timestep_values tensor_format noise_sampler_seed eta
  s_noise clip_denoised scaler`.split(/\s+/),
);

function inside(value: number, min: number, max: number): boolean {
  return value >= min && value <= max;
}

function show(value: unknown): string {
  const text = typeof value === "number" ? String(value) : (JSON.stringify(value) ?? String(value));
  return text.length <= 80 ? text : `${text.slice(0, 80)}...`;
}
