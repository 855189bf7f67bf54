/**
 * Noise levels sigma = sqrt((1 - a) / a) for a = alphas_cumprod: the standard deviation of the noise if the clean
 * sample has coefficient 1 (Karras et al. 2022). Rounded to float32 where the reference rounds.
 */
export function trainingSigmas(alphasCumprod: Float32Array): Float32Array {
  return alphasCumprod.map((a) => Math.sqrt(Math.fround(Math.fround(1 - a) / a)));
}

/**
 * With zero terminal SNR the last alphas_cumprod is 0 and its sigma infinite. As in the reference, solvers on sigmas use the
 * smallest half-precision number instead. In place.
 */
export function boundLastSigma(alphasCumprod: Float32Array): Float32Array {
  alphasCumprod[alphasCumprod.length - 1] = 2 ** -24;
  return alphasCumprod;
}

/** Linear interpolation in a table; beyond its ends the first or the last value. */
export function interpolate(table: ArrayLike<number>, place: number): number {
  const at = Math.min(Math.max(place, 0), table.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, table.length - 1);
  return table[low]! + (at - low) * (table[high]! - table[low]!);
}

/** `count` evenly spaced numbers from `from` to `to`; only `from` if count is 1. Rounded like numpy's linspace. */
export function evenly(from: number, to: number, count: number): number[] {
  const gap = (to - from) / (count - 1);
  return Array.from({ length: count }, (_, i) => (i === 0 ? from : i === count - 1 ? to : i * gap + from));
}

/** The fractional training timestep whose noise level is `sigma`; `logSigmas` ascend by timestep, natural logarithms. */
export function sigmaToTimestep(sigma: number, logSigmas: ArrayLike<number>): number {
  const target = Math.log(Math.max(sigma, 1e-10));
  let low = 0;
  let high = logSigmas.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (logSigmas[middle]! <= target) low = middle;
    else high = middle;
  }
  if (high === low) return low;
  const weight = (logSigmas[low]! - target) / (logSigmas[low]! - logSigmas[high]!);
  return low + Math.min(Math.max(weight, 0), 1);
}
