import { ArgumentError, ConfigError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { mix } from "./arithmetic.ts";
import { type ConfigOf, list, oneOf, real, whole } from "./config.ts";
import type { DiffusionPrediction } from "./prediction.ts";

/** More than any model was trained with. Tables of this length are still computed instantly. */
export const MOST_TIMESTEPS = 100_000;

export const trainTimestepsField = whole(1000, 1, MOST_TIMESTEPS);
export const stepsOffsetField = whole(0, 0, MOST_TIMESTEPS);

/** The keys that define a variance-preserving diffusion process, with diffusers' defaults. */
export const betaFields = {
  num_train_timesteps: trainTimestepsField,
  beta_start: real(0.0001, 0, 1),
  beta_end: real(0.02, 0, 1),
  beta_schedule: oneOf("linear", ["linear", "scaled_linear", "squaredcos_cap_v2"]),
  trained_betas: list(0, 1, MOST_TIMESTEPS),
};

/** Only DDPM supports these two schedules. */
export const ddpmBetaFields = {
  ...betaFields,
  beta_schedule: oneOf("linear", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"]),
};

/** Only Heun supports this one. */
export const heunBetaFields = {
  ...betaFields,
  beta_schedule: oneOf("linear", ["linear", "scaled_linear", "squaredcos_cap_v2", "exp"]),
};

export interface BetaConfig extends Omit<ConfigOf<typeof betaFields>, "beta_schedule"> {
  readonly beta_schedule: ConfigOf<typeof ddpmBetaFields | typeof heunBetaFields>["beta_schedule"];
}

/**
 * Noise variance added at each training timestep, each rounded to float32 as in the reference: with float64 the last
 * values of the cosine schedule's cumulative product would differ by 1e-5 from what models were trained with.
 */
export function betas(config: BetaConfig): Float32Array {
  const { num_train_timesteps: count, beta_start: start, beta_end: end } = config;
  if (config.trained_betas) {
    if (config.trained_betas.length !== count) {
      throw new ConfigError(
        `trained_betas has ${config.trained_betas.length} values, but num_train_timesteps is ${count}.`,
      );
    }
    return Float32Array.from(config.trained_betas);
  }
  const line = (from: number, to: number, i: number) => (count === 1 ? from : from + ((to - from) * i) / (count - 1));
  const table: Record<BetaConfig["beta_schedule"], (i: number) => number> = {
    // Ho et al. 2020, section 4.
    linear: (i) => line(start, end, i),
    // Rombach et al. 2022: linear in the square root.
    scaled_linear: (i) => Math.fround(line(Math.sqrt(start), Math.sqrt(end), i)) ** 2,
    // Nichol & Dhariwal 2021, section 3.2, capped at 0.999 against a singularity at the end.
    squaredcos_cap_v2: (i) => Math.min(1 - cosineAlphaBar((i + 1) / count) / cosineAlphaBar(i / count), 0.999),
    // Signal variance exp(-12 t).
    exp: () => Math.min(1 - Math.exp(-12 / count), 0.999),
    // Hang et al. 2024 (arXiv 2407.03297): the log signal-to-noise ratio has a Laplace distribution.
    laplace: (i) => Math.min(1 - laplaceAlphaBar((i + 1) / count) / laplaceAlphaBar(i / count), 0.999),
    // Xu et al. 2022 (GeoDiff).
    sigmoid: (i) => start + (end - start) / (1 + Math.exp(-line(-6, 6, i))),
  };
  return Float32Array.from({ length: count }, (_, i) => table[config.beta_schedule](i));
}

function cosineAlphaBar(t: number): number {
  return Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2;
}

function laplaceAlphaBar(t: number): number {
  const logSnr = (t > 0.5 ? 0.5 : -0.5) * Math.log(1 - 2 * Math.abs(0.5 - t) + 1e-6);
  const snr = Math.exp(logSnr);
  return Math.sqrt(snr / (1 + snr));
}

/** Signal variance kept up to and including each training timestep: the running product of 1 - beta, as float32. */
export function alphasCumprod(config: BetaConfig, zeroTerminalSnr = false): Float32Array {
  let product = 1;
  const alphaProds = betas(config).map((beta) => {
    product *= Math.fround(1 - beta);
    return product;
  });
  return zeroTerminalSnr ? rescaleToZeroTerminalSnr(alphaProds) : alphaProds;
}

/** Shifts and scales sqrt(alphas_cumprod) so that the last is 0 and the first stays (Lin et al. 2024, algorithm 1). */
function rescaleToZeroTerminalSnr(alphaProds: Float32Array): Float32Array {
  const first = Math.sqrt(alphaProds[0]!);
  const last = Math.sqrt(alphaProds.at(-1)!);
  return alphaProds.map((value) => (((Math.sqrt(value) - last) * first) / (first - last)) ** 2);
}

/** Throws ArgumentError if `timestep` is not a whole number from 0 to T-1. */
function alphaProdAt(alphasCumprod: Float32Array, timestep: number): number {
  const value = alphasCumprod[timestep];
  if (value !== undefined) return value;
  throw new ArgumentError(
    `Timestep ${timestep} is not one of the model's: whole numbers from 0 to ${alphasCumprod.length - 1}.`,
  );
}

/** sqrt(a) * original + sqrt(1 - a) * noise at training timesteps, one for each row of the batch, or one for all. */
export function noisedAt(
  alphasCumprod: Float32Array,
  original: FloatTensor,
  noise: FloatTensor,
  timesteps: readonly number[],
): FloatTensor {
  const alphaProds = timesteps.map((t) => alphaProdAt(alphasCumprod, t));
  return mix(
    "addNoise",
    original,
    alphaProds.map(Math.sqrt),
    noise,
    alphaProds.map((a) => Math.sqrt(1 - a)),
  );
}

interface ProcessConfig {
  readonly num_train_timesteps: number;
  readonly prediction_type: DiffusionPrediction;
}

/**
 * The process x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise on whole timesteps 0 .. T-1, where a = `alphasCumprod`.
 * Base of the solvers that work on such timesteps (DDIM, DDPM, PNDM).
 */
export class DiffusionProcess<Config extends ProcessConfig> {
  readonly config: Config;
  readonly alphasCumprod: Float32Array;
  readonly initNoiseSigma = 1;
  timesteps: readonly number[];

  constructor(config: Config, alphasCumprod: Float32Array) {
    this.config = config;
    this.alphasCumprod = alphasCumprod;
    this.timesteps = Array.from(alphasCumprod, (_, i) => this.trainTimesteps - 1 - i);
  }

  get predictionType(): Config["prediction_type"] {
    return this.config.prediction_type;
  }

  get trainTimesteps(): number {
    return this.config.num_train_timesteps;
  }

  scaleModelInput(sample: FloatTensor, _timestep: number): FloatTensor {
    return sample;
  }

  /** Throws ArgumentError if `timestep` is not a whole number from 0 to T-1. */
  alphaAt(timestep: number): number {
    return alphaProdAt(this.alphasCumprod, timestep);
  }

  /** Noised samples for training; one timestep for each row of the batch, or one for all. Shapes as `original`. */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    return noisedAt(this.alphasCumprod, original, noise, timesteps);
  }

  /** The target of a v-prediction model: sqrt(a) noise - sqrt(1 - a) x_0 (Salimans & Ho 2022, section 4). */
  velocity(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const alphaProds = timesteps.map((t) => this.alphaAt(t));
    return mix(
      "velocity",
      original,
      alphaProds.map((a) => -Math.sqrt(1 - a)),
      noise,
      alphaProds.map(Math.sqrt),
    );
  }
}
