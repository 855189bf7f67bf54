/** Runs a model's stages, compiled in groups: one ONNX Runtime session per group, each passing its features to the next. */
import type { WeightFiles } from "../checkpoints/weights.ts";
import { checkWeights } from "../checkpoints/weights.ts";
import { ArgumentError, ShapeError } from "../errors.ts";
import { splitOnce } from "../graph/once.ts";
import { type OnnxModel, toOnnx } from "../graph/onnx.ts";
import { type Dim, describe, input, type Value } from "../graph/value.ts";
import { openAll, releaseAll } from "../runtime/open-all.ts";
import type { Runtime, Session, SessionOptions, WeightLocations } from "../runtime/runtime.ts";
import type { Tensor } from "../tensor.ts";
import { type Architecture, describeModel, type Geometry, type StagedModel, weightShapes } from "./architecture.ts";
import { checkCounts } from "./counts.ts";
import { buildGroup, type FeatureFlow, featureFlow, groupStages, OUT, type StageGroup } from "./grouping.ts";
import { OnceSession } from "./once-session.ts";
import { checkpointWeights, type WeightSource, Weights, weightLocations } from "./weights.ts";

/** How a model's stages are compiled. */
export interface StagedOptions extends SessionOptions {
  /** How many stages each session has, in order; by default one session has all of them. */
  groups?: readonly number[];
  /**
   * Compile each group just before it runs and release it afterwards. This needs the memory of one group instead of all, but
   * reads the weights again in every run. One stage per group unless `groups` says otherwise.
   */
  stream?: boolean;
  /**
   * Compute what follows from a model's `conditions` alone in a session of its own, so that `forRun` can do it once. Only where one
   * session has all stages. Off unless given.
   */
  conditionsOnce?: boolean;
}

/** One group's graph. Its inputs are named like their features; its outputs too, with `OUT` in front. */
interface Group extends Pick<StageGroup, "writes"> {
  readonly graph: OnnxModel;
  /** What is compiled instead where a part of it is computed once a run. */
  readonly split: { readonly once: OnnxModel; readonly each: OnnxModel } | null;
  /** Features that a later group or the caller reads. */
  readonly needed: ReadonlySet<string>;
}

/** One graph per group. Throws ArgumentError if the sizes do not add up to the number of stages. */
function groupGraphs(
  flow: FeatureFlow,
  source: WeightSource,
  sizes: readonly number[],
  conditionsOnce: boolean,
): Group[] {
  const { inputs, conditions = [] } = flow.model;
  const constant = new Set(
    conditionsOnce && sizes.length === 1 ? conditions.map((name) => flow.inputs.get(name)!) : [],
  );
  const values = new Map([...flow.inputs].map(([name, id]) => [id, inputs[name]!]));
  const groups = groupStages(flow, sizes);
  return groups.map((group, i) => {
    const inputOf = (id: string) => {
      const { shape, dtype } = values.get(id)!;
      return input(id, shape, dtype);
    };
    const built = buildGroup(group, inputOf, new Weights(source));
    for (const id of group.writes) values.set(id, built[OUT + id]!);
    const later = groups.slice(i + 1).flatMap(({ reads }) => reads);
    const needed = new Set([...later, ...flow.outputs.values()]);
    const split = splitOnce(built, constant);
    const graphs = split && { once: toOnnx(split.once), each: toOnnx(split.each) };
    return { writes: group.writes, graph: toOnnx(built), split: graphs, needed };
  });
}

/** What runs a model, whichever way. */
export type ModelSession = Pick<StagedSession, "model" | "run">;

/** A model that is ready to run. */
export class StagedSession {
  readonly model: StagedModel;
  readonly #flow: FeatureFlow;
  readonly #groups: readonly Group[];
  readonly #compile: (group: Group) => Promise<Session>;
  /** One for each group; empty if the model is streamed. */
  readonly #sessions: readonly Session[];

  private constructor(
    flow: FeatureFlow,
    groups: readonly Group[],
    compile: (group: Group) => Promise<Session>,
    sessions: readonly Session[],
  ) {
    this.model = flow.model;
    this.#flow = flow;
    this.#groups = groups;
    this.#compile = compile;
    this.#sessions = sessions;
  }

  /**
   * Compiles a model. `locations` says where the weight files are that `source` refers to. Throws ArgumentError for
   * groups that do not add up to the model's stages, and passes on the runtime's errors.
   */
  static async compile(
    runtime: Runtime,
    model: StagedModel,
    source: WeightSource,
    locations: WeightLocations,
    { groups: sizes, stream = false, conditionsOnce = false, ...options }: StagedOptions = {},
  ): Promise<StagedSession> {
    const all = stream ? model.stages.map(() => 1) : [model.stages.length];
    const flow = featureFlow(model);
    const groups = groupGraphs(flow, source, sizes ?? all, conditionsOnce && !stream);
    const takesTurns = groups.length > 1 || groups.some(({ split }) => split !== null);
    const sessionOptions: SessionOptions = { takesTurns, ...options };
    const compileGraph = (graph: OnnxModel) => runtime.compile(graph, locations, sessionOptions);
    const compile = ({ graph, split }: Group): Promise<Session> =>
      split ? OnceSession.compile(split, compileGraph) : compileGraph(graph);
    return new StagedSession(flow, groups, compile, await openAll(stream ? [] : groups, compile));
  }

  /**
   * Runs all stages. `feeds` has a tensor for each of the model's inputs; outputs that have a tensor in `into` are
   * written there, the others are allocated. An aborted signal stops it before the next session. Throws ArgumentError
   * for a missing input, ShapeError for one of another shape or type.
   */
  async run(
    feeds: Readonly<Record<string, Tensor>>,
    into: Readonly<Record<string, Tensor>> = {},
    signal?: AbortSignal,
  ): Promise<Record<string, Tensor>> {
    checkFeeds(this.model, feeds);
    const { inputs, outputs } = this.#flow;
    const features = new Map([...inputs].map(([name, id]) => [id, feeds[name]!]));
    const places = new Map([...outputs].flatMap(([name, id]) => (into[name] ? [[OUT + id, into[name]] as const] : [])));
    for (const [i, { writes, needed }] of this.#groups.entries()) {
      signal?.throwIfAborted();
      const resident = this.#sessions[i];
      const session = resident ?? (await this.#compile(this.#groups[i]!));
      let results: Record<string, Tensor>;
      try {
        results = await session.run(Object.fromEntries(features), Object.fromEntries(places));
      } finally {
        if (!resident) await session.release();
      }
      for (const id of writes) features.set(id, results[OUT + id]!);
      for (const id of features.keys()) if (!needed.has(id)) features.delete(id);
    }
    return Object.fromEntries([...outputs].map(([name, id]) => [name, features.get(id)!]));
  }

  /**
   * The same sessions for one run of the sampler: what follows from the model's conditions alone is computed at the first step, and again
   * only where the conditions are other arrays. So their contents must stay. Only the original is to be released.
   */
  forRun(): StagedSession {
    const sessions = this.#sessions.map((session) => (session instanceof OnceSession ? session.forRun() : session));
    return new StagedSession(this.#flow, this.#groups, this.#compile, sessions);
  }

  /** Frees memory and threads. */
  async release(): Promise<void> {
    await releaseAll(this.#sessions);
  }
}

/** Compares the inputs with those that the model was compiled for; a named dimension must be the same in all of them. */
function checkFeeds({ className, inputs }: StagedModel, feeds: Readonly<Record<string, Tensor>>): void {
  const named = new Map<Dim, number>();
  for (const [name, { dtype, shape }] of Object.entries<Value>(inputs)) {
    const feed = feeds[name];
    if (!feed) {
      throw new ArgumentError(
        `${className}: no tensor was given for input "${name}"; it takes ${Object.keys(inputs).join(", ")}.`,
      );
    }
    const fits = shape.map((dim, axis) => {
      const found = feed.shape[axis];
      if (typeof dim === "string" && found !== undefined && !named.has(dim)) named.set(dim, found);
      return (typeof dim === "string" ? named.get(dim) : dim) === found;
    });
    if (feed.dtype === dtype && feed.shape.length === shape.length && fits.every(Boolean)) continue;
    const wanted = shape.map((dim) => (typeof dim === "string" && named.has(dim) ? `${dim} = ${named.get(dim)}` : dim));
    throw new ShapeError(
      `${className}: input "${name}" is ${feed.dtype} ${describe(feed.shape)}, but it was compiled for ` +
        `${dtype} ${describe(wanted)}.`,
    );
  }
}

/**
 * Compiles a model with a checkpoint's weights. `config` is the result of `architecture.parseConfig`. Tensors that the
 * model does not need are ignored. Throws one CheckpointError that lists every tensor that is missing or has another
 * shape, ArgumentError for a geometry that the model cannot have.
 */
export async function loadModel<Config>(
  runtime: Runtime,
  architecture: Architecture<Config>,
  config: Config,
  files: WeightFiles,
  geometry: Geometry,
  options: StagedOptions = {},
): Promise<StagedSession> {
  const weights = namedWeights(architecture, files);
  checkCounts(architecture.counts?.(config) ?? [], weights);
  const model = architecture.model(config, geometry);
  checkWeights(weights, weightShapes(model), describeModel(model), () => true);
  const source = checkpointWeights(weights, describeModel(model));
  return StagedSession.compile(runtime, model, source, weightLocations(weights), options);
}

/** A checkpoint's tensors under the names that an architecture asks for. */
export function namedWeights(architecture: Architecture<unknown>, files: WeightFiles): WeightFiles {
  return architecture.rename ? files.renamed(architecture.rename) : files;
}
