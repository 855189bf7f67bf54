/** An extension of the paper: the safe part of a mixture may be any policy that the data certify, not only the baseline. */

import type { TightBounds } from "../bounds/tight-bounds.ts";
import type { MixturePolicy, Rest } from "../mdp/policy.ts";
import type { Problem } from "../mdp/problem.ts";

/** The baseline for the first h0 steps, then the optimistic policy or the pessimistic one. */
export interface Candidate {
  readonly h0: number;
  readonly rest: Rest;
  /** Lower bound on its value. */
  readonly lower: number;
}

/** Plays `bold`, whose lower bound is below the threshold, with probability rho, and otherwise `safe`. */
export interface CertifiedMixture {
  readonly safe: Candidate;
  readonly bold?: Candidate;
  readonly rho: number;
}

/**
 * The mixture of two candidates with the highest promised value, among those whose lower bound is at least the threshold;
 * undefined if no candidate's bound is. `starts` are the numbers of baseline steps to choose from.
 * Call it after `plan`.
 */
export function certifiedMixture(
  bounds: TightBounds,
  { threshold }: Problem,
  starts: readonly number[],
): CertifiedMixture | undefined {
  bounds.planPessimistic();
  const candidates = starts.flatMap((h0) =>
    (["optimistic", "pessimistic"] as const).map((rest) => ({
      candidate: { h0, rest, lower: bounds.lower(h0, rest) },
      promise: bounds.promise(h0, rest),
    })),
  );
  let best: CertifiedMixture | undefined;
  let most = -Infinity;
  const offer = (mixture: CertifiedMixture, promise: number) => {
    if (!(promise > most)) return;
    [best, most] = [mixture, promise];
  };
  for (const { candidate: safe, promise } of candidates) {
    if (!(safe.lower >= threshold)) continue;
    offer({ safe, rho: 0 }, promise);
    for (const { candidate: bold, promise: more } of candidates) {
      if (!(bold.lower < threshold && more > promise)) continue;
      // rho L(bold) + (1 - rho) L(safe) = threshold
      const rho = (safe.lower - threshold) / (safe.lower - bold.lower);
      offer({ safe, bold, rho }, rho * more + (1 - rho) * promise);
    }
  }
  return best;
}

/** The name of a decision: "baseline" if nothing else is played. */
export function kindOf({ safe, bold }: CertifiedMixture, horizon: number): "mixture" | "baseline" {
  return safe.h0 === horizon && !bold ? "baseline" : "mixture";
}

/** The mixture with the policies of the last plan. */
export function certifiedPolicy(
  mixture: CertifiedMixture,
  bounds: TightBounds,
  { baseline, horizon }: Problem,
): MixturePolicy {
  const { safe, bold, rho } = mixture;
  const policy = ({ h0, rest }: Candidate) => ({ first: baseline, switchAt: h0, rest: bounds.actionsOf(rest).slice() });
  const components = [{ weight: 1 - rho, policy: policy(safe) }];
  if (bold) components.push({ weight: rho, policy: policy(bold) });
  return { kind: kindOf(mixture, horizon), components };
}
