import { oneOf } from "./config.ts";

/** What a denoiser predicts: the noise, the clean sample, v (Salimans & Ho 2022), or a flow's velocity. */
export type PredictionType = "epsilon" | "sample" | "v_prediction" | "flow";
export type DiffusionPrediction = Exclude<PredictionType, "flow">;

export const predictionField = oneOf("epsilon", ["epsilon", "sample", "v_prediction"]);

/** Coefficients of a sum of the noisy sample and the model's output. */
export interface Mixture {
  readonly sample: number;
  readonly output: number;
}

/**
 * The clean sample and the noise that a model output implies, where sample = alpha * x0 + sigma * epsilon with
 * alpha^2 + sigma^2 = 1. `sample` at sigma 0 and `epsilon` at alpha 0 do not determine the other and give infinities.
 */
export function predicted(type: DiffusionPrediction, alpha: number, sigma: number): { x0: Mixture; epsilon: Mixture } {
  switch (type) {
    case "epsilon":
      return { x0: { sample: 1 / alpha, output: -sigma / alpha }, epsilon: { sample: 0, output: 1 } };
    case "sample":
      return { x0: { sample: 0, output: 1 }, epsilon: { sample: 1 / sigma, output: -alpha / sigma } };
    case "v_prediction":
      return { x0: { sample: alpha, output: -sigma }, epsilon: { sample: sigma, output: alpha } };
  }
}

/**
 * A flow's velocity is noise - x0, so the clean sample x0 is the sample minus `sigma` times the velocity. The noise is
 * (sample - alpha * x0) / sigma, which is the flow's own noise if alpha is 1 - sigma.
 */
export function flowPredicted(alpha: number, sigma: number): { x0: Mixture; epsilon: Mixture } {
  return { x0: { sample: 1, output: -sigma }, epsilon: { sample: (1 - alpha) / sigma, output: alpha } };
}
