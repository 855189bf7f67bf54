/** A component of a pipeline: one of its networks, and the sessions that are compiled of it. */

import { type RawConfig, readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { isBlockDType } from "../checkpoints/gguf/blocks.ts";
import { checkWeights, openWeights, type WeightFiles } from "../checkpoints/weights.ts";
import { ArgumentError } from "../errors.ts";
import {
  type Architecture,
  describeModel,
  type Geometry,
  type StagedModel,
  weightShapes,
} from "../models/architecture.ts";
import { checkCounts } from "../models/counts.ts";
import { splitModel } from "../models/split-model.ts";
import { loadModel, namedWeights, type StagedOptions, StagedSession } from "../models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../models/weights.ts";
import { openAll } from "../runtime/open-all.ts";
import type { Runtime, SessionOptions } from "../runtime/runtime.ts";
import type { HeldShare } from "../streamlined/cost.ts";
import { flowOf } from "../streamlined/grouping.ts";
import type { Layout } from "../streamlined/plan.ts";
import { type PlannedRun, planFor } from "../streamlined/planner.ts";
import { StreamlinedSession } from "../streamlined/session.ts";
import type { Tensor } from "../tensor.ts";
import type { Expected } from "./expected-class.ts";
import type { PipelineOptions } from "./loading.ts";
import { SessionCache } from "./session-cache.ts";

/**
 * Most bytes of weights that may be in memory twice, so that a step is one call of the runtime. A call takes a few
 * tenths of a millisecond, which is noticeable only in small networks.
 */
export const MOST_TWICE = 64 * 2 ** 20;

/** How a network runs once. */
export interface RunningOptions {
  /** Bytes that the whole process may take; no limit unless given. */
  budget?: number;
  signal?: AbortSignal;
}

/**
 * Of a weight in ggml's blocks, relative to float32: the bytes of the file that a session reads, and 8-bit numbers and scales that it makes
 * of them.
 */
const HELD_BLOCKS = 0.65;

/** A network of a pipeline: its configuration and the headers of its weights are read; sessions are compiled when they are asked for. */
export class Component<Config> {
  readonly config: Config;
  readonly weights: WeightFiles;
  readonly #architecture: Architecture<Config>;
  readonly #runtime: Runtime;
  readonly #options: StagedOptions;
  readonly #sessions = new SessionCache<StagedSession>();

  private constructor(
    architecture: Architecture<Config>,
    config: Config,
    weights: WeightFiles,
    runtime: Runtime,
    options: StagedOptions,
  ) {
    checkCounts(architecture.counts?.(config) ?? [], namedWeights(architecture, weights));
    this.#architecture = architecture;
    this.config = config;
    this.weights = weights;
    this.#runtime = runtime;
    this.#options = options;
  }

  /** Weights of more than `streamAbove` bytes are read part by part in every run instead of being kept. */
  static async open<Config>(
    folder: Folder,
    expected: Expected<Config>,
    runtime: Runtime,
    { variant, ...options }: PipelineOptions,
    { streamAbove = Number.POSITIVE_INFINITY } = {},
  ): Promise<Component<Config>> {
    const raw = await readConfig(folder);
    const architecture = expected(raw, folder.name);
    const config = architecture.parseConfig(raw);
    const weights = await openWeights(folder, variant);
    const stream = options.stream ?? weights.bytes > streamAbove;
    return new Component(architecture, config, weights, runtime, { ...options, stream });
  }

  /** From a configuration and weights that need not be in one folder. Throws ConfigError. */
  static of<Config>(
    architecture: Architecture<Config>,
    raw: RawConfig,
    weights: WeightFiles,
    runtime: Runtime,
    { variant: _, ...options }: PipelineOptions,
  ): Component<Config> {
    return new Component(architecture, architecture.parseConfig(raw), weights, runtime, options);
  }

  /** Whether weights are read part by part in every run. */
  get streams(): boolean {
    return this.#options.stream ?? false;
  }

  /** Whether it runs on the CPU. */
  get onProcessor(): boolean {
    return ["cpu", "wasm", undefined].includes(this.#options.provider);
  }

  /** The input of a denoiser that is the noisy latent. Throws ArgumentError for a network that is given no picture. */
  get latent(): string {
    const { picture, className } = this.#architecture;
    if (picture !== undefined) return picture;
    throw new ArgumentError(`${className} is no denoiser: none of its inputs is a noisy latent.`);
  }

  /** The network as a list of stages, of these sizes. */
  model(geometry: Geometry): StagedModel {
    return this.#architecture.model(this.config, geometry);
  }

  /** Compiled for these sizes. Where the component has the same options, its own count. */
  async session(geometry: Geometry, options: SessionOptions = {}): Promise<StagedSession> {
    return (await this.inParts(geometry, [], options))[0]!;
  }

  /**
   * Compiled in parts that begin at the stages `cuts` (`splitModel`); kept until other sizes or cuts are asked for.
   */
  inParts(
    geometry: Geometry,
    cuts: readonly number[],
    options: SessionOptions = {},
  ): Promise<readonly StagedSession[]> {
    return this.#sessions.get(JSON.stringify([geometry, cuts, options]), async () => {
      const { weights } = this;
      if (cuts.length > 0) return this.#compile(splitModel(this.model(geometry), cuts), this.#named(), options);
      const settings = this.#settings(options);
      return [await loadModel(this.#runtime, this.#architecture, this.config, weights, geometry, settings)];
    });
  }

  /** Compiles models made of this network and of parts whose weights are `more`. They are cached in place of the network's own sessions. */
  assembled(
    key: string,
    assemble: () => Promise<{ models: readonly StagedModel[]; more?: WeightFiles }>,
    options: SessionOptions = {},
  ): Promise<readonly StagedSession[]> {
    return this.#sessions.get(key, async () => {
      const { models, more } = await assemble();
      const own = this.#named();
      return this.#compile(models, more ? own.joined(more, "more") : own, options);
    });
  }

  /**
   * By which plan a run of these sizes, all of them known, keeps to a budget in bytes. Throws BudgetError, with the smallest
   * budget that works.
   * @internal
   */
  planned(geometry: Geometry, budget: number): PlannedRun {
    return planFor(flowOf(this.model(geometry)), { memory: budget, held: this.heldShare });
  }

  /**
   * How much of a weight a session holds, relative to float32: blocks of ggml's are widened in every run.
   * @internal
   */
  get heldShare(): HeldShare {
    const { entries } = this.#named();
    return (name) => {
      const entry = entries.get(name);
      return entry && isBlockDType(entry.dtype) && !entry.added ? HELD_BLOCKS : 1;
    };
  }

  /**
   * Compiles what a plan needs, in place of the network's own sessions.
   * @internal
   */
  async streamlined({ flow, ...layout }: Layout): Promise<StreamlinedSession> {
    const weights = this.#named();
    const description = describeModel(flow.model);
    checkWeights(weights, weightShapes(flow.model), description, () => true);
    await this.release();
    const source = checkpointWeights(weights, description);
    return this.withRuntime((runtime, options) =>
      StreamlinedSession.open(runtime, { flow, ...layout }, source, weightLocations(weights), options),
    );
  }

  /**
   * One run. Within a budget it runs by a plan, and nothing of it stays in memory; else its sessions are kept, for any batch. Throws
   * the signal's reason when it is aborted.
   */
  async run(
    geometry: Geometry & { batch: number },
    feeds: Readonly<Record<string, Tensor>>,
    { budget = Number.POSITIVE_INFINITY, signal }: RunningOptions = {},
  ): Promise<Record<string, Tensor>> {
    if (budget === Number.POSITIVE_INFINITY) {
      const session = await this.session({ ...geometry, batch: "batch" });
      return session.run(feeds, {}, signal);
    }
    const session = await this.streamlined(this.planned(geometry, budget).layout);
    try {
      return await session.run(feeds, { onGroup: () => signal?.throwIfAborted() });
    } finally {
      await session.release();
    }
  }

  /** Its runtime and session options, for what runs beside this network. */
  withRuntime<T>(use: (runtime: Runtime, options: SessionOptions) => Promise<T>): Promise<T> {
    const { groups: _, stream: __, ...options } = this.#options;
    return use(this.#runtime, options);
  }

  #compile(
    models: readonly StagedModel[],
    weights: WeightFiles,
    options: SessionOptions = {},
  ): Promise<StagedSession[]> {
    return openAll(models, (model) => {
      const source = checkpointWeights(weights, describeModel(model));
      return StagedSession.compile(this.#runtime, model, source, weightLocations(weights), this.#settings(options));
    });
  }

  #named(): WeightFiles {
    return namedWeights(this.#architecture, this.weights);
  }

  /** A pipeline's networks run one after the other; threads that still spin would slow down the next one. */
  #settings(options: SessionOptions): StagedOptions {
    return { takesTurns: true, conditionsOnce: this.onProcessor, ...options, ...this.#options };
  }

  /** Frees memory and threads; what is needed later is compiled anew. */
  release(): Promise<void> {
    return this.#sessions.release();
  }
}
