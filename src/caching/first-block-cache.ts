/**
 * First-block cache (ParaAttention; FirstBlockCache in diffusers): the change of what the first block adds, since the
 * last full step, says whether the others are worth running. Needs no training. Both have the rule and the default that
 * are followed here; at a change of exactly the threshold it is ParaAttention's, which runs the blocks. Where the text runs
 * through the blocks beside the image, the change is that of the image alone, as in both.
 */
import type { StagedModel } from "../models/architecture.ts";
import { blocksOf, streamsInto, streamsOf } from "../models/split-model.ts";
import type { StagedSession } from "../models/staged-session.ts";
import type { Denoiser, Feeds } from "../sampling/denoiser.ts";
import { runParts } from "../sampling/denoiser.ts";
import { type DividedNetwork, type Method, thresholdOption } from "../sampling/method.ts";
import type { Action } from "../sampling/step-policy.ts";
import { type FloatTensor, floatOf } from "../tensor.ts";
import { meanAbsolute, meanAbsoluteDifference, minus } from "./arrays.ts";
import { minusStreams, pickStreams, plusStreams, type Streams } from "./streams.ts";

/** Settings of `FirstBlockCache`; what is not given is as published. */
export interface FirstBlockCacheOptions {
  /** The remaining blocks are left out while the first one's residual has changed by less than this; 0.05. */
  threshold?: number;
}

export class FirstBlockCache implements Denoiser {
  readonly actions: Action[] = [];
  readonly #parts: readonly [StagedSession, StagedSession, StagedSession, StagedSession];
  readonly #threshold: number;
  /** The image's stream, and all those that the output layer reads. */
  readonly #own: string;
  readonly #streams: readonly string[];
  /** Of the last full step: what the first block added, and what all others did. */
  #firstResidual: FloatTensor | null = null;
  #otherResiduals: Streams | null = null;

  /** `parts`: up to the blocks, the first block, the other blocks, the output layer. */
  constructor(
    parts: readonly [StagedSession, StagedSession, StagedSession, StagedSession],
    { threshold = 0.05 }: FirstBlockCacheOptions = {},
  ) {
    this.#parts = parts;
    this.#own = streamsOf(parts[0].model)[0];
    this.#streams = streamsInto(parts[3].model);
    this.#threshold = threshold;
  }

  async run(feeds: Feeds): Promise<FloatTensor> {
    const [enter, first, others, leave] = this.#parts;
    const entered = await runParts([enter], feeds);
    const features = await runParts([first], entered);
    const head = minus(floatOf(features, this.#own), floatOf(entered, this.#own));
    const full =
      !this.#firstResidual ||
      meanAbsoluteDifference(head, this.#firstResidual) >= this.#threshold * meanAbsolute(this.#firstResidual);
    this.actions.push(full ? "full" : "inner");
    const before = pickStreams(features, this.#streams);
    if (full) {
      Object.assign(features, await others.run(features));
      this.#firstResidual = head;
      this.#otherResiduals = minusStreams(pickStreams(features, this.#streams), before);
    } else {
      Object.assign(features, plusStreams(before, this.#otherResiduals!));
    }
    return floatOf(await leave.run(features), "sample");
  }
}

export const firstBlockCache: Method<"first-block", "transformer", DividedNetwork, FirstBlockCacheOptions> = {
  name: "first-block",
  summary: "while what the first block adds has changed little, the others add what they did at the last full step",
  source: "ParaAttention; FirstBlockCache in diffusers",
  networks: ["transformer"],
  options: { threshold: thresholdOption("0.05") },
  cuts: ({ model }) => cutsOf(model),
  async open({ model, inParts }, options) {
    const parts = await inParts(cutsOf(model));
    return () => new FirstBlockCache(parts as [StagedSession, StagedSession, StagedSession, StagedSession], options);
  },
  atEqualTime: [{ by: "threshold" }],
};

function cutsOf(model: StagedModel): number[] {
  const { first, end } = blocksOf(model);
  return [first, first + 1, end];
}
