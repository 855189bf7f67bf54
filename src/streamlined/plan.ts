/** What a plan says, and the memory that follows from it: which feature is where, and when. */
import { ArgumentError } from "../errors.ts";
import { type ArenaLayout, type Lifetime, layOut } from "./arena.ts";
import { batchOf, bytesOf, type Flow, type Group, groupsOf } from "./grouping.ts";
import { evenParts, isView, type Part, placementOf, type Sizes } from "./slicing.ts";

export interface GroupPlan {
  /** How many stages. */
  readonly stages: number;
  /** Parts along the group's axis. */
  readonly slices: number;
  /**
   * Whether all rows of a pass go in one run. Otherwise they go one after the other: slices of frames are views then, and a rehash
   * step can do half of the rows.
   */
  readonly together: boolean;
  /** Whether weights of convolutions are reordered when it is compiled, which pays off where they are small and pictures are large. */
  readonly reorder?: boolean;
}

export interface Plan {
  readonly groups: readonly GroupPlan[];
  /** Equal parts of the batch that go through the network one after the other; with guidance, 2 are its two halves. */
  readonly passes: number;
  /** Compile each group just before it runs and release it after: the weights of one group are in memory, not those of all. */
  readonly stream: boolean;
}

/** The part of a model that a rehash step runs, and the kept features that it starts from. */
export interface Rehash {
  /** The stages that run. */
  readonly stages: ReadonlySet<number>;
  /** Features that the last full step left and those stages read. */
  readonly kept: ReadonlySet<string>;
  /** Whether they run for the second half of the batch only, which with guidance is the one with the condition. */
  readonly half: boolean;
}

export interface PlannedGroup extends Group {
  readonly plan: GroupPlan;
  /** Rows of the batch in one run. */
  readonly rows: number;
  readonly parts: readonly Part[];
  /** Whether it runs at a rehash step. */
  readonly again: boolean;
  /** Bytes of the copies that its parts need. */
  readonly scratch: number;
}

/** A plan worked out for a model: its groups, and where each feature lies in memory. */
export interface Layout {
  readonly flow: Flow;
  readonly plan: Plan;
  readonly groups: readonly PlannedGroup[];
  /** Rows of the batch in a pass. */
  readonly rows: number;
  readonly arena: ArenaLayout;
  readonly lifetimes: readonly Lifetime[];
  /** Features that stay from step to step. */
  readonly kept: ReadonlySet<string>;
  /** Their bytes, of all passes. */
  readonly keptBytes: number;
  /** Whether rehash steps are for the second half of the batch only. */
  readonly half: boolean;
}

/** The place in the arena for the copies that a group's parts need. */
export const SCRATCH = "scratch ";

/** Throws ArgumentError for a plan that does not fit the model. */
export function applyPlan(flow: Flow, plan: Plan, rehash: Rehash | null = null): Layout {
  const batch = batchOf(flow);
  const { className } = flow.model;
  if (!Number.isInteger(plan.passes) || plan.passes < 1 || batch % plan.passes !== 0) {
    throw new ArgumentError(`${className}: a batch of ${batch} is not ${plan.passes} equal passes.`);
  }
  const rows = batch / plan.passes;
  const kept = rehash?.kept ?? new Set<string>();
  let start = 0;
  const groups = groupsOf(
    flow,
    plan.groups.map(({ stages }) => stages),
    kept,
  ).map((group, i) => {
    const again = group.stages.map((_, k) => rehash?.stages.has(start + k) ?? false);
    start += group.stages.length;
    if (new Set(again).size > 1) {
      throw new ArgumentError(`${className}: group "${group.name}" is on both sides of a rehash step's cut.`);
    }
    const apart = isHalved(flow, group, plan.passes, rehash) ? { together: false } : {};
    return plannedGroup(flow, group, { ...plan.groups[i]!, ...apart }, rows, again[0]!);
  });
  const lifetimes = lifetimesOf(flow, groups, kept, rows);
  const keptBytes = plan.passes * [...kept].reduce((sum, id) => sum + bytesOf(flow.sizes.get(id)!, rows), 0);
  return {
    flow,
    plan,
    groups,
    rows,
    lifetimes,
    arena: layOut(lifetimes),
    kept,
    half: rehash?.half ?? false,
    keptBytes,
  };
}

/** Whether a group's rows cannot all be in one run, because a rehash step needs only some rows of a pass. */
export function isHalved({ stages }: Flow, group: Group, passes: number, rehash: Rehash | null): boolean {
  return passes % 2 === 1 && rehash !== null && rehash.half && rehash.stages.has(stages.indexOf(group.stages[0]!));
}

function plannedGroup({ sizes, model }: Flow, group: Group, plan: GroupPlan, rows: number, again: boolean) {
  const { slices, together } = plan;
  if (!Number.isInteger(slices) || slices < 1 || slices > group.length) {
    const { className } = model;
    throw new ArgumentError(
      `${className}: group "${group.name}" can be in 1 to ${group.length} slices, not ${slices}.`,
    );
  }
  const ranges = evenParts(group.length, slices);
  const inRun = together ? rows : 1;
  const parts = evenParts(rows, rows / inRun).flatMap((each) =>
    ranges.map((range): Part => ({ rows: each, axis: axisOf(group), range })),
  );
  // The first part is the longest.
  const scratch = [...group.reads, ...group.writes]
    .map((id) => placementOf(withRows(sizes.get(id)!, rows), parts[0]!))
    .reduce((sum, placement) => sum + (isView(placement) ? 0 : 4 * placement.runs * placement.run), 0);
  return { ...group, plan, rows: inRun, parts, again, scratch };
}

/** Empty for a group that is never cut. */
const axisOf = ({ axis, length }: Group) => (length > 1 ? axis : "");

/** A feature's sizes in a pass. */
export const withRows = (sizes: Sizes, rows: number): Sizes =>
  sizes["batch"] === undefined ? sizes : { ...sizes, batch: rows };

/** From the group that writes a feature to the last that reads it. Inputs, outputs and what is kept lie elsewhere. */
function lifetimesOf(flow: Flow, groups: readonly PlannedGroup[], kept: ReadonlySet<string>, rows: number): Lifetime[] {
  const elsewhere = new Set([...kept, ...flow.outputs.values()]);
  return groups.flatMap((group, first) => {
    const made = group.writes
      .filter((id) => !elsewhere.has(id))
      .map((id): Lifetime => {
        const last = Math.max(
          first,
          groups.findLastIndex(({ reads }) => reads.includes(id)),
        );
        return { name: id, bytes: bytesOf(flow.sizes.get(id)!, rows), first, last };
      });
    if (group.scratch > 0) made.push({ name: SCRATCH + first, bytes: group.scratch, first, last: first });
    return made;
  });
}
