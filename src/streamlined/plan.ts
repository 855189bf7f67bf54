/** Plans, and the memory layout that follows from them: where each feature is, and when. */
import { ArgumentError } from "../errors.ts";
import { type ArenaLayout, type Lifetime, layOut } from "./arena.ts";
import { batchOf, bytesOf, type Flow, type Group, groupsOf } from "./grouping.ts";
import { evenParts, isView, type Part, placementOf, type Sizes } from "./slicing.ts";

export interface GroupPlan {
  /** Number of stages in the group. */
  readonly stages: number;
  /** Number of parts along the group's axis. */
  readonly slices: number;
  /**
   * Whether one run computes all rows of a pass. Otherwise each row has a run of its own: then slices of frames are views, and a
   * rehash step can compute half of the rows.
   */
  readonly together: boolean;
  /**
   * Whether convolution weights are reordered when the group is compiled, which pays off for small weights and large
   * images.
   */
  readonly reorder?: boolean;
  /** Whether its session stays in memory although the plan streams. */
  readonly keep?: boolean;
}

export interface Plan {
  readonly groups: readonly GroupPlan[];
  /**
   * Number of equal parts of the batch that go through the network one after the other. With guidance, 2 means its two
   * halves.
   */
  readonly passes: number;
  /**
   * Whether each group, unless it says otherwise, is compiled just before it runs and released afterwards, so that the weights of
   * only one group are in memory.
   */
  readonly stream: boolean;
}

/** The part of a model that a rehash step runs, and the cached features that it starts from. */
export interface Rehash {
  /** The stages that run. */
  readonly stages: ReadonlySet<number>;
  /** The cached features: those stages read them, and the last full step computed them. */
  readonly cached: ReadonlySet<string>;
  /** Whether they run only for the second half of the batch, which with guidance is the conditional half. */
  readonly half: boolean;
}

export interface PlannedGroup extends Group {
  readonly plan: GroupPlan;
  /** Rows of the batch in one run. */
  readonly rows: number;
  readonly parts: readonly Part[];
  /** Whether it runs at a rehash step. */
  readonly again: boolean;
  /** Bytes for copies of parts that are not contiguous. */
  readonly scratch: number;
}

/** A plan applied to a model: its groups, and where each feature is in memory. */
export interface Layout {
  readonly flow: Flow;
  readonly plan: Plan;
  readonly groups: readonly PlannedGroup[];
  /** Rows of the batch in a pass. */
  readonly rows: number;
  readonly arena: ArenaLayout;
  readonly lifetimes: readonly Lifetime[];
  /** Features that are cached from step to step. */
  readonly cached: ReadonlySet<string>;
  /** Bytes of the cached features, for all passes. */
  readonly cachedBytes: number;
  /** Whether rehash steps are for the second half of the batch only. */
  readonly half: boolean;
}

/** Whether a group is compiled for each run. */
export const isStreamed = ({ stream }: Plan, { keep = false }: GroupPlan): boolean => stream && !keep;

/** Prefix of the name of a group's place in the arena for copies of its parts. */
export const SCRATCH = "scratch ";

/** Applies a plan to a model. Throws ArgumentError if it does not fit. */
export function applyPlan(flow: Flow, plan: Plan, rehash: Rehash | null = null): Layout {
  const batch = batchOf(flow);
  const { className } = flow.model;
  if (!Number.isInteger(plan.passes) || plan.passes < 1 || batch % plan.passes !== 0) {
    throw new ArgumentError(`${className}: a batch of ${batch} is not ${plan.passes} equal passes.`);
  }
  const rows = batch / plan.passes;
  const cached = rehash?.cached ?? new Set<string>();
  let start = 0;
  const groups = groupsOf(
    flow,
    plan.groups.map(({ stages }) => stages),
    cached,
  ).map((group, i) => {
    const again = group.stages.map((_, k) => rehash?.stages.has(start + k) ?? false);
    start += group.stages.length;
    if (new Set(again).size > 1) {
      throw new ArgumentError(`${className}: group "${group.name}" is on both sides of a rehash step's cut.`);
    }
    const apart = isHalved(flow, group, plan.passes, rehash) ? { together: false } : {};
    return plannedGroup(flow, group, { ...plan.groups[i]!, ...apart }, rows, again[0]!);
  });
  const lifetimes = lifetimesOf(flow, groups, cached, rows);
  const cachedBytes = plan.passes * [...cached].reduce((sum, id) => sum + bytesOf(flow.sizes.get(id)!, rows), 0);
  return {
    flow,
    plan,
    groups,
    rows,
    lifetimes,
    arena: layOut(lifetimes),
    cached,
    half: rehash?.half ?? false,
    cachedBytes,
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

/** The axis of a group; empty for a group that cannot be sliced. */
const axisOf = ({ axis, length }: Group) => (length > 1 ? axis : "");

/** A feature's sizes in a pass. */
export const withRows = (sizes: Sizes, rows: number): Sizes =>
  sizes["batch"] === undefined ? sizes : { ...sizes, batch: rows };

/**
 * Each feature lives from the group that writes it to the last group that reads it. Inputs, outputs and cached features
 * are not in the arena.
 */
function lifetimesOf(
  flow: Flow,
  groups: readonly PlannedGroup[],
  cached: ReadonlySet<string>,
  rows: number,
): Lifetime[] {
  const elsewhere = new Set([...cached, ...flow.outputs.values()]);
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
