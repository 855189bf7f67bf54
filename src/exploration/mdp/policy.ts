/** Policies: what to do at each step and state. And mixtures of policies, from which one is drawn per episode. */
import { ArgumentError, NumericError } from "../../errors.ts";
import { checkDistribution, type Sizes } from "./mdp.ts";

/**
 * Plays `first` (probabilities, [step][state][action]) before step `switchAt`, and from there the actions of `rest`
 * ([step][state]). The candidates of StepMix are such policies for every `switchAt` from 0 to H; a plain stochastic
 * policy is one with switchAt = H.
 */
export interface SwitchingPolicy {
  readonly first: Float64Array;
  readonly switchAt: number;
  readonly rest: Int32Array;
}

/** What a candidate plays after its baseline steps: the policy that is greedy in its upper bound, or in its lower bound. */
export type Rest = "optimistic" | "pessimistic";

/** A policy drawn at the start of an episode; the weights sum to one. */
export interface MixturePolicy {
  /** "custom" is for policies not made of the baseline and the optimistic policy, such as the solution of a linear program. */
  readonly kind: "optimistic" | "mixture" | "baseline" | "custom";
  readonly components: readonly { readonly weight: number; readonly policy: SwitchingPolicy }[];
}

/**
 * Returns the mixture if its weights are valid, and throws otherwise. Without this check, a weight of NaN would silently give all
 * of its probability to the last component, which is the bold one.
 */
export function checkMixture(mixture: MixturePolicy, { horizon }: Sizes): MixturePolicy {
  let sum = 0;
  for (const { weight, policy } of mixture.components) {
    if (!(weight >= 0 && weight <= 1) || !(policy.switchAt >= 0 && policy.switchAt <= horizon)) {
      throw new NumericError(`A policy would be played with probability ${weight} from step ${policy.switchAt} on.`);
    }
    sum += weight;
  }
  if (!(Math.abs(sum - 1) <= 1e-9)) throw new NumericError(`The probabilities of a mixture sum to ${sum}, not to 1.`);
  return mixture;
}

/** A mixture of one policy. */
export function pure(kind: MixturePolicy["kind"], policy: SwitchingPolicy): MixturePolicy {
  return { kind, components: [{ weight: 1, policy }] };
}

/** A stochastic policy, followed to the end. */
export function always(probabilities: Float64Array, { horizon, states }: Sizes): SwitchingPolicy {
  return { first: probabilities, switchAt: horizon, rest: new Int32Array(horizon * states) };
}

/** The probability of an action. */
export function probabilityOf(policy: SwitchingPolicy, sizes: Sizes, step: number, state: number, action: number) {
  const at = step * sizes.states + state;
  if (step >= policy.switchAt) return policy.rest[at] === action ? 1 : 0;
  return policy.first[at * sizes.actions + action]!;
}

/** How many steps at its start a policy follows the baseline. Policies hold the baseline's table itself, not a copy. */
export function baselineSteps({ first, switchAt }: SwitchingPolicy, { baseline }: { baseline: Float64Array }): number {
  return first === baseline ? switchAt : 0;
}

/** The action for a number drawn uniformly from [0,1). */
export function drawAction(policy: SwitchingPolicy, sizes: Sizes, step: number, state: number, uniform: number) {
  const at = step * sizes.states + state;
  if (step >= policy.switchAt) return policy.rest[at]!;
  return drawIndex(policy.first, at * sizes.actions, sizes.actions, uniform);
}

/**
 * Inverse distribution function of `weights[start .. start + length]`: an index counted from start, never one of weight
 * zero.
 */
export function drawIndex(weights: Float64Array, start: number, length: number, uniform: number): number {
  let rest = uniform;
  let last = 0;
  for (let i = 0; i < length; i++) {
    const weight = weights[start + i]!;
    if (weight <= 0) continue;
    last = i;
    rest -= weight;
    if (rest < 0) return i;
  }
  return last; // Rounding: the weights summed to slightly less than one.
}

/** Every action with the same probability. */
export function uniformPolicy({ horizon, states, actions }: Sizes): Float64Array {
  return new Float64Array(horizon * states * actions).fill(1 / actions);
}

/** pi_h(a|s) proportional to exp(temperature * values[h][s][a]). */
export function softmaxPolicy(values: Float64Array, temperature: number, sizes: Sizes): Float64Array {
  const policy = new Float64Array(values.length);
  const { actions } = sizes;
  for (let start = 0; start < values.length; start += actions) {
    const most = values.subarray(start, start + actions).reduce((a, b) => Math.max(a, b));
    let sum = 0;
    for (let a = start; a < start + actions; a++) sum += policy[a] = Math.exp(temperature * (values[a]! - most));
    for (let a = start; a < start + actions; a++) policy[a] = policy[a]! / sum;
  }
  return policy;
}

/**
 * Checks a policy's table, and returns it, or a copy if rows had to be rescaled. An error names the step and state whose
 * probabilities are wrong.
 */
export function checkPolicy(
  policy: Float64Array,
  { horizon, states, actions }: Sizes,
  name = "baseline",
): Float64Array {
  const length = horizon * states * actions;
  if (policy.length !== length) {
    throw new ArgumentError(
      `${name} has ${policy.length} probabilities, but needs ${length} (steps x states x actions).`,
    );
  }
  let checked = policy;
  for (let i = 0; i < horizon * states; i++) {
    const row = policy.subarray(i * actions, (i + 1) * actions);
    const rescaled = checkDistribution(row, actions, `${name}[${Math.floor(i / states)}][${i % states}]`);
    if (rescaled === row) continue;
    if (checked === policy) checked = policy.slice();
    checked.set(rescaled, i * actions);
  }
  return checked;
}
