/** Finds the name that was probably meant. */

/**
 * The name with the fewest changed letters from `given` (inserted, deleted, replaced, or swapped with a neighbour:
 * Damerau 1964), ignoring case and separators. Null if even that is a different word: more than a third of its letters
 * changed.
 */
export function nearestName(given: string, names: readonly string[]): string | null {
  const plain = (name: string) => name.slice(0, 60).toLowerCase().replaceAll(/[-_ ]/g, "");
  const wanted = plain(given);
  let [best, least]: [string | null, number] = [null, Number.POSITIVE_INFINITY];
  for (const name of names) {
    const candidate = plain(name);
    const changes = distance(wanted, candidate);
    const few = changes <= Math.max(1, Math.floor(Math.max(wanted.length, candidate.length) / 3));
    if (few && changes < least) [best, least] = [name, changes];
  }
  return least <= 1 ? best : (containing(wanted, names, plain) ?? best);
}

/** "guidance" means guidanceScale, and "numSteps" steps; null where several names could be meant. */
function containing(wanted: string, names: readonly string[], plain: (name: string) => string): string | null {
  const matches = names.filter((name) => {
    const candidate = plain(name);
    const [shorter, longer] = wanted.length < candidate.length ? [wanted, candidate] : [candidate, wanted];
    return shorter.length >= 4 && (longer.startsWith(shorter) || longer.endsWith(shorter));
  });
  return matches.length === 1 ? matches[0]! : null;
}

/** Optimal string alignment distance, by rows. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + Number(a[i - 1] !== b[j - 1]);
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, replaced);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) next[j] = Math.min(next[j]!, before[j - 2]! + 1);
    }
    [before, row] = [row, next];
  }
  return row[b.length]!;
}
