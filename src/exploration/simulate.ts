/** Playing a learner in a known MDP. */
import type { Learner } from "./learners/learner.ts";
import { type Mdp, rowOf } from "./mdp/mdp.ts";
import { drawIndex } from "./mdp/policy.ts";
import type { Random } from "./mdp/random.ts";

/** Plays one episode: the learner acts and observes, the MDP draws. Returns the return. */
export function playEpisode(mdp: Mdp, learner: Learner, random: Random): number {
  const { horizon, states, actions, rewards, initial, rewardDraws, offsets, successors, probabilities } = mdp;
  let state = drawIndex(initial, 0, states, random.uniform());
  let total = 0;
  for (let h = 0; h < horizon; h++) {
    const action = learner.act(h, state);
    const mean = rewards[(h * states + state) * actions + action]!;
    const reward = rewardDraws === "mean" ? mean : random.uniform() < mean ? 1 : 0;
    const row = rowOf(mdp, h, state, action);
    const from = offsets[row]!;
    const next = successors[from + drawIndex(probabilities, from, offsets[row + 1]! - from, random.uniform())]!;
    learner.observe(h, state, action, reward, next);
    total += reward;
    state = next;
  }
  learner.endEpisode();
  return total;
}
