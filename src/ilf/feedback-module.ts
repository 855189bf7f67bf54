/**
 * Inner Loop Feedback (arXiv 2501.13107): the feedback module as a model. One block F of the backbone's kind predicts from the
 * features h of one step those of the next, h', which then needs only the backbone's last blocks:
 *
 *     h' = g + scale * (F(g, t', caption) - g)
 *
 * F has weights of its own and is conditioned on the next step's time. What g and the scale are says the kind of module:
 * `paper-module.ts` and `extended-module.ts`. With blocks of its own, the last blocks of an inner step are the module's too, and
 * only the output layer is the backbone's.
 *
 * Where several features run through the blocks (image and text), h, g and h' are one of each, F sees all of them, and each
 * has weights of its own for g and the scale.
 */
import { add, mul, sub } from "../graph/operators.ts";
import { input, staticDim } from "../graph/value.ts";
import { alias, type Features, type Stage, type StagedModel } from "../models/architecture.ts";
import { blocksOf, splitModel, streamsInto } from "../models/split-model.ts";
import { Weights } from "../models/weights.ts";
import { type FeedbackBlocks, type FeedbackConfig, type FeedbackModule, feedbackCuts, hasOwnBlocks } from "./config.ts";
import { extendedBuilder } from "./extended-module.ts";
import type { ModuleBuilder } from "./module-builder.ts";
import { paperBuilder } from "./paper-module.ts";
import { ofStream, type StreamPart } from "./stream-names.ts";

/** The backbone's stages that a module starts as copies of. Throws ArgumentError for blocks that are not there. */
function copiedStages(backbone: StagedModel, blocks: FeedbackBlocks): { block: Stage; own: readonly Stage[] } {
  const { cuts, feed, resume } = feedbackCuts(backbone, blocks);
  // F is the last block before the features are taken; the others are those after they come back in.
  const own = hasOwnBlocks(blocks.module) ? backbone.stages.slice(cuts[resume - 1], blocksOf(backbone).end) : [];
  return { block: backbone.stages[cuts[feed]! - 1]!, own };
}

/** The backbone's weight that one of the module's starts as a copy of; null for one that starts at zero. */
export function copiedWeight(backbone: StagedModel, blocks: FeedbackBlocks, name: string): string | null {
  const { block, own } = copiedStages(backbone, blocks);
  const from = [["block", block] as const, ...own.map((stage, i) => [ownBlock(i), stage] as const)];
  const found = from.find(([prefix]) => name.startsWith(`${prefix}.`));
  return found ? found[1].name + name.slice(found[0].length) : null;
}

const ownBlock = (index: number) => `own_blocks.${index}`;

/**
 * The feedback module of a backbone as a model. Inputs, beside what a block reads, for each stream (`ofStream`): `carried`
 * [batch, patches, width], the features after block `feedBlock` at the last step; `embedding` and `carriedEmbedding`, what
 * enters the blocks at this step and at that one; `trend`, the change of the features between the last two full steps.
 * Outputs: the streams, which the backbone goes on from. With blocks of its own that is what the output layer reads, and
 * `features` is what the next inner step carries on from; without, both are the same.
 */
export function feedbackModel(backbone: StagedModel, config: FeedbackConfig): StagedModel {
  const { first, streams } = blocksOf(backbone);
  const blocks = splitModel(backbone, [first])[1]!;
  const { cuts, resume } = feedbackCuts(backbone, config);
  const { block, own } = copiedStages(backbone, config);
  const conditions = conditionsOf([block, ...own], streams);
  const builder = builderOf(config.module);
  const parts: StreamPart[] = ["carried", ...builder.reads];
  const extra = streams.flatMap((stream) =>
    parts.map((part) => [ofStream(part, stream), blocks.inputs[stream]!.shape] as const),
  );
  const time: Features = builder.readsTime ? { timestep: backbone.inputs["timestep"]! } : {};
  // What block F does not write, or nobody reads any more, is carried on as it is.
  const read = streamsInto(splitModel(backbone, cuts)[resume]!);
  const predicted = new Set(read.filter((stream) => block.writes.includes(stream)));
  const stages: Stage[] = [
    {
      name: "feedback",
      role: "enter",
      axis: "whole",
      reads: [...extra.map(([name]) => name), ...Object.keys(time), ...conditionsOf([block], streams)],
      writes: streams,
      build: (features, w) => feedback(features, w, { block, streams, predicted, builder }),
    },
    ...(own.length > 0 ? streams.map((stream) => alias(stream, ofStream("features", stream), "enter")) : []),
    ...own.map(
      (stage, i): Stage => ({
        ...stage,
        name: ownBlock(i),
        build: (features, w) => stage.build(features, renamed(w, stage, ownBlock(i))),
      }),
    ),
  ];
  return {
    className: `feedback of ${backbone.className}`,
    settings: backbone.settings,
    inputs: {
      ...Object.fromEntries(extra.map(([name, shape]) => [name, input(name, shape)])),
      ...Object.fromEntries(conditions.map((name) => [name, blocks.inputs[name]!])),
      ...time,
    },
    outputs: own.length > 0 ? [...streams, ...streams.map((stream) => ofStream("features", stream))] : streams,
    stages,
  };
}

const conditionsOf = (stages: readonly Stage[], streams: readonly string[]) => [
  ...new Set(stages.flatMap(({ reads }) => reads).filter((name) => !streams.includes(name))),
];

/** A block asks for its weights under its own name; in the module they have another. */
const renamed = (w: Weights, { name }: Stage, to: string) =>
  new Weights((asked, shape) => w.tensor(asked.replace(name, to), shape));

interface FeedbackParts {
  readonly block: Stage;
  readonly streams: readonly string[];
  /** The streams that are more than carried on. */
  readonly predicted: ReadonlySet<string>;
  readonly builder: ModuleBuilder;
}

/** h' of every stream. The weights of others than the first are under their names. */
function feedback(features: Features, w: Weights, { block, streams, predicted, builder }: FeedbackParts): Features {
  const starts = streams.map((stream, i) => {
    const own = i === 0 ? w : w.at(stream);
    const inputs = Object.fromEntries(
      (["carried", ...builder.reads] as const).map((part) => [part, features[ofStream(part, stream)]!]),
    );
    const g = builder.start(inputs, own, features);
    const width = staticDim(g, -1, "feedback");
    return { stream, g, scale: predicted.has(stream) ? builder.scale(width, own, features) : null };
  });
  const given = Object.fromEntries(starts.map(({ stream, g }) => [stream, g]));
  const made = block.build({ ...features, ...given }, renamed(w, block, "block"));
  return Object.fromEntries(
    starts.map(({ stream, g, scale }) => [stream, scale ? add(g, mul(sub(made[stream]!, g), scale)) : g]),
  );
}

const builderOf = (module: FeedbackModule): ModuleBuilder =>
  module.kind === "paper" ? paperBuilder : extendedBuilder(module);
