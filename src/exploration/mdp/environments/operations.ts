/**
 * Two control problems with the parameters of DOPE's published experiments (Bura et al. 2022, arXiv 2112.00885), where one
 * quantity is maximised under a budget of another. Here one reward combines both: half of it for what is earned, half for what is
 * saved, each scaled to [0,1] as in the paper, so that a threshold on the return replaces the budget.
 */
import { buildMdp, type Mdp, type Successor, startIn } from "../mdp.ts";

/** P(demand = d) for d = 0, 1, ... */
const demand = [0.3, 0.2, 0.2, 0.2, 0.05, 0.05];

/**
 * Stock of up to five units, orders at the start of each day. An order of x > 0 units costs 4 + 2x, holding s + x units
 * costs s + x, a demand d that can be met earns 8d/100. Orders are limited to the room that is left.
 */
export function inventory({ horizon = 7 } = {}): Mdp {
  const capacity = demand.length - 1;
  const order = (s: number, a: number) => Math.min(a, capacity - s);
  const cost = (s: number, x: number) => (x > 0 ? 4 + 2 * x : 0) + s + x;
  const revenue = (stock: number) => demand.reduce((sum, p, d) => sum + (d <= stock ? (p * 8 * d) / 100 : 0), 0);
  const mostCost = cost(0, capacity);
  const mostRevenue = revenue(capacity);
  return buildMdp({
    states: capacity + 1,
    actions: capacity + 1,
    horizon,
    stationary: true,
    initial: startIn(0, capacity + 1),
    row: (_, s, a) => demand.map((p, d): Successor => [Math.max(0, s + order(s, a) - d), p]),
    reward(_, s, a) {
      const x = order(s, a);
      return (revenue(s + x) / mostRevenue + 1 - cost(s, x) / mostCost) / 2;
    },
  });
}

/**
 * A media buffer of ten levels. Action 0 fetches fast (a segment arrives with probability 0.9) and costs 1, action 1
 * fetches slowly (0.1) for nothing; a segment is played with probability 0.8; an empty buffer costs 1.
 */
export function streaming({ horizon = 10, levels = 10 } = {}): Mdp {
  const arrival = [0.9, 0.1];
  const play = 0.8;
  return buildMdp({
    states: levels,
    actions: 2,
    horizon,
    stationary: true,
    initial: startIn(0, levels),
    row(_, s, a): Successor[] {
      const mu = arrival[a]!;
      const [up, down] = [mu * (1 - play), (1 - mu) * play];
      return [[s, 1 - up - down], [Math.min(s + 1, levels - 1), up], [Math.max(s - 1, 0), down]]; // biome-ignore format: one row, one line
    },
    reward: (_, s, a) => ((s === 0 ? 0 : 1) + (a === 0 ? 0 : 1)) / 2,
  });
}
