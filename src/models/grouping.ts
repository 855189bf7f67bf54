/** Consecutive stages of a model as one graph: what a session is compiled from, whether it is cut into slices or not. */
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

/** A model whose features are told apart: every one is written once. */
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
  /** Of its first stage, and of its last if it has several. */
  readonly name: string;
  readonly stages: readonly FlowStage[];
  /** Features from before it. */
  readonly reads: readonly string[];
  /** Features that are read after it, or that the caller wants. */
  readonly writes: readonly string[];
}

/**
 * The stages in groups of `counts` stages each. `kept`: features that the caller wants beside the model's outputs. Throws
 * ArgumentError if the counts do not add up to all stages.
 */
export function groupStages(
  { model, stages, outputs }: FeatureFlow,
  counts: readonly number[],
  kept: Iterable<string> = [],
): StageGroup[] {
  const sum = counts.reduce((a, b) => a + b, 0);
  if (counts.some((count) => !Number.isInteger(count) || count < 1) || sum !== stages.length) {
    throw new ArgumentError(
      `${model.className} has ${stages.length} stages; groups of [${counts.join(", ")}] do not add up to them.`,
    );
  }
  const wanted = new Set([...outputs.values(), ...kept]);
  const groups: StageGroup[] = [];
  // From the last to the first, so that what later groups read is known.
  for (let i = counts.length, end = stages.length; i-- > 0; end -= counts[i]!) {
    const group = groupOf(stages.slice(end - counts[i]!, end), wanted);
    for (const id of group.reads) wanted.add(id);
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

/** The outputs of a group's graph, `OUT` and the feature's name; `inputOf` gives the graph's input for a feature from before. */
export function buildGroup(
  { stages, reads, writes }: StageGroup,
  inputOf: (id: string) => Value,
  weights: Weights,
): Record<string, Value> {
  const values = new Map(reads.map((id) => [id, inputOf(id)]));
  for (const { stage, reads, writes } of stages) {
    // Only what it declares: a stage that reads more would fail in another grouping.
    const made = stage.build(Object.fromEntries([...reads].map(([name, id]) => [name, values.get(id)!])), weights);
    for (const [name, id] of writes) values.set(id, made[name]!);
  }
  return Object.fromEntries(writes.map((id) => [OUT + id, values.get(id)!]));
}
