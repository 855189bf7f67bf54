/**
 * StepMix: npx tsx examples/step-mix.ts 3000
 * A shop orders stock each morning for a week. It has a baseline that works; StepMix looks for a better policy, and no week may be
 * expected to end below 95 % of what the baseline earns.
 */
import {
  always,
  inventory,
  optimalPlan,
  playEpisode,
  policyValue,
  Random,
  StepMix,
  softmaxPolicy,
} from "halfstep/exploration";

const weeks = Number(process.argv[2] ?? 3000);

const shop = inventory({ horizon: 7 });
const { horizon, states, actions, rewards, initial } = shop;
const { value: best, actionValues } = optimalPlan(shop);
// In real life: what the shop does today, as probabilities [day][stock][order].
const baseline = softmaxPolicy(actionValues, 5, shop);
const usual = policyValue(shop, always(baseline, shop));
const threshold = 0.95 * usual;

const learner = new StepMix(
  { horizon, states, actions, rewards, initial, baseline, threshold, delta: 0.05, bonusScale: 1, bounds: "tight" },
  { seed: 1 },
);
const random = Random.seeded(2);
let lowest = Number.POSITIVE_INFINITY;
for (let week = 0; week < weeks; week++) {
  // What the policy is truly worth, which the learner does not know: only the shop's simulation can say it.
  lowest = Math.min(lowest, policyValue(shop, learner.policy()));
  playEpisode(shop, learner, random);
}
const now = policyValue(shop, learner.policy());
console.log(`baseline ${usual.toFixed(3)}, best ${best.toFixed(3)}, threshold ${threshold.toFixed(3)}`);
console.log(`after ${weeks} weeks ${now.toFixed(3)}; the lowest of all weeks ${lowest.toFixed(3)}`);
