import { describe, expect, it } from "vitest";
import { Counts } from "../../src/exploration/bounds/counts.ts";
import { PaperBounds } from "../../src/exploration/bounds/paper-bounds.ts";
import { createKernel } from "../../src/exploration/bounds/paper-kernel.ts";
import { StepMix } from "../../src/exploration/learners/stepmix.ts";
import { randomMdp, riverSwim } from "../../src/exploration/mdp/environments/synthetic.ts";
import type { Mdp } from "../../src/exploration/mdp/mdp.ts";
import { optimalPlan, policyValue } from "../../src/exploration/mdp/planning.ts";
import { softmaxPolicy } from "../../src/exploration/mdp/policy.ts";
import type { Problem } from "../../src/exploration/mdp/problem.ts";
import { Random } from "../../src/exploration/mdp/random.ts";
import { playEpisode } from "../../src/exploration/simulate.ts";

function problemOf(mdp: Mdp, { bonusScale = 1, share = 0.95, delta = 0.05 } = {}): Problem {
  const { horizon, states, actions, rewards, initial } = mdp;
  const baseline = softmaxPolicy(optimalPlan(mdp).actionValues, 5, mdp);
  const value = policyValue(mdp, { first: baseline, switchAt: horizon, rest: new Int32Array(horizon * states) });
  return { horizon, states, actions, rewards, initial, baseline, threshold: share * value, delta, bonusScale };
}

function explored(mdp: Mdp, problem: Problem, episodes: number): StepMix {
  const learner = new StepMix(problem, { seed: 1 });
  const random = Random.seeded(2);
  for (let k = 0; k < episodes; k++) playEpisode(mdp, learner, random);
  return learner;
}

/** design.md's formulas written out for a dense table and one policy at a time; shares no code with PaperBounds. */
function byTheBook(problem: Problem, counts: Counts, h0: number | "optimistic", optimistic: number[][]) {
  const { horizon: H, states: S, actions: A, delta, bonusScale, rewards, baseline, initial } = problem;
  const n = (h: number, s: number, a: number, next: number) =>
    counts.toJSON().find(([i, j, k, l]) => i === h && j === s && k === a && l === next)?.[4] ?? 0;
  let U = new Array<number>(S).fill(0);
  let L = new Array<number>(S).fill(0);
  for (let h = H - 1; h >= 0; h--) {
    const rows = Array.from({ length: S }, (_, s) =>
      Array.from({ length: A }, (_, a) => {
        const times = U.map((_, next) => n(h, s, a, next));
        const total = times.reduce((x, y) => x + y);
        if (total === 0) return [H - h, 0] as const;
        const p = times.map((t) => t / total);
        const mean = (v: number[]) => p.reduce((sum, q, i) => sum + q * v[i]!, 0);
        const variance = mean(U.map((u) => (u - mean(U)) ** 2));
        const logs = [Math.log((3 * S * A * H) / delta), Math.log(8 * Math.E * (total + 1))] as const;
        const bonus =
          bonusScale *
            (3 * Math.sqrt((variance * (logs[0] + logs[1])) / total) + (14 * H * H * (logs[0] + S * logs[1])) / total) +
          (mean(U) - mean(L)) / H;
        const r = rewards![(h * S + s) * A + a]!;
        const clip = (x: number) => Math.min(H - h, Math.max(0, x));
        return [clip(r + bonus + mean(U)), clip(r - bonus + mean(L))] as const;
      }),
    );
    const choice = rows.map((row, s) => {
      if (h0 !== "optimistic") return optimistic[h]![s]!;
      const best = row.reduce((b, [u], a) => (u > row[b]![0] ? a : b), 0);
      optimistic[h]![s] = best;
      return best;
    });
    const weight = (s: number, a: number) =>
      h0 !== "optimistic" && h < h0 ? baseline[(h * S + s) * A + a]! : a === choice[s] ? 1 : 0;
    U = rows.map((row, s) => row.reduce((sum, [u], a) => sum + weight(s, a) * u, 0));
    L = rows.map((row, s) => row.reduce((sum, [, l], a) => sum + weight(s, a) * l, 0));
  }
  const start = (v: number[]) => v.reduce((sum, x, s) => sum + initial[s]! * x, 0);
  return [start(U), start(L)] as const;
}

describe("PaperBounds", () => {
  it.each([1, 0.01])("is the dense formula, policy by policy (bonus scale %d)", (bonusScale) => {
    const mdp = randomMdp({ states: 3, actions: 3, horizon: 4, seed: 1 });
    const problem = problemOf(mdp, { bonusScale });
    const { counts, bounds } = explored(mdp, problem, 300);
    const optimistic = Array.from({ length: 4 }, () => [0, 0, 0]);
    const [upper] = byTheBook(problem, counts, "optimistic", optimistic);
    bounds.plan();
    expect(bounds.upper).toBeCloseTo(upper, 10);
    expect([...bounds.optimistic]).toEqual(optimistic.flat());
    for (let h0 = 0; h0 <= 4; h0++) {
      const [above, below] = byTheBook(problem, counts, h0, optimistic);
      expect(bounds.upperOf(h0)).toBeCloseTo(above, 10);
      expect(bounds.lower(h0)).toBeCloseTo(below, 10);
    }
  });

  it("is the same to the last bit whether counts came one by one or all at once", () => {
    const mdp = randomMdp({ seed: 2 });
    const problem = problemOf(mdp, { bonusScale: 0.01 });
    const { counts, bounds } = explored(mdp, problem, 500);
    const again = new PaperBounds(problem, Counts.fromJSON(JSON.parse(JSON.stringify(counts)), problem));
    bounds.plan();
    again.plan();
    for (let h0 = 0; h0 <= problem.horizon; h0++) expect(again.lower(h0)).toBe(bounds.lower(h0));
    expect(again.upper).toBe(bounds.upper);
  });

  it.each([
    ["random", randomMdp({ states: 6, actions: 3, horizon: 7, seed: 3 }), 40],
    ["random, well explored", randomMdp({ states: 6, actions: 3, horizon: 8, seed: 4 }), 4000],
    ["river", riverSwim({ states: 5, horizon: 9 }), 500],
    ["starts anywhere", { ...randomMdp({ states: 4, actions: 2, horizon: 6, seed: 5 }), initial: Float64Array.of(0.5, 0, 0.25, 0.25) }, 60], // biome-ignore format: one row
  ])("is the same to the last bit with the kernel and without: %s", (_, mdp, episodes) => {
    const known = problemOf(mdp, { bonusScale: 0.001 });
    // The baseline never plays action 1 at step 1, and its rows there are never seen by it.
    known.baseline.forEach((p, i) => {
      const { states, actions } = known;
      if (Math.floor(i / actions / states) !== 1 || i % actions !== 1) return;
      known.baseline[i] = 0;
      known.baseline[i - 1]! += p;
    });
    const { rewards: __, ...unknown } = known;
    for (const problem of [known, unknown]) {
      const learner = new StepMix(problem, { seed: 1 });
      const plain = new PaperBounds(problem, learner.counts, { kernel: false });
      const random = Random.seeded(2);
      for (let k = 0; k < episodes; k++) playEpisode(mdp, learner, random);
      for (let row = 0; row < learner.counts.visits.length; row++) plain.refresh(row);
      const { bounds } = learner;
      bounds.plan();
      plain.plan();
      expect(bounds.upper).toBe(plain.upper);
      expect([...bounds.optimistic]).toEqual([...plain.optimistic]);
      for (let h0 = 0; h0 <= problem.horizon; h0++) {
        expect(bounds.lower(h0)).toBe(plain.lower(h0));
        expect(bounds.upperOf(h0)).toBe(plain.upperOf(h0));
      }
      expect(bounds.backups).toBeGreaterThan(0);
    }
    expect(createKernel(known, new Counts(known))).toBeDefined();
  });

  it("backs every observed row up once for a plan, and the baseline's steps before h0 for candidate h0", () => {
    const mdp = riverSwim({ states: 4, horizon: 8 });
    const problem = problemOf(mdp);
    const { counts, bounds } = explored(mdp, problem, 400);
    const visited = Array.from(
      { length: 8 },
      (_, h) => counts.stateVisits.subarray(h * 4, (h + 1) * 4).filter((n) => n > 0).length,
    );
    const rows = (steps: number) => visited.slice(0, steps).reduce((sum, states) => sum + 2 * states, 0);
    const cost = (run: () => unknown) => {
      const before = bounds.backups;
      run();
      return bounds.backups - before;
    };
    expect(cost(() => bounds.plan())).toBe(rows(8));
    for (let h0 = 0; h0 <= 8; h0++) expect(cost(() => bounds.upperOf(h0))).toBe(rows(h0));
    // Lower bounds come four at a time, all with the most conservative one's steps: a horizon of 8 has two such blocks.
    bounds.plan();
    expect([0, 1, 2, 3, 4].map((h0) => cost(() => bounds.lower(h0)))).toEqual([0, 4 * rows(4), 0, 0, 0]);
    expect([5, 6, 7, 8].map((h0) => cost(() => bounds.lower(h0)))).toEqual([4 * rows(8), 0, 0, 0]);
  });

  it("brackets the true values at the scale of the theorem", () => {
    for (const seed of [1, 2, 3]) {
      const mdp = randomMdp({ states: 3, actions: 2, horizon: 2, seed });
      const problem = problemOf(mdp);
      const { bounds } = explored(mdp, problem, 20000);
      bounds.plan();
      expect(bounds.upper).toBeGreaterThanOrEqual(optimalPlan(mdp).value);
      for (let h0 = 0; h0 <= 2; h0++) {
        const value = policyValue(mdp, { first: problem.baseline, switchAt: h0, rest: bounds.optimistic });
        expect(bounds.lower(h0)).toBeLessThanOrEqual(value);
        expect(bounds.upperOf(h0)).toBeGreaterThanOrEqual(value);
      }
    }
  });

  it("estimates rewards that are not known, with less certainty", () => {
    const mdp: Mdp = { ...randomMdp({ states: 2, actions: 2, horizon: 2, seed: 3 }), rewardDraws: "bernoulli" };
    const known = problemOf(mdp, { bonusScale: 0.01 });
    const { rewards: _, ...unknown } = known;
    const learner = explored(mdp, unknown, 5000);
    const informed = new PaperBounds(known, learner.counts);
    learner.bounds.plan();
    informed.plan();
    expect(learner.bounds.lower(2)).toBeLessThan(informed.lower(2));
    expect(learner.bounds.lower(2)).toBeGreaterThan(0.5 * informed.lower(2));
  });
});

describe("Counts", () => {
  const sizes = { horizon: 2, states: 3, actions: 2 };
  it.each([
    ["a negative count", [[0, 0, 0, 0, -1]], "counts[0] says -1 times"],
    ["a part of a visit", [[0, 0, 0, 0, 0.5]], "counts[0] says 0.5 times"],
    ["NaN", [[0, 0, 0, 0, Number.NaN]], "counts[0] says NaN times"],
    ["a state that is not there", [[0, 0, 0, 0, 1], [0, 3, 0, 0, 1]], "counts[1] has state 3"], // biome-ignore format: one row
    ["the same transition twice", [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1]], "counts[1] counts (0,0,0,0) a second time"], // biome-ignore format: one row
    ["something else", [[0, 0]], "counts[0] is not"],
  ])("refuse %s", (_, entries, message) => {
    expect(() => Counts.fromJSON(entries as never, sizes)).toThrow(message);
  });

  it("keep successors sorted while rows grow", () => {
    const counts = new Counts({ horizon: 1, states: 50, actions: 2 });
    const order = Array.from({ length: 200 }, (_, i) => (i * 37) % 50);
    for (const next of order) {
      counts.add(0, 3, 1, next);
      counts.add(0, 4, 0, 49 - next);
    }
    expect(counts.toJSON()).toEqual([
      ...Array.from({ length: 50 }, (_, next) => [0, 3, 1, next, 4]),
      ...Array.from({ length: 50 }, (_, next) => [0, 4, 0, next, 4]),
    ]);
    expect(counts.visits[counts.row(0, 3, 1)]).toBe(200);
  });
});
