import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  bernstein,
  betRadius,
  dirichletRadius,
  lowestMean,
  MeanBound,
} from "../../src/exploration/bounds/concentration.ts";
import { Counts } from "../../src/exploration/bounds/counts.ts";
import { PaperBounds } from "../../src/exploration/bounds/paper-bounds.ts";
import { TightBounds } from "../../src/exploration/bounds/tight-bounds.ts";
import { StepMix } from "../../src/exploration/learners/stepmix.ts";
import { gridworld, randomMdp, riverSwim } from "../../src/exploration/mdp/environments/synthetic.ts";
import { optimalPlan, policyValue } from "../../src/exploration/mdp/planning.ts";
import { always, softmaxPolicy } from "../../src/exploration/mdp/policy.ts";
import type { Problem } from "../../src/exploration/mdp/problem.ts";
import { Random } from "../../src/exploration/mdp/random.ts";
import { playEpisode } from "../../src/exploration/simulate.ts";

describe("lowestMean", () => {
  /** Least mean of values 0, a, b over the simplex by search, where the first has weight w0 (0: it was never seen). */
  function bySearch(weights: number[], values: number[], radius: number): number {
    let best = Infinity;
    const steps = 400;
    const kl = (q: number[]) => weights.reduce((sum, w, i) => sum + (w > 0 ? w * Math.log(w / q[i]!) : 0), 0);
    for (let i = 0; i <= steps; i++) {
      for (let j = 0; i + j <= steps; j++) {
        const q = [i / steps, j / steps, (steps - i - j) / steps];
        if (kl(q) <= radius)
          best = Math.min(
            best,
            q.reduce((sum, p, k) => sum + p * values[k]!, 0),
          );
      }
    }
    return best;
  }

  it.each([
    [[0.2, 0.5, 0.3], [0, 1, 2], 0.05],
    [[0.2, 0.5, 0.3], [0, 1, 2], 0.5],
    [[0, 0.4, 0.6], [0, 1, 3], 0.1],
    [[0, 0.4, 0.6], [0, 2, 2.1], 0.001],
    [[0, 0, 1], [0, 1, 2], 0.2],
  ])("is the minimum over the ball: weights %j, values %j, radius %d", (weights, values, radius) => {
    const seen = weights.flatMap((w, i) => (w > 0 ? [i] : []));
    const found = lowestMean(
      Float64Array.from(seen, (i) => weights[i]!),
      Float64Array.from(seen, (i) => values[i]!),
      seen.length,
      radius,
    );
    const searched = bySearch(weights, values, radius);
    expect(found).toBeLessThanOrEqual(searched + 1e-9);
    expect(found).toBeGreaterThan(searched - 0.02);
  });

  it("is never above the mean of a distribution in the ball", () => {
    const positive = fc.double({ min: 0.01, max: 1, noNaN: true });
    const triple = fc.tuple(positive, positive, positive);
    fc.assert(
      fc.property(triple, triple, fc.tuple(fc.constant(0), positive, positive), (a, b, values) => {
        const normalise = (list: number[]) => list.map((x) => x / list.reduce((y, z) => y + z));
        const [p, q] = [normalise(a), normalise(b)] as [number[], number[]];
        const radius = p.reduce((sum, x, i) => sum + x * Math.log(x / q[i]!), 0);
        const mean = q.reduce((sum, x, i) => sum + x * values[i]!, 0);
        expect(lowestMean(Float64Array.from(p), Float64Array.from(values), 3, radius)).toBeLessThanOrEqual(mean + 1e-9);
      }),
    );
  });
});

describe("inequalities that hold at all sample sizes", () => {
  it("fail in at most delta of 2,000 runs, of which each is looked at 150 times", () => {
    const random = Random.seeded(1);
    const delta = 0.2;
    const p = [0.7, 0.2, 0.1];
    const expectation = 0.405; // of x below: 0.9^2 / 2
    const failed = { ball: 0, bet: 0, mean: 0, bernstein: 0 };
    const runs = 2000;
    for (let run = 0; run < runs; run++) {
      const seen = new Float64Array(3);
      const values: number[] = [];
      const bound = new MeanBound(delta, 1);
      let [sum, squares] = [0, 0];
      const now = { ball: false, bet: false, mean: false, bernstein: false };
      for (let n = 1; n <= 150; n++) {
        const u = random.uniform();
        seen[u < 0.7 ? 0 : u < 0.9 ? 1 : 2]!++;
        const kl = seen.reduce((total, k, i) => total + (k > 0 ? (k / n) * Math.log(k / n / p[i]!) : 0), 0);
        now.ball ||= kl > dirichletRadius(seen.filter((k) => k > 0), n, 3, delta); // biome-ignore format: one line
        const x = u < 0.9 ? u : 0;
        values.push(x);
        bound.add(x);
        sum += x;
        squares += x * x;
        now.mean ||= bound.lower > expectation;
        now.bernstein ||= sum / n - bernstein(n, sum, squares, 1, delta) > expectation;
        if (n % 10 !== 0) continue;
        const gain = (l: number) => values.reduce((total, v) => total + Math.log(1 + l * (v - expectation)), 0) / n;
        now.bet ||= Array.from({ length: 12 }, (_, i) => (i + 0.5) / 12 / expectation).some(
          (l) => gain(l) > betRadius(n, delta),
        );
      }
      for (const key of Object.keys(now) as (keyof typeof now)[]) failed[key] += Number(now[key]);
    }
    for (const [name, times] of Object.entries(failed)) expect(times / runs, name).toBeLessThanOrEqual(delta);
    // And they are not empty: a betting bound that is looked at without end fails nearly as often as it may.
    expect(failed.mean / runs).toBeGreaterThan(0.02);
  });

  it("dirichletRadius is the likelihood ratio of the mixture, by its product of predictions", () => {
    const draws = [0, 2, 2, 1, 2, 0, 2, 2, 2, 1, 2, 2];
    const seen = [0, 0, 0, 0];
    let mixture = 0;
    draws.forEach((i, n) => {
      mixture += Math.log((seen[i]! + 0.5) / (n + 2));
      seen[i]!++;
    });
    const n = draws.length;
    const likelihood = seen.reduce((sum, k) => sum + (k > 0 ? k * Math.log(k / n) : 0), 0);
    const radius = dirichletRadius(Float64Array.from(seen.filter((k) => k > 0)), n, 4, 0.1);
    expect(radius).toBeCloseTo((Math.log(10) + likelihood - mixture) / n, 10);
  });

  it("MeanBound comes close to the expectation, and does not depend on when it is asked", () => {
    const bound = new MeanBound(0.05, 1);
    const resumed = new MeanBound(0.05, 1);
    const random = Random.seeded(2);
    for (let n = 0; n < 5000; n++) {
      const x = 0.4 + 0.2 * random.uniform();
      bound.add(x);
      resumed.add(x);
      if (n % 7 === 0) resumed.restore(JSON.parse(JSON.stringify(resumed)));
    }
    expect(bound.lower).toBeGreaterThan(0.49);
    expect(bound.lower).toBeLessThan(0.5);
    expect(resumed.lower).toBe(bound.lower);
  });
});

function problemOf(seed: number, delta = 0.05): { mdp: ReturnType<typeof randomMdp>; problem: Problem } {
  const mdp = randomMdp({ states: 2, actions: 2, horizon: 3, seed });
  const { horizon, states, actions, rewards, initial } = mdp;
  const baseline = softmaxPolicy(optimalPlan(mdp).actionValues, 5, mdp);
  const threshold = 0.95 * policyValue(mdp, always(baseline, mdp));
  return {
    mdp,
    problem: { horizon, states, actions, rewards, initial, baseline, threshold, delta, bonusScale: 1, bounds: "tight" },
  };
}

describe("TightBounds", () => {
  it.each(["known", "estimated"])(
    "hold in all but delta of 2,000 independent runs (rewards %s)",
    { timeout: 300_000 },
    (rewards) => {
      const delta = 0.2;
      let [runs, broken] = [0, 0];
      for (let seed = 0; seed < 2000; seed++) {
        const { mdp, problem } = problemOf(seed, delta);
        const { rewards: _, ...unknown } = problem;
        const learner = new StepMix(rewards === "known" ? problem : unknown, { seed });
        const random = Random.seeded(-seed);
        const { value } = optimalPlan(mdp);
        let violated = false;
        for (let k = 0; k < 40; k++) {
          playEpisode(rewards === "known" ? mdp : { ...mdp, rewardDraws: "bernoulli" }, learner, random);
          if (k % 8 !== 7) continue;
          const bounds = learner.bounds as TightBounds;
          bounds.plan();
          bounds.planPessimistic();
          violated ||= bounds.upper < value;
          for (const rest of ["optimistic", "pessimistic"] as const) {
            for (let h0 = 0; h0 <= problem.horizon; h0++) {
              const policy = { first: problem.baseline, switchAt: h0, rest: bounds.actionsOf(rest) };
              const truth = policyValue(mdp, policy);
              violated ||= bounds.lower(h0, rest) > truth + 1e-12;
              if (rest === "optimistic") violated ||= bounds.upperOf(h0) < truth - 1e-12;
            }
          }
        }
        runs++;
        broken += Number(violated);
      }
      expect(broken / runs).toBeLessThanOrEqual(delta);
    },
  );

  it.each([
    ["known", 1],
    ["estimated", 3000],
  ])(
    "leave the baseline at least ten times earlier than the paper's at scale 1, and stay safe (%s)",
    (rewards, most) => {
      const { mdp, problem } = problemOf(3);
      const { rewards: _, ...unknown } = problem;
      const told = rewards === "known" ? problem : unknown;
      const played = rewards === "known" ? mdp : { ...mdp, rewardDraws: "bernoulli" as const };
      const learner = new StepMix(told, { seed: 1 });
      const random = Random.seeded(2);
      let first = 0;
      for (let k = 1; first === 0 && k <= most; k++) {
        playEpisode(played, learner, random);
        if (policyValue(mdp, learner.policy()) > policyValue(mdp, always(problem.baseline, mdp)) + 1e-9) first = k;
      }
      expect(first).toBeGreaterThan(0);
      for (let k = 0; k < 3000; k++) {
        expect(policyValue(mdp, learner.policy())).toBeGreaterThanOrEqual(problem.threshold - 1e-9);
        playEpisode(played, learner, random);
      }
      // With ten times as many episodes of the baseline, the paper's bound does not vouch for it yet.
      const counts = new Counts(problem);
      for (const [h, s, a, next, times] of learner.counts.toJSON()) counts.add(h, s, a, next, 10 * times);
      const paper = new PaperBounds(problem, counts);
      paper.plan();
      expect(paper.lower(problem.horizon)).toBeLessThan(problem.threshold);
    },
  );

  it("are the same to the last bit whether backups were kept from plan to plan or all are made anew", () => {
    for (const mdp of [randomMdp({ seed: 2 }), gridworld({ horizon: 8 }), riverSwim({ states: 4, horizon: 6 })]) {
      const { horizon, states, actions, rewards, initial } = mdp;
      const baseline = softmaxPolicy(optimalPlan(mdp).actionValues, 5, mdp);
      const threshold = 0.9 * policyValue(mdp, always(baseline, mdp));
      const sizes = { horizon, states, actions, rewards, initial, baseline };
      const problem: Problem = { ...sizes, threshold, delta: 0.05, bonusScale: 1, bounds: "tight" };
      const learner = new StepMix(problem, { seed: 1 });
      const random = Random.seeded(2);
      for (let k = 0; k < 300; k++) playEpisode(mdp, learner, random);
      const again = new TightBounds(problem, Counts.fromJSON(learner.counts.toJSON(), problem));
      again.restore(JSON.parse(JSON.stringify(learner.bounds)));
      const bounds = learner.bounds as TightBounds;
      for (const each of [bounds, again]) {
        each.plan();
        each.planPessimistic();
      }
      expect(again.backups).toBeGreaterThan(0);
      for (const rest of ["optimistic", "pessimistic"] as const) {
        for (let h0 = 0; h0 <= horizon; h0++) {
          expect(again.lower(h0, rest)).toBe(bounds.lower(h0, rest));
          expect(again.promise(h0, rest)).toBe(bounds.promise(h0, rest));
          expect(again.upperOf(h0)).toBe(bounds.upperOf(h0));
        }
        expect([...again.actionsOf(rest)]).toEqual([...bounds.actionsOf(rest)]);
      }
      expect(again.upper).toBe(bounds.upper);
    }
  });

  it("go on from JSON to the last bit", () => {
    const { mdp, problem } = problemOf(4);
    const whole = new StepMix(problem, { seed: 1 });
    const random = Random.seeded(2);
    for (let k = 0; k < 700; k++) playEpisode(mdp, whole, random);
    const resumed = StepMix.fromJSON(JSON.parse(JSON.stringify(whole)));
    expect(resumed.bounds).toBeInstanceOf(TightBounds);
    for (const learner of [whole, resumed]) {
      const rest = Random.seeded(3);
      for (let k = 0; k < 300; k++) playEpisode(mdp, learner, rest);
    }
    expect(JSON.stringify(resumed)).toBe(JSON.stringify(whole));
  });
});
