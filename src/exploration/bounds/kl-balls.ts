/**
 * The smallest and largest value of a function of the next state: over all states, or as a mean over a ball of
 * distributions.
 */
import { lowestMean } from "./concentration.ts";
import type { Counts } from "./counts.ts";

export function smallest(values: Float64Array, from: number, count: number): number {
  let found = values[from]!;
  for (let i = from + 1; i < from + count; i++) if (values[i]! < found) found = values[i]!;
  return found;
}

export function largest(values: Float64Array, from: number, count: number): number {
  let found = values[from]!;
  for (let i = from + 1; i < from + count; i++) if (values[i]! > found) found = values[i]!;
  return found;
}

/** Kullback-Leibler balls around the observed distribution of a row's successors. */
export class KlBalls {
  /** Values and weights of the observed successors of one row. */
  readonly #values: Float64Array;
  readonly #weights: Float64Array;

  constructor(states: number) {
    this.#values = new Float64Array(states);
    this.#weights = new Float64Array(states);
  }

  /** The smallest (side 1) or largest (side -1) mean of values[from ..] over a row's ball. No value lies beyond `limit`. */
  mean(
    { visits, start, size, next, times }: Counts,
    row: number,
    values: Float64Array,
    from: number,
    limit: number,
    radius: number,
    side: 1 | -1,
  ): number {
    const n = visits[row]!;
    if (n === 0) return limit;
    const first = start[row]!;
    const count = size[row]!;
    for (let i = 0; i < count; i++) {
      this.#weights[i] = times[first + i]! / n;
      this.#values[i] = side * (values[from + next[first + i]!]! - limit);
    }
    return limit + side * lowestMean(this.#weights, this.#values, count, radius);
  }
}
