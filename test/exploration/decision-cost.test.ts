import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { Counts } from "../../src/exploration/bounds/counts.ts";
import { PaperBounds } from "../../src/exploration/bounds/paper-bounds.ts";
import { setUp } from "../../src/exploration/experiment.ts";
import { StepMix } from "../../src/exploration/learners/stepmix.ts";
import { checkStepMix, mostBackups } from "../../src/exploration/mdp/decision-cost.ts";
import type { Problem } from "../../src/exploration/mdp/problem.ts";
import { Random } from "../../src/exploration/mdp/random.ts";
import { playEpisode } from "../../src/exploration/simulate.ts";
import { explore } from "../support/explore.ts";
import { temporaryFolder } from "../support/models.ts";

const experiment = setUp({
  env: "riverswim:states=4,horizon=12",
  ...{ threshold: "0.95xBASELINE", baseline: "softmax:5", delta: 0.05, bonusScale: 1, bounds: "paper" },
  ...{ fallback: "baseline", rewards: "known", episodes: 1, batch: 1, lpBatch: 1, allowUnsafeBaseline: false },
});
const { problem, mdp } = experiment;

/** Every row seen a few times, so that no backup is left out. */
function everything({ horizon, states, actions }: Problem): Counts {
  const counts = new Counts(problem);
  for (let row = 0; row < horizon * states * actions; row++) {
    const [h, s] = [Math.floor(row / states / actions), Math.floor(row / actions) % states];
    counts.addReward(counts.add(h, s, row % actions, (s + row) % states), 0.5);
  }
  return counts;
}

// First in this file: a solver that was loaded stays.
it("needs a solver for linear programs, which is asked for before anything starts", async () => {
  vi.doMock("highs", () => {
    throw new Error("not installed");
  });
  const out = join(await temporaryFolder(), "results");
  const args = ["run", "--env", "riverswim", "--episodes", "1", "--out", out, "--algorithms", "bpi-ucbvi,dope"];
  await expect(explore(...args)).rejects.toMatchObject({
    name: "ToolError",
    message: expect.stringMatching(/npm install highs$/),
  });
  expect(existsSync(out)).toBe(false);
  vi.doUnmock("highs");
});

describe("the work of a decision", () => {
  it("is at most half of the horizon times all rows, and a few walks through them", () => {
    const learner = new StepMix(problem, { counts: everything(problem) });
    const rows = problem.horizon * problem.states * problem.actions;
    expect(learner.decision().kind).toBe("baseline"); // so every candidate was looked at
    expect(learner.bounds.backups).toBeGreaterThan(rows);
    expect(learner.bounds.backups).toBeLessThanOrEqual((problem.horizon / 2) * rows + 4 * rows);
  });

  it.each(["paper", "tight"] as const)(
    "has a limit, and the longest horizon that it names is the longest (%s)",
    (bounds) => {
      const size = { states: 10, actions: 2, bounds };
      let message = "";
      try {
        checkStepMix({ ...size, horizon: 100_000 });
      } catch (error) {
        message = (error as Error).message;
      }
      const longest = Number(/horizon of at most (\d+)/.exec(message)![1]);
      expect(longest ** 2 * 10).toBeLessThanOrEqual(mostBackups[bounds]);
      expect((longest + 1) ** 2 * 10).toBeGreaterThan(mostBackups[bounds]);
      expect(() => checkStepMix({ ...size, horizon: longest })).not.toThrow();
      expect(() => checkStepMix({ ...size, horizon: longest + 1 })).toThrow(bounds);
    },
  );

  it("is checked before the folder of results is made, for the algorithms that were asked for", async () => {
    const out = join(await temporaryFolder(), "results");
    const args = [
      "run",
      "--env",
      "riverswim:states=100,horizon=1000",
      "--bounds",
      "tight",
      "--episodes",
      "1",
      "--out",
      out,
    ];
    await expect(explore(...args)).rejects.toThrow(
      /1\.0e\+8 rows.*the limit is 5e\+7.*the paper's bounds, or another algorithm/,
    );
    await expect(explore(...args, "--algorithms", "optpess-lp")).rejects.toThrow("entries; 5000000 are the limit");
    const long = [
      "run",
      "--env",
      "riverswim:states=1,horizon=30000",
      "--bounds",
      "tight",
      "--episodes",
      "1",
      "--out",
      out,
    ];
    await expect(explore(...long, "--algorithms", "bpi-ucbvi")).rejects.toThrow("whose limit is 20000 steps");
    expect(existsSync(out)).toBe(false);
  });
});

it("of two learners that start from the same counts neither knows of the other's episodes", () => {
  const counts = everything(problem);
  const [one, other] = [new StepMix(problem, { counts }), new StepMix(problem, { counts })];
  const before = JSON.stringify(other.decision());
  const random = Random.seeded(1);
  for (let k = 0; k < 20; k++) playEpisode(mdp, one, random);
  expect(JSON.stringify(counts)).toBe(JSON.stringify(everything(problem)));
  expect(JSON.stringify(other.decision())).toBe(before);
  // What is kept by row is what is worked out anew from each one's counts.
  for (const { bounds, counts: own } of [one, other]) {
    const fresh = new PaperBounds(problem, own);
    bounds.plan();
    fresh.plan();
    expect(bounds.upper).toBe(fresh.upper);
    expect(bounds.lower(5)).toBe(fresh.lower(5));
  }
});
