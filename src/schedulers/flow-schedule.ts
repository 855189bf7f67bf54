import { ArgumentError } from "../errors.ts";
import { type ConfigOf, flag, oneOf, optional, real, whole } from "./config.ts";
import { type CustomSchedule, checkDescending, type Plan, readPlan } from "./custom-schedule.ts";
import { FlowProcess, flowFields } from "./flow-process.ts";
import { checkSigmaSpacing, respaced, sigmaSpacingFields } from "./sigma-spacing.ts";
import { evenly } from "./sigmas.ts";
import { checkSteps } from "./spacing.ts";

/** Keys of the classes whose shift may depend on the image. */
export const flowScheduleFields = {
  ...flowFields,
  use_dynamic_shifting: flag(false),
  // The caller computes mu from these; they have no effect here.
  base_shift: real(0.5),
  max_shift: real(1.15),
  base_image_seq_len: whole(256, 0, 2 ** 31),
  max_image_seq_len: whole(4096, 0, 2 ** 31),
  ...sigmaSpacingFields,
  invert_sigmas: flag(false),
  shift_terminal: optional(real(0, 0, 1 - 2 ** -24)),
  time_shift_type: oneOf("exponential", ["exponential", "linear"]),
};
type FlowScheduleConfig = ConfigOf<typeof flowScheduleFields>;

/** A rectified flow with all of diffusers' ways to choose the noise levels. */
export class FlowSchedule<Config extends FlowScheduleConfig> extends FlowProcess<Config> {
  readonly takes = ["timesteps", "sigmas"] as const;

  constructor(className: string, config: Config) {
    super(className, config);
    checkSigmaSpacing(className, config);
  }

  /**
   * The shift is applied to an even grid between the largest and the smallest training sigma, which have been shifted
   * already, so the smallest is shifted twice, as in the reference. The caller's sigmas and timesteps are shifted too, but
   * the model still receives the caller's timesteps unshifted. `mu` is the logarithm of the shift (with time_shift_type
   * "linear" the shift itself) for models with `use_dynamic_shifting`, where it depends on the number of tokens. Throws
   * ArgumentError if it is missing, or for steps that cannot be planned.
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

  /** The noise levels before the shift, from 1 down. */
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
}
