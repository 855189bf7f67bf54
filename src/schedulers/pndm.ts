import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { combine, type Term } from "./arithmetic.ts";
import { type ConfigOf, flag, oneOf, readConfig } from "./config.ts";
import { type CustomSchedule, stepsOf } from "./custom-schedule.ts";
import { alphasCumprod, betaFields, DiffusionProcess, stepsOffsetField } from "./noise-schedule.ts";
import { predicted } from "./prediction.ts";
import type { Scheduler, StepResult } from "./scheduler.ts";
import { requireSteps, spacedTimesteps, spacingField } from "./spacing.ts";

const fields = {
  ...betaFields,
  skip_prk_steps: flag(false),
  set_alpha_to_one: flag(false),
  prediction_type: oneOf("epsilon", ["epsilon", "v_prediction"]),
  timestep_spacing: spacingField("leading"),
  steps_offset: stepsOffsetField,
};
export type PNDMConfig = ConfigOf<typeof fields>;

/** Adams-Bashforth weights, newest output first, by how many outputs there are (Liu et al. 2022, equation 9). */
export const adamsBashforth = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
];
/** Runge-Kutta weights of the four evaluations of one step (equation 10). */
const rungeKutta = [1 / 6, 1 / 3, 1 / 3, 1 / 6];

/**
 * Pseudo numerical methods for diffusion models (Liu et al. 2022, algorithm 2): three Runge-Kutta steps of four
 * evaluations each, then linear multistep. With `skip_prk_steps` it is linear multistep from the start, and the first step is
 * done twice (once with the output of each end). Either way there are more timesteps than steps.
 */
export class PNDMScheduler extends DiffusionProcess<PNDMConfig> implements Scheduler {
  readonly className = "PNDMScheduler";
  readonly takes = [] as const;
  private stride: number | undefined;
  /** How many of `timesteps` belong to Runge-Kutta steps. */
  private rungeKuttaCount = 0;
  private counter = 0;
  /** Newest first, at most four. */
  private outputs: FloatTensor[] = [];
  /** The sample at the start of the current step, which takes several evaluations. */
  private start: FloatTensor | undefined;
  private weighted: Term[] = [];

  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    const read = readConfig("PNDMScheduler", fields, config);
    super(read, alphasCumprod(read));
  }

  /** Also forgets the outputs of earlier steps. Runge-Kutta steps need at least 4 steps in all. */
  setTimesteps(plan: number | CustomSchedule): void {
    const numInferenceSteps = stepsOf(this.className, plan);
    const { timestep_spacing: spacing, steps_offset: offset, skip_prk_steps: skip } = this.config;
    const total = this.trainTimesteps;
    const plain = spacedTimesteps(this.className, numInferenceSteps, { spacing, total, offset });
    if (!skip && plain.length < 4) {
      throw new ArgumentError(
        `${this.className}: Runge-Kutta steps need at least 4 steps, not ${numInferenceSteps}; or set skip_prk_steps.`,
      );
    }
    this.stride = Math.floor(total / numInferenceSteps);
    const half = Math.floor(this.stride / 2);
    // Evaluations of a Runge-Kutta step: at its start, twice half way, at its end.
    const evaluations = (t: number, i: number) => [t, plain[i + 1]! + half, plain[i + 1]! + half, plain[i + 1]!];
    const first = skip ? [] : plain.slice(0, 3).flatMap(evaluations);
    const then = skip ? [...plain.slice(0, 2), ...plain.slice(1)] : plain.slice(3);
    this.timesteps = [...first, ...then];
    this.rungeKuttaCount = first.length;
    this.counter = 0;
    this.outputs = [];
    this.start = undefined;
    this.weighted = [];
  }

  step(modelOutput: FloatTensor, timestep: number, sample: FloatTensor): StepResult {
    const stride = requireSteps(this.className, this.stride);
    const output = combine("PNDM step", [1, modelOutput]);
    const prevSample =
      this.counter < this.rungeKuttaCount
        ? this.rungeKuttaStep(output, timestep, sample, Math.floor(stride / 2))
        : this.multistep(output, timestep, sample, stride);
    this.counter++;
    return { prevSample };
  }

  private rungeKuttaStep(output: FloatTensor, timestep: number, sample: FloatTensor, half: number): FloatTensor {
    const evaluation = this.counter % 4;
    if (evaluation === 0) {
      this.outputs = [output, ...this.outputs].slice(0, 4);
      this.start = combine("PNDM step", [1, sample]);
      this.weighted = [];
    }
    this.weighted.push([rungeKutta[evaluation]!, output]);
    const from = this.timesteps[this.counter - evaluation]!;
    // The first and the third evaluation's outputs lead half way and to the end from a timestep on the grid.
    const to = evaluation % 2 === 0 ? timestep - half : timestep;
    return this.transfer(this.start ?? sample, from, to, evaluation === 3 ? this.weighted : [[1, output]]);
  }

  private multistep(output: FloatTensor, timestep: number, sample: FloatTensor, stride: number): FloatTensor {
    if (this.counter === 1) {
      // The first step again, from where it began, with the mean of the outputs at both its ends (Heun's method).
      const [first] = this.outputs;
      const begin = this.start ?? sample;
      this.start = undefined;
      return this.transfer(begin, timestep + stride, timestep, [
        [0.5, output],
        [0.5, first ?? output],
      ]);
    }
    if (this.counter === 0) this.start = combine("PNDM step", [1, sample]);
    this.outputs = [output, ...this.outputs].slice(0, 4);
    const weights = adamsBashforth[this.outputs.length - 1]!;
    const terms = this.outputs.map((tensor, i): Term => [weights[i]!, tensor]);
    return this.transfer(sample, timestep, timestep - stride, terms);
  }

  /** Moves a sample between timesteps along one noise estimate, the sum of `terms` (Liu et al. 2022, equation 11). */
  private transfer(sample: FloatTensor, from: number, to: number, terms: readonly Term[]): FloatTensor {
    const alphaProd = this.alphaAt(from);
    const alphaProdNext = to >= 0 ? this.alphaAt(to) : this.config.set_alpha_to_one ? 1 : this.alphasCumprod[0]!;
    const { epsilon } = predicted(this.predictionType, Math.sqrt(alphaProd), Math.sqrt(1 - alphaProd));
    const scale =
      -(alphaProdNext - alphaProd) /
      (alphaProd * Math.sqrt(1 - alphaProdNext) + Math.sqrt(alphaProd * (1 - alphaProd) * alphaProdNext));
    return combine(
      "PNDM step",
      [Math.sqrt(alphaProdNext / alphaProd) + scale * epsilon.sample, sample],
      ...terms.map(([weight, tensor]): Term => [scale * epsilon.output * weight, tensor]),
    );
  }
}
