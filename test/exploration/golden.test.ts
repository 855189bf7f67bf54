import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Counts } from "../../src/exploration/bounds/counts.ts";
import { EpsMix } from "../../src/exploration/learners/epsmix.ts";
import { StepMix } from "../../src/exploration/learners/stepmix.ts";
import { actionsToJson, problemFromJson } from "../../src/exploration/mdp/problem.ts";

const folder = new URL("../fixtures/stepmix/", import.meta.url);
const read = (path: string) => JSON.parse(readFileSync(new URL(path, folder), "utf8"));

/** Decisions of an independent implementation of the same formulas (test/fixtures/stepmix). */
describe.each(readdirSync(folder))("decisions: %s", (name) => {
  const state = read(`${name}/state.json`);
  const expected = read(`${name}/expected.json`);
  const problem = problemFromJson(state);
  const near = (found: number, wanted: number) =>
    expect(Math.abs(found - wanted)).toBeLessThanOrEqual(1e-9 * (1 + wanted));

  it("StepMix", () => {
    const learner = new StepMix(problem, { counts: Counts.fromJSON(state.counts, problem) });
    const { kind, h0, rho, lowerBounds } = learner.decision();
    expect({ kind, h0 }).toEqual({ kind: expected.stepmix.kind, h0: expected.stepmix.h0 });
    near(rho, expected.stepmix.rho);
    expect(lowerBounds.length).toBe(expected.stepmix.lowerBounds.length);
    for (const [i, lower] of lowerBounds.entries()) near(lower, expected.stepmix.lowerBounds[i]);
    expect(actionsToJson(learner.bounds.optimistic, problem)).toEqual(expected.stepmix.optimisticPolicy);
    near(learner.bounds.upper, expected.optimisticUpperBound);
  });

  it("EpsMix", () => {
    const { kind, epsilon, lowerBounds } = new EpsMix(problem, {
      counts: Counts.fromJSON(state.counts, problem),
    }).decision();
    expect(kind).toBe(expected.epsmix.kind);
    near(epsilon, expected.epsmix.epsilon);
    near(lowerBounds.optimistic, expected.epsmix.lowerBounds.optimistic);
    near(lowerBounds.baseline, expected.epsmix.lowerBounds.baseline);
  });
});
