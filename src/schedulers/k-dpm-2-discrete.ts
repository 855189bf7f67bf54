import { KDPM2 } from "./k-dpm-2.ts";
import type { Scheduler } from "./scheduler.ts";
import type { Ancestral } from "./sigma-process.ts";

/** The midpoint method without noise: two evaluations per step. */
export class KDPM2DiscreteScheduler extends KDPM2 implements Scheduler {
  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("KDPM2DiscreteScheduler", config);
  }

  protected split(_sigma: number, next: number): Ancestral {
    return { down: next, up: 0 };
  }
}
