/** Where a row of blocks is cut so that a step in part leaves some of them out. */
import { ArgumentError } from "../errors.ts";
import type { StagedModel } from "../models/architecture.ts";
import { blocksOf } from "../models/split-model.ts";

/** Which blocks a step in part leaves out; counted from the first, from 1 to the number of blocks. */
export interface SkippedBlocks {
  /** After how many blocks the features are taken (b in the paper on Inner Loop Feedback). */
  readonly feedBlock: number;
  /** After how many blocks they come back in; the blocks after that run in every step. */
  readonly resumeBlock: number;
}

export interface BlockCuts {
  /** The stages at which a new part begins. */
  readonly cuts: readonly number[];
  /** The part after which the features are taken. */
  readonly feed: number;
  /** The part where they come back in. */
  readonly resume: number;
}

/** `more`: stages that begin a part beside those. Throws ArgumentError for block numbers that the model does not have. */
export function blockCuts(
  model: StagedModel,
  { feedBlock, resumeBlock }: SkippedBlocks,
  more: readonly number[] = [],
): BlockCuts {
  const { first, end } = blocksOf(model);
  const blocks = end - first;
  for (const [name, block] of Object.entries({ feedBlock, resumeBlock })) {
    if (Number.isInteger(block) && block >= 1 && block <= blocks) continue;
    throw new ArgumentError(`${name} must be a whole number from 1 to ${blocks}, the model's blocks, not ${block}.`);
  }
  const [feedStage, resumeStage] = [first + feedBlock, first + resumeBlock];
  const cuts = [...new Set([first, feedStage, resumeStage, ...more])].sort((a, b) => a - b);
  return { cuts, feed: cuts.indexOf(feedStage), resume: cuts.indexOf(resumeStage) + 1 };
}

/** All blocks but the last two, if no option says which. */
export function usualBlocks(model: StagedModel): SkippedBlocks {
  const { first, end } = blocksOf(model);
  const allButTwo = Math.max(1, end - first - 2);
  return { feedBlock: allButTwo, resumeBlock: allButTwo };
}
