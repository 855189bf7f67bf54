/** Seeded random numbers whose state can be saved, so that a resumed run gives the same results to the last bit. */
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { xoroshiro128plus, xoroshiro128plusFromState } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";
import { ArgumentError } from "../../errors.ts";
import { checkCount, checkList } from "./reading.ts";

/** Random numbers whose state can be saved and restored. */
export class Random {
  readonly #generator: RandomGenerator;

  private constructor(generator: RandomGenerator) {
    this.#generator = generator;
  }

  /** Equal seeds give equal numbers. */
  static seeded(seed: number): Random {
    if (!Number.isSafeInteger(seed)) throw new ArgumentError(`The seed is ${seed}; it must be a whole number.`);
    return new Random(xoroshiro128plus(seed));
  }

  /** Restores a saved state. Throws ArgumentError for anything else. */
  static fromState(state: readonly number[]): Random {
    const parts = checkList(state, "random", 4);
    parts.forEach((part, i) => {
      checkCount(part, `random[${i}]`, -(2 ** 31), 2 ** 31 - 1);
    });
    // From a state of zeros, the generator gives zeros for ever.
    if (parts.every((part) => part === 0)) throw new ArgumentError("random is all zeros, which no generator comes to.");
    return new Random(xoroshiro128plusFromState(state));
  }

  get state(): number[] {
    return [...this.#generator.getState()];
  }

  /** Uniform in [0,1). */
  uniform(): number {
    return uniformFloat64(this.#generator);
  }
}
