/** Groups of consecutive stages of a model, each as one graph. Sessions are compiled from them, with slices or without. */
import { ArgumentError } from "../errors.ts";
import type { Value } from "../graph/value.ts";
import type { Stage, StagedModel } from "./architecture.ts";
import type { Weights } from "./weights.ts";

/** A name that a stage knows a feature by -> the feature. A name that is written again is another feature. */
export type Names = ReadonlyMap<string, string>;

export interface FlowStage {
  readonly stage: Stage;
  readonly reads: Names;
  readonly writes: Names;
}

/** A model in which every feature has a unique name and is written once. */
export interface FeatureFlow {
  readonly model: StagedModel;
  readonly stages: readonly FlowStage[];
  readonly inputs: Names;
  readonly outputs: Names;
}

export function featureFlow(model: StagedModel): FeatureFlow {
  const current = new Map(Object.keys(model.inputs).map((name) => [name, `input ${name}`]));
  const inputs = new Map(current);
  const written = new Set<string>();
  const stages = model.stages.map((stage): FlowStage => {
    const reads = new Map(stage.reads.map((name) => [name, current.get(name)!]));
    const writes = new Map(stage.writes.map((name) => [name, written.has(name) ? `${name} of ${stage.name}` : name]));
    for (const [name, id] of writes) {
      written.add(id);
      current.set(name, id);
    }
    return { stage, reads, writes };
  });
  return { model, stages, inputs, outputs: new Map(model.outputs.map((name) => [name, current.get(name)!])) };
}

/** Stages that are compiled together. */
export interface StageGroup {
  /** The name of its first stage, and of its last one if it has several. */
  readonly name: string;
  readonly stages: readonly FlowStage[];
  /** Features from before it. */
  readonly reads: readonly string[];
  /** Features that are read after it, or that the caller wants. */
  readonly writes: readonly string[];
}

/**
 * The stages in groups of `counts` stages each. `wanted`: features that the caller needs apart from the model's outputs. Throws
 * ArgumentError if the counts do not add up to all stages.
 */
export function groupStages(
  { model, stages, outputs }: FeatureFlow,
  counts: readonly number[],
  wanted: Iterable<string> = [],
): StageGroup[] {
  const sum = counts.reduce((a, b) => a + b, 0);
  if (counts.some((count) => !Number.isInteger(count) || count < 1) || sum !== stages.length) {
    throw new ArgumentError(
      `${model.className} has ${stages.length} stages; groups of [${counts.join(", ")}] do not add up to them.`,
    );
  }
  const readLater = new Set([...outputs.values(), ...wanted]);
  const groups: StageGroup[] = [];
  // From the last to the first, so that what later groups read is known.
  for (let i = counts.length, end = stages.length; i-- > 0; end -= counts[i]!) {
    const group = groupOf(stages.slice(end - counts[i]!, end), readLater);
    for (const id of group.reads) readLater.add(id);
    groups.unshift(group);
  }
  return groups;
}

function groupOf(stages: readonly FlowStage[], wanted: ReadonlySet<string>): StageGroup {
  const written = new Set(stages.flatMap(({ writes }) => [...writes.values()]));
  const read = new Set(stages.flatMap(({ reads }) => [...reads.values()]));
  const [first, last] = [stages[0]!.stage.name, stages.at(-1)!.stage.name];
  return {
    name: stages.length === 1 ? first : `${first} to ${last}`,
    stages,
    reads: [...read].filter((id) => !written.has(id)),
    writes: [...written].filter((id) => wanted.has(id)),
  };
}

/** What a graph's output is called: a feature can be both input and output. */
export const OUT = "out.";

/**
 * The outputs of a group's graph, `OUT` and the feature's name; `inputOf` gives the graph's input for a feature from
 * before.
 */
export function buildGroup(
  { stages, reads, writes }: StageGroup,
  inputOf: (id: string) => Value,
  weights: Weights,
): Record<string, Value> {
  const values = new Map(reads.map((id) => [id, inputOf(id)]));
  for (const { stage, reads, writes } of stages) {
    // Pass only what the stage declares: one that reads more would fail in another grouping.
    const made = stage.build(Object.fromEntries([...reads].map(([name, id]) => [name, values.get(id)!])), weights);
    for (const [name, id] of writes) values.set(id, made[name]!);
  }
  return Object.fromEntries(writes.map((id) => [OUT + id, values.get(id)!]));
}
