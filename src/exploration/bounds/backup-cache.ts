import type { Counts } from "./counts.ts";

/**
 * The results of one kind of backup. `at` and `changed` count plans: when a row was last backed up, and when a state's bound
 * last changed. `limits` are the values that all rows of a step share.
 */
export class Backups {
  /** The lower bound of each row, from its last backup. */
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
 * Caches the results of backups until one of their inputs changes: the row's counts, the bounds of a successor, or the limits
 * over all states. A backup with the same inputs gives the same bits, so the cache only saves time.
 */
export class BackupCache {
  plans = 0;
  /** Bounds on the optimal value; `above` has the upper bound of each row. */
  readonly optimal: Backups;
  readonly above: Float64Array;
  /** Lower bounds on the values of the optimistic and the pessimistic policy. */
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

  /** Call it when the counts of a row have changed. */
  forget(row: number): void {
    for (const { at } of [this.optimal, this.optimistic, this.pessimistic]) at[row] = 0;
  }

  /** Call it when the bounds on V* of a step and state have changed. The lower bounds of policies depend on them too. */
  markChanged(at: number): void {
    for (const { changed } of [this.optimal, this.optimistic, this.pessimistic]) changed[at] = this.plans;
  }

  /** Sets the limits over all states that the backups of step h will use. */
  setLimits({ limits, limitsChanged }: Backups, h: number, now: number[]): void {
    if (now.some((value, i) => value !== limits[h]![i])) limitsChanged[h] = this.plans;
    limits[h] = now;
  }

  /** Whether a row has to be backed up again. If so, the row is marked as done. */
  needsUpdate({ at, changed, limitsChanged }: Backups, h: number, row: number, { start, size, next }: Counts): boolean {
    const since = at[row]!;
    let stale = since === 0 || limitsChanged[h]! > since;
    const later = (h + 1) * this.#states;
    for (let i = start[row]!; !stale && i < start[row]! + size[row]!; i++) stale = changed[later + next[i]!]! > since;
    if (stale) at[row] = this.plans;
    return stale;
  }
}
