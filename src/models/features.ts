/** Features on their way through a model's stages. */
import type { Features, Stage } from "./stage.ts";
import type { Weights } from "./weights.ts";

export const pick = (features: Features, names: readonly string[]): Features =>
  Object.fromEntries(names.map((name) => [name, features[name]!]));

/** All features after consecutive stages, including those from before. */
export function buildStages(stages: readonly Stage[], features: Features, weights: Weights): Features {
  // Pass only what the stage declares: one that reads more would fail in another grouping.
  for (const stage of stages) features = { ...features, ...stage.build(pick(features, stage.reads), weights) };
  return features;
}
