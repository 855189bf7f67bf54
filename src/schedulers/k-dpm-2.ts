import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise } from "./arithmetic.ts";
import { type ConfigOf, oneOf, readConfig, real } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import { betaFields, stepsOffsetField } from "./noise-schedule.ts";
import type { StepOptions, StepResult } from "./scheduler.ts";
import { type Ancestral, cleanSample, SigmaProcess } from "./sigma-process.ts";
import { checkSigmaSpacing, respaced, sigmaSpacingFields } from "./sigma-spacing.ts";
import { interpolate, sigmaToTimestep } from "./sigmas.ts";
import { roundHalfToEven, spacedTimesteps, spacingField } from "./spacing.ts";

const fields = {
  ...betaFields,
  beta_start: real(0.00085, 0, 1),
  beta_end: real(0.012, 0, 1),
  ...sigmaSpacingFields,
  prediction_type: oneOf("epsilon", ["epsilon", "v_prediction"]),
  timestep_spacing: spacingField("linspace"),
  steps_offset: stepsOffsetField,
};
export type KDPM2Config = ConfigOf<typeof fields>;

/**
 * The midpoint method on the probability flow ODE, with the midpoint in log(sigma) (DPM-Solver-2 in the terms of Karras et
 * al. 2022): half an Euler step, then the whole step from the start with the derivative at the midpoint. So every step
 * except the last evaluates the model twice, and there are 2 n - 1 timesteps for n steps. A step goes down to `down` and
 * then up again with new noise.
 */
export abstract class KDPM2 extends SigmaProcess<KDPM2Config> {
  readonly order = 2;
  readonly takes = [] as const;
  /** The noise levels at which the model is evaluated, one per timestep, and 0. */
  private levels: readonly number[] = this.sigmas;
  private start: FloatTensor | undefined;

  constructor(className: string, config: Readonly<Record<string, unknown>>) {
    super(className, readConfig(className, fields, config));
    checkSigmaSpacing(this.className, this.config);
  }

  /** How a step from one noise level to the next is split. */
  protected abstract split(sigma: number, next: number): Ancestral;

  /**
   * Also discards an unfinished step. As in the reference, `sigmas` has only the ends of steps, without midpoints: each level at
   * which a step ends appears twice, the last one three times.
   */
  setTimesteps(plan: number | CustomSchedule): void {
    const { config, trained } = this;
    const { timestep_spacing: spacing, steps_offset: offset } = config;
    const steps = stepsOf(this.className, plan);
    const options = { spacing, total: this.trainTimesteps, offset, fractional: true };
    const spaced = spacedTimesteps(this.className, steps, options);
    const interpolated = spaced.map((t) => interpolate(trained, t));
    const other = respaced(config, interpolated[0]!, interpolated.at(-1)!, steps);
    const logSigmas = trained.map(Math.log);
    const toTimestep = (sigma: number) => sigmaToTimestep(sigma, logSigmas);
    const round = config.use_karras_sigmas ? roundHalfToEven : Math.fround;
    const timesteps = other ? other.map((sigma) => round(toTimestep(sigma))) : spaced;
    const ends = [...(other ?? interpolated), 0].map(Math.fround);
    const middles = ends.slice(0, -2).map((sigma, k) => Math.sqrt(sigma * this.split(sigma, ends[k + 1]!).down));
    this.timesteps = timesteps.flatMap((t, k) => (k === 0 ? [t] : [toTimestep(middles[k - 1]!), t])).map(Math.fround);
    this.levels = [...ends.slice(0, -1).flatMap((sigma, k) => (k === 0 ? [sigma] : [middles[k - 1]!, sigma])), 0];
    this.sigmas = [ends[0]!, ...ends.slice(1).flatMap((sigma) => [sigma, sigma]), 0];
    this.next = 0;
    this.start = undefined;
  }

  override scaleModelInput(sample: FloatTensor, timestep: number): FloatTensor {
    const sigma = this.levels[this.indexOf(timestep)]!;
    return combine(`${this.className} scaleModelInput`, [1 / Math.sqrt(sigma ** 2 + 1), sample]);
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const i = this.indexOf(timestep);
    if (i !== this.next) this.start = undefined;
    this.next = i + 1;
    const sigma = this.levels[i]!;
    const clean = cleanSample(this.predictionType, sigma);
    const predOriginalSample = combine("KDPM2 step", [clean.sample, sample], [clean.output, modelOutput]);
    const along = (from: FloatTensor, length: number): FloatTensor =>
      combine("KDPM2 step", [1, from], [length / sigma, sample], [-length / sigma, predOriginalSample]);
    const { start } = this;
    if (!start) {
      // The last step ends at sigma 0, so there is no midpoint in log(sigma), and it remains an Euler step.
      if (i + 1 < this.timesteps.length) this.start = combine("KDPM2 step", [1, sample]);
      return { prevSample: along(sample, this.levels[i + 1]! - sigma), predOriginalSample };
    }
    this.start = undefined;
    const from = this.levels[i - 1]!;
    const { down, up } = this.split(from, this.levels[i + 1]!);
    const ended = along(start, down - from);
    if (up === 0) return { prevSample: ended, predOriginalSample };
    const noise = drawNoise(this.className, options.noise);
    return { prevSample: combine("KDPM2 step", [1, ended], [up, noise]), predOriginalSample };
  }
}
