/** AdamW (Loshchilov & Hutter 2019, algorithm 2), an average of the weights, and learning-rate schedules. */
/** Parameters from `start` to before `end` learn at `factor` times the learning rate. */
export interface Segment {
  readonly start: number;
  readonly end: number;
  readonly factor: number;
}

export interface AdamWOptions {
  beta1?: number;
  beta2?: number;
  epsilon?: number;
  /** Decoupled: the weights shrink by learning rate x this. */
  weightDecay?: number;
  /** Gradients are scaled down so that their norm is at most this. */
  clipNorm?: number;
  /** Parts of the parameters that learn at another rate than the rest; in order, without overlap. */
  rates?: readonly Segment[];
  /** Of the exponential moving average of the weights; 0 keeps none. */
  emaDecay?: number;
}

export class AdamW {
  readonly m: Float32Array;
  readonly v: Float32Array;
  readonly ema: Float32Array;
  steps = 0;
  readonly #options: Required<AdamWOptions>;
  readonly #segments: readonly Segment[];

  /** `values` are updated in place; the average starts from them. */
  constructor(values: Float32Array, options: AdamWOptions = {}) {
    this.#options = {
      beta1: 0.9,
      beta2: 0.99,
      epsilon: 1e-8,
      weightDecay: 0,
      clipNorm: 1,
      rates: [],
      emaDecay: 0,
      ...options,
    };
    this.m = new Float32Array(values.length);
    this.v = new Float32Array(values.length);
    this.ema = values.slice();
    this.#segments = covering(this.#options.rates, values.length);
  }

  /** One update. Returns the norm of the gradients before clipping; an update with a norm that is not finite is left out. */
  step(values: Float32Array, gradients: Float32Array, learningRate: number): number {
    const { beta1, beta2, epsilon, weightDecay, clipNorm, emaDecay } = this.#options;
    const { m, v, ema } = this;
    const norm = Math.sqrt(sumOfSquares(gradients));
    if (!Number.isFinite(norm)) return norm;
    this.steps++;
    const scale = norm > clipNorm ? clipNorm / norm : 1;
    const correction = 1 / Math.sqrt(1 - beta2 ** this.steps);
    // The average of an early run must not remember the random start: its decay grows with the steps taken.
    const average = 1 - Math.min(emaDecay, (1 + this.steps) / (10 + this.steps));
    for (const { start, end, factor } of this.#segments) {
      const rate = learningRate * factor;
      const stepSize = rate / (1 - beta1 ** this.steps);
      const keep = 1 - rate * weightDecay;
      for (let i = start; i < end; i++) {
        const g = gradients[i]! * scale;
        const first = m[i]! + (1 - beta1) * (g - m[i]!);
        const second = v[i]! + (1 - beta2) * (g * g - v[i]!);
        m[i] = first;
        v[i] = second;
        const value = values[i]! * keep - (stepSize * first) / (Math.sqrt(second) * correction + epsilon);
        values[i] = value;
        ema[i] = ema[i]! + average * (value - ema[i]!);
      }
    }
    return norm;
  }
}

/** The given segments and, between them, ones with factor 1. */
function covering(rates: readonly Segment[], length: number): Segment[] {
  const segments: Segment[] = [];
  let start = 0;
  for (const rate of [...rates, { start: length, end: length, factor: 1 }]) {
    if (rate.start > start) segments.push({ start, end: rate.start, factor: 1 });
    if (rate.end > rate.start) segments.push(rate);
    start = rate.end;
  }
  return segments;
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
