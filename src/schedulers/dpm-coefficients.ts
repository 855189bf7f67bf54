export type Algorithm = "dpmsolver" | "dpmsolver++" | "sde-dpmsolver" | "sde-dpmsolver++";
export type SolverType = "midpoint" | "heun";

export interface DpmCoefficients {
  readonly sample: number;
  /** Coefficients of the converted model outputs, newest first; as many as the order. */
  readonly outputs: readonly number[];
  readonly noise: number;
}

/** A noise level: the sample is alpha times the clean sample plus sigma times noise. */
export interface Level {
  readonly alpha: number;
  readonly sigma: number;
}

/** The level of a variance-preserving process (alpha^2 + sigma^2 = 1) from sigma / alpha. */
export function preservingLevel(ratio: number): Level {
  const alpha = 1 / Math.sqrt(ratio ** 2 + 1);
  return { alpha, sigma: ratio * alpha };
}

/** The level of a rectified flow: alpha + sigma = 1. */
function flowLevel(sigma: number): Level {
  return { alpha: 1 - sigma, sigma };
}

/** alpha and sigma for a noise level of the schedule. */
export function levelOf(config: { readonly use_flow_sigmas: boolean }, sigma: number): Level {
  return config.use_flow_sigmas ? flowLevel(sigma) : preservingLevel(sigma);
}

/**
 * One DPM-Solver step as a sum of the sample, the newest converted outputs and noise. `levels` are those of the end of the
 * step, of its start, and of the one or two steps before; the order is their number less one.
 * It uses D0, D1, D2, finite differences of the outputs in lambda = log(alpha / sigma), which approximate the
 * derivatives in the expansions of Lu et al. 2022 (arXiv 2206.00927, appendix B) and arXiv 2211.01095, appendix A.
 */
export function dpmCoefficients(algorithm: Algorithm, solver: SolverType, levels: readonly Level[]): DpmCoefficients {
  const order = levels.length - 1;
  const [end, start] = [levels[0]!, levels[1]!];
  const lambda = levels.map(({ alpha, sigma }) => Math.log(alpha) - Math.log(sigma));
  const h = lambda[0]! - lambda[1]!;
  // A step to the level where it is: Karras' levels end at the lowest one of training, and with "sigma_min" that comes once more.
  if (h === 0) return { sample: 1, outputs: new Array<number>(order).fill(0), noise: 0 };
  const { sample, d0, d1, d2, noise } = expansion(algorithm, order === 3 ? "heun" : solver, h, {
    ...end,
    alphaRatio: end.alpha / start.alpha,
    sigmaRatio: end.sigma / start.sigma,
  });
  if (order === 1) return { sample, outputs: [d0], noise };

  const r0 = (lambda[1]! - lambda[2]!) / h;
  if (order === 2) return { sample, outputs: [d0 + d1 / r0, -d1 / r0], noise };

  const r1 = (lambda[2]! - lambda[3]!) / h;
  // D1 = d + r0 / (r0 + r1) (d - e), D2 = (d - e) / (r0 + r1), d = (m0 - m1) / r0, e = (m1 - m2) / r1.
  const second = (d1 * r0 + d2) / (r0 + r1);
  const newer = (d1 + second) / r0;
  const older = -second / r1;
  return { sample, outputs: [d0 + newer, older - newer, -older], noise };
}

/**
 * The same if the outputs are within one long step (single-step DPM-Solver): `levels` are those of its end, of the newest
 * output and of the outputs before it; the last is the start of the step.
 */
export function singlestepCoefficients(
  algorithm: Algorithm,
  solver: SolverType,
  levels: readonly Level[],
): DpmCoefficients {
  const order = levels.length - 1;
  const [end, start] = [levels[0]!, levels.at(-1)!];
  const lambda = levels.map(({ alpha, sigma }) => Math.log(alpha) - Math.log(sigma));
  const from = lambda.at(-1)!;
  const h = lambda[0]! - from;
  const { sample, d0, d1, d2, noise } = expansion(algorithm, order === 3 ? "heun" : solver, h, {
    ...end,
    alphaRatio: end.alpha / start.alpha,
    sigmaRatio: end.sigma / start.sigma,
  });
  if (order === 1) return { sample, outputs: [d0], noise };
  const r0 = (lambda[1]! - from) / h;
  if (order === 2 || solver === "midpoint") {
    // One difference, between the newest output and the first.
    const newest = d1 / r0;
    return { sample, outputs: [newest, ...(order === 3 ? [0] : []), d0 - newest], noise };
  }
  const r1 = (lambda[2]! - from) / h;
  // With d = (m1 - m2) / r1 and e = (m0 - m2) / r0: D1 = (r0 d - r1 e) / (r0 - r1), D2 = 2 (e - d) / (r0 - r1).
  const newest = (2 * d2 - d1 * r1) / (r0 * (r0 - r1));
  const middle = (d1 * r0 - 2 * d2) / (r1 * (r0 - r1));
  return { sample, outputs: [newest, middle, d0 - newest - middle], noise };
}

interface Ends extends Level {
  alphaRatio: number;
  sigmaRatio: number;
}

/** Coefficients of the sample, of D0, D1 and D2, and of the noise, for a step of length h in lambda. */
function expansion(algorithm: Algorithm, solver: SolverType, h: number, ends: Ends) {
  const { alpha, sigma, alphaRatio, sigmaRatio } = ends;
  const midpoint = solver === "midpoint";
  switch (algorithm) {
    case "dpmsolver++": {
      const p = Math.expm1(-h);
      const d1 = midpoint ? -0.5 * alpha * p : alpha * (p / h + 1);
      return { sample: sigmaRatio, d0: -alpha * p, d1, d2: -alpha * ((p + h) / h ** 2 - 0.5), noise: 0 };
    }
    case "dpmsolver": {
      const p = Math.expm1(h);
      const d1 = midpoint ? -0.5 * sigma * p : -sigma * (p / h - 1);
      return { sample: alphaRatio, d0: -sigma * p, d1, d2: -sigma * ((p - h) / h ** 2 - 0.5), noise: 0 };
    }
    case "sde-dpmsolver++": {
      const p = -Math.expm1(-2 * h);
      const d1 = midpoint ? 0.5 * alpha * p : alpha * (1 - p / (2 * h));
      const d2 = alpha * ((p - 2 * h) / (2 * h) ** 2 - 0.5);
      return { sample: sigmaRatio * Math.exp(-h), d0: alpha * p, d1, d2, noise: sigma * Math.sqrt(p) };
    }
    case "sde-dpmsolver": {
      const p = Math.expm1(h);
      const d1 = midpoint ? -sigma * p : -2 * sigma * (p / h - 1);
      return { sample: alphaRatio, d0: -2 * sigma * p, d1, d2: 0, noise: sigma * Math.sqrt(Math.expm1(2 * h)) };
    }
  }
}
