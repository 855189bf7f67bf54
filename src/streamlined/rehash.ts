/**
 * Step Rehash (arXiv 2411.01171): features after the temporal layers change little from one step to the next. A full step caches
 * the features at a cut in the up path, and a rehash step runs only the layers after the cut.
 */
import { ArgumentError } from "../errors.ts";
import type { FlowStage } from "../models/grouping.ts";
import type { Denoiser, Feeds } from "../sampling/denoiser.ts";
import {
  type Action,
  parseSchedule,
  policyOf,
  type StepChoice,
  type StepContext,
  type StepPolicy,
  stretched,
} from "../sampling/step-policy.ts";
import type { FloatTensor } from "../tensor.ts";
import type { Flow } from "./grouping.ts";
import { multiplyAddsOf } from "./multiply-adds.ts";
import type { Rehash } from "./plan.ts";
import type { CachedFeatures, GroupProgress, StreamlinedSession } from "./session.ts";

/**
 * Which of 25 steps are full unless a user says otherwise: the first 7, then every third, 13 in all. Features change most
 * in the first steps; making every second step full from the start loses most of the quality (docs/notebook/streamlined.md).
 */
const DEFAULT_SCHEDULE = parseSchedule("fffffffrrfrrfrrfrrfrrfrrf");

/** Decides which steps are full: by the given schedule or the default one, stretched to the number of steps. */
export const rehashPolicy = (schedule: StepChoice | undefined): StepPolicy =>
  schedule ? policyOf(schedule, "rehash") : stretched(DEFAULT_SCHEDULE, "rehash");

/** The skip connection that a stage of the up path reads: a feature of the down path. */
const skipOf = ({ stage, reads }: FlowStage) => stage.place?.skip && reads.get(stage.place.skip);

/** For each feature, the index of the stage that computes it. */
const makersOf = (flow: Flow) =>
  new Map(flow.stages.flatMap(({ writes }, i) => [...writes.values()].map((id) => [id, i] as const)));

/**
 * The features after which a rehash step can start: the output of each layer of the up path, with the level of the layer. After
 * the first one, the most remains to be computed.
 */
function cutsOf(flow: Flow): Map<string, number> {
  const maker = makersOf(flow);
  const ends = flow.stages.flatMap(({ stage, reads }) => {
    // A layer starts where a skip connection is read, or where the resolution changes.
    if (stage.place?.way !== "up" || !(stage.place.skip || stage.place.resizes)) return [];
    const [end] = reads.values();
    const layer = flow.stages[maker.get(end!) ?? -1]?.stage.place;
    return layer?.way === "up" && !layer.resizes ? [[end!, layer.level] as const] : [];
  });
  return new Map(ends);
}

/** Names of the features after which a rehash step can start. After the first one, the most remains to be computed. */
export const rehashCuts = (flow: Flow): string[] => [...cutsOf(flow).keys()];

/**
 * After the first layer of the last block: little remains to be computed, but it still attends to the text and mixes
 * frames.
 */
export function defaultCut(flow: Flow): string {
  const cuts = [...cutsOf(flow)];
  const lastLevel = cuts.at(-1)?.[1];
  const first = cuts[cuts.findLastIndex(([, level]) => level !== lastLevel) + 1];
  if (first) return first[0];
  throw new ArgumentError(`${flow.model.className} has no layers on a way up; Step Rehash is for UNets.`);
}

/**
 * The rehash step that starts after `cut`. Of the down path's features that are read after the cut, the first `fresh` are computed
 * from this step's latent (1, the first convolution alone, unless given); the others are cached from the last full step. With
 * `half` it runs only for the conditional half of the batch, as pipelines do with guidance; `GuidanceDifference` gives the other.
 * Throws ArgumentError for a cut that the model does not have.
 */
export function rehashAt(flow: Flow, cut: string = defaultCut(flow), fresh = 1, half = false): Rehash {
  const cuts = rehashCuts(flow);
  if (!cuts.includes(cut)) {
    throw new ArgumentError(`${flow.model.className} cannot be cut after "${cut}"; it can after ${cuts.join(", ")}.`);
  }
  const skips = skipsOf(flow);
  if (!Number.isInteger(fresh) || fresh < 0 || fresh > skips.length) {
    throw new ArgumentError(`fresh must be a whole number from 0 to ${skips.length}, not ${fresh}.`);
  }
  const stored = new Set([cut, ...skips.slice(fresh)]);
  const maker = makersOf(flow);
  const stages = new Set<number>();
  const cached = new Set<string>();
  const open = [...flow.outputs.values()];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    const stage = maker.get(id);
    if (stage === undefined) continue;
    if (stored.has(id)) cached.add(id);
    else if (!stages.has(stage)) {
      stages.add(stage);
      open.push(...flow.stages[stage]!.reads.values());
    }
  }
  return { stages, cached, half };
}

/**
 * The cut before the layer that reads a skip connection. They are counted in the order in which they are computed: 0 is the first
 * convolution. Throws ArgumentError for one that the model does not have, or that is read right after the middle.
 */
export function cutBefore(flow: Flow, branch: number): string {
  const cuts = cutsOf(flow);
  const maker = makersOf(flow);
  const skips = skipsOf(flow);
  const places = skips.map((skip) => {
    const [start] = flow.stages.find((each) => skipOf(each) === skip)!.reads.values();
    if (cuts.has(start!)) return start!;
    // What leads from one level to the next has no cut behind it, but one before it.
    const [before] = flow.stages[maker.get(start!)!]!.reads.values();
    return cuts.has(before!) ? before! : null;
  });
  const place = places[branch];
  if (place) return place;
  throw new ArgumentError(
    `branch must be a whole number from 0 to ${places.findLastIndex(Boolean)} for ${flow.model.className}, not ${branch}.`,
  );
}

/** Features of the down path that the up path reads, in the order in which they are computed. */
function skipsOf(flow: Flow): string[] {
  const joined = new Set(flow.stages.map(skipOf));
  return flow.stages.flatMap(({ writes }) => [...writes.values()].filter((id) => joined.has(id)));
}

/** The multiply-adds of a rehash step, relative to a full step. */
export function rehashShare(flow: Flow, { stages, half }: Rehash): number {
  const all = multiplyAddsOf(flow);
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  return (sum(all.filter((_, i) => stages.has(i))) / sum(all)) * (half ? 0.5 : 1);
}

/**
 * The network's output with the condition minus the one without, from the last full step. It changes less from step to step than either
 * output (FasterCache, Lv et al. 2024, arXiv 2410.19355). So a rehash step computes only the output with the condition, and
 * subtracts the difference to get the output without it.
 */
export class GuidanceDifference {
  #difference: Float32Array | null = null;

  /** Stores the difference of a full step's output, whose first half is without the condition, and second half with it. */
  keep({ data }: FloatTensor): void {
    const half = data.length / 2;
    this.#difference = data.slice(half);
    for (let i = 0; i < half; i++) this.#difference[i]! -= data[i]!;
  }

  /** Computes the first half of a rehash step's output from the second. */
  fill({ data }: FloatTensor): void {
    const half = data.length / 2;
    for (let i = 0; i < half; i++) data[i] = data[half + i]! - this.#difference![i]!;
  }
}

export interface Listeners {
  /** Is called before each group of layers runs, if the network runs by a plan. */
  onGroup?: (progress: GroupProgress & StepContext) => void;
  /** Is called with the features that a step cached. They may only be read, and only until the next step. */
  onFeatures?: (step: StepContext, cached: CachedFeatures) => void;
}

/** For measuring how features change: every step is full, and caches the features of all cuts. */
export const allCuts = (flow: Flow): Rehash => ({
  stages: new Set(),
  cached: new Set(rehashCuts(flow)),
  half: false,
});

/** Runs a model by a plan. The policy says which steps are full; without one all are. */
export class StreamlinedDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly #session: StreamlinedSession;
  readonly #policy: StepPolicy | null;
  readonly #listeners: Listeners;
  readonly #guidance: GuidanceDifference | null;
  #cache: CachedFeatures | null = null;

  constructor(session: StreamlinedSession, policy: StepPolicy | null = null, listeners: Listeners = {}) {
    this.#session = session;
    this.#policy = policy;
    this.#listeners = listeners;
    this.#guidance = session.layout.half ? new GuidanceDifference() : null;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const chosen = this.#policy?.(step) ?? "full";
    const action = this.#cache ? chosen : "full";
    this.#cache ??= this.#session.allocateCache();
    this.actions.push(action);
    const again = action !== "full";
    const { sample } = await this.#session.run(feeds, {
      again,
      cache: this.#cache,
      onGroup: (progress) => this.#listeners.onGroup?.({ ...step, ...progress }),
    });
    if (again) this.#guidance?.fill(sample!);
    else this.#guidance?.keep(sample!);
    this.#listeners.onFeatures?.(step, this.#cache);
    return sample!;
  }
}
