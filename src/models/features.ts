/** Features on their way through a model's stages: what runs a model in groups, and what cuts it in parts. */
import { input } from "../graph/value.ts";
import type { Features, Stage, StagedModel } from "./stage.ts";
import type { Weights } from "./weights.ts";

/** Inputs of a new graph, in the place of features that another one gives. */
export const asInputs = (features: Features): Features =>
  Object.fromEntries(Object.entries(features).map(([name, { shape, dtype }]) => [name, input(name, shape, dtype)]));

export const pick = (features: Features, names: readonly string[]): Features =>
  Object.fromEntries(names.map((name) => [name, features[name]!]));

/** All features after some stages in a row, those from before among them. */
export function buildStages(stages: readonly Stage[], features: Features, weights: Weights): Features {
  // Only what it declares: a stage that reads more would fail in another grouping.
  for (const stage of stages) features = { ...features, ...stage.build(pick(features, stage.reads), weights) };
  return features;
}

/** For each number of stages done: the features that the remaining ones, or the caller, still read. */
export function neededAfter({ stages, outputs }: StagedModel): ReadonlySet<string>[] {
  let needed = new Set(outputs);
  const result = [needed];
  for (const { reads, writes } of stages.toReversed()) {
    needed = new Set([...needed].filter((name) => !writes.includes(name)).concat(reads));
    result.unshift(needed);
  }
  return result;
}
