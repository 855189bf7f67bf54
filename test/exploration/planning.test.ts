import { describe, expect, it } from "vitest";
import { mdpFromJson } from "../../src/exploration/mdp/environments/file.ts";
import { cliffWalking, frozenLake } from "../../src/exploration/mdp/environments/gymnasium.ts";
import { inventory, streaming } from "../../src/exploration/mdp/environments/operations.ts";
import { chain, gridworld, randomMdp, riverSwim } from "../../src/exploration/mdp/environments/synthetic.ts";
import { buildMdp, type Mdp, type Successor } from "../../src/exploration/mdp/mdp.ts";
import { occupancy, optimalPlan, policyValue } from "../../src/exploration/mdp/planning.ts";
import { always, softmaxPolicy, uniformPolicy } from "../../src/exploration/mdp/policy.ts";

/** Return of a deterministic policy by walking every trajectory: shares nothing with dynamic programming. */
function byTrajectories(mdp: Mdp, actions: ArrayLike<number>): number {
  const walk = (h: number, s: number): number => {
    if (h === mdp.horizon) return 0;
    const a = actions[h * mdp.states + s]!;
    let total = mdp.rewards[(h * mdp.states + s) * mdp.actions + a]!;
    const row = ((h % mdp.periods) * mdp.states + s) * mdp.actions + a;
    for (let i = mdp.offsets[row]!; i < mdp.offsets[row + 1]!; i++) {
      total += mdp.probabilities[i]! * walk(h + 1, mdp.successors[i]!);
    }
    return total;
  };
  return mdp.initial.reduce((sum, p, s) => sum + (p > 0 ? p * walk(0, s) : 0), 0);
}

describe("planning", () => {
  it.each([1, 2, 3])("finds the best of all deterministic policies (seed %i)", (seed) => {
    const mdp = randomMdp({ states: 2, actions: 3, horizon: 3, seed });
    const decisions = mdp.horizon * mdp.states;
    let best = 0;
    for (let code = 0; code < mdp.actions ** decisions; code++) {
      const actions = Array.from({ length: decisions }, (_, i) => Math.floor(code / mdp.actions ** i) % mdp.actions);
      best = Math.max(best, byTrajectories(mdp, actions));
    }
    const plan = optimalPlan(mdp);
    expect(plan.value).toBeCloseTo(best, 12);
    expect(byTrajectories(mdp, plan.policy)).toBeCloseTo(best, 12);
  });

  it("gives a policy's value as rewards weighted by occupancy", () => {
    const mdp = randomMdp({ seed: 4 });
    const policy = always(softmaxPolicy(optimalPlan(mdp).actionValues, 2, mdp), mdp);
    const visits = occupancy(mdp, policy);
    const dot = visits.reduce((sum, visit, i) => sum + visit * mdp.rewards[i]!, 0);
    expect(policyValue(mdp, policy)).toBeCloseTo(dot, 12);
    for (let h = 0; h < mdp.horizon; h++) {
      const mass = visits.subarray(h * 25, (h + 1) * 25).reduce((a, b) => a + b);
      expect(mass).toBeCloseTo(1, 12);
    }
  });

  it("weighs a mixture's components", () => {
    const mdp = randomMdp({ seed: 5 });
    const { policy: rest, value } = optimalPlan(mdp);
    const first = uniformPolicy(mdp);
    const components = [
      { weight: 0.3, policy: { first, switchAt: 0, rest } },
      { weight: 0.7, policy: { first, switchAt: 3, rest } },
    ];
    const uniform = policyValue(mdp, always(first, mdp));
    expect(policyValue(mdp, { kind: "mixture", components })).toBeCloseTo(0.3 * value + 0.7 * uniform, 12);
  });
});

describe("environments", () => {
  it("RiverSwim: drifting at the mouth earns 0.005 a step", () => {
    const mdp = riverSwim();
    const left = { first: uniformPolicy(mdp), switchAt: 0, rest: new Int32Array(mdp.horizon * mdp.states) };
    expect(policyValue(mdp, left)).toBeCloseTo(0.005 * mdp.horizon, 12);
  });

  it("chain: without slipping the prize comes at step 5 and every step after", () => {
    expect(optimalPlan(chain({ slip: 0, horizon: 10 })).value).toBeCloseTo(10 - 4, 12);
  });

  it("gridworld: without slipping the goal is reached for certain, and a trap holds", () => {
    const mdp = gridworld({ slip: 0 });
    expect(optimalPlan(mdp).value).toBe(1);
    const intoTrap = { first: uniformPolicy(mdp), switchAt: 0, rest: new Int32Array(mdp.horizon * mdp.states).fill(1) };
    expect(policyValue(mdp, intoTrap)).toBe(0);
    expect(optimalPlan(gridworld({ map: ["SG"], slip: 0, horizon: 1 })).value).toBe(1);
  });

  it("FrozenLake: the goal is reached with probability 14/17 in the long run", () => {
    expect(optimalPlan(frozenLake({ horizon: 3000 })).value).toBeCloseTo(14 / 17, 6);
  });

  it("CliffWalking: the shortest safe way takes 13 steps", () => {
    const mdp = cliffWalking();
    expect(optimalPlan(mdp).value * 100 - mdp.horizon * 100).toBeCloseTo(-13, 9);
  });

  it("streaming: an empty buffer that is never refilled fast stays as good as slow fetching makes it", () => {
    // One step: half for not fetching fast, nothing for the empty buffer.
    expect(optimalPlan(streaming({ horizon: 1 })).value).toBe(0.5);
  });

  it("inventory: one step from an empty stock, by hand", () => {
    // Ordering nothing: no revenue, no cost: 0.5. Ordering everything: all revenue, all cost: 0.5. Ordering 3, say:
    const revenue = (0.2 * 1 + 0.2 * 2 + 0.2 * 3) / (0.2 * 1 + 0.2 * 2 + 0.2 * 3 + 0.05 * 4 + 0.05 * 5);
    const mdp = inventory({ horizon: 1 });
    expect(mdp.rewards[0]).toBe(0.5);
    expect(mdp.rewards[5]).toBe(0.5);
    expect(mdp.rewards[3]).toBeCloseTo((revenue + 1 - 13 / 19) / 2, 12);
  });
});

describe("reading an MDP", () => {
  const parts = {
    horizon: 2,
    states: 2,
    actions: 2,
    initial: [1, 0],
    row: (): Successor[] => [[0, 0.5], [1, 0.5]], // biome-ignore format: one row, one line
    reward: () => 0.5,
  };

  it("takes dense, sparse and stationary tables alike", () => {
    const row = [0.25, 0.75];
    const common = { horizon: 2, states: 2, actions: 1, initial: [1, 0], rewards: [[0.5], [1]] };
    const dense = mdpFromJson({
      ...common,
      transitions: [
        [[row], [row]],
        [[row], [row]],
      ],
    });
    const list = [0, 1].flatMap((s) => row.map((p, next) => [s, 0, next, p]));
    const sparse = mdpFromJson({ ...common, stationary: true, transitions: list });
    expect(optimalPlan(dense).value).toBe(0.5 + 0.25 * 0.5 + 0.75);
    expect(optimalPlan(sparse).value).toBe(optimalPlan(dense).value);
  });

  it.each([
    [
      "rows that do not sum to one",
      { row: (h: number): Successor[] => [[0, h === 1 ? 0.9 : 1]] },
      "step 1, state 0, action 0 sum to 0.9",
    ],
    ["negative probabilities", { row: (): Successor[] => [[0, -1], [1, 2]] }, "no probability"], // biome-ignore format: one row
    ["states that are not there", { row: (): Successor[] => [[7, 1]] }, "state 7"],
    ["rewards outside [0,1]", { reward: (h: number, s: number) => h + s }, "rewards[1][1][0] is 2"],
    ["NaN", { reward: () => Number.NaN }, "rewards[0][0][0] is NaN"],
    ["a wrong start", { initial: [0.5, 0.4] }, "initial sums to 0.9"],
    ["no steps", { horizon: 0 }, "horizon must be a whole number from 1 to 1000000, not 0"],
  ])("refuses %s", (_, wrong, message) => {
    expect(() => buildMdp({ ...parts, ...wrong })).toThrow(message);
  });
});
