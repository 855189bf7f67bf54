import { type Mdp, rowOf } from "../../src/exploration/mdp/mdp.ts";
import { drawIndex } from "../../src/exploration/mdp/policy.ts";
import { Random } from "../../src/exploration/mdp/random.ts";

/** Episodes in which every action was drawn uniformly, as the lines of a data set for `--offline`. */
export function uniformEpisodes(mdp: Mdp, count: number): string[] {
  const { horizon, states, actions, rewards: means, initial, rewardDraws, offsets, successors, probabilities } = mdp;
  const [random, uniform] = [Random.seeded(5), Random.seeded(6)];
  return Array.from({ length: count }, () => {
    const visited = [drawIndex(initial, 0, states, random.uniform())];
    const taken: number[] = [];
    const rewards: number[] = [];
    for (let h = 0; h < horizon; h++) {
      const [state, action] = [visited[h]!, Math.floor(uniform.uniform() * actions)];
      const mean = means[(h * states + state) * actions + action]!;
      rewards.push(rewardDraws === "mean" ? mean : random.uniform() < mean ? 1 : 0);
      const row = rowOf(mdp, h, state, action);
      const from = offsets[row]!;
      visited.push(successors[from + drawIndex(probabilities, from, offsets[row + 1]! - from, random.uniform())]!);
      taken.push(action);
    }
    return JSON.stringify({ states: visited, actions: taken, rewards });
  });
}
