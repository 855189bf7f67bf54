/** Parts of a model that run separately, for steps that run only part of the network. */
import { ArgumentError } from "../errors.ts";
import { describe, input } from "../graph/value.ts";
import type { Features, Stage, StagedModel } from "./architecture.ts";
import { buildStages, pick } from "./features.ts";
import { parameterWeights, Weights } from "./weights.ts";

/**
 * Splits a model's stages into consecutive parts. Each is a model of its own whose inputs and outputs are the features that
 * cross its borders. `cuts` are the numbers of the stages at which a new part begins, ascending. Throws ArgumentError for
 * other cuts.
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
  // Values without contents are enough to find out the features' shapes.
  const weights = new Weights(parameterWeights().source);
  let features = model.inputs;
  const check = streamsCheck(model);
  const constant = new Set(model.conditions);
  return bounds.slice(1).map((end, i) => {
    const stages = model.stages.slice(bounds[i], end);
    const entering = asInputs(features);
    const inputs = pick(entering, readFirst(stages));
    const conditions = Object.keys(inputs).filter((name) => constant.has(name));
    for (const stage of stages) updateConstant(constant, stage);
    features = buildStages(stages, entering, weights);
    check(end, features);
    const written = new Set(stages.flatMap(({ writes }) => writes));
    // Streams are outputs even if the next part does not read them, since the next step may.
    const crossing = new Set([...needed[end]!, ...(end < model.stages.length ? (model.streams ?? []) : [])]);
    return {
      ...model,
      inputs,
      ...(model.conditions && { conditions }),
      outputs: [...crossing].filter((name) => written.has(name)),
      stages,
    };
  });
}

/** What a stage writes stays the same during a run if all that it reads does. */
function updateConstant(constant: Set<string>, { reads, writes }: Stage): void {
  const stays = reads.every((name) => constant.has(name));
  for (const name of writes) {
    if (stays) constant.add(name);
    else constant.delete(name);
  }
}

/** Inputs of a new graph that stand for features computed by another graph. */
const asInputs = (features: Features): Features =>
  Object.fromEntries(Object.entries(features).map(([name, { shape, dtype }]) => [name, input(name, shape, dtype)]));

/** For each number of finished stages: the features that the remaining stages, or the caller, still read. */
function neededAfter({ stages, outputs }: StagedModel): ReadonlySet<string>[] {
  let needed = new Set(outputs);
  const result = [needed];
  for (const { reads, writes } of stages.toReversed()) {
    needed = new Set([...needed].filter((name) => !writes.includes(name)).concat(reads));
    result.unshift(needed);
  }
  return result;
}

/** Refuses streams that are missing where a part ends, or have another shape than before: cached ones would not fit. */
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

/** The features that some stages read and no earlier one of them wrote. */
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
  /** The stages from `first` up to, but not including, `end`; several rows of blocks are counted together. */
  readonly first: number;
  readonly end: number;
  /** The features that run through them; the latent's comes first. */
  readonly streams: readonly [string, ...string[]];
}

/** The features that run through a model's blocks, or through a part of them. Throws ArgumentError for a model without any. */
export function streamsOf({ streams = [], className }: StagedModel): Blocks["streams"] {
  const [own, ...others] = streams;
  if (own !== undefined) return [own, ...others];
  throw new ArgumentError(`${className} has no features that run through its blocks; it cannot be cut between them.`);
}

/** The streams that a part of a model reads. */
export const streamsInto = (part: StagedModel): string[] =>
  streamsOf(part).filter((name) => Object.hasOwn(part.inputs, name));

/** The name of the input that is the noisy latent. Throws ArgumentError for a model that is not a denoiser. */
export function latentOf({ latent, className }: StagedModel): string {
  if (latent !== undefined) return latent;
  throw new ArgumentError(`${className} is no denoiser: none of its inputs is a noisy latent.`);
}

/** Finds a model's blocks. Throws ArgumentError for a model that is not blocks between an entry and an exit, such as a UNet. */
export function blocksOf(model: StagedModel): Blocks {
  const { stages, className } = model;
  const roles = stages.map(({ role }) => role);
  const [first, end] = [roles.indexOf("block"), roles.lastIndexOf("block") + 1];
  const inOrder = roles.every((role, i) => role === (i < first ? "enter" : i < end ? "block" : "leave"));
  if (first > 0 && end < stages.length && inOrder) return { first, end, streams: streamsOf(model) };
  throw new ArgumentError(`${className} is not a row of blocks between an input and an output layer.`);
}
