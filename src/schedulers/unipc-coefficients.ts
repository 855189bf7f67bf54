import type { Level } from "./dpm-coefficients.ts";

export interface UniPCCoefficients {
  readonly sample: number;
  /** Coefficients of the converted model outputs, newest first; as many as the order. */
  readonly outputs: readonly number[];
  /** Coefficient of the output at the end of the step, which the corrector uses; 0 in the predictor. */
  readonly end: number;
}

/**
 * One UniPC step (Zhao et al. 2023, arXiv 2302.04867, section 3.2) as a sum. `levels` are those of the end of the step, of its
 * start, and of the steps before; the order is their number less one. `predictX0`: outputs are clean samples, not noise. The
 * corrector also uses the output at the end.
 */
export function unipcCoefficients(
  { predictX0, solver }: { predictX0: boolean; solver: "bh1" | "bh2" },
  levels: readonly Level[],
  corrector: boolean,
): UniPCCoefficients {
  const order = levels.length - 1;
  const [end, start] = [levels[0]!, levels[1]!];
  const lambda = levels.map(({ alpha, sigma }) => Math.log(alpha) - Math.log(sigma));
  const h = lambda[0]! - lambda[1]!;
  const hh = predictX0 ? -h : h;
  const phi1 = Math.expm1(hh);
  const scale = solver === "bh1" ? hh : phi1;
  // Positions of the outputs before the newest, in units of this step; the end is at 1.
  const places = lambda.slice(2).map((value) => (value - lambda[1]!) / h);
  const weights = corrector ? correctorWeights([...places, 1], hh, scale) : predictorWeights(places, hh, scale);

  const factor = predictX0 ? -end.alpha : -end.sigma;
  const sample = predictX0 ? end.sigma / start.sigma : end.alpha / start.alpha;
  // At sigma 0 the step is infinite and has order 1, so there is nothing to multiply.
  const differences = places.map((place, k) => (factor * scale * weights[k]!) / place);
  const last = corrector ? factor * scale * weights[order - 1]! : 0;
  const newest = factor * phi1 - differences.reduce((sum, value) => sum + value, 0) - last;
  return { sample, outputs: [newest, ...differences], end: last };
}

function predictorWeights(places: readonly number[], hh: number, scale: number): number[] {
  // For order 2 the reference uses one half, which differs from the solution by a term of higher order.
  if (places.length <= 1) return places.map(() => 0.5);
  return solve(places, moments(places.length, hh, scale));
}

function correctorWeights(places: readonly number[], hh: number, scale: number): number[] {
  return places.length === 1 ? [0.5] : solve(places, moments(places.length, hh, scale));
}

/** The right side of the order conditions: n! phi_(n+1)(hh) / scale, with phi as in exponential integrators. */
function moments(count: number, hh: number, scale: number): number[] {
  let factorial = 1;
  let phi = Math.expm1(hh) / hh - 1;
  return Array.from({ length: count }, (_, i) => {
    const value = (phi * factorial) / scale;
    factorial *= i + 2;
    phi = phi / hh - 1 / factorial;
    return value;
  });
}

/** Weights whose sums over the places to the powers 0, 1, ... are `right`: a Vandermonde system, by elimination. */
function solve(places: readonly number[], right: readonly number[]): number[] {
  const n = places.length;
  const rows = right.map((value, power) => [...places.map((place) => place ** power), value]);
  for (let column = 0; column < n; column++) {
    const pivot = rows.slice(column).reduce((a, b) => (Math.abs(b[column]!) > Math.abs(a[column]!) ? b : a));
    rows[rows.indexOf(pivot)] = rows[column]!;
    rows[column] = pivot;
    for (const row of rows) {
      if (row === pivot) continue;
      const factor = row[column]! / pivot[column]!;
      for (let i = column; i <= n; i++) row[i]! -= factor * pivot[i]!;
    }
  }
  return rows.map((row, i) => row[n]! / row[i]!);
}
