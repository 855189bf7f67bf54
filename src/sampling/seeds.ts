/** Seeds of several images made together, and the noise that each starts from. */
import { type Check, whole } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import type { FloatTensor } from "../tensor.ts";
import { stack } from "./guidance.ts";
import { TorchGenerator } from "./noise.ts";

/** Most images or videos of one call. */
export const MOST_PICTURES = 1024;
/** The largest seed: seeds stay whole numbers when the number of an image is added. */
const LARGEST_SEED = Number.MAX_SAFE_INTEGER - MOST_PICTURES;

export const seedCheck: Check = whole(0, LARGEST_SEED);

/** The seeds of a call. */
export interface Seeds {
  /** A whole number; picture i of several is the one of seed + i alone. Drawn at random unless given. */
  seed?: number;
  /** One for each picture, instead of `seed`; as many as there are pictures. */
  seeds?: readonly number[];
}

/** The seeds of `count` pictures: those that were given, or one after the other. Throws ArgumentError if they are not as many. */
export function seedsOf(count: number, { seed, seeds }: Seeds, pictures = "pictures"): number[] {
  if (seeds === undefined) {
    const first = seed ?? Math.floor(Math.random() * 2 ** 32);
    return Array.from({ length: count }, (_, i) => first + i);
  }
  if (seed !== undefined) throw new ArgumentError('"seed" and "seeds" are both given; give one of them.');
  if (seeds.length === count) return [...seeds];
  throw new ArgumentError(`There are ${seeds.length} seeds for ${count} ${pictures}; give one for each.`);
}

/** Draws standard normal noise, each row from the generator of its own seed. `shape` is that of one row, a batch of 1. */
export function seededNoise(seeds: readonly number[]): (shape: readonly number[]) => FloatTensor {
  const generators = seeds.map((each) => new TorchGenerator(each));
  return (shape) => generators.map((generator) => generator.randn(shape)).reduce(stack);
}
