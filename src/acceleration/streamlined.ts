/** `memory` and `accelerate` of video pipelines: their denoiser by a plan, and with Step Rehash. */

import { checkWeights, type WeightFiles } from "../checkpoints/weights.ts";
import { type Check, callback, isObject, oneOf, text, textOr, whole } from "../checks.ts";
import { type Component, MOST_TWICE } from "../components/components.ts";
import { SessionCache } from "../components/session-cache.ts";
import { ArgumentError, BudgetError } from "../errors.ts";
import { topologicalOrder, type Value } from "../graph/value.ts";
import {
  type Architecture,
  buildModel,
  describeModel,
  type StagedModel,
  weightShapes,
} from "../models/architecture.ts";
import { namedWeights } from "../models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../models/weights.ts";
import { type OptionTable, settings } from "../options/options.ts";
import type { SessionOptions } from "../runtime/runtime.ts";
import { type Denoiser, type Feeds, PlainDenoiser } from "../sampling/denoiser.ts";
import {
  type Action,
  type StepChoice,
  type StepContext,
  type StepPolicy,
  stepChoiceCheck,
} from "../sampling/step-policy.ts";
import { describeBytes, parseBytes } from "../streamlined/bytes.ts";
import { activationBytes, costSource } from "../streamlined/cost.ts";
import { type Flow, flowOf } from "../streamlined/grouping.ts";
import type { Rehash } from "../streamlined/plan.ts";
import { OVERHEAD, type PlannedRun, planFor, WEIGHT_SHARE } from "../streamlined/planner.ts";
import {
  allCuts,
  type Listeners,
  rehashAt,
  rehashCuts,
  rehashPolicy,
  rehashShare,
  StreamlinedDenoiser,
} from "../streamlined/rehash.ts";
import { bytesTwice, RehashDenoiser, rehashModels } from "../streamlined/rehash-steps.ts";
import { StreamlinedSession } from "../streamlined/session.ts";
import { type FloatTensor, sizeOf } from "../tensor.ts";

export const guidanceStepsChoices = ["full", "all"] as const;

/** Step Rehash, with what it needs to know. */
export interface RehashOptions {
  method: "rehash";
  /** Which steps are full: of 25 the first seven and every third after them unless given, of others the same share. */
  schedule?: StepChoice;
  /** The feature after which a rehash step comes back in: after the first layer of the last block unless given. */
  cut?: string;
  /** How many features of the way down a rehash step works out anew, 1 unless given: the first convolution. */
  fresh?: number;
  /**
   * The steps at which guidance works out the network with and without the condition: "full" ones unless given. At the others
   * the difference of the last full step serves, and they cost half as much.
   */
  guidanceSteps?: (typeof guidanceStepsChoices)[number];
}

/** The noise that the last full step predicted, again: what Step Rehash has to be better than. */
export interface ReuseOptions {
  method: "reuse";
  schedule?: StepChoice;
}

export const videoAccelerations = ["none", "rehash"] as const;
/** "none" unless given. */
export type VideoAccelerate = (typeof videoAccelerations)[number] | RehashOptions | ReuseOptions;

const rehashTable: OptionTable<RehashOptions> = {
  method: oneOf(["rehash"]),
  schedule: stepChoiceCheck,
  cut: text,
  fresh: whole(0, 4096),
  guidanceSteps: oneOf(guidanceStepsChoices),
};
const reuseTable: OptionTable<ReuseOptions> = { method: oneOf(["reuse"]), schedule: stepChoiceCheck };

const videoAccelerateCheck: Check = textOr(oneOf(videoAccelerations), (value, name) => {
  const reuses = isObject(value) && value["method"] === "reuse";
  (reuses ? settings(reuseTable) : settings(rehashTable))(value, name);
});

export interface StreamlinedOptions extends Listeners {
  /** What the whole process may take, as bytes or "6GB"; as much as it likes unless given. */
  memory?: number | string;
  /** With `onFeatures` all steps are full: it is given the features at all places where they could be cut. */
  accelerate?: VideoAccelerate;
}

export const streamlinedOptions: OptionTable<StreamlinedOptions> = {
  memory: textOr(text, whole(1, Number.MAX_SAFE_INTEGER)),
  accelerate: videoAccelerateCheck,
  onGroup: callback,
  onFeatures: callback,
};

/** Of the latent, and of what a network is given beside it. */
export interface NetworkSize {
  batch: number;
  /** Whether the first half of the batch is the second without its condition. */
  guided?: boolean;
  frames: number;
  height: number;
  width: number;
  tokens: number;
}

/** How many steps were done in full, and how many in part. */
export interface VideoActions {
  fullSteps: number;
  rehashSteps: number;
}

export function videoActions({ actions }: Denoiser): VideoActions {
  const fullSteps = actions.filter((action) => action === "full").length;
  return { fullSteps, rehashSteps: actions.length - fullSteps };
}

/** Options whose `onGroup` stops a step between two groups when the signal is aborted: a step may take minutes. */
export function abortable(options: StreamlinedOptions & { signal?: AbortSignal }): StreamlinedOptions {
  const { memory, accelerate, onGroup, onFeatures, signal } = options;
  return {
    ...(memory === undefined ? {} : { memory }),
    ...(accelerate === undefined ? {} : { accelerate }),
    ...(onFeatures === undefined ? {} : { onFeatures }),
    onGroup: (progress) => {
      signal?.throwIfAborted();
      onGroup?.(progress);
    },
  };
}

/** Networks with more bytes of weights run by a plan on the CPU without being asked to: in slices they are faster. */
const LARGE = 2 ** 28;

/**
 * Values that are alive at once in a run, in bytes, up to which a session holds on to their memory between runs: its arena is a
 * few times as large. In small networks clearing new memory tells.
 */
const HELD = 32e6;

/** What is compiled for these options is kept until others are asked for. */
export class Streamlined<Config> {
  readonly #component: Component<Config>;
  readonly #architecture: Architecture<Config>;
  readonly #sessions = new SessionCache<StreamlinedSession>();
  readonly #large: number;
  readonly #mostTwice: number;
  /** By size, whether what is alive in a run is at most `HELD`. */
  readonly #small = new Map<string, boolean>();

  constructor(component: Component<Config>, architecture: Architecture<Config>, large = LARGE, mostTwice = MOST_TWICE) {
    this.#component = component;
    this.#architecture = architecture;
    this.#large = large;
    this.#mostTwice = mostTwice;
  }

  /**
   * A denoiser for one run of the sampler on latents of this size: all steps in full unless they are to be done in part; by
   * a plan if there is a budget, if the network is a large one, or if features are asked for, and with Step Rehash if too much
   * would be in memory twice without. `batch`: of the network, both halves of guidance. Throws
   * BudgetError.
   */
  async openDenoiser(size: NetworkSize, options: StreamlinedOptions = {}): Promise<Denoiser> {
    const { streams, onProcessor, weights } = this.#component;
    const large = weights.bytes > this.#large && onProcessor && !streams;
    const whole = large || streams ? null : await this.#rehashing(size, options);
    if (whole) return whole;
    if (isPlanned(options) || large) return withReuse(await this.#planned(size, options), options.accelerate);
    await this.release();
    const geometry = { ...geometryOf(size), batch: "batch" };
    const session = await this.#component.session(geometry, this.#memoryFor(size));
    return withReuse(new PlainDenoiser(session), options.accelerate);
  }

  #memoryFor(size: NetworkSize): SessionOptions {
    const key = JSON.stringify(geometryOf(size));
    if (!this.#small.has(key)) {
      const values = activationBytes(buildModel(this.#component.model(size), costSource().source));
      this.#small.set(key, values <= HELD);
    }
    return this.#small.get(key) ? { arena: true } : {};
  }

  /** Step Rehash without a plan, where nothing asks for one; null otherwise. */
  async #rehashing(
    size: NetworkSize,
    { memory, accelerate, onFeatures }: StreamlinedOptions,
  ): Promise<Denoiser | null> {
    const options = checkVideoAcceleration(accelerate);
    if (!options || memory !== undefined || onFeatures) return null;
    const flow = flowOf(this.#component.model(size));
    const rehash = rehashFor(flow, size, options);
    const policy = rehashPolicy(options.schedule);
    const models = rehashModels(flow, rehash);
    if (bytesTwice(models) > this.#mostTwice) return null;
    await this.release();
    const key = JSON.stringify(["rehash", geometryOf(size), compiledFor(options, rehash)]);
    const assemble = async () => {
      this.#checkedWeights(models.full);
      return { models: [models.full, models.again] };
    };
    const [full, again] = await this.#component.assembled(key, assemble, this.#memoryFor(size));
    return new RehashDenoiser(full!, again!, rehash, policy);
  }

  async #planned(geometry: NetworkSize, options: StreamlinedOptions): Promise<Denoiser> {
    const chosen = options.onFeatures ? null : checkVideoAcceleration(options.accelerate);
    // Before the network that is compiled without a plan is given up for this.
    const policy = chosen ? rehashPolicy(chosen.schedule) : null;
    const run = this.plan(geometry, options);
    const { plan, layout } = run;
    const steps = chosen && compiledFor(chosen, layout);
    const key = JSON.stringify([geometryOf(geometry), plan, steps, Boolean(options.onFeatures)]);
    const [session] = await this.#sessions.get(key, async () => [await this.#compile(geometry, options, run)]);
    return new StreamlinedDenoiser(session!, policy, options);
  }

  /** The share of a full step's products that a rehash step has, for each cut, first the earliest. */
  shares(geometry: NetworkSize): Map<string, number> {
    const flow = flowOf(this.#component.model(geometry));
    const at = (cut: string) => rehashFor(flow, geometry, { method: "rehash", cut });
    return new Map(rehashCuts(flow).map((cut) => [cut, rehashShare(flow, at(cut))]));
  }

  /**
   * Throws what `openDenoiser` would, before anything is compiled for it: ArgumentError, BudgetError. Whether a schedule that is
   * a list has an action for every step shows at the first step.
   */
  check(size: NetworkSize, options: StreamlinedOptions): void {
    const { accelerate } = options;
    if (typeof accelerate === "object") rehashPolicy(accelerate.schedule);
    if (options.memory === undefined) this.#rehash(size, options);
    else this.plan(size, options);
  }

  /**
   * How it would run, and how much memory that takes. Throws BudgetError.
   * @internal
   */
  plan(geometry: NetworkSize, options: StreamlinedOptions): PlannedRun {
    return planFor(flowOf(this.#component.model(geometry)), {
      memory: memoryBytes(options.memory),
      rehash: this.#rehash(geometry, options),
    });
  }

  #rehash(geometry: NetworkSize, { accelerate, onFeatures }: StreamlinedOptions): Rehash | null {
    const options = checkVideoAcceleration(accelerate);
    if (!options && !onFeatures) return null;
    const flow = flowOf(this.#component.model(geometry));
    return onFeatures ? allCuts(flow) : rehashFor(flow, geometry, options!);
  }

  #checkedWeights(model: StagedModel): WeightFiles {
    const files = namedWeights(this.#architecture, this.#component.weights);
    checkWeights(files, weightShapes(model), describeModel(model), () => true);
    return files;
  }

  async #compile(geometry: NetworkSize, options: StreamlinedOptions, { plan }: PlannedRun) {
    const model = this.#component.model(geometry);
    const files = this.#checkedWeights(model);
    await this.#component.release();
    const source = checkpointWeights(files, describeModel(model));
    const rehash = this.#rehash(geometry, options);
    return this.#component.withRuntime((runtime, session) =>
      StreamlinedSession.compile(runtime, model, source, weightLocations(files), plan, { ...session, rehash }),
    );
  }

  release(): Promise<void> {
    return this.#sessions.release();
  }
}

/** Throws ArgumentError for a cut or `guidanceSteps` that there is not. */
function rehashFor(
  flow: Flow,
  { guided = false }: NetworkSize,
  { cut, fresh, guidanceSteps = "full" }: RehashOptions,
): Rehash {
  if (!guidanceStepsChoices.includes(guidanceSteps)) {
    throw new ArgumentError(`guidanceSteps is one of ${guidanceStepsChoices.join(", ")}, not "${guidanceSteps}".`);
  }
  return rehashAt(flow, cut, fresh, guided && guidanceSteps === "full");
}

/** What of a size a network is compiled for: guidance is no matter of its own. */
const geometryOf = ({ guided: _, ...geometry }: NetworkSize) => geometry;

/** What of the options another network has to be compiled for. */
const compiledFor = ({ cut, fresh }: RehashOptions, { half }: Pick<Rehash, "half">) => [cut, fresh, half];

/** Whether these options ask for a plan, or would for Step Rehash in a larger network. */
const isPlanned = ({ memory, accelerate, onFeatures }: StreamlinedOptions) =>
  checkVideoAcceleration(accelerate) !== null || memory !== undefined || onFeatures !== undefined;

/** Infinity without a budget. Throws ArgumentError. */
export function memoryBytes(memory: number | string | undefined): number {
  if (memory === undefined) return Number.POSITIVE_INFINITY;
  if (typeof memory === "string") return parseBytes(memory);
  whole(1, Number.MAX_SAFE_INTEGER)(memory, "memory");
  return memory;
}

/** Null for none. Throws ArgumentError for a method that there is not. */
export function checkVideoAcceleration(accelerate: VideoAccelerate = "none"): RehashOptions | null {
  const options = typeof accelerate === "string" ? { method: accelerate } : accelerate;
  if (options.method === "rehash") return options as RehashOptions;
  if (options.method === "none") return null;
  if (options.method === "reuse") return null;
  throw new ArgumentError(`accelerate of a video is one of ${videoAccelerations.join(", ")}, not "${options.method}".`);
}

/** A denoiser that gives what it gave at the last full step, where a policy does not ask for another. */
export class NoiseReuse implements Denoiser {
  readonly actions: Action[] = [];
  readonly #denoiser: Denoiser;
  readonly #policy: StepPolicy;
  #last: FloatTensor | null = null;

  constructor(denoiser: Denoiser, policy: StepPolicy) {
    this.#denoiser = denoiser;
    this.#policy = policy;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const action = this.#last ? this.#policy(step) : "full";
    this.actions.push(action);
    if (!this.#last || action === "full") this.#last = await this.#denoiser.run(feeds, step);
    return this.#last;
  }
}

/** The denoiser itself, or with noise that is used again if that is asked for. */
function withReuse(denoiser: Denoiser, accelerate: VideoAccelerate | undefined): Denoiser {
  if (typeof accelerate !== "object" || accelerate.method !== "reuse") return denoiser;
  return new NoiseReuse(denoiser, rehashPolicy(accelerate.schedule));
}

/** What goes through a decoder at a time, in elements of the latent. */
export interface DecodingSize {
  readonly frames: number;
  readonly tile?: { readonly height: number; readonly width: number; readonly overlap: number };
}

/** Halvings of a tile below which its blended edges are most of it. */
const SMALLEST_TILE = 16;

/**
 * As many frames as fit into a budget, and pictures in tiles if not even one fits. Throws BudgetError, with the smallest
 * budget, where the smallest tile does not fit.
 */
export function decodingIn(
  decoder: Component<unknown>,
  { frames, height, width }: { frames: number; height: number; width: number },
  memory: number | string | undefined,
): DecodingSize {
  const budget = memoryBytes(memory);
  if (budget === Number.POSITIVE_INFINITY) return { frames };
  const peak = decoderPeak(decoder);
  for (let count = frames; count >= 1; count--) if (peak(count, height, width) <= budget) return { frames: count };
  let [high, wide] = [height, width];
  while (Math.max(high, wide) > SMALLEST_TILE) {
    if (high >= wide) high = Math.ceil(high / 2);
    else wide = Math.ceil(wide / 2);
    const overlap = Math.floor(Math.min(high, wide) / 4);
    if (peak(1, high, wide) <= budget) return { frames: 1, tile: { height: high, width: wide, overlap } };
  }
  const smallest = peak(1, high, wide);
  throw new BudgetError(
    `The autoencoder's decoder cannot run in ${describeBytes(budget)}; the smallest budget for it is ` +
      `${describeBytes(smallest)}, in tiles.`,
    smallest,
  );
}

/**
 * One session: its weights, and the values that are alive in it, which grow with the pixels of all frames. So they are counted
 * in a small one.
 */
function decoderPeak(decoder: Component<unknown>): (frames: number, height: number, width: number) => number {
  const model = decoder.model({ batch: 1, frames: 1, height: SMALLEST_TILE, width: SMALLEST_TILE });
  const { source, parameters } = costSource();
  const outputs = buildModel(model, source);
  const bytes = (values: Iterable<Value>) =>
    [...values].reduce((sum, { shape }) => sum + 4 * sizeOf(shape as number[]), 0);
  // A norm's scale of ones, as large as a picture, is made when the session loads and stays.
  const ones = topologicalOrder(Object.values(outputs)).filter(({ op }) => op === "Expand");
  const perTile = activationBytes(outputs) + bytes(Object.values(outputs));
  const perSession = bytes(ones.flatMap((node) => node.outputs));
  const weights = WEIGHT_SHARE * bytes(parameters.values());
  return (frames, height, width) => {
    const tiles = (height * width) / SMALLEST_TILE ** 2;
    return OVERHEAD + weights + tiles * (frames * perTile + perSession);
  };
}
