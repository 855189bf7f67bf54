/**
 * The memory planner. For a budget in bytes it chooses groups, slices, passes and whether weights stay in memory, using a model of
 * the peak (docs/streamlined.md has the formula and the measurements it was checked against).
 */
import { BudgetError } from "../errors.ts";
import { describeBytes } from "./bytes.ts";
import { type GroupCost, groupCost, type HeldShare } from "./cost.ts";
import { batchOf, bytesOf, type Flow, type Group, groupsOf, longestGroups } from "./grouping.ts";
import { applyPlan, type GroupPlan, isHalved, isStreamed, type Layout, type Plan, type Rehash } from "./plan.ts";

/** The predicted memory of a plan, in bytes. */
export interface Prediction {
  /** The peak, which is the total of the parts below at that time. */
  readonly peak: number;
  /** Everything in memory apart from the model: Node, ONNX Runtime, free blocks of the allocator. */
  readonly overhead: number;
  /** Inputs and outputs, the arena of features, and the features cached from step to step. */
  readonly features: number;
  /** Weights of all groups that stay, and those of the group at the peak if it does not. */
  readonly weights: number;
  /** Intermediate values of the group at the peak. */
  readonly activations: number;
}

export interface PlannedRun {
  readonly plan: Plan;
  readonly layout: Layout;
  readonly prediction: Prediction;
  /** Bytes of weights that every run reads again. */
  readonly readAgain: number;
}

export interface PlannerOptions {
  /** The budget in bytes. */
  memory: number;
  rehash?: Rehash | null;
  /** Memory of the process without the model, in bytes. */
  overhead?: number;
  /** Of weights that sessions hold in fewer bits than float32: 1 unless given. */
  held?: HeldShare;
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
/** Groups are kept, although the plan streams, up to this share of the budget: predictions are within a few percent. */
const KEPT_UP_TO = 0.95;

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

/**
 * The fastest plan within a budget. Where not all weights fit, it is the one that reads the fewest again in every run. Throws
 * BudgetError, with the smallest possible budget, if there is none.
 */
export function planFor(flow: Flow, options: PlannerOptions): PlannedRun {
  const { memory, rehash = null } = options;
  const costs = new Costs(flow, rehash, options.held);
  const modes: Modelled[] = [];
  const [near, cramped]: [PlannedRun[], PlannedRun[]] = [[], []];
  for (const kind of modesOf(flow, rehash)) {
    const mode = new Modelled(flow, kind, costs, options);
    modes.push(mode);
    const room = mode.mostRoom(memory);
    if (room === null) continue;
    const run = mode.keeping(room, memory);
    if (room >= mode.enough && !kind.stream) return run;
    (room >= mode.enough ? near : cramped).push(run);
  }
  const fitting = near.length > 0 ? near : cramped;
  if (fitting.length > 0) return fitting.reduce((best, run) => (run.readAgain < best.readAgain ? run : best));
  const smallest = Math.min(...modes.map((mode) => mode.planned(mode.leastRoom).prediction.peak));
  throw new BudgetError(
    `${flow.model.className} cannot run in ${describeBytes(memory)}; the smallest budget for these sizes is ` +
      `${describeBytes(smallest)}. Allow that much, or ask for fewer frames or a smaller picture.`,
    // Rounded as in the message, so that the number printed there works.
    printedBytes(smallest),
  );
}

/** As `describeBytes` rounds. */
export const printedBytes = (bytes: number): number => {
  const unit = bytes >= 1e9 ? 1e7 : 1e6;
  return Math.ceil(bytes / unit) * unit;
};

/** Predicts the memory of a plan that was not made by `planFor`. */
export function predict(flow: Flow, plan: Plan, rehash: Rehash | null = null, overhead = OVERHEAD): Prediction {
  const layout = applyPlan(flow, plan, rehash);
  const costs = layout.groups.map((group) => groupCost(group, flow.sizes, group.rows));
  return predictionOf(layout, costs, overhead);
}

/** What groups cost, worked out once for all modes that have the same groups. */
class Costs {
  readonly #flow: Flow;
  readonly #rehash: Rehash | null;
  readonly #held: HeldShare | undefined;
  readonly #known = new Map<string, GroupCost[]>();

  constructor(flow: Flow, rehash: Rehash | null, held: HeldShare | undefined) {
    this.#flow = flow;
    this.#rehash = rehash;
    this.#held = held;
  }

  of({ counts, passes }: Mode): Costed[] {
    const rows = batchOf(this.#flow) / passes;
    const groups = groupsOf(this.#flow, counts, this.#rehash?.cached);
    const [alone, together] = [this.#costs(counts, groups, 1), this.#costs(counts, groups, rows)];
    return groups.map((group, i) => {
      const halved = isHalved(this.#flow, group, passes, this.#rehash);
      return { group, alone: alone[i]!, together: halved ? null : together[i]! };
    });
  }

  #costs(counts: readonly number[], groups: readonly Group[], rows: number): GroupCost[] {
    const key = JSON.stringify([counts, rows]);
    const known = this.#known.get(key);
    if (known) return known;
    const costs = groups.map((group) => groupCost(group, this.#flow.sizes, rows, this.#held));
    this.#known.set(key, costs);
    return costs;
  }
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

  constructor(flow: Flow, mode: Mode, costs: Costs, { rehash = null, overhead = OVERHEAD }: PlannerOptions) {
    this.#flow = flow;
    this.#mode = mode;
    this.#rehash = rehash;
    this.#overhead = overhead;
    this.#costs = costs.of(mode);
    const least = ({ group, alone }: Costed) => this.#held(alone) + valuesOf(alone, group, mostSlices(group));
    this.leastRoom = Math.max(...this.#costs.map(least));
    this.enough = Math.max(
      this.leastRoom,
      ...this.#costs.map(({ group, alone, together }) => {
        const cost = together ?? alone;
        return this.#held(cost) + Math.min(nearOf(alone), valuesOf(cost, group, 1));
      }),
    );
  }

  #held = ({ weights, widened }: GroupCost) => widened + (this.#mode.stream ? weights : 0);

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
      const fits = (cost: GroupCost, slices: number, near: number) => {
        const values = valuesOf(cost, group, slices);
        return values <= near && this.#held(cost) + values <= room;
      };
      if (together && fits(together, 1, NEAR)) return { stages, slices: 1, together: true, reorder };
      let slices = 1;
      while (slices < mostSlices(group) && !fits(alone, slices, nearOf(alone))) slices++;
      return { stages, slices, together: false, reorder };
    });
    const run = this.#run({ groups, passes, stream });
    this.#made.set(room, run);
    return run;
  }

  /**
   * The same, with as many weights as there is memory for: those of convolutions first, which have to be reordered to be fast, then
   * those of the largest groups.
   */
  keeping(room: number, memory: number): PlannedRun {
    let run = this.planned(room);
    if (!this.#mode.stream) return run;
    const worth = this.#costs.map(({ alone: { weights, convolutions } }) => ({
      weights,
      share: Math.round(convolutions / Math.max(1, weights)),
    }));
    const order = worth.map((_, i) => i);
    order.sort((a, b) => worth[b]!.share - worth[a]!.share || worth[b]!.weights - worth[a]!.weights);
    for (const i of order) {
      const { groups } = run.plan;
      const plan = { ...run.plan, groups: groups.with(i, { ...groups[i]!, keep: true, reorder: true }) };
      // Features lie where they lay.
      const layout = {
        ...run.layout,
        plan,
        groups: run.layout.groups.map((g, j) => ({ ...g, plan: plan.groups[j]! })),
      };
      const kept = this.#run(plan, layout);
      if (kept.prediction.peak <= KEPT_UP_TO * memory) run = kept;
    }
    return run;
  }

  #run(plan: Plan, layout = applyPlan(this.#flow, plan, this.#rehash)): PlannedRun {
    const costs = this.#costs.map(({ alone, together }, i) => (plan.groups[i]!.together ? together! : alone));
    const again = costs.filter((_, i) => isStreamed(plan, plan.groups[i]!));
    const readAgain = plan.passes * again.reduce((sum, { weights }) => sum + weights, 0);
    return { plan, layout, prediction: predictionOf(layout, costs, this.#overhead), readAgain };
  }
}

/** How large a slice's values are at most: what every slice needs anyway, as attention's keys and values, is not to be most of it. */
const nearOf = ({ fixed }: GroupCost) => Math.max(NEAR, 2 * fixed);

const mostSlices = ({ axis, length }: Group) => (axis === "position" ? Math.min(length, MOST_POSITION_SLICES) : length);

/** Bytes of a group's intermediate values for its longest slice. */
function valuesOf({ fixed, each }: Pick<GroupCost, "fixed" | "each">, { length }: Group, slices: number): number {
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
  const streamed = groups.map((group) => isStreamed(plan, group.plan));
  const kept = costs.reduce((sum, { weights }, i) => sum + (streamed[i] ? 0 : weights), 0);
  const at = costs.map(({ weights, widened, largestWeight, ...cost }, i) => {
    const { slices, reorder = !streamed[i] } = groups[i]!.plan;
    const values = valuesOf(cost, groups[i]!, slices);
    // Sessions that stay are all created before there are features. Streamed ones are created while the features are in memory.
    const making = reorder ? REORDERING * largestWeight - (streamed[i] ? 0 : features) : 0;
    const own = streamed[i] ? weights : 0;
    return { weights: WEIGHT_SHARE * (kept + own) + widened, activations: Math.max(values, making) };
  });
  const { weights, activations } = at.reduce((most, each) =>
    each.weights + each.activations > most.weights + most.activations ? each : most,
  );
  return { peak: overhead + features + weights + activations, overhead, features, weights, activations };
}
