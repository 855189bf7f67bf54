/** The small MDPs of the exploration literature. */
import { ArgumentError } from "../../../errors.ts";
import { buildMdp, checkSizes, limits, type Mdp, type Successor, startIn } from "../mdp.ts";
import { Random } from "../random.ts";

/** Every row drawn from Dirichlet(1, ..., 1), every mean reward uniform in [0,1]; starts in state 0. */
export function randomMdp({ states = 5, actions = 5, horizon = 3, seed = 0 } = {}): Mdp {
  checkSizes({ horizon, states, actions });
  const entries = horizon * states * actions * states;
  if (entries > limits.successors) {
    throw new ArgumentError(
      `A random environment of horizon ${horizon}, states ${states} and actions ${actions} would have ${entries} successors; ` +
        `${limits.successors} are the limit.`,
    );
  }
  const random = Random.seeded(seed);
  return buildMdp({
    states,
    actions,
    horizon,
    initial: startIn(0, states),
    row() {
      // Exponential variables divided by their sum have the distribution Dirichlet(1, ..., 1).
      const weights = Array.from({ length: states }, () => -Math.log(1 - random.uniform()));
      const sum = weights.reduce((a, b) => a + b);
      return weights.map((weight, next): Successor => [next, weight / sum]);
    },
    reward: () => random.uniform(),
  });
}

/** A river to swim up (Strehl & Littman 2008): 0.005 for drifting at the mouth, 1 for holding at the source. */
export function riverSwim({ states = 6, horizon = 12 } = {}): Mdp {
  const [left, right] = [0, 1];
  return buildMdp({
    states,
    actions: 2,
    horizon,
    stationary: true,
    initial: startIn(0, states),
    row(_, s, a): Successor[] {
      const last = states - 1;
      if (a === left) return [[Math.max(0, s - 1), 1]];
      if (s === 0) return [[0, 0.4], [Math.min(1, last), 0.6]]; // biome-ignore format: one row, one line
      if (s === last) return [[s - 1, 0.4], [s, 0.6]]; // biome-ignore format: one row, one line
      return [[s - 1, 0.05], [s, 0.6], [s + 1, 0.35]]; // biome-ignore format: one row, one line
    },
    reward: (_, s, a) => (s === 0 && a === left ? 5 / 1000 : s === states - 1 && a === right ? 1 : 0),
  });
}

/**
 * The chain (Strens 2000): forward to a large prize at its end, or back to the start for a small one; with
 * probability `slip` the other action happens. Rewards are Strens' 10 and 2, divided by 10.
 */
export function chain({ states = 5, horizon = 10, slip = 0.2 } = {}): Mdp {
  const [forward, back] = [0, 1];
  const chances = (a: number): [number, number] => (a === forward ? [1 - slip, slip] : [slip, 1 - slip]);
  return buildMdp({
    states,
    actions: 2,
    horizon,
    stationary: true,
    initial: startIn(0, states),
    row: (_, s, a): Successor[] => [
      [Math.min(s + 1, states - 1), chances(a)[forward]!],
      [0, chances(a)[back]!],
    ],
    reward: (_, s, a) => chances(a)[forward]! * (s === states - 1 ? 1 : 0) + chances(a)[back]! * 0.2,
  });
}

/** S start, G goal, X trap, . floor, # wall. The short path leads between the traps, the long one around them. */
const gridMap = ["S.XG", "..X.", "...."];

/**
 * A grid with traps. Moves are up, right, down, left and slip to either side with probability slip / 2 each; entering
 * the goal pays 1, and the goal and the traps are absorbing. So only whether one arrives matters, not how fast.
 */
export function gridworld({ map = gridMap, horizon = 10, slip = 0.2 } = {}): Mdp {
  const width = map[0]!.length;
  const cells = map.join("");
  const moves = [[-1, 0], [0, 1], [1, 0], [0, -1]] as const; // biome-ignore format: one row, one line
  const move = (cell: number, direction: number): number => {
    const [down, right] = moves[(direction + 4) % 4]!;
    const [row, column] = [Math.floor(cell / width) + down, (cell % width) + right];
    if (row < 0 || row >= map.length || column < 0 || column >= width) return cell;
    return cells[row * width + column] === "#" ? cell : row * width + column;
  };
  const holds = (cell: number) => cells[cell] === "G" || cells[cell] === "X";
  const row = (s: number, a: number): Successor[] =>
    holds(s) ? [[s, 1]] : [[move(s, a), 1 - slip], [move(s, a - 1), slip / 2], [move(s, a + 1), slip / 2]]; // biome-ignore format: one row, one line
  return buildMdp({
    states: cells.length,
    actions: 4,
    horizon,
    stationary: true,
    initial: startIn(cells.indexOf("S"), cells.length),
    row: (_, s, a) => row(s, a),
    reward: (_, s, a) => (holds(s) ? 0 : row(s, a).reduce((sum, [next, p]) => sum + (cells[next] === "G" ? p : 0), 0)),
  });
}
