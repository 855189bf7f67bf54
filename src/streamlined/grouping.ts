/**
 * Operator Grouping (arXiv 2411.01171): consecutive stages with the same axis become one session. A slice passes through the whole
 * group before the next one starts, so features between the stages of a group are in memory for only one slice at a time.
 */
import { ArgumentError } from "../errors.ts";
import { type OnnxModel, toOnnx } from "../graph/onnx.ts";
import { type Dim, input, type Value, type ValueType } from "../graph/value.ts";
import type { Layout, Stage, StagedModel } from "../models/architecture.ts";
import {
  buildGroup,
  type FeatureFlow,
  type FlowStage,
  featureFlow,
  groupStages,
  type StageGroup,
} from "../models/grouping.ts";
import { type WeightSource, Weights } from "../models/weights.ts";
import { sizeOf } from "../tensor.ts";
import type { Sizes } from "./slicing.ts";

/** The features of a model with all their sizes. */
export interface Flow extends FeatureFlow {
  /** Sizes by feature; `batch` is the model's batch. */
  readonly sizes: ReadonlyMap<string, Sizes>;
  /** Types of the inputs that are not float32. */
  readonly types: Types;
}

type Types = ReadonlyMap<string, ValueType>;

/**
 * The features of a model, with stages that have pieces in these pieces unless `whole` says otherwise. Throws ArgumentError if its stages do not have layouts,
 * or if sizes are open.
 */
export function flowOf(model: StagedModel, { whole = false } = {}): Flow {
  const stages = model.stages.flatMap((stage) => (whole ? [stage] : (stage.pieces ?? [stage])));
  const flow = featureFlow({ ...model, stages });
  const sizes = new Map<string, Sizes>();
  for (const { stage, reads, writes } of flow.stages) {
    const { layouts, readLayouts } = stage;
    if (!layouts) {
      throw new ArgumentError(
        `${model.className}: stage "${stage.name}" does not tell the layouts of its features, so it cannot be cut; ` +
          "run this model in one session.",
      );
    }
    for (const [name, id] of reads) {
      if (!sizes.has(id)) sizes.set(id, known(model, readLayouts?.[name] ?? layouts[name]!));
    }
    for (const [name, id] of writes) sizes.set(id, known(model, layouts[name]!));
  }
  const typed = [...flow.inputs].map(([name, id]) => [id, model.inputs[name]!.dtype] as const);
  return { ...flow, model, sizes, types: new Map(typed.filter(([, dtype]) => dtype !== "float32")) };
}

export const batchOf = ({ sizes }: Flow): number => Math.max(...[...sizes.values()].map(({ batch }) => batch ?? 1));

function known({ className }: StagedModel, layout: Layout): Sizes {
  const open = Object.entries(layout).find(([, size]) => typeof size !== "number");
  if (!open) return layout as Sizes;
  throw new ArgumentError(`${className}: a plan needs every size, but ${open[0]} is open ("${open[1]}").`);
}

/** Stages that are compiled together, and how they can be cut. */
export interface Group extends StageGroup {
  /** "whole" if its stages have several axes: then it cannot be cut. */
  readonly axis: Stage["axis"];
  /** Length of the axis, which is also the most slices; 1 for "whole". */
  readonly length: number;
  /** Types of features that are not float32. */
  readonly types: Types;
}

/** The stages in groups of these sizes. Throws ArgumentError if the sizes do not sum to the number of stages. */
export function groupsOf(flow: Flow, counts: readonly number[], cached?: ReadonlySet<string>): Group[] {
  return groupStages(flow, counts, cached).map((group): Group => {
    const kinds = new Set(group.stages.map((each) => kindOf(flow, each)));
    const { types } = flow;
    if (kinds.size > 1) return { ...group, axis: "whole", length: 1, types };
    const first = group.stages[0]!;
    return { ...group, axis: first.stage.axis, length: axisLength(flow, first), types };
  });
}

/** The axis and its length, which all stages of a group must share for the group to be sliced. */
const kindOf = (flow: Flow, each: FlowStage) => `${each.stage.axis} ${axisLength(flow, each)}`;

/** The most slices that a stage can be cut into; 1 if one of the features that it writes does not have the axis. */
export function axisLength({ sizes }: Flow, { stage, reads, writes }: FlowStage): number {
  if (stage.axis === "whole") return 1;
  const written = [...writes.values()].map((id) => sizes.get(id)![stage.axis]);
  if (written.includes(undefined)) return 1;
  const lengths = new Set([...reads.values(), ...writes.values()].map((id) => sizes.get(id)![stage.axis]));
  lengths.delete(undefined);
  // Downsampling changes the number of positions, so it is not sliced along them.
  return lengths.size === 1 ? [...lengths][0]! : 1;
}

/** The longest groups that can be sliced. Stages in `borders` always start a new group. */
export function longestGroups(flow: Flow, borders: ReadonlySet<number> = new Set()): number[] {
  const counts: number[] = [];
  let before = "";
  for (const [i, stage] of flow.stages.entries()) {
    const kind = kindOf(flow, stage);
    if (kind === before && !borders.has(i)) counts[counts.length - 1]!++;
    else counts.push(1);
    before = kind;
  }
  return counts;
}

/** The output values of a group, for `rows` of the batch and a slice whose length may be open. */
export function buildSlice(
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
  return buildGroup(group, (id) => input(id, shapeOf(id), group.types.get(id)), new Weights(source));
}

export function sliceGraph(group: Group, sizes: Flow["sizes"], source: WeightSource, rows: number): OnnxModel {
  return toOnnx(buildSlice(group, sizes, source, rows, "slice"));
}

/** A feature's shape with another batch, which may be open. */
export function shapeWith<Batch extends Dim>(sizes: Sizes, batch: Batch): (number | Batch)[] {
  return Object.entries(sizes).map(([name, size]) => (name === "batch" ? batch : size));
}

/** Bytes of a feature, for `rows` of the batch. */
export const bytesOf = (sizes: Sizes, rows: number): number => 4 * sizeOf(shapeWith(sizes, rows));
