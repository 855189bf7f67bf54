export type Algorithm = "dpmsolver" | "dpmsolver++" | "sde-dpmsolver" | "sde-dpmsolver++";
export type SolverType = "midpoint" | "heun";

export interface DpmCoefficients {
  readonly sample: number;
  /** Of the converted model outputs, newest first; as many as the order. */
  readonly outputs: readonly number[];
  readonly noise: number;
}

/**
 * One DPM-Solver step as a sum of the sample, the newest converted outputs and noise. `levels` are noise levels sigma:
 * where the step ends, where it starts, and those of the one or two steps before; the order is their number less one.
 * Written with D0, D1, D2, finite differences of the outputs in lambda = log(alpha / sigma), which stand for the
 * derivatives in the expansions of Lu et al. 2022 (arXiv 2206.00927, appendix B) and arXiv 2211.01095, appendix A.
 */
export function dpmCoefficients(algorithm: Algorithm, solver: SolverType, levels: readonly number[]): DpmCoefficients {
  const order = levels.length - 1;
  const [end, start] = [levels[0]!, levels[1]!];
  const [alpha, alphaStart] = [alphaOf(end), alphaOf(start)];
  const [sigma, sigmaStart] = [alpha * end, alphaStart * start];
  // lambda = -log(level), since level = sigma / alpha.
  const h = Math.log(start) - Math.log(end);
  const { sample, d0, d1, d2, noise } = expansion(algorithm, order === 3 ? "heun" : solver, h, {
    alpha,
    sigma,
    alphaRatio: alpha / alphaStart,
    sigmaRatio: sigma / sigmaStart,
  });
  if (order === 1) return { sample, outputs: [d0], noise };

  const r0 = (Math.log(levels[2]!) - Math.log(start)) / h;
  if (order === 2) return { sample, outputs: [d0 + d1 / r0, -d1 / r0], noise };

  const r1 = (Math.log(levels[3]!) - Math.log(levels[2]!)) / h;
  // D1 = d + r0 / (r0 + r1) (d - e), D2 = (d - e) / (r0 + r1), d = (m0 - m1) / r0, e = (m1 - m2) / r1.
  const second = (d1 * r0 + d2) / (r0 + r1);
  const newer = (d1 + second) / r0;
  const older = -second / r1;
  return { sample, outputs: [d0 + newer, older - newer, -older], noise };
}

interface Levels {
  alpha: number;
  sigma: number;
  alphaRatio: number;
  sigmaRatio: number;
}

/** Coefficients of the sample, of D0, D1 and D2, and of the noise, for a step of length h in lambda. */
function expansion(algorithm: Algorithm, solver: SolverType, h: number, levels: Levels) {
  const { alpha, sigma, alphaRatio, sigmaRatio } = levels;
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
      return { sample: sigmaRatio * Math.exp(-h), d0: alpha * p, d1, d2: 0, noise: sigma * Math.sqrt(p) };
    }
    case "sde-dpmsolver": {
      const p = Math.expm1(h);
      const d1 = midpoint ? -sigma * p : -2 * sigma * (p / h - 1);
      return { sample: alphaRatio, d0: -2 * sigma * p, d1, d2: 0, noise: sigma * Math.sqrt(Math.expm1(2 * h)) };
    }
  }
}

function alphaOf(level: number): number {
  return 1 / Math.sqrt(level ** 2 + 1);
}
