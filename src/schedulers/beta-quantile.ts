/**
 * The `p` quantile of a symmetric beta distribution (both parameters are `shape`, above 0).
 * Exact to a few units in the last place of the smaller of the result and 1 - the result.
 */
export function betaQuantile(p: number, shape: number): number {
  if (p > 0.5) return 1 - betaQuantile(1 - p, shape);
  if (p === 0.5 || p <= 0) return p <= 0 ? 0 : 0.5;
  // Not normalised: the total weight is twice the weight below one half.
  const target = p * 2 * weightBelow(0.5, shape);
  // Start from the approximation x^shape / shape for the weight below a small x, then use Newton's method.
  let x = Math.min((target * shape) ** (1 / shape), 0.5);
  for (let i = 0; i < 100; i++) {
    const step = (weightBelow(x, shape) - target) / (x * (1 - x)) ** (shape - 1);
    const next = Math.min(Math.max(x - step, x / 2), 0.5);
    if (Math.abs(next - x) <= 2 ** -52 * x) return next;
    x = next;
  }
  return x;
}

/** The integral of (t (1 - t))^(shape - 1) from 0 to x, for x up to 1/2: the binomial series, term by term. */
function weightBelow(x: number, shape: number): number {
  let power = x ** shape;
  let sum = power / shape;
  for (let k = 1; k < 100; k++) {
    power *= (x * (k - shape)) / k;
    sum += power / (shape + k);
  }
  return sum;
}
