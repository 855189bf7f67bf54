import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, mix, type Term } from "./arithmetic.ts";
import { type ConfigOf, list, readConfig } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import type { Level } from "./dpm-coefficients.ts";
import { MOST_TIMESTEPS, trainTimestepsField } from "./noise-schedule.ts";
import { adamsBashforth } from "./pndm.ts";
import type { Scheduler, StepResult } from "./scheduler.ts";
import { evenly } from "./sigmas.ts";
import { checkSteps, indexOfTimestep } from "./spacing.ts";

const fields = {
  num_train_timesteps: trainTimestepsField,
  /** Betas of the steps and of the end. As in the reference, there is one step less than betas, whatever number is requested. */
  trained_betas: list(0, 1, MOST_TIMESTEPS),
};
export type IPNDMConfig = ConfigOf<typeof fields>;

/**
 * Improved pseudo linear multistep (Zhang & Chen 2023, arXiv 2204.13902, appendix) on v-diffusion's continuous time (Crowson's
 * v-diffusion): timesteps from 1 down to 0, x = alpha x0 + sigma noise with sigma = sin^2(pi t / 2), and the model predicts v.
 */
export class IPNDMScheduler implements Scheduler {
  readonly className = "IPNDMScheduler";
  readonly config: IPNDMConfig;
  readonly takes = [] as const;
  readonly predictionType = "v_prediction";
  readonly initNoiseSigma = 1;
  timesteps: readonly number[] = [];
  private levels: readonly Level[] = [];
  private next = 0;
  /** Noise as predicted at the steps just before `next`, newest first, at most four. */
  private outputs: FloatTensor[] = [];

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    this.config = readConfig(this.className, fields, config);
    this.setTimesteps(this.trainTimesteps);
  }

  get trainTimesteps(): number {
    return this.config.num_train_timesteps;
  }

  /** Also forgets the outputs of earlier steps. */
  setTimesteps(plan: number | CustomSchedule): void {
    const steps = stepsOf(this.className, plan);
    checkSteps(this.className, steps, this.trainTimesteps);
    const own = this.config.trained_betas;
    if (own && own.length < 2) {
      throw new ArgumentError(`${this.className}: trained_betas must have one value more than there are steps.`);
    }
    const sigmas = own ?? evenly(1, 0, steps + 1).map((t) => Math.sin((Math.fround(t) * Math.PI) / 2) ** 2);
    this.levels = sigmas.map(Math.fround).map((sigma) => ({ sigma, alpha: rest(sigma) }));
    const times = this.levels.map(({ alpha, sigma }) => (Math.atan2(sigma, alpha) / Math.PI) * 2);
    this.timesteps = times.slice(0, -1).map(Math.fround);
    this.next = 0;
    this.outputs = [];
  }

  scaleModelInput(sample: FloatTensor, _timestep: number): FloatTensor {
    return sample;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor): StepResult {
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    if (i !== this.next) this.outputs = [];
    this.next = i + 1;
    const [start, end] = [this.levels[i]!, this.levels[i + 1]!];
    const noise = combine("IPNDM step", [start.sigma, sample], [start.alpha, modelOutput]);
    this.outputs = [noise, ...this.outputs].slice(0, 4);
    const weights = adamsBashforth[this.outputs.length - 1]!;
    // At pure noise alpha is 0, and so is the number that it divides.
    const ratio = end.alpha / Math.max(start.alpha, 1e-8);
    const scale = end.sigma - ratio * start.sigma;
    const terms = this.outputs.map((output, back): Term => [scale * weights[back]!, output]);
    return { prevSample: combine("IPNDM step", [ratio, sample], ...terms) };
  }

  /** alpha * original + sigma * noise, for timesteps of the schedule. */
  addNoise(original: FloatTensor, noise: FloatTensor, timesteps: readonly number[]): FloatTensor {
    const levels = timesteps.map((t) => this.levels[indexOfTimestep(this.className, this.timesteps, t)]!);
    return mix(
      "addNoise",
      original,
      levels.map(({ alpha }) => alpha),
      noise,
      levels.map(({ sigma }) => sigma),
    );
  }
}

/** sqrt(1 - sigma^2), rounded where the reference rounds. */
function rest(sigma: number): number {
  return Math.fround(Math.sqrt(Math.fround(1 - Math.fround(sigma ** 2))));
}
