import type { Counts } from "./counts.ts";

/** Backups of one kind: what they gave, when (at which plan), and when what all rows of a step use last changed. */
export class Backups {
  /** The lower bound of each row, as the last backup gave it. */
  readonly below: Float64Array;
  readonly at: Int32Array;
  readonly changed: Int32Array;
  readonly limits: number[][];
  readonly limitsChanged: Int32Array;

  constructor(horizon: number, states: number, rows: number) {
    this.below = new Float64Array(rows);
    this.at = new Int32Array(rows);
    this.changed = new Int32Array((horizon + 1) * states);
    this.limits = Array.from({ length: horizon }, () => []);
    this.limitsChanged = new Int32Array(horizon);
  }
}

/**
 * What backups gave, kept until one of their inputs changes: the row's counts, a successor's bounds, the limits of all
 * states. With the same inputs a backup gives the same bits, so keeping them changes nothing but the time that it takes.
 */
export class BackupCache {
  plans = 0;
  /** Bounds on the optimal value; `above` are the upper ones of each row. */
  readonly optimal: Backups;
  readonly above: Float64Array;
  /** Lower bounds of the optimistic and of the pessimistic policy. */
  readonly optimistic: Backups;
  readonly pessimistic: Backups;
  readonly #states: number;

  constructor(horizon: number, states: number, rows: number) {
    this.#states = states;
    this.above = new Float64Array(rows);
    this.optimal = new Backups(horizon, states, rows);
    this.optimistic = new Backups(horizon, states, rows);
    this.pessimistic = new Backups(horizon, states, rows);
  }

  /** The counts of a row have changed. */
  forget(row: number): void {
    for (const { at } of [this.optimal, this.optimistic, this.pessimistic]) at[row] = 0;
  }

  /** The bounds on V* of a step and state have changed; a policy's lower bound depends on them too. */
  markChanged(at: number): void {
    for (const { changed } of [this.optimal, this.optimistic, this.pessimistic]) changed[at] = this.plans;
  }

  /** Says what the backups of step h will use of all states. */
  setLimits({ limits, limitsChanged }: Backups, h: number, now: number[]): void {
    if (now.some((value, i) => value !== limits[h]![i])) limitsChanged[h] = this.plans;
    limits[h] = now;
  }

  /** Whether a row has to be backed up again; if so, it counts as done. */
  needsUpdate({ at, changed, limitsChanged }: Backups, h: number, row: number, { start, size, next }: Counts): boolean {
    const since = at[row]!;
    let stale = since === 0 || limitsChanged[h]! > since;
    const later = (h + 1) * this.#states;
    for (let i = start[row]!; !stale && i < start[row]! + size[row]!; i++) stale = changed[later + next[i]!]! > since;
    if (stale) at[row] = this.plans;
    return stale;
  }
}
