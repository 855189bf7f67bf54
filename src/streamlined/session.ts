/** Runs a model by a plan: group by group, each in slices, with all features in one block of memory. */
import { ArgumentError, HalfstepError } from "../errors.ts";
import type { StagedModel } from "../models/architecture.ts";
import { OUT } from "../models/grouping.ts";
import type { WeightSource } from "../models/weights.ts";
import { openAll, releaseAll } from "../runtime/open-all.ts";
import type { Runtime, Session, SessionOptions, WeightLocations } from "../runtime/runtime.ts";
import { type DType, type FloatTensor, floatTensor, type Tensor } from "../tensor.ts";
import { batchOf, bytesOf, flowOf, sliceGraph } from "./grouping.ts";
import {
  applyPlan,
  isStreamed,
  type Layout,
  type Plan,
  type PlannedGroup,
  type Rehash,
  SCRATCH,
  withRows,
} from "./plan.ts";
import { type Elements, gather, isView, type Part, type Placement, placementOf, scatter, viewOf } from "./slicing.ts";

/**
 * The features that a full step caches for rehash steps: for each pass, feature -> values. Each run of the sampler has
 * its own.
 */
export type CachedFeatures = readonly ReadonlyMap<string, Float32Array>[];

/** Progress, as a listener gets it before a group runs. */
export interface GroupProgress {
  readonly group: string;
  /** Counts from 0, over all passes of this call. */
  readonly groupIndex: number;
  readonly groups: number;
}

export interface RunOptions {
  /** Where a full step writes, and a rehash step reads, the cached features. */
  cache?: CachedFeatures;
  /**
   * Runs a rehash step, from the features in `cache`. If it computes only half of the batch, the first half of the output is
   * zero.
   */
  again?: boolean;
  onGroup?: (progress: GroupProgress) => void;
}

/**
 * A group that is compiled for so few runs multiplies from the mapped file. To pack 139 MB of weights took 0.2 s of the processor, to pack them
 * in the course of a run of 1,024 rows 0.08 (docs/notebook/streamlined.md).
 */
const UNPACKED = 2;

/** Where the features of one pass are. Only inputs can be other than float32. */
type Places = (id: string) => Elements;

export class StreamlinedSession {
  readonly layout: Layout;
  readonly #compile: (group: PlannedGroup) => Promise<Session>;
  /** Sessions of the groups that stay compiled. */
  readonly #sessions: Map<PlannedGroup, Session>;
  #arena: ArrayBuffer | null = null;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(
    layout: Layout,
    compile: (group: PlannedGroup) => Promise<Session>,
    sessions: Map<PlannedGroup, Session>,
  ) {
    this.layout = layout;
    this.#compile = compile;
    this.#sessions = sessions;
  }

  /**
   * Compiles a model with known sizes. `locations` says where the weight files are that `source` refers to.
   * Throws ArgumentError for a plan that does not fit, and the errors of the runtime.
   */
  static async compile(
    runtime: Runtime,
    model: StagedModel,
    source: WeightSource,
    locations: WeightLocations,
    plan: Plan,
    { rehash = null, ...options }: SessionOptions & { rehash?: Rehash | null } = {},
  ): Promise<StreamlinedSession> {
    return StreamlinedSession.open(runtime, applyPlan(flowOf(model), plan, rehash), source, locations, options);
  }

  /** The same for a plan that is applied already. */
  static async open(
    runtime: Runtime,
    layout: Layout,
    source: WeightSource,
    locations: WeightLocations,
    options: SessionOptions = {},
  ): Promise<StreamlinedSession> {
    const { flow, groups, plan } = layout;
    const settings: SessionOptions = { takesTurns: groups.length > 1, block: false, ...options };
    const compile = (group: PlannedGroup) =>
      runtime.compile(sliceGraph(group, flow.sizes, source, group.rows), locations, {
        reorder: group.plan.reorder ?? !isStreamed(plan, group.plan),
        prepack: !isStreamed(plan, group.plan) || group.parts.length > UNPACKED,
        ...settings,
      });
    const resident = groups.filter((group) => !isStreamed(plan, group.plan));
    const sessions = await openAll(resident, compile);
    return new StreamlinedSession(layout, compile, new Map(resident.map((group, i) => [group, sessions[i]!])));
  }

  /** Bytes allocated for features; 0 before the first run. */
  get allocated(): number {
    return this.#arena?.byteLength ?? 0;
  }

  /** Allocates memory for the features that a full step caches. */
  allocateCache(): CachedFeatures {
    const { flow, cached, plan, rows } = this.layout;
    return Array.from(
      { length: plan.passes },
      () => new Map([...cached].map((id) => [id, new Float32Array(bytesOf(flow.sizes.get(id)!, rows) / 4)])),
    );
  }

  /**
   * Computes the model's outputs. A session does one run at a time, and further calls wait. Throws ArgumentError,
   * ShapeError.
   */
  run(feeds: Readonly<Record<string, Tensor>>, options: RunOptions = {}): Promise<Record<string, FloatTensor>> {
    const result = this.#last.then(() => this.#run(feeds, options));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #run(feeds: Readonly<Record<string, Tensor>>, { cache, again = false, onGroup }: RunOptions) {
    const { flow, plan, rows } = this.layout;
    this.#check(feeds);
    const groups = this.layout.groups.filter((group) => !again || group.again);
    const outputs = new Map(
      [...flow.outputs].map(([name, id]) => [id, { name, tensor: floatTensor(Object.values(flow.sizes.get(id)!)) }]),
    );
    // A rehash step for half of the batch starts at this row.
    const from = again && this.layout.half ? batchOf(flow) / 2 : 0;
    const first = Math.floor(from / rows);
    let done = 0;
    for (let pass = first; pass < plan.passes; pass++) {
      const inPass: Part = {
        rows: { start: pass * rows, end: (pass + 1) * rows },
        axis: "",
        range: { start: 0, end: 0 },
      };
      const given = new Map(
        [...flow.inputs].map(([name, id]) => {
          const values = feeds[name]!.data as Elements;
          return [id, flow.sizes.has(id) ? viewOf(values, placementOf(flow.sizes.get(id)!, inPass)) : values] as const;
        }),
      );
      const places: Places = (id) => {
        const output = outputs.get(id);
        if (output) return viewOf(output.tensor.data, placementOf(flow.sizes.get(id)!, inPass));
        return given.get(id) ?? cache?.[pass]?.get(id) ?? this.#place(id);
      };
      for (const group of groups) {
        onGroup?.({ group: group.name, groupIndex: done++, groups: (plan.passes - first) * groups.length });
        await this.#runGroup(group, places, from - pass * rows);
      }
    }
    return Object.fromEntries([...outputs.values()].map(({ name, tensor }) => [name, tensor]));
  }

  /** Runs a group for the rows of a pass from `from` on. */
  async #runGroup(group: PlannedGroup, places: Places, from: number): Promise<void> {
    const resident = this.#sessions.get(group);
    const session = resident ?? (await this.#compile(group));
    try {
      const parts = group.parts.filter(({ rows }) => rows.start >= from);
      for (const part of parts) await this.#runPart(session, group, part, places);
    } finally {
      if (!resident) await session.release();
    }
  }

  async #runPart(session: Session, group: PlannedGroup, part: Part, places: Places): Promise<void> {
    const { flow, rows, groups } = this.layout;
    let used = 0;
    /** A view of the part if it is contiguous, otherwise scratch memory for a copy. */
    const tensorOf = (id: string, placement: Placement): Tensor => {
      const dtype = (flow.types.get(id) ?? "float32") as DType;
      if (isView(placement)) return { dtype, shape: placement.shape, data: viewOf(places(id), placement) } as Tensor;
      const size = placement.runs * placement.run;
      const scratch = this.#place(SCRATCH + groups.indexOf(group)).subarray(used, used + size);
      used += size;
      return floatTensor(placement.shape, scratch);
    };
    const placed = (id: string) => placementOf(withRows(flow.sizes.get(id)!, rows), part);
    const feeds = group.reads.map((id) => {
      const placement = placed(id);
      const tensor = tensorOf(id, placement);
      if (!isView(placement)) gather(floats(places(id)), placement, floats(tensor.data));
      return [id, tensor] as const;
    });
    const into = group.writes.map((id) => ({ id, placement: placed(id), tensor: tensorOf(id, placed(id)) }));
    await session.run(Object.fromEntries(feeds), Object.fromEntries(into.map(({ id, tensor }) => [OUT + id, tensor])));
    for (const { id, placement, tensor } of into) {
      if (!isView(placement)) scatter(floats(tensor.data), placement, floats(places(id)));
    }
  }

  /** A feature's place in the arena, for a whole pass. */
  #place(id: string): Float32Array {
    const { arena, lifetimes } = this.layout;
    const life = lifetimes.find(({ name }) => name === id);
    if (!life) {
      throw new HalfstepError(
        `"${id}" has no place in memory; a rehash step needs the features that a full step cached.`,
      );
    }
    this.#arena ??= new ArrayBuffer(arena.bytes);
    return new Float32Array(this.#arena, arena.offsets.get(id)!, life.bytes / 4);
  }

  #check(feeds: Readonly<Record<string, Tensor>>): void {
    const { flow } = this.layout;
    const { className, inputs } = flow.model;
    for (const [name, id] of flow.inputs) {
      const feed = feeds[name];
      const sizes = flow.sizes.get(id);
      if (!feed) {
        throw new ArgumentError(
          `${className}: no tensor was given for input "${name}"; it takes ${Object.keys(inputs).join(", ")}.`,
        );
      }
      const wanted = sizes ? Object.values(sizes) : inputs[name]!.shape;
      const { dtype } = inputs[name]!;
      if (feed.dtype === dtype && feed.shape.join() === wanted.join()) continue;
      throw new ArgumentError(
        `${className}: input "${name}" is ${feed.dtype} [${feed.shape.join(", ")}], but it was planned for ` +
          `${dtype} [${wanted.join(", ")}].`,
      );
    }
  }

  async release(): Promise<void> {
    await this.#last;
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    this.#arena = null;
    await releaseAll(sessions);
  }
}

/** Parts that are copied are of features between groups, and of latents: float32. */
const floats = (values: Tensor["data"]) => values as Float32Array;
