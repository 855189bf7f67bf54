/**
 * Plain caching: a step in part runs the blocks from `resumeBlock` on with the features that the last full step had after
 * `feedBlock`, as they were. It is what Inner Loop Feedback has to be better than: its feedback module with a scale of zero and
 * nothing added does the same.
 */
import type { StagedModel } from "../models/architecture.ts";
import { streamsInto } from "../models/split-model.ts";
import type { ModelSession } from "../models/staged-session.ts";
import { type Denoiser, type Feeds, runParts } from "../sampling/denoiser.ts";
import { countOption, type DividedNetwork, type Method, scheduleOption } from "../sampling/method.ts";
import {
  type Action,
  policyOf,
  type Schedule,
  type StepChoice,
  type StepContext,
  type StepPolicy,
  stretched,
} from "../sampling/step-policy.ts";
import { type FloatTensor, floatOf } from "../tensor.ts";
import { type BlockCuts, blockCuts, type SkippedBlocks, usualBlocks } from "./block-cuts.ts";
import { pickStreams, type Streams } from "./streams.ts";

export class PlainCache implements Denoiser {
  readonly actions: Action[] = [];
  readonly #parts: readonly ModelSession[];
  readonly #places: Pick<BlockCuts, "feed" | "resume">;
  readonly #policy: StepPolicy;
  /** What runs through the blocks, after `feedBlock` at the last full step. */
  #features: Streams | null = null;

  /** `parts`: the model, cut by `blockCuts`, which gives the places too. */
  constructor(parts: readonly ModelSession[], places: Pick<BlockCuts, "feed" | "resume">, policy: StepPolicy) {
    this.#parts = parts;
    this.#places = places;
    this.#policy = policy;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const { feed, resume } = this.#places;
    const parts = this.#parts;
    const chosen = this.#policy(step);
    const entered = await runParts(parts.slice(0, 1), feeds);
    if (this.#features && chosen !== "full") {
      this.actions.push(chosen);
      return floatOf(await runParts(parts.slice(resume), { ...entered, ...this.#features }), "sample");
    }
    this.actions.push("full");
    const before = await runParts(parts.slice(1, feed + 1), entered);
    this.#features = pickStreams(before, streamsInto(parts[resume]!.model));
    return floatOf(await runParts(parts.slice(feed + 1), before), "sample");
  }
}

export interface PlainCacheOptions extends Partial<SkippedBlocks> {
  /** Which steps are full: those of the model's feedback module, or every second, unless given. */
  schedule?: StepChoice;
}

/** A trained module's blocks and schedule are those of plain caching too, so that the two can be compared. */
export interface CachedNetwork extends DividedNetwork {
  readonly feedback: { readonly config: SkippedBlocks & { readonly schedule: Schedule } } | null;
}

/** More than any transformer has. */
const MOST_BLOCKS = 4096;
const ownOrAllButTwo = "the feedback module's, or all but two";

export const plainCache: Method<"cache", "transformer", CachedNetwork, PlainCacheOptions> = {
  name: "cache",
  summary: "the features after a block, as the last full step left them, go into the last blocks",
  source: "the baseline of Inner Loop Feedback, arXiv 2501.13107",
  networks: ["transformer"],
  options: {
    schedule: scheduleOption("the feedback module's, or 2"),
    feedBlock: countOption(0, MOST_BLOCKS, { help: "features are taken after so many blocks", usual: ownOrAllButTwo }),
    resumeBlock: countOption(0, MOST_BLOCKS, { help: "and come back in after so many", usual: ownOrAllButTwo }),
  },
  cuts: ({ model, feedback }, options) => cutsOf(model, feedback, options).cuts,
  async open({ model, feedback, inParts }, options) {
    const { cuts, ...places } = cutsOf(model, feedback, options);
    const parts = await inParts(cuts);
    // What a user gives is meant for this run; what a module was trained with, for any.
    const { schedule } = options;
    const policy = schedule ? policyOf(schedule) : stretched(feedback?.config.schedule ?? { every: 2 });
    return () => new PlainCache(parts, places, policy);
  },
  atEqualTime: [{ by: "schedule" }],
};

function cutsOf(model: StagedModel, feedback: CachedNetwork["feedback"], options: PlainCacheOptions): BlockCuts {
  const own = feedback?.config ?? usualBlocks(model);
  const { feedBlock = own.feedBlock, resumeBlock = own.resumeBlock } = options;
  return blockCuts(model, { feedBlock, resumeBlock });
}
