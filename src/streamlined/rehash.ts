/**
 * Step Rehash (arXiv 2411.01171): features after the layers along time change little from one step to the next. A full step
 * leaves those at a cut in the way up; a rehash step runs only what follows the cut.
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
import type { GroupProgress, Kept, StreamlinedSession } from "./session.ts";

/**
 * Which of 25 steps are full unless a user says otherwise: the first 7, then every third, 13 in all. The first ones change
 * features most; every second step from the start on gives up most of the method's quality (docs/notebook/streamlined.md).
 */
const DEFAULT_SCHEDULE = parseSchedule("fffffffrrfrrfrrfrrfrrfrrf");

/** Which steps are full: those of a schedule, or of the default one, stretched to the number of steps. */
export const rehashPolicy = (schedule: StepChoice | undefined): StepPolicy =>
  schedule ? policyOf(schedule, "rehash") : stretched(DEFAULT_SCHEDULE, "rehash");

/** The feature of the way down that a stage of the way up is joined to. */
const skipOf = ({ stage, reads }: FlowStage) => stage.place?.skip && reads.get(stage.place.skip);

/** For each feature, the number of the stage that makes it. */
const makersOf = (flow: Flow) =>
  new Map(flow.stages.flatMap(({ writes }, i) => [...writes.values()].map((id) => [id, i] as const)));

/**
 * Features after which a rehash step can start: the ends of the layers of the way up, each with the level of its layer. The first
 * leaves the most to do.
 */
function cutsOf(flow: Flow): Map<string, number> {
  const maker = makersOf(flow);
  const ends = flow.stages.flatMap(({ stage, reads }) => {
    // A layer begins where a feature of the way down is joined, or with the change to the next level.
    if (stage.place?.way !== "up" || !(stage.place.skip || stage.place.resizes)) return [];
    const [end] = reads.values();
    const layer = flow.stages[maker.get(end!) ?? -1]?.stage.place;
    return layer?.way === "up" && !layer.resizes ? [[end!, layer.level] as const] : [];
  });
  return new Map(ends);
}

/** Names of the features after which a rehash step can start. The first leaves the most to do. */
export const rehashCuts = (flow: Flow): string[] => [...cutsOf(flow).keys()];

/** After the first layer of the last block: little remains to do, and it still attends to the text and mixes frames. */
export function defaultCut(flow: Flow): string {
  const cuts = [...cutsOf(flow)];
  const lastLevel = cuts.at(-1)?.[1];
  const first = cuts[cuts.findLastIndex(([, level]) => level !== lastLevel) + 1];
  if (first) return first[0];
  throw new ArgumentError(`${flow.model.className} has no layers on a way up; Step Rehash is for UNets.`);
}

/**
 * What a rehash step does that starts after `cut`. Of the features of the way down that are read after the cut, the first `fresh` are
 * computed from this step's latent (1 unless given: the first convolution alone), the others are kept from the last full step.
 * `half`: only for the half of the batch with the condition, as pipelines do with guidance; `GuidanceDifference` gives the other half.
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
  const kept = new Set<string>();
  const open = [...flow.outputs.values()];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    const stage = maker.get(id);
    if (stage === undefined) continue;
    if (stored.has(id)) kept.add(id);
    else if (!stages.has(stage)) {
      stages.add(stage);
      open.push(...flow.stages[stage]!.reads.values());
    }
  }
  return { stages, kept, half };
}

/** Features of the way down that the way up reads, in the order in which they are made. */
function skipsOf(flow: Flow): string[] {
  const joined = new Set(flow.stages.map(skipOf));
  return flow.stages.flatMap(({ writes }) => [...writes.values()].filter((id) => joined.has(id)));
}

/** The multiply-adds of a rehash step, as a share of those of a full step. */
export function rehashShare(flow: Flow, { stages, half }: Rehash): number {
  const all = multiplyAddsOf(flow);
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  return (sum(all.filter((_, i) => stages.has(i))) / sum(all)) * (half ? 0.5 : 1);
}

/**
 * The network's output with the condition minus the one without, from the last full step. It changes less from step to step than either
 * output (FasterCache, Lv et al. 2024, arXiv 2410.19355), so a rehash step computes the output with the condition and subtracts this to
 * get the one without.
 */
export class GuidanceDifference {
  #difference: Float32Array | null = null;

  /** Of a full step's output: without the condition in the first half of the batch, with it in the second. */
  keep({ data }: FloatTensor): void {
    const half = data.length / 2;
    this.#difference = data.slice(half);
    for (let i = 0; i < half; i++) this.#difference[i]! -= data[i]!;
  }

  /** Fills in the first half of a rehash step's output. */
  fill({ data }: FloatTensor): void {
    const half = data.length / 2;
    for (let i = 0; i < half; i++) data[i] = data[half + i]! - this.#difference![i]!;
  }
}

export interface Listeners {
  /** Called before each group of layers runs, if the network runs by a plan. */
  onGroup?: (progress: GroupProgress & StepContext) => void;
  /** Called with the features that a step left; they may only be read, and only until the next step. */
  onFeatures?: (step: StepContext, kept: Kept) => void;
}

/** Every step in full, with the features of all cuts left behind: for measuring how they change. */
export const allCuts = (flow: Flow): Rehash => ({
  stages: new Set(),
  kept: new Set(rehashCuts(flow)),
  half: false,
});

/** Runs a model by a plan. The policy says which steps are full; without one all are. */
export class StreamlinedDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly #session: StreamlinedSession;
  readonly #policy: StepPolicy | null;
  readonly #listeners: Listeners;
  readonly #guidance: GuidanceDifference | null;
  #kept: Kept | null = null;

  constructor(session: StreamlinedSession, policy: StepPolicy | null = null, listeners: Listeners = {}) {
    this.#session = session;
    this.#policy = policy;
    this.#listeners = listeners;
    this.#guidance = session.layout.half ? new GuidanceDifference() : null;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const chosen = this.#policy?.(step) ?? "full";
    const action = this.#kept ? chosen : "full";
    this.#kept ??= this.#session.keep();
    this.actions.push(action);
    const again = action !== "full";
    const { sample } = await this.#session.run(feeds, {
      again,
      keep: this.#kept,
      onGroup: (progress) => this.#listeners.onGroup?.({ ...step, ...progress }),
    });
    if (again) this.#guidance?.fill(sample!);
    else this.#guidance?.keep(sample!);
    this.#listeners.onFeatures?.(step, this.#kept);
    return sample!;
  }
}
