/**
 * One block of memory for all features. A feature has its place only as long as it is needed, and others use the place before and
 * after. The layout is computed before anything runs, so the memory of a plan is known and does not depend on a garbage collector.
 */

/** A buffer that is needed from time `first` to time `last`, both included. */
export interface Lifetime {
  readonly name: string;
  readonly bytes: number;
  readonly first: number;
  readonly last: number;
}

export interface ArenaLayout {
  readonly bytes: number;
  readonly offsets: ReadonlyMap<string, number>;
}

/** A cache line: vector instructions are fastest on whole ones. */
const ALIGNMENT = 64;
const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/**
 * Places the largest buffers first, each at the lowest offset that is free for all of its lifetime (Pisarchyk & Lee 2020, arXiv
 * 2001.03288, "greedy by size"). Buffers with overlapping lifetimes never overlap in memory.
 */
export function layOut(lifetimes: readonly Lifetime[]): ArenaLayout {
  const offsets = new Map<string, number>();
  const placed: { life: Lifetime; offset: number }[] = [];
  let total = 0;
  // Of two buffers of equal size, the one that is needed longer comes first.
  const span = ({ first, last }: Lifetime) => last - first;
  for (const life of lifetimes.toSorted((a, b) => b.bytes - a.bytes || span(b) - span(a))) {
    const others = placed.filter((other) => other.life.first <= life.last && other.life.last >= life.first);
    let offset = 0;
    for (const other of others.sort((a, b) => a.offset - b.offset)) {
      if (offset + life.bytes <= other.offset) break;
      offset = Math.max(offset, other.offset + aligned(other.life.bytes));
    }
    offsets.set(life.name, offset);
    placed.push({ life, offset });
    total = Math.max(total, offset + aligned(life.bytes));
  }
  return { bytes: total, offsets };
}

/** The most bytes that are needed at one time: a lower limit for any layout. */
export function mostAlive(lifetimes: readonly Lifetime[]): number {
  const times = new Set(lifetimes.map(({ first }) => first));
  const alive = (time: number) => lifetimes.filter(({ first, last }) => first <= time && time <= last);
  return Math.max(0, ...[...times].map((time) => alive(time).reduce((sum, { bytes }) => sum + aligned(bytes), 0)));
}
