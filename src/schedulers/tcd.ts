import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise } from "./arithmetic.ts";
import { type ConfigOf, readConfig } from "./config.ts";
import type { CustomSchedule } from "./custom-schedule.ts";
import { checkDistilled, distilledFields, distilledTimesteps } from "./distilled.ts";
import { alphasCumprod, DiffusionProcess } from "./noise-schedule.ts";
import { predicted } from "./prediction.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";
import { indexOfTimestep } from "./spacing.ts";

// The reference's step ignores the keys for clipping and thresholding, timestep_scaling and set_alpha_to_one.
const fields = distilledFields;
export type TCDConfig = ConfigOf<typeof fields>;

/**
 * Trajectory consistency distillation (Zheng et al. 2024, arXiv 2402.19159, strategic stochastic sampling): each step follows
 * the trajectory past the next timestep, further for larger `eta` (gamma in the paper), and returns to it with new noise.
 * eta is 0.3 unless given; 0 adds no noise.
 */
export class TCDScheduler extends DiffusionProcess<TCDConfig> implements Scheduler {
  readonly className = "TCDScheduler";
  readonly takes = ["eta", "timesteps"] as const;
  private next: number | undefined;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    const read = readConfig("TCDScheduler", fields, config);
    super(read, alphasCumprod(read, read.rescale_betas_zero_snr));
    checkDistilled(this.className, read);
  }

  setTimesteps(plan: number | CustomSchedule): void {
    this.timesteps = distilledTimesteps(this.className, this.config, plan);
    this.next = 0;
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { eta = 0.3 } = options;
    if (this.next === undefined) throw new ArgumentError(`${this.className}: call setTimesteps before step.`);
    if (!(eta >= 0 && eta <= 1)) throw new ArgumentError(`${this.className}: eta must be from 0 to 1, not ${eta}.`);
    const i = indexOfTimestep(this.className, this.timesteps, timestep, this.next);
    this.next = i + 1;
    const following = this.timesteps[i + 1];
    // Rounded to float32 as in the reference. The last step ends at timestep 0.
    const down = Math.floor(Math.fround(Math.fround(1 - eta) * (following ?? 0)));
    const alphaProd = this.alphaAt(timestep);
    const alphaProdDown = this.alphaAt(down);
    const { x0: clean, epsilon } = predicted(this.predictionType, Math.sqrt(alphaProd), Math.sqrt(1 - alphaProd));
    const [alpha, sigma] = [Math.sqrt(alphaProdDown), Math.sqrt(1 - alphaProdDown)];
    // The share of that sample that is left after noise has raised it to the next timestep.
    const noisy = following !== undefined && eta > 0;
    const share = noisy ? this.alphaAt(following) / alphaProdDown : 1;
    const scale = Math.sqrt(share);
    return {
      prevSample: combine(
        "TCD step",
        [scale * (alpha * clean.sample + sigma * epsilon.sample), sample],
        [scale * (alpha * clean.output + sigma * epsilon.output), modelOutput],
        [Math.sqrt(1 - share), noisy ? drawNoise(this.className, options.noise) : sample],
      ),
      predOriginalSample: combine("TCD step", [clean.sample, sample], [clean.output, modelOutput]),
    };
  }
}
