import { KDPM2 } from "./k-dpm-2.ts";
import type { Scheduler } from "./scheduler.ts";
import { type Ancestral, ancestral } from "./sigma-process.ts";

/** The midpoint method with as much fresh noise at each step as DDPM's ancestral sampling adds. */
export class KDPM2AncestralDiscreteScheduler extends KDPM2 implements Scheduler {
  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super("KDPM2AncestralDiscreteScheduler", config);
  }

  protected split(sigma: number, next: number): Ancestral {
    const split = ancestral(sigma, next);
    // If rounding gives 0, the reference divides by it; this is the value before rounding.
    return split.down === 0 && next > 0 ? { down: next ** 2 / sigma, up: split.up } : split;
  }
}
