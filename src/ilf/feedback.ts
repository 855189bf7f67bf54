/**
 * Inner Loop Feedback (arXiv 2501.13107): the feedback module. One block of the backbone's kind predicts from the
 * features of one step those of the next, which then needs only the backbone's last blocks:
 *
 *     h' = h + (embed(x') - embed(x)) + trendScale * trend + scale * (F(h, t', caption) - h)
 *
 * F is a block with weights of its own, conditioned on the next step's time; `scale`, one number a channel, starts at
 * zero, where an inner step is plain caching.
 */
import { add, mul, sub } from "../graph/operators.ts";
import { input } from "../graph/value.ts";
import type { Features, Stage, StagedModel } from "../models/architecture.ts";
import { blockRange, segmentModel } from "../models/segments.ts";
import { Weights } from "../models/weights.ts";
import { type FeedbackConfig, feedbackCuts } from "./config.ts";

type Blocks = Pick<FeedbackConfig, "feedBlock" | "resumeBlock">;

/**
 * The backbone's block that F is a copy of: the last one before the features are taken. Throws ArgumentError for block
 * numbers that the backbone does not have.
 */
export function copiedBlock(backbone: StagedModel, blocks: Blocks): Stage {
  const { cuts, feed } = feedbackCuts(backbone, blocks);
  return backbone.stages[cuts[feed]! - 1]!;
}

/**
 * The feedback module of a backbone as a model of one stage. Inputs, beside what a block reads: `carried` [batch,
 * patches, width], the features after block `feedBlock` at the last step; `embedding` and `carriedEmbedding`, the patch
 * embeddings of this step and of that one; `trend`, the change of the features between the last two full steps. Output:
 * `hiddenStates`, which the blocks after `resumeBlock` go on from.
 */
export function feedbackModel(backbone: StagedModel, config: FeedbackConfig): StagedModel {
  const { first } = blockRange(backbone);
  const blocks = segmentModel(backbone, [first])[1]!;
  const block = copiedBlock(backbone, config);
  const stream = blocks.inputs["hiddenStates"]!;
  const extra = [
    "carried",
    ...(config.embeddingChange ? ["embedding", "carriedEmbedding"] : []),
    ...(config.trend ? ["trend"] : []),
  ];
  const conditions = block.reads.filter((name) => name !== "hiddenStates");
  const width = stream.shape.at(-1) as number;
  return {
    className: `feedback of ${backbone.className}`,
    ...(backbone.settings === undefined ? {} : { settings: backbone.settings }),
    inputs: {
      ...Object.fromEntries(extra.map((name) => [name, input(name, stream.shape)])),
      ...Object.fromEntries(conditions.map((name) => [name, blocks.inputs[name]!])),
    },
    outputs: ["hiddenStates"],
    stages: [
      {
        name: "feedback",
        axis: "whole",
        reads: [...extra, ...conditions],
        writes: ["hiddenStates"],
        build: (features, w) => ({ hiddenStates: feedback(features, w, block, config, width) }),
      },
    ],
  };
}

function feedback(features: Features, w: Weights, block: Stage, config: FeedbackConfig, width: number) {
  const { carried, embedding, carriedEmbedding, trend } = features;
  let h = carried!;
  if (config.embeddingChange) h = add(h, sub(embedding!, carriedEmbedding!));
  if (config.trend) h = add(h, mul(trend!, w.tensor("trend_scale", [width])));
  // The block asks for its weights under its own name; here they are "block."
  const own = new Weights((name, shape) => w.tensor(name.replace(block.name, "block"), shape));
  const update = sub(block.build({ ...features, hiddenStates: h }, own)["hiddenStates"]!, h);
  return add(h, mul(update, w.tensor("scale", [width])));
}
