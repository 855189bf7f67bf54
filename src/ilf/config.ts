/** What a trained feedback module is made for: `ilf/config.json` beside a model. */

import { type BlockCuts, blockCuts, type SkippedBlocks } from "../caching/block-cuts.ts";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import type { StagedModel } from "../models/architecture.ts";
import { ConfigReader, MOST_LAYERS } from "../models/config.ts";
import { blocksOf } from "../models/split-model.ts";
import { isList, parseSchedule, type Schedule } from "../sampling/step-policy.ts";

export interface FeedbackConfig {
  /** b: the number of blocks (from the first) after which the features are taken. */
  feedBlock: number;
  /** r: the number of blocks after which they come back in, so blocks r + 1 to N run in an inner step. */
  resumeBlock: number;
  /** Whether the change of the patch embedding is added to the features: what is new in the latent, at no cost. */
  embeddingChange: boolean;
  /** Whether their change between the last two full steps is, times a learned scale a channel (or mixed, see below). */
  trend: boolean;
  /** Whether all of these are mixed by a learned matrix, with gates and a scale that follow the time (feedback.ts). */
  mixing: boolean;
  /** Whether inner steps run blocks of the module's own instead of the backbone's r + 1 to N, trained with it. */
  ownBlocks: boolean;
  /** Which steps are full, unless a user says otherwise. */
  schedule: Schedule;
  /** Of the backbone that it was trained for (`fingerprint`). */
  backbone: string;
}

const CLASS_NAME = "ILFFeedback";

/** Throws ConfigError for a value that it cannot have. */
export function parseFeedbackConfig(raw: RawConfig): FeedbackConfig {
  const read = new ConfigReader(raw, CLASS_NAME);
  const config = {
    feedBlock: read.integer("feed_block", undefined, 1, MOST_LAYERS),
    resumeBlock: read.integer("resume_block", undefined, 1, MOST_LAYERS),
    embeddingChange: read.boolean("embedding_change", true),
    trend: read.boolean("trend", false),
    mixing: read.boolean("mixing", false),
    ownBlocks: read.boolean("own_blocks", false),
    schedule: scheduleOf(String(raw["schedule"] ?? "2")),
    backbone: String(raw["backbone"] ?? ""),
  };
  read.finish(["schedule", "backbone"]);
  return config;
}

function scheduleOf(text: string): Schedule {
  try {
    return parseSchedule(text);
  } catch (error) {
    if (error instanceof ArgumentError) throw new ConfigError(`${CLASS_NAME}: config "schedule": ${error.message}`);
    throw error;
  }
}

export function rawFeedbackConfig(config: FeedbackConfig): RawConfig {
  const { schedule } = config;
  const text = isList(schedule)
    ? schedule.join()
    : [schedule.every, schedule.warmUp ?? 1, schedule.final ?? 0].join(":");
  return {
    _class_name: CLASS_NAME,
    feed_block: config.feedBlock,
    resume_block: config.resumeBlock,
    embedding_change: config.embeddingChange,
    trend: config.trend,
    mixing: config.mixing,
    own_blocks: config.ownBlocks,
    schedule: text,
    backbone: config.backbone,
  };
}

export interface FeedbackCuts extends BlockCuts {
  /** The first part that an inner step runs after the module: `resume`, or the last if the module has blocks of its own. */
  readonly after: number;
}

/** What of a module's configuration says which blocks run. */
export type FeedbackBlocks = SkippedBlocks & Partial<Pick<FeedbackConfig, "ownBlocks">>;

/** Where a backbone is cut. Throws ArgumentError for block numbers that it does not have. */
export function feedbackCuts(backbone: StagedModel, { ownBlocks = false, ...blocks }: FeedbackBlocks): FeedbackCuts {
  const { cuts, feed, resume } = blockCuts(backbone, blocks, ownBlocks ? [blocksOf(backbone).end] : []);
  return { cuts, feed, resume, after: ownBlocks ? cuts.length : resume };
}
