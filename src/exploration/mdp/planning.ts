/** Exact dynamic programming in a known MDP: optimal values, the value of a policy, occupancy measures. */
import { type Mdp, rowOf } from "./mdp.ts";
import { type MixturePolicy, probabilityOf, type SwitchingPolicy } from "./policy.ts";

/** The optimal policy of a known MDP, and its value. */
export interface OptimalPlan {
  /** Expected return from the initial distribution. */
  readonly value: number;
  /** V*_h(s), [step][state] with one step more than the horizon (zeros). */
  readonly stateValues: Float64Array;
  /** Q*_h(s,a). */
  readonly actionValues: Float64Array;
  /** The best action with the lowest number, [step][state]. */
  readonly policy: Int32Array;
}

/** sum over s' of P_h(s'|s,a) values[start + s'] */
function expectation(mdp: Mdp, row: number, values: Float64Array, start: number): number {
  const { offsets, successors, probabilities } = mdp;
  let sum = 0;
  for (let i = offsets[row]!; i < offsets[row + 1]!; i++) sum += probabilities[i]! * values[start + successors[i]!]!;
  return sum;
}

/** Backward induction. */
export function optimalPlan(mdp: Mdp): OptimalPlan {
  const { horizon, states, actions, rewards } = mdp;
  const stateValues = new Float64Array((horizon + 1) * states);
  const actionValues = new Float64Array(horizon * states * actions);
  const policy = new Int32Array(horizon * states);
  for (let h = horizon - 1; h >= 0; h--) {
    for (let s = 0; s < states; s++) {
      let best = -Infinity;
      for (let a = 0; a < actions; a++) {
        const i = (h * states + s) * actions + a;
        const value = rewards[i]! + expectation(mdp, rowOf(mdp, h, s, a), stateValues, (h + 1) * states);
        actionValues[i] = value;
        if (value > best) {
          best = value;
          policy[h * states + s] = a;
        }
      }
      stateValues[h * states + s] = best;
    }
  }
  return { value: initialValue(mdp, stateValues), stateValues, actionValues, policy };
}

/** V^pi_h(s) of a policy, [step][state] with one step more than the horizon. */
export function policyValues(
  mdp: Mdp,
  policy: SwitchingPolicy,
  values: Float64Array = new Float64Array((mdp.horizon + 1) * mdp.states),
): Float64Array {
  const { horizon, states, actions, rewards } = mdp;
  for (let h = horizon - 1; h >= 0; h--) {
    for (let s = 0; s < states; s++) {
      const at = h * states + s;
      let value = 0;
      const switched = h >= policy.switchAt;
      const [from, to] = switched ? [policy.rest[at]!, policy.rest[at]! + 1] : [0, actions];
      for (let a = from; a < to; a++) {
        const p = switched ? 1 : policy.first[at * actions + a]!;
        if (p === 0) continue;
        value += p * (rewards[at * actions + a]! + expectation(mdp, rowOf(mdp, h, s, a), values, (h + 1) * states));
      }
      values[at] = value;
    }
  }
  return values;
}

/** Expected return of a policy, or of a mixture: the mean over its components, since one is drawn per episode. */
export function policyValue(mdp: Mdp, policy: SwitchingPolicy | MixturePolicy, scratch?: Float64Array): number {
  if (!("components" in policy)) return initialValue(mdp, policyValues(mdp, policy, scratch));
  let value = 0;
  for (const { weight, policy: component } of policy.components) {
    if (weight > 0) value += weight * policyValue(mdp, component, scratch);
  }
  return value;
}

/** d_h(s,a): the probability that an episode is in state s and takes action a at step h. */
export function occupancy(mdp: Mdp, policy: SwitchingPolicy): Float64Array {
  const { horizon, states, actions, offsets, successors, probabilities } = mdp;
  const visits = new Float64Array(horizon * states * actions);
  let here = mdp.initial;
  for (let h = 0; h < horizon; h++) {
    const next = new Float64Array(states);
    for (let s = 0; s < states; s++) {
      for (let a = 0; a < actions; a++) {
        const visit = here[s]! * probabilityOf(policy, mdp, h, s, a);
        visits[(h * states + s) * actions + a] = visit;
        const row = rowOf(mdp, h, s, a);
        for (let i = offsets[row]!; i < offsets[row + 1]!; i++) next[successors[i]!]! += visit * probabilities[i]!;
      }
    }
    here = next;
  }
  return visits;
}

function initialValue({ initial, states }: Mdp, values: Float64Array): number {
  let value = 0;
  for (let s = 0; s < states; s++) value += initial[s]! * values[s]!;
  return value;
}
