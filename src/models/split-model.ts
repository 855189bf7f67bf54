/** Parts of a model that run by themselves: what a step that is done in part needs. */
import { ArgumentError } from "../errors.ts";
import { describe, input } from "../graph/value.ts";
import type { Features, Stage, StagedModel } from "./architecture.ts";
import { buildStages, pick } from "./features.ts";
import { parameterWeights, Weights } from "./weights.ts";

/**
 * A model's stages in consecutive parts, each a model of its own whose inputs and outputs are the features that cross
 * its borders. `cuts` are the numbers of the stages that begin a new part, ascending. Throws ArgumentError for others.
 */
export function splitModel(model: StagedModel, cuts: readonly number[]): StagedModel[] {
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
  const check = streamsCheck(model);
  return bounds.slice(1).map((end, i) => {
    const stages = model.stages.slice(bounds[i], end);
    const entering = asInputs(features);
    features = buildStages(stages, entering, weights);
    check(end, features);
    const written = new Set(stages.flatMap(({ writes }) => writes));
    // A stream that the next part does not read is one that the next step may.
    const crossing = new Set([...needed[end]!, ...(end < model.stages.length ? (model.streams ?? []) : [])]);
    return {
      ...model,
      inputs: pick(entering, readFirst(stages)),
      outputs: [...crossing].filter((name) => written.has(name)),
      stages,
    };
  });
}

/** Inputs of a new graph, in the place of features that another one gives. */
const asInputs = (features: Features): Features =>
  Object.fromEntries(Object.entries(features).map(([name, { shape, dtype }]) => [name, input(name, shape, dtype)]));

/** For each number of stages done: the features that the remaining ones, or the caller, still read. */
function neededAfter({ stages, outputs }: StagedModel): ReadonlySet<string>[] {
  let needed = new Set(outputs);
  const result = [needed];
  for (const { reads, writes } of stages.toReversed()) {
    needed = new Set([...needed].filter((name) => !writes.includes(name)).concat(reads));
    result.unshift(needed);
  }
  return result;
}

/** Refuses streams that are not there where a part ends, or of another shape than before: what is carried on would not fit. */
function streamsCheck({ stages, streams = [], className }: StagedModel): (end: number, features: Features) => void {
  const roles = stages.map(({ role }) => role);
  const [first, last] = [roles.indexOf("block"), roles.lastIndexOf("block") + 1];
  const shapes = new Map<string, string>();
  return (end, features) => {
    if (first < 0 || end < first || end > last) return;
    for (const name of streams) {
      const where = `${className}: before stage "${stages[end]?.name}" the feature "${name}", which runs through its blocks,`;
      if (!features[name]) throw new ArgumentError(`${where} is not there.`);
      const shape = describe(features[name].shape);
      const before = shapes.get(name) ?? shape;
      if (shape !== before)
        throw new ArgumentError(`${where} is ${shape}, but ${before} earlier; blocks keep its shape.`);
      shapes.set(name, shape);
    }
  };
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

/** Where a model's blocks are. */
export interface Blocks {
  /** The stages from `first` up to `end`; all rows of blocks are counted together. */
  readonly first: number;
  readonly end: number;
  /** The features that run through them, the latent's own first. */
  readonly streams: readonly [string, ...string[]];
}

/** The features that run through a model's blocks, or through a part of them. Throws ArgumentError for one that has none. */
export function streamsOf({ streams = [], className }: StagedModel): Blocks["streams"] {
  const [own, ...others] = streams;
  if (own !== undefined) return [own, ...others];
  throw new ArgumentError(`${className} has no features that run through its blocks; it cannot be cut between them.`);
}

/** Those of the streams that a part of a model reads. */
export const streamsInto = (part: StagedModel): string[] =>
  streamsOf(part).filter((name) => Object.hasOwn(part.inputs, name));

/** The input that is the noisy latent. Throws ArgumentError for a model that is no denoiser. */
export function latentOf({ latent, className }: StagedModel): string {
  if (latent !== undefined) return latent;
  throw new ArgumentError(`${className} is no denoiser: none of its inputs is a noisy latent.`);
}

/** Where a model's blocks are. Throws ArgumentError for one that is not blocks between entry and exit, such as a UNet. */
export function blocksOf(model: StagedModel): Blocks {
  const { stages, className } = model;
  const roles = stages.map(({ role }) => role);
  const [first, end] = [roles.indexOf("block"), roles.lastIndexOf("block") + 1];
  const inOrder = roles.every((role, i) => role === (i < first ? "enter" : i < end ? "block" : "leave"));
  if (first > 0 && end < stages.length && inOrder) return { first, end, streams: streamsOf(model) };
  throw new ArgumentError(`${className} is not a row of blocks between an input and an output layer.`);
}
