import type { Level } from "./dpm-coefficients.ts";
import { lagrangeIntegrals } from "./lagrange.ts";

export interface SACoefficients {
  readonly sample: number;
  /** Coefficients of the converted outputs, newest first. */
  readonly outputs: readonly number[];
  readonly noise: number;
}

/**
 * One step of SA-Solver (Xue et al. 2023, arXiv 2309.05019, section 4 and appendix B) as a sum: from `start` to `end`
 * with the polynomial in lambda = log(alpha / sigma) through the outputs at `nodes`, newest first. The corrector's newest
 * node is the end. `predictsData`: outputs are clean samples, not noise. `tau`: 0 for the ODE, 1 for the SDE.
 */
export function saCoefficients(
  predictsData: boolean,
  tau: number,
  start: Level,
  end: Level,
  nodes: readonly Level[],
): SACoefficients {
  const lambda = ({ alpha, sigma }: Level) => Math.log(alpha) - Math.log(sigma);
  const h = lambda(end) - lambda(start);
  const places = nodes.map((node) => lambda(node) - lambda(end));
  const rate = 1 + tau ** 2;
  if (!predictsData) {
    const weights = lagrangeIntegrals(-1, -h, places);
    return {
      sample: end.alpha / start.alpha,
      outputs: weights.map((weight) => -rate * end.sigma * weight),
      noise: tau * end.sigma * Math.sqrt(Math.expm1(2 * h)),
    };
  }
  const weights = lagrangeIntegrals(rate, -h, places);
  if (nodes.length === 2) {
    // For order 2 the reference approximates an integral by the mean, which differs by a term of higher order.
    const gap = places[0]! - places[1]!;
    const change = (h ** 2 / 2 - (h * rate + Math.expm1(-rate * h)) / rate ** 2) / gap;
    weights[0]! += change;
    weights[1]! -= change;
  }
  return {
    sample: Math.exp(-(tau ** 2) * h) * (end.sigma / start.sigma),
    outputs: weights.map((weight) => rate * end.alpha * weight),
    noise: end.sigma * Math.sqrt(-Math.expm1(-2 * tau ** 2 * h)),
  };
}
