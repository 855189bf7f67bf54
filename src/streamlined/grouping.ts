/**
 * Operator Grouping (arXiv 2411.01171): consecutive stages with one axis become one session, through which each slice goes
 * before the next begins. What lies between the stages of a group is never there for more than one slice.
 */
import { ArgumentError } from "../errors.ts";
import { type OnnxModel, toOnnx } from "../graph/onnx.ts";
import { type Dim, input, type Value } from "../graph/value.ts";
import type { Layout, Stage, StagedModel } from "../models/architecture.ts";
import { type WeightSource, Weights } from "../models/weights.ts";
import { sizeOf } from "../tensor.ts";
import type { Sizes } from "./slicing.ts";

/** A name that a stage knows a feature by, and the feature: a name that is written again is another feature. */
export type Names = ReadonlyMap<string, string>;

export interface FlowStage {
  readonly stage: Stage;
  readonly reads: Names;
  readonly writes: Names;
}

/** A model whose features are told apart: every one is written once. */
export interface Flow {
  readonly model: StagedModel;
  readonly stages: readonly FlowStage[];
  readonly inputs: Names;
  readonly outputs: Names;
  /** By feature; `batch` is that of the model. */
  readonly sizes: ReadonlyMap<string, Sizes>;
}

/** Throws ArgumentError for a model with stages that do not tell their layouts, or with sizes that are open. */
export function flowOf(model: StagedModel): Flow {
  const sizes = new Map<string, Sizes>();
  const current = new Map(Object.keys(model.inputs).map((name) => [name, `input ${name}`]));
  const inputs = new Map(current);
  const stages = model.stages.map((stage): FlowStage => {
    const { layouts } = stage;
    if (!layouts) {
      throw new ArgumentError(
        `${model.className}: stage "${stage.name}" does not tell the layouts of its features, so it cannot be cut; ` +
          "run this model in one session.",
      );
    }
    const reads = new Map(stage.reads.map((name) => [name, current.get(name)!]));
    for (const [name, id] of reads) if (!sizes.has(id)) sizes.set(id, known(model, layouts[name]!));
    const writes = new Map(stage.writes.map((name) => [name, sizes.has(name) ? `${name} of ${stage.name}` : name]));
    for (const [name, id] of writes) {
      sizes.set(id, known(model, layouts[name]!));
      current.set(name, id);
    }
    return { stage, reads, writes };
  });
  const outputs = new Map(model.outputs.map((name) => [name, current.get(name)!]));
  return { model, stages, inputs, outputs, sizes };
}

export const batchOf = ({ sizes }: Flow): number => Math.max(...[...sizes.values()].map(({ batch }) => batch ?? 1));

function known({ className }: StagedModel, layout: Layout): Sizes {
  const open = Object.entries(layout).find(([, size]) => typeof size !== "number");
  if (!open) return layout as Sizes;
  throw new ArgumentError(`${className}: a plan needs every size, but ${open[0]} is open ("${open[1]}").`);
}

/** Consecutive stages that are compiled together. */
export interface Group {
  /** Of its first stage, and of its last if it has several. */
  readonly name: string;
  readonly stages: readonly FlowStage[];
  /** "whole" if its stages have several axes: then it cannot be cut. */
  readonly axis: Stage["axis"];
  /** How long the axis is: the most slices; 1 for "whole". */
  readonly length: number;
  /** Features from before it. */
  readonly reads: readonly string[];
  /** Features that are read after it, or that the caller wants. */
  readonly writes: readonly string[];
}

/** Stages in groups of these sizes. Throws ArgumentError if they do not add up to all stages. */
export function groupsOf(flow: Flow, counts: readonly number[], kept: ReadonlySet<string> = new Set()): Group[] {
  const { stages } = flow;
  const sum = counts.reduce((a, b) => a + b, 0);
  if (counts.some((count) => !Number.isInteger(count) || count < 1) || sum !== stages.length) {
    throw new ArgumentError(
      `${flow.model.className} has ${stages.length} stages; groups of [${counts.join(", ")}] do not add up to them.`,
    );
  }
  let end = 0;
  return counts.map((count) => {
    const start = end;
    end += count;
    const after = new Set([
      ...stages.slice(end).flatMap(({ reads }) => [...reads.values()]),
      ...flow.outputs.values(),
      ...kept,
    ]);
    return groupOf(flow, stages.slice(start, end), after);
  });
}

function groupOf(flow: Flow, stages: readonly FlowStage[], after: ReadonlySet<string>): Group {
  const written = new Set(stages.flatMap(({ writes }) => [...writes.values()]));
  const read = new Set(stages.flatMap(({ reads }) => [...reads.values()]));
  const lengths = new Map(stages.map((each) => [`${each.stage.axis} ${axisLength(flow, each)}`, each]));
  const [first, last] = [stages[0]!, stages.at(-1)!];
  const alone = lengths.size === 1;
  const length = alone ? axisLength(flow, first) : 1;
  const name = stages.length === 1 ? first.stage.name : `${first.stage.name} to ${last.stage.name}`;
  return {
    name,
    stages,
    axis: alone ? first.stage.axis : "whole",
    length,
    reads: [...read].filter((id) => !written.has(id)),
    writes: [...written].filter((id) => after.has(id)),
  };
}

/** 1 where a slice would not be one: everything that is written must have the axis. */
export function axisLength({ sizes }: Flow, { stage, reads, writes }: FlowStage): number {
  if (stage.axis === "whole") return 1;
  const written = [...writes.values()].map((id) => sizes.get(id)![stage.axis]);
  if (written.includes(undefined)) return 1;
  const lengths = new Set([...reads.values(), ...writes.values()].map((id) => sizes.get(id)![stage.axis]));
  lengths.delete(undefined);
  // Downsampling changes the number of positions; it is not cut along them.
  return lengths.size === 1 ? [...lengths][0]! : 1;
}

/** The longest groups that can be cut. `borders`: stages that begin a new group in any case. */
export function longestGroups(flow: Flow, borders: ReadonlySet<number> = new Set()): number[] {
  const counts: number[] = [];
  let before = "";
  for (const [i, stage] of flow.stages.entries()) {
    const kind = `${stage.stage.axis} ${axisLength(flow, stage)}`;
    if (kind === before && !borders.has(i)) counts[counts.length - 1]!++;
    else counts.push(1);
    before = kind;
  }
  return counts;
}

/** What a graph's output is called: a feature can be both input and output. */
export const OUT = "out.";

/** The values of a group's outputs, for `rows` of the batch and a slice of a known or of an open length. */
export function buildGroup(
  group: Group,
  sizes: Flow["sizes"],
  source: WeightSource,
  rows: number,
  slice: Dim,
): Record<string, Value> {
  const shapeOf = (id: string) =>
    Object.entries(sizes.get(id)!).map(([name, size]): Dim => {
      if (name === "batch") return rows;
      return name === group.axis && group.length > 1 ? slice : size;
    });
  const values = new Map(group.reads.map((id) => [id, input(id, shapeOf(id))]));
  const weights = new Weights(source);
  for (const { stage, reads, writes } of group.stages) {
    const made = stage.build(Object.fromEntries([...reads].map(([name, id]) => [name, values.get(id)!])), weights);
    for (const [name, id] of writes) values.set(id, made[name]!);
  }
  return Object.fromEntries(group.writes.map((id) => [OUT + id, values.get(id)!]));
}

export function groupGraph(group: Group, sizes: Flow["sizes"], source: WeightSource, rows: number): OnnxModel {
  return toOnnx(buildGroup(group, sizes, source, rows, "slice"));
}

/** A feature's shape, with another batch or an open one. */
export function shapeWith<Batch extends Dim>(sizes: Sizes, batch: Batch): (number | Batch)[] {
  return Object.entries(sizes).map(([name, size]) => (name === "batch" ? batch : size));
}

/** Of a feature, for `rows` of the batch. */
export const bytesOf = (sizes: Sizes, rows: number): number => 4 * sizeOf(shapeWith(sizes, rows));
