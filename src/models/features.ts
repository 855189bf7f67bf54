/** Features on their way through a model's stages. */
import type { Features, Layout, Stage } from "./stage.ts";
import type { Weights } from "./weights.ts";

export const pick = (features: Features, names: readonly string[]): Features =>
  Object.fromEntries(names.map((name) => [name, features[name]!]));

/** All features after consecutive stages, including those from before. */
export function buildStages(stages: readonly Stage[], features: Features, weights: Weights): Features {
  // Pass only what the stage declares: one that reads more would fail in another grouping.
  for (const stage of stages) features = { ...features, ...stage.build(pick(features, stage.reads), weights) };
  return features;
}

/** A stage without its layouts, and its pieces without theirs. */
export interface BareStage extends Omit<Stage, "layouts" | "pieces"> {
  readonly pieces?: readonly Omit<Stage, "layouts" | "pieces">[];
}

/** A stage whose features, and those of its pieces, have the layouts that `layouts` has for their names. */
export function withLayouts(stage: BareStage, layouts: Readonly<Record<string, Layout>>): Stage {
  const own = ({ reads, writes }: Pick<Stage, "reads" | "writes">) =>
    Object.fromEntries([...reads, ...writes].map((name) => [name, layouts[name]!]));
  const { pieces } = stage;
  const laidOut = pieces?.map((piece): Stage => ({ ...piece, layouts: own(piece) }));
  return { ...stage, layouts: own(stage), ...(laidOut && { pieces: laidOut }) };
}
