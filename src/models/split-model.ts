/** Parts of a model that run by themselves: what a step that is done in part needs. */
import { ArgumentError } from "../errors.ts";
import type { Stage, StagedModel } from "./architecture.ts";
import { asInputs, buildStages, neededAfter, pick } from "./features.ts";
import { parameterWeights, Weights } from "./weights.ts";

/**
 * A model's stages in consecutive parts, each a model of its own whose inputs and outputs are the features that cross
 * its borders. `cuts` are the numbers of the stages that begin a new part, ascending. Throws ArgumentError for others.
 */
export function segmentModel(model: StagedModel, cuts: readonly number[]): StagedModel[] {
  const bounds = [0, ...cuts, model.stages.length];
  const wrong = bounds.some((bound, i) => i > 0 && !(Number.isInteger(bound) && bound > bounds[i - 1]!));
  if (wrong) {
    throw new ArgumentError(
      `${model.className} has ${model.stages.length} stages; it cannot be cut at [${cuts.join(", ")}].`,
    );
  }
  const needed = neededAfter(model);
  // Values with no contents are enough to learn the features' shapes.
  const weights = new Weights(parameterWeights().source);
  let features = model.inputs;
  return bounds.slice(1).map((end, i) => {
    const stages = model.stages.slice(bounds[i], end);
    const entering = asInputs(features);
    features = buildStages(stages, entering, weights);
    const written = new Set(stages.flatMap(({ writes }) => writes));
    return {
      ...model,
      inputs: pick(entering, readFirst(stages)),
      outputs: [...needed[end]!].filter((name) => written.has(name)),
      stages,
    };
  });
}

/** What some stages read that none of them wrote before. */
function readFirst(stages: readonly Stage[]): string[] {
  const written = new Set<string>();
  const read = new Set<string>();
  for (const stage of stages) {
    for (const name of stage.reads) if (!written.has(name)) read.add(name);
    for (const name of stage.writes) written.add(name);
  }
  return [...read];
}

/**
 * Where the transformer blocks of a DiT-like model are: the stages from `first` up to `end`. Throws ArgumentError for
 * a model that has no row of blocks.
 */
export function blockRange({ stages, className }: StagedModel): { first: number; end: number } {
  const isBlock = stages.map(({ name }) => name.startsWith("transformer_blocks."));
  const [first, end] = [isBlock.indexOf(true), isBlock.lastIndexOf(true) + 1];
  if (first > 0 && end < stages.length && isBlock.slice(first, end).every(Boolean)) return { first, end };
  throw new ArgumentError(`${className} is not one row of transformer blocks between an input and an output layer.`);
}
