import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise, mix } from "./arithmetic.ts";
import { type ConfigOf, flag, oneOf, optional, readConfig, real, whole } from "./config.ts";
import { type CustomSchedule, checkDescending, type Plan, readPlan } from "./custom-schedule.ts";
import { trainTimestepsField } from "./noise-schedule.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { checkSigmaSpacing, respaced, sigmaSpacingFields } from "./sigma-spacing.ts";
import { evenly } from "./sigmas.ts";
import { checkSteps, indexOfTimestep } from "./spacing.ts";

const fields = {
  num_train_timesteps: trainTimestepsField,
  shift: real(1, Number.MIN_VALUE),
  use_dynamic_shifting: flag(false),
  // For the caller's mu; no effect here.
  base_shift: real(0.5),
  max_shift: real(1.15),
  base_image_seq_len: whole(256, 0, 2 ** 31),
  max_image_seq_len: whole(4096, 0, 2 ** 31),
  ...sigmaSpacingFields,
  invert_sigmas: flag(false),
  shift_terminal: optional(real(0, 0, 1 - 2 ** -24)),
  time_shift_type: oneOf("exponential", ["exponential", "linear"]),
  stochastic_sampling: flag(false),
};
export type FlowMatchEulerConfig = ConfigOf<typeof fields>;

/**
 * Euler steps along a rectified flow (Lipman et al. 2023; timestep shift of Esser et al. 2024, section 5.3.2):
 * x_sigma = sigma * noise + (1 - sigma) * x_0, timestep = sigma * trainTimesteps, and the model predicts noise - x_0.
 */
export class FlowMatchEulerDiscreteScheduler implements Scheduler {
  readonly className = "FlowMatchEulerDiscreteScheduler";
  readonly config: FlowMatchEulerConfig;
  readonly takes = ["timesteps", "sigmas"] as const;
  readonly predictionType = "flow";
  readonly initNoiseSigma = 1;
  timesteps: readonly number[];
  sigmas: readonly number[];
  private readonly range: readonly [max: number, min: number];
  private next = 0;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    this.config = readConfig(this.className, fields, config);
    checkSigmaSpacing(this.className, this.config);
    const total = this.trainTimesteps;
    const shift = (sigma: number) => (this.config.use_dynamic_shifting ? sigma : this.shifted(sigma));
    const sigmas = Array.from({ length: total }, (_, i) => Math.fround(shift((total - i) / total)));
    this.range = [sigmas[0]!, sigmas.at(-1)!];
    this.timesteps = sigmas.map((sigma) => Math.fround(sigma * total));
    this.sigmas = [...sigmas, 0];
  }

  get trainTimesteps(): number {
    return this.config.num_train_timesteps;
  }

  /**
   * The shift is applied to an even grid between the largest and the smallest training sigma, which were shifted
   * before: so the smallest is shifted twice, as in the reference. Sigmas and timesteps of the caller's own are shifted
   * too; such timesteps are what the model is told all the same. `mu` says how far to shift (the logarithm of the shift,
   * with time_shift_type "linear" the shift) for models with `use_dynamic_shifting`, where it depends on the number of
   * tokens. Throws ArgumentError where that is missing, or for steps that cannot be planned.
   */
  setTimesteps(plan: number | CustomSchedule, mu?: number): void {
    const { config } = this;
    const total = this.trainTimesteps;
    if (config.use_dynamic_shifting !== (mu !== undefined)) {
      throw new ArgumentError(
        `${this.className}: setTimesteps takes mu if, and only if, the configuration has use_dynamic_shifting.`,
      );
    }
    const chosen = readPlan(this.className, plan, this.takes, total);
    const shift = mu === undefined ? config.shift : config.time_shift_type === "linear" ? mu : Math.exp(mu);
    const shifted = this.toTerminal(this.grid(chosen).map((sigma) => this.shifted(sigma, shift)));
    const spaced = respaced(config, shifted[0]!, shifted.at(-1)!, shifted.length) ?? shifted;
    const sigmas = spaced.map((sigma) => Math.fround(config.invert_sigmas ? 1 - sigma : sigma));
    const own = config.invert_sigmas ? undefined : chosen.timesteps;
    this.timesteps = (own ?? sigmas.map((sigma) => sigma * total)).map(Math.fround);
    this.sigmas = [...sigmas, config.invert_sigmas ? 1 : 0];
    this.next = 0;
  }

  /** What is shifted: noise levels from 1 down. */
  private grid(chosen: Plan): readonly number[] {
    const total = this.trainTimesteps;
    if (chosen.sigmas) {
      checkDescending(this.className, "sigmas", chosen.sigmas, { least: Number.MIN_VALUE, most: 1 });
      return chosen.sigmas;
    }
    if (chosen.timesteps) {
      checkDescending(this.className, "timesteps", chosen.timesteps, { least: Number.MIN_VALUE, most: total });
      return chosen.timesteps.map((t) => t / total);
    }
    checkSteps(this.className, chosen.steps, total);
    return evenly(...this.range, chosen.steps);
  }

  /** Stretched so that the last level is `shift_terminal`. */
  private toTerminal(sigmas: number[]): number[] {
    const { shift_terminal: terminal } = this.config;
    if (!terminal) return sigmas;
    const scale = (1 - sigmas.at(-1)!) / (1 - terminal);
    if (scale > 0) return sigmas.map((sigma) => 1 - (1 - sigma) / scale);
    throw new ArgumentError(`${this.className}: shift_terminal needs a last level below 1, so at least 2 steps.`);
  }

  scaleModelInput(sample: FloatTensor, _timestep: number): FloatTensor {
    return sample;
  }

  /** With `stochastic_sampling` the clean sample gets fresh noise at each step, as consistency models do. */
  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    const [sigma, sigmaNext] = [this.sigmas[i]!, this.sigmas[i + 1]!];
    this.next = i + 1;
    const predOriginalSample = combine("flow step", [1, sample], [-sigma, modelOutput]);
    const prevSample = this.config.stochastic_sampling
      ? combine("flow step", [1 - sigmaNext, predOriginalSample], [sigmaNext, drawNoise(this.className, options.noise)])
      : combine("flow step", [1, sample], [sigmaNext - sigma, modelOutput]);
    return { prevSample, predOriginalSample };
  }

  /**
   * sigma * noise + (1 - sigma) * original; sigma is the schedule's at its timesteps and timestep / trainTimesteps at
   * others from 0 to trainTimesteps, one for each row or one for all. diffusers calls it scale_noise. Throws
   * ArgumentError outside.
   */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const sigmas = timesteps.map((t) => {
      const planned = this.timesteps.indexOf(t);
      if (planned >= 0) return this.sigmas[planned]!;
      if (t >= 0 && t <= this.trainTimesteps) return t / this.trainTimesteps;
      throw new ArgumentError(`${this.className}: timestep ${t} is not from 0 to ${this.trainTimesteps}.`);
    });
    return mix(
      "addNoise",
      original,
      sigmas.map((sigma) => 1 - sigma),
      noise,
      sigmas,
    );
  }

  /** Moves the grid towards noise for shift > 1: larger pictures need it. */
  private shifted(sigma: number, shift = this.config.shift): number {
    return (shift * sigma) / (1 + (shift - 1) * sigma);
  }
}
