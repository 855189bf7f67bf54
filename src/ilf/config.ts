/** What a trained feedback module is made for: `ilf/config.json` beside a model. */

import { type BlockCuts, blockCuts } from "../caching/block-cuts.ts";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import type { StagedModel } from "../models/architecture.ts";
import { ConfigReader, MOST_LAYERS } from "../models/config.ts";
import { blocksOf } from "../models/split-model.ts";
import { isList, parseSchedule, type Schedule } from "../sampling/step-policy.ts";

/** A feedback module's `config.json`. */
export interface FeedbackConfig {
  /** b: the number of blocks (from the first) after which the features are taken. */
  feedBlock: number;
  /** The number of blocks after which they come back in: those after it run in an inner step. */
  resumeBlock: number;
  module: FeedbackModule;
  /** Which steps are full, unless a user says otherwise. */
  schedule: Schedule;
  /** Of the backbone that it was trained for (`fingerprint`). */
  backbone: string;
}

/** What a module is made of: as in the paper (`paper-module.ts`), or with what was added to it (`extended-module.ts`). */
export type FeedbackModule = PaperModule | ExtendedModule;

/** One block of the backbone's kind and a scale. */
export interface PaperModule {
  readonly kind: "paper";
}

/** What a feedback module has beside the paper's block and scale. */
export interface ExtendedModule {
  readonly kind: "extended";
  /** What it reads beside the carried features, in this order. */
  readonly reads: readonly FeedbackRead[];
  /** How the block's input is made of them: as their sum, or mixed by a learned matrix with gates that follow the time. */
  readonly combine: "sum" | "mix";
  /** Whose blocks run after it in an inner step: the backbone's, or copies of them that were trained with it. */
  readonly blocksAfter: "backbone" | "own";
}

/**
 * `embeddingChange`: the change of the patch embedding, what is new in the latent, at no cost. `trend`: the features' change
 * between the last two full steps.
 */
export type FeedbackRead = "embeddingChange" | "trend";

/** The additions one by one, as the file and the command line have them. */
export interface ModuleFlags {
  readonly embeddingChange: boolean;
  readonly trend: boolean;
  readonly mixing: boolean;
  readonly ownBlocks: boolean;
}

/** Without any addition it is the paper's. */
export function moduleOf({ embeddingChange, trend, mixing, ownBlocks }: ModuleFlags): FeedbackModule {
  if (!(embeddingChange || trend || mixing || ownBlocks)) return { kind: "paper" };
  return {
    kind: "extended",
    reads: [...(embeddingChange ? (["embeddingChange"] as const) : []), ...(trend ? (["trend"] as const) : [])],
    combine: mixing ? "mix" : "sum",
    blocksAfter: ownBlocks ? "own" : "backbone",
  };
}

export function flagsOf(module: FeedbackModule): ModuleFlags {
  if (module.kind === "paper") return { embeddingChange: false, trend: false, mixing: false, ownBlocks: false };
  const { reads, combine, blocksAfter } = module;
  return {
    embeddingChange: reads.includes("embeddingChange"),
    trend: reads.includes("trend"),
    mixing: combine === "mix",
    ownBlocks: blocksAfter === "own",
  };
}

const CLASS_NAME = "ILFFeedback";

/** Throws ConfigError for a value that it cannot have. */
export function parseFeedbackConfig(raw: RawConfig): FeedbackConfig {
  const read = new ConfigReader(raw, CLASS_NAME);
  const config = {
    feedBlock: read.integer("feed_block", undefined, 1, MOST_LAYERS),
    resumeBlock: read.integer("resume_block", undefined, 1, MOST_LAYERS),
    module: moduleOf({
      embeddingChange: read.boolean("embedding_change", true),
      trend: read.boolean("trend", false),
      mixing: read.boolean("mixing", false),
      ownBlocks: read.boolean("own_blocks", false),
    }),
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
  const { embeddingChange, trend, mixing, ownBlocks } = flagsOf(config.module);
  const text = isList(schedule)
    ? schedule.join()
    : [schedule.every, schedule.warmUp ?? 1, schedule.final ?? 0].join(":");
  return {
    _class_name: CLASS_NAME,
    feed_block: config.feedBlock,
    resume_block: config.resumeBlock,
    embedding_change: embeddingChange,
    trend,
    mixing,
    own_blocks: ownBlocks,
    schedule: text,
    backbone: config.backbone,
  };
}

export interface FeedbackCuts extends BlockCuts {
  /** The first part that an inner step runs after the module: `resume`, or the last if the module has blocks of its own. */
  readonly after: number;
}

/** What of a module's configuration says which blocks run. */
export type FeedbackBlocks = Pick<FeedbackConfig, "feedBlock" | "resumeBlock" | "module">;

/** Where a backbone is cut. Throws ArgumentError for block numbers that it does not have. */
export function feedbackCuts(backbone: StagedModel, { module, ...blocks }: FeedbackBlocks): FeedbackCuts {
  const own = hasOwnBlocks(module);
  const { cuts, feed, resume } = blockCuts(backbone, blocks, own ? [blocksOf(backbone).end] : []);
  return { cuts, feed, resume, after: own ? cuts.length : resume };
}

export const hasOwnBlocks = (module: FeedbackModule): boolean =>
  module.kind === "extended" && module.blocksAfter === "own";
