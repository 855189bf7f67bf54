/** A case: a target's valid files, and the changes to them. */
import { type Files, mutated } from "./mutate.ts";
import { Random, seedOf } from "./random.ts";

export interface Target {
  /** Valid files to start from. */
  readonly seeds: readonly Files[];
  /** Uses them. Whatever it throws must be a HalfstepError. */
  run(files: Files): unknown;
}

export interface Case {
  readonly target: string;
  /** Which of the target's seeds. */
  readonly from: number;
  /** Seeds of the changes, in order. */
  readonly changes: readonly number[];
}

/** Case `index` of a run: one to eight changes, most often one or two. */
export function caseOf(target: string, { seeds }: Target, seed: number, index: number): Case {
  const random = new Random(seedOf(seed, target, index));
  const from = random.below(seeds.length);
  const changes = [random.next()];
  while (changes.length < 8 && random.chance(2)) changes.push(random.next());
  return { target, from, changes };
}

export function filesOf({ from, changes }: Pick<Case, "from" | "changes">, { seeds }: Target): Files {
  let files = seeds[from]!;
  for (const change of changes) files = mutated(files, change);
  return files;
}

export const sizeOfFiles = (files: Files): number => [...files.values()].reduce((sum, { length }) => sum + length, 0);
