import type { FloatTensor } from "../tensor.ts";
import { combine, drawNoise } from "./arithmetic.ts";
import type { StepOptions } from "./scheduler.ts";

/** A sample and its noise level. */
export interface Raised {
  readonly sample: FloatTensor;
  readonly sigma: number;
}

/**
 * Raises the noise level before a step (Karras et al. 2022, algorithm 2, lines 4 to 6) according to the churn options;
 * without churn returns the sample unchanged. `steps` is the number of steps.
 */
export function churned(
  className: string,
  sample: FloatTensor,
  sigma: number,
  steps: number,
  options: StepOptions,
): Raised {
  const { sChurn = 0, sTmin = 0, sTmax = Infinity, sNoise = 1 } = options;
  const inRange = sTmin <= sigma && sigma <= sTmax;
  const gamma = inRange ? Math.min(sChurn / steps, Math.SQRT2 - 1) : 0;
  if (gamma <= 0) return { sample, sigma };
  const raised = sigma * (gamma + 1);
  const noise = drawNoise(className, options.noise);
  const added = sNoise * Math.sqrt(raised ** 2 - sigma ** 2);
  return { sample: combine(`${className} step`, [1, sample], [added, noise]), sigma: raised };
}
