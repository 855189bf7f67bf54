import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise } from "./arithmetic.ts";
import { DistilledProcess } from "./distilled.ts";
import { predicted } from "./prediction.ts";
import type { Scheduler, StepOptions, StepResult } from "./scheduler.ts";

/**
 * Trajectory consistency distillation (Zheng et al. 2024, arXiv 2402.19159, strategic stochastic sampling): each step follows
 * the trajectory past the next timestep, further for larger `eta` (gamma in the paper), and returns to it with new noise.
 * eta is 0.3 unless given; 0 adds no noise. As in the reference, a step ignores the keys for clipping and thresholding,
 * timestep_scaling and set_alpha_to_one.
 */
export class TCDScheduler extends DistilledProcess implements Scheduler {
  readonly takes = ["eta", "timesteps"] as const;

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("TCDScheduler", config);
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor, options: StepOptions = {}): StepResult {
    const { eta = 0.3 } = options;
    this.expectedNext();
    if (!(eta >= 0 && eta <= 1)) throw new ArgumentError(`${this.className}: eta must be from 0 to 1, not ${eta}.`);
    const i = this.takeStep(timestep);
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
