/**
 * TaylorSeer (arXiv 2503.06923): features of the steps to come from a Taylor series whose derivatives are the backward
 * differences between full steps: exact for what changes evenly, with a lag for higher powers, as published. Needs no
 * training. Schedule and defaults are those of the authors' code for DiT.
 *
 * The paper forecasts the output of every attention and feed-forward, which a DiT block then multiplies by a gate of the
 * step's own. Here what all blocks add to the stream is forecast at once: one array to keep, and nothing of the blocks
 * left to compute. Of a UNet, which is no row of blocks, the output is forecast, as TaylorSeer's lite mode in diffusers does.
 */
import type { StagedModel } from "../models/architecture.ts";
import { blocksOf, streamsInto } from "../models/split-model.ts";
import type { ModelSession, StagedSession } from "../models/staged-session.ts";
import { type Denoiser, type Feeds, runParts } from "../sampling/denoiser.ts";
import { countOption, type DividedNetwork, type Method, scheduleOption } from "../sampling/method.ts";
import {
  type Action,
  policyOf,
  type StepChoice,
  type StepContext,
  type StepPolicy,
  scheduled,
} from "../sampling/step-policy.ts";
import { type FloatTensor, floatOf } from "../tensor.ts";
import { combine } from "./arrays.ts";
import { minusStreams, pickStreams, plusStreams, type Streams } from "./streams.ts";

/** Settings of `TaylorSeer`; what is not given is as in the authors' code for DiT. */
export interface TaylorSeerOptions {
  /** Every how many steps one is full, N in the paper; 4 unless given. */
  interval?: number;
  /** Highest derivative, O in the paper; 4 unless given. */
  order?: number;
  /** Full steps at the start; 2 unless given. */
  warmUp?: number;
  /** Another choice of full steps than by interval and warm-up. */
  policy?: StepPolicy;
}

export class TaylorSeer implements Denoiser {
  readonly actions: Action[] = [];
  readonly #parts: readonly [StagedSession, StagedSession, StagedSession];
  readonly #policy: StepPolicy;
  /** The features that the output layer reads of those that run through the blocks. */
  readonly #streams: readonly string[];
  /** Of what the blocks add to each of them. */
  readonly #series: TaylorSeries;

  /** `parts`: up to the blocks, the blocks, the output layer. */
  constructor(
    parts: readonly [StagedSession, StagedSession, StagedSession],
    { interval = 4, order = 4, warmUp = 2, policy }: TaylorSeerOptions = {},
  ) {
    this.#parts = parts;
    this.#policy = policy ?? scheduled({ every: interval, warmUp });
    this.#series = new TaylorSeries(order);
    this.#streams = streamsInto(parts[2].model);
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const [enter, blocks, leave] = this.#parts;
    const chosen = this.#policy(step);
    const action = this.#series.isEmpty ? "full" : chosen;
    this.actions.push(action);
    const features = await runParts([enter], feeds);
    const entered = pickStreams(features, this.#streams);
    if (action === "full") {
      Object.assign(features, await blocks.run(features));
      this.#series.update(minusStreams(pickStreams(features, this.#streams), entered), step.index);
    } else {
      Object.assign(features, plusStreams(entered, this.#series.forecast(step.index)));
    }
    return floatOf(await leave.run(features), "sample");
  }
}

/** The same of a network's output: a step in part runs nothing at all. */
export class OutputTaylorSeer implements Denoiser {
  readonly actions: Action[] = [];
  readonly #session: ModelSession;
  readonly #policy: StepPolicy;
  readonly #series: TaylorSeries;

  constructor(session: ModelSession, { interval = 4, order = 4, warmUp = 2, policy }: TaylorSeerOptions = {}) {
    this.#session = session;
    this.#policy = policy ?? scheduled({ every: interval, warmUp });
    this.#series = new TaylorSeries(order);
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const chosen = this.#policy(step);
    const action = this.#series.isEmpty ? "full" : chosen;
    this.actions.push(action);
    if (action !== "full") return this.#series.forecast(step.index)["sample"]!;
    const sample = floatOf(await this.#session.run(feeds), "sample");
    this.#series.update({ sample }, step.index);
    return sample;
  }
}

/** Features at the last full step, and their derivatives by step number. */
class TaylorSeries {
  readonly #order: number;
  #derivatives = new Map<string, FloatTensor[]>();
  #lastFull = 0;

  constructor(order: number) {
    this.#order = order;
  }

  get isEmpty(): boolean {
    return this.#derivatives.size === 0;
  }

  /** Derivative i + 1 is the difference of derivatives i over the steps between (paper, section 3.2). */
  update(features: Streams, index: number): void {
    for (const [name, value] of Object.entries(features)) {
      const before = this.#derivatives.get(name) ?? [];
      const derivatives = [value];
      for (let i = 0; i < Math.min(this.#order, before.length); i++) {
        derivatives.push(combine(derivatives[i]!, before[i]!, (a, b) => (a - b) / (index - this.#lastFull)));
      }
      this.#derivatives.set(name, derivatives);
    }
    this.#lastFull = index;
  }

  forecast(index: number): Streams {
    const distance = index - this.#lastFull;
    return Object.fromEntries(
      [...this.#derivatives].map(([name, derivatives]) => [name, taylor(derivatives, distance)]),
    );
  }
}

/** sum of derivative i * distance^i / i! */
export function taylor(derivatives: readonly FloatTensor[], distance: number): FloatTensor {
  let factor = 1;
  return derivatives.reduce((sum, derivative, i) => {
    factor *= distance / i;
    const weight = factor;
    return combine(sum, derivative, (a, b) => a + weight * b);
  });
}

/** Far more than there are steps to tell them from. */
const MOST_DERIVATIVES = 16;

export interface TaylorSeerSettings {
  /** Which steps are full: the first two and every fourth after them unless given. */
  schedule?: StepChoice;
  /** Highest derivative, 4 unless given. */
  order?: number;
}

export const taylorSeer: Method<"taylorseer", "transformer" | "unet", DividedNetwork, TaylorSeerSettings> = {
  name: "taylorseer",
  summary:
    "the sum of what the blocks add, of a UNet the output, is forecast from its finite differences over full steps",
  source: "arXiv 2503.06923",
  networks: ["transformer", "unet"],
  options: {
    schedule: scheduleOption("4:2"),
    order: countOption(0, MOST_DERIVATIVES, { help: "highest derivative", usual: "4" }),
  },
  cuts: ({ model }) => cutsOf(model),
  ofOutput: (model) => cutsOf(model).length === 0,
  async open({ model, inParts }, { schedule, order }) {
    const parts = await inParts(cutsOf(model));
    const options = { order, policy: schedule && policyOf(schedule) };
    if (parts.length === 1) return () => new OutputTaylorSeer(parts[0]!, options);
    return () => new TaylorSeer(parts as [StagedSession, StagedSession, StagedSession], options);
  },
  atEqualTime: [
    { by: "full steps" },
    // With so few steps in all, lower orders than the published one are nearer to full steps.
    { by: "full steps", name: "taylorseer, order 1", options: { order: 1 } },
  ],
};

/** None for a model that is no row of blocks. */
function cutsOf(model: StagedModel): number[] {
  if (!model.streams) return [];
  const { first, end } = blocksOf(model);
  return [first, end];
}
