/** AdamW (Loshchilov & Hutter 2019, algorithm 2), an average of the weights, and learning-rate schedules. */
export interface AdamWOptions {
  beta1?: number;
  beta2?: number;
  epsilon?: number;
  /** Decoupled: the weights shrink by learning rate x this. */
  weightDecay?: number;
  /** Gradients are scaled down so that their norm is at most this. */
  clipNorm?: number;
  /** Of the exponential moving average of the weights; 0 keeps none. */
  emaDecay?: number;
}

export class AdamW {
  readonly m: Float32Array;
  readonly v: Float32Array;
  readonly ema: Float32Array;
  steps = 0;
  readonly #options: Required<AdamWOptions>;

  /** `values` are updated in place; the average starts from them. */
  constructor(values: Float32Array, options: AdamWOptions = {}) {
    this.#options = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0, clipNorm: 1, emaDecay: 0, ...options };
    this.m = new Float32Array(values.length);
    this.v = new Float32Array(values.length);
    this.ema = values.slice();
  }

  /** One update. Returns the norm of the gradients before clipping; an update with a norm that is not finite is left out. */
  step(values: Float32Array, gradients: Float32Array, learningRate: number): number {
    const { beta1, beta2, epsilon, weightDecay, clipNorm, emaDecay } = this.#options;
    const { m, v, ema } = this;
    const norm = Math.sqrt(sumOfSquares(gradients));
    if (!Number.isFinite(norm)) return norm;
    this.steps++;
    const scale = norm > clipNorm ? clipNorm / norm : 1;
    const stepSize = learningRate / (1 - beta1 ** this.steps);
    const correction = 1 / Math.sqrt(1 - beta2 ** this.steps);
    const keep = 1 - learningRate * weightDecay;
    // The average of an early run must not remember the random start: its decay grows with the steps taken.
    const average = 1 - Math.min(emaDecay, (1 + this.steps) / (10 + this.steps));
    for (let i = 0; i < values.length; i++) {
      const g = gradients[i]! * scale;
      const first = m[i]! + (1 - beta1) * (g - m[i]!);
      const second = v[i]! + (1 - beta2) * (g * g - v[i]!);
      m[i] = first;
      v[i] = second;
      const value = values[i]! * keep - (stepSize * first) / (Math.sqrt(second) * correction + epsilon);
      values[i] = value;
      ema[i] = ema[i]! + average * (value - ema[i]!);
    }
    return norm;
  }
}

function sumOfSquares(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! * values[i]!;
  return sum;
}

/** Linear warm-up to `peak`, then a cosine down to `floor` x peak at `total` steps. */
export function warmupCosine(step: number, total: number, peak: number, warmup = 100, floor = 0.02): number {
  if (step < warmup) return (peak * (step + 1)) / warmup;
  const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
  return peak * (floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}
