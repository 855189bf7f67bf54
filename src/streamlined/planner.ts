/**
 * The memory planner. For a budget in bytes it chooses groups, slices, passes and whether weights stay in memory, using a model of
 * the peak (docs/streamlined.md has the formula and the measurements it was checked against).
 */
import { BudgetError } from "../errors.ts";
import { describeBytes } from "./bytes.ts";
import { type GroupCost, groupCost } from "./cost.ts";
import { batchOf, bytesOf, type Flow, type Group, groupsOf, longestGroups } from "./grouping.ts";
import { applyPlan, type GroupPlan, isHalved, type Layout, type Plan, type Rehash } from "./plan.ts";

/** The predicted memory of a plan, in bytes. */
export interface Prediction {
  /** The peak, which is the total of the parts below at that time. */
  readonly peak: number;
  /** Everything in memory apart from the model: Node, ONNX Runtime, free blocks of the allocator. */
  readonly overhead: number;
  /** Inputs and outputs, the arena of features, and the features cached from step to step. */
  readonly features: number;
  /** Weights of the group at the peak if groups are streamed, otherwise the weights of all groups. */
  readonly weights: number;
  /** Intermediate values of the group at the peak. */
  readonly activations: number;
}

export interface PlannedRun {
  readonly plan: Plan;
  readonly layout: Layout;
  readonly prediction: Prediction;
}

export interface PlannerOptions {
  /** The budget in bytes. */
  memory: number;
  rehash?: Rehash | null;
  /** Memory of the process without the model, in bytes. */
  overhead?: number;
}

/** Memory of Node and ONNX Runtime before a model is loaded, and of the graphs (docs/streamlined.md). */
export const OVERHEAD = 180e6;
/** Memory that ONNX Runtime takes for the weights of a session, relative to their size. */
export const WEIGHT_SHARE = 1.02;
/** Copies of the largest convolution weight while a session that reorders it is created: as read, reordered, and stored. */
const REORDERING = 2.5;
/**
 * Groups with larger weights are not reordered if they are compiled at every step, since reordering takes longer than
 * it saves.
 */
const REORDERED = 48e6;
/** More slices of positions cost more, in copies and in matrix products with few rows, than they save. */
const MOST_POSITION_SLICES = 64;
/**
 * Bytes of a slice's values that still fit into the processor's caches and into blocks that the allocator can reuse. Larger slices
 * are slower, and smaller ones read the weights more often (docs/notebook/streamlined.md has the figures).
 */
const NEAR = 20e6;

interface Costed {
  readonly group: Group;
  /** The cost for one row of a pass, and for all rows together if they can run together. */
  readonly alone: GroupCost;
  readonly together: GroupCost | null;
}

interface Mode {
  readonly stream: boolean;
  readonly passes: number;
  readonly counts: readonly number[];
}

/** The fastest plan within a budget. Throws BudgetError, with the smallest possible budget, if there is none. */
export function planFor(flow: Flow, { memory, rehash = null, overhead = OVERHEAD }: PlannerOptions): PlannedRun {
  const modes: Modelled[] = [];
  let fits: PlannedRun | null = null;
  for (const kind of modesOf(flow, rehash)) {
    const mode = new Modelled(flow, kind, rehash, overhead);
    modes.push(mode);
    const room = mode.mostRoom(memory);
    if (room === null) continue;
    if (room >= mode.enough) return mode.planned(room);
    fits ??= mode.planned(room);
  }
  if (fits) return fits;
  const smallest = Math.min(...modes.map((mode) => mode.planned(mode.leastRoom).prediction.peak));
  throw new BudgetError(
    `${flow.model.className} cannot run in ${describeBytes(memory)}; the smallest budget for these sizes is ` +
      `${describeBytes(smallest)}. Allow that much, or ask for fewer frames or a smaller picture.`,
    // Rounded as in the message, so that the number printed there works.
    printed(smallest),
  );
}

const printed = (bytes: number) => (bytes >= 1e9 ? Math.ceil(bytes / 1e7) * 1e7 : Math.ceil(bytes / 1e6) * 1e6);

/** Predicts the memory of a plan that was not made by `planFor`. */
export function predict(flow: Flow, plan: Plan, rehash: Rehash | null = null, overhead = OVERHEAD): Prediction {
  const layout = applyPlan(flow, plan, rehash);
  const costs = layout.groups.map((group) => groupCost(group, flow.sizes, group.rows));
  return predictionOf(layout, costs, overhead);
}

/** Modes, fastest first: prefer weights that stay in memory, then all rows together, then long groups. */
function modesOf(flow: Flow, rehash: Rehash | null): Mode[] {
  const borders = bordersOf(flow, rehash);
  const long = longestGroups(flow, borders);
  const single = flow.stages.map(() => 1);
  const halves = batchOf(flow) % 2 === 0 ? [1, 2] : [1];
  const kinds: [boolean, readonly number[]][] = [
    [false, long],
    [true, long],
    [true, single],
  ];
  return kinds.flatMap(([stream, counts]) => halves.map((passes) => ({ stream, passes, counts })));
}

/** Stages at which the part that a rehash step runs begins or ends. */
export function bordersOf(flow: Flow, rehash: Rehash | null): Set<number> {
  const indices = flow.stages.map((_, i) => i);
  return new Set(indices.filter((i) => i > 0 && rehash?.stages.has(i) !== rehash?.stages.has(i - 1)));
}

/**
 * Plans of one mode, as a function of the memory for the values of the largest group (with its weights, if they are
 * streamed).
 */
class Modelled {
  readonly #flow: Flow;
  readonly #mode: Mode;
  readonly #rehash: Rehash | null;
  readonly #overhead: number;
  readonly #costs: readonly Costed[];
  readonly #made = new Map<number, PlannedRun>();
  /** With less memory than this, some group does not fit. */
  readonly leastRoom: number;
  /** More memory than this changes nothing. */
  readonly enough: number;

  constructor(flow: Flow, mode: Mode, rehash: Rehash | null, overhead: number) {
    this.#flow = flow;
    this.#mode = mode;
    this.#rehash = rehash;
    this.#overhead = overhead;
    const rows = batchOf(flow) / mode.passes;
    this.#costs = groupsOf(flow, mode.counts, rehash?.cached).map((group) => {
      const alone = groupCost(group, flow.sizes, 1);
      if (isHalved(flow, group, mode.passes, rehash)) return { group, alone, together: null };
      return { group, alone, together: rows === 1 ? alone : groupCost(group, flow.sizes, rows) };
    });
    const least = ({ group, alone }: Costed) => this.#held(alone) + valuesOf(alone, group, mostSlices(group));
    this.leastRoom = Math.max(...this.#costs.map(least));
    this.enough = Math.max(
      this.leastRoom,
      ...this.#costs.map(({ group, alone, together }) => {
        const cost = together ?? alone;
        return this.#held(cost) + Math.min(NEAR, valuesOf(cost, group, 1));
      }),
    );
  }

  #held = ({ weights }: GroupCost) => (this.#mode.stream ? weights : 0);

  /** The most memory for values with which the peak stays within a budget; null if even the least is too much. */
  mostRoom(memory: number): number | null {
    const fits = (room: number) => this.planned(room).prediction.peak <= memory;
    if (!fits(this.leastRoom)) return null;
    let [low, high] = [this.leastRoom, this.enough];
    if (fits(high)) return high;
    for (let i = 0; i < 12; i++) {
      const middle = (low + high) / 2;
      if (fits(middle)) low = middle;
      else high = middle;
    }
    return low;
  }

  planned(room: number): PlannedRun {
    const known = this.#made.get(room);
    if (known) return known;
    const { passes, stream } = this.#mode;
    const groups = this.#costs.map(({ group, alone, together }): GroupPlan => {
      const stages = group.stages.length;
      const reorder = !stream || alone.weights <= REORDERED;
      const fits = (cost: GroupCost, slices: number) => {
        const values = valuesOf(cost, group, slices);
        return values <= NEAR && this.#held(cost) + values <= room;
      };
      if (together && fits(together, 1)) return { stages, slices: 1, together: true, reorder };
      let slices = 1;
      while (slices < mostSlices(group) && !fits(alone, slices)) slices++;
      return { stages, slices, together: false, reorder };
    });
    const plan = { groups, passes, stream };
    const layout = applyPlan(this.#flow, plan, this.#rehash);
    const costs = this.#costs.map(({ alone, together }, i) => (groups[i]!.together ? together! : alone));
    const run = { plan, layout, prediction: predictionOf(layout, costs, this.#overhead) };
    this.#made.set(room, run);
    return run;
  }
}

const mostSlices = ({ axis, length }: Group) => (axis === "position" ? Math.min(length, MOST_POSITION_SLICES) : length);

/** Bytes of a group's intermediate values for its longest slice. */
function valuesOf({ fixed, each }: GroupCost, { length }: Group, slices: number): number {
  return fixed + each * Math.ceil(length / slices);
}

function predictionOf(
  { flow, plan, groups, arena, cachedBytes }: Layout,
  costs: readonly GroupCost[],
  overhead: number,
) {
  const batch = batchOf(flow);
  const outside = [...flow.inputs.values(), ...flow.outputs.values()].filter((id) => flow.sizes.has(id));
  const features =
    arena.bytes + cachedBytes + outside.reduce((sum, id) => sum + bytesOf(flow.sizes.get(id)!, batch), 0);
  const all = costs.reduce((sum, { weights }) => sum + weights, 0);
  const at = costs.map((cost, i) => {
    const { slices, reorder = !plan.stream } = groups[i]!.plan;
    const values = valuesOf(cost, groups[i]!, slices);
    // Sessions that stay are all created before there are features. Streamed ones are created while the features are in memory.
    const making = reorder ? REORDERING * cost.largestWeight - (plan.stream ? 0 : features) : 0;
    return { weights: WEIGHT_SHARE * (plan.stream ? cost.weights : all), activations: Math.max(values, making) };
  });
  const { weights, activations } = at.reduce((most, each) =>
    each.weights + each.activations > most.weights + most.activations ? each : most,
  );
  return { peak: overhead + features + weights + activations, overhead, features, weights, activations };
}
