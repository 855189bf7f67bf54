import { ConfigError } from "../errors.ts";
import { betaQuantile } from "./beta-quantile.ts";
import { type ConfigOf, flag, optional, real } from "./config.ts";
import { evenly } from "./sigmas.ts";

/** Keys that replace the noise levels by others between the first and the last level, or between the ends given here. */
export const sigmaSpacingFields = {
  use_karras_sigmas: flag(false),
  use_exponential_sigmas: flag(false),
  use_beta_sigmas: flag(false),
  // Keys of Euler that all classes in diffusers use if a configuration has them.
  sigma_min: optional(real(0, 0)),
  sigma_max: optional(real(0, 0)),
};
type SigmaSpacing = ConfigOf<typeof sigmaSpacingFields>;

const flags = ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] as const;

/** Which of the keys is set; undefined if none is. */
export function sigmaSpacingOf(config: SigmaSpacing): (typeof flags)[number] | undefined {
  return flags.find((flag) => config[flag]);
}

/** Throws ConfigError if two of the keys are set, or if a level of 0 would need a logarithm. */
export function checkSigmaSpacing(className: string, config: SigmaSpacing): void {
  const set = flags.filter((flag) => config[flag]);
  if (set.length > 1) throw new ConfigError(`${className}: only one of ${set.join(", ")} can be true.`);
  if (config.use_exponential_sigmas && (config.sigma_min === 0 || config.sigma_max === 0)) {
    throw new ConfigError(`${className}: sigma_min and sigma_max must be above 0 with use_exponential_sigmas.`);
  }
}

/** `steps` descending noise levels in place of some that begin with `first` and end with `last`; null if no key is set. */
export function respaced(config: SigmaSpacing, first: number, last: number, steps: number): number[] | null {
  const [max, min] = [config.sigma_max ?? first, config.sigma_min ?? last];
  switch (sigmaSpacingOf(config)) {
    case "use_karras_sigmas":
      return karrasSigmas(min, max, steps);
    case "use_exponential_sigmas":
      return evenly(Math.log(max), Math.log(min), steps).map(Math.exp);
    case "use_beta_sigmas":
      // Lee et al. 2024 (arXiv 2407.12173): denser at both ends.
      return evenly(0, 1, steps).map((share) => min + betaQuantile(1 - share, 0.6) * (max - min));
    default:
      return null;
  }
}

/** `steps` noise levels from `max` down to `min`, even in sigma^(1/7) (Karras et al. 2022, equation 5). */
function karrasSigmas(min: number, max: number, steps: number): number[] {
  const rho = 7;
  const [from, to] = [max ** (1 / rho), min ** (1 / rho)];
  return evenly(0, 1, steps).map((share) => (from + share * (to - from)) ** rho);
}
