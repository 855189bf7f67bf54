/** The two kinds of steps of Inner Loop Feedback, and the two ways of compiling them. */

import { pickStreams, type Streams } from "../caching/streams.ts";
import { alias, type Stage, type StagedModel } from "../models/architecture.ts";
import { splitModel, streamsOf } from "../models/split-model.ts";
import type { StagedSession } from "../models/staged-session.ts";
import { type Feeds, runParts } from "../sampling/denoiser.ts";
import { type FloatTensor, floatOf, type Tensor } from "../tensor.ts";
import { type FeedbackConfig, feedbackCuts } from "./config.ts";
import { feedbackModel } from "./feedback-module.ts";
import { allOf, named, ofStream, predictedOf, type StreamPart } from "./stream-names.ts";

/** What a step leaves for the next. */
export interface Carried {
  /** After block `feedBlock`; in an inner step, the feedback module's prediction of it. */
  readonly features: Streams;
  readonly embedding: Streams;
  /** Change of the features between the last two full steps, a step; zeros after the first. */
  readonly trend: Streams;
}

/** A step's output, and of what it leaves all but the trend. */
export type IlfStepResult = Omit<Carried, "trend"> & { readonly sample: FloatTensor };

/** The two kinds of steps of Inner Loop Feedback. */
export interface IlfSteps {
  /** The whole network. */
  full(feeds: Feeds): Promise<IlfStepResult>;
  /** Null where `accept` will not have the predicted features; what was computed until then is lost. */
  inner(feeds: Feeds, carried: Carried, accept: (predicted: Streams) => boolean): Promise<IlfStepResult | null>;
}

/** A backbone in the parts that `feedbackCuts` makes of it, and the feedback module. Full and inner steps share them. */
export interface IlfSessions {
  readonly parts: readonly StagedSession[];
  readonly feed: number;
  readonly resume: number;
  readonly after: number;
  /** What an inner step goes on from: the feedback module's outputs. */
  readonly feedback: (features: Feeds) => Promise<Feeds>;
}

/** Steps of a backbone in parts: no weight is in memory twice, for three to five calls of the runtime a step. */
export class StepsInParts implements IlfSteps {
  readonly #sessions: IlfSessions;

  constructor(sessions: IlfSessions) {
    this.#sessions = sessions;
  }

  async full(feeds: Feeds): Promise<IlfStepResult> {
    const { parts, feed } = this.#sessions;
    const entered = await runParts(parts.slice(0, 1), feeds);
    const before = await runParts(parts.slice(1, feed + 1), entered);
    const after = await runParts(parts.slice(feed + 1), before);
    const streams = streamsOf(parts[0]!.model);
    return {
      sample: floatOf(after, "sample"),
      features: pickStreams(before, streams),
      embedding: pickStreams(entered, streams),
    };
  }

  async inner(feeds: Feeds, carried: Carried, accept: (predicted: Streams) => boolean) {
    const { parts, after, feedback } = this.#sessions;
    const entered = await runParts(parts.slice(0, 1), feeds);
    const { features, streams } = predictedOf((await feedback(moduleInputs(entered, carried))) as Streams);
    if (!accept(features)) return null;
    const left = await runParts(parts.slice(after), { ...entered, ...streams });
    const embedding = pickStreams(entered, streamsOf(parts[0]!.model));
    return { sample: floatOf(left, "sample"), features, embedding };
  }
}

/** Steps that are one call each: `wholeSteps` compiled. */
export class WholeSteps implements IlfSteps {
  readonly #full: StagedSession;
  readonly #inner: StagedSession;

  constructor(full: StagedSession, inner: StagedSession) {
    this.#full = full;
    this.#inner = inner;
  }

  async full(feeds: Feeds): Promise<IlfStepResult> {
    return stepResult(await this.#full.run(feeds));
  }

  async inner(feeds: Feeds, carried: Carried, accept: (predicted: Streams) => boolean) {
    const result = stepResult(await this.#inner.run({ ...feeds, ...carriedFeeds(carried) }));
    return accept(result.features) ? result : null;
  }
}

const stepResult = (outputs: Feeds): IlfStepResult => ({
  sample: floatOf(outputs, "sample"),
  features: allOf("features", outputs) as Streams,
  embedding: allOf("embedding", outputs) as Streams,
});

const carriedFeeds = ({ features, embedding, trend }: Carried): Record<string, Tensor> => ({
  ...named("carried", features),
  ...named("carriedEmbedding", embedding),
  ...named("trend", trend),
});

/** What the feedback module reads at a step, from that step's entry and what the last one left. */
export function moduleInputs(entered: Feeds, carried: Carried): Record<string, Tensor> {
  const embedding = pickStreams(entered, Object.keys(carried.embedding));
  return { ...entered, ...named("embedding", embedding), ...carriedFeeds(carried) };
}

/** The feedback module's weights beside the backbone's. */
export const FEEDBACK_PREFIX = "feedback.";

/**
 * A full and an inner step as models of their own, with the outputs of a `IlfStepResult`. An inner step has the entry, the
 * feedback module (its weights after `FEEDBACK_PREFIX`) and what comes after it, which the full step has too: `shared` is
 * them, whose weights are in memory twice.
 */
export function wholeSteps(
  backbone: StagedModel,
  config: FeedbackConfig,
): { full: StagedModel; inner: StagedModel; shared: readonly StagedModel[] } {
  const { cuts, feed, after } = feedbackCuts(backbone, config);
  const parts = splitModel(backbone, cuts);
  const stagesOf = (some: readonly StagedModel[]) => some.flatMap(({ stages }) => stages);
  const [entry, tail] = [parts.slice(0, 1), parts.slice(after)];
  const module = feedbackModel(backbone, config);
  const feedback = module.stages.map(
    (stage): Stage => ({ ...stage, build: (features, w) => stage.build(features, w.at(FEEDBACK_PREFIX.slice(0, -1))) }),
  );
  const streams = streamsOf(backbone);
  const all = (part: StreamPart) => streams.map((stream) => ofStream(part, stream));
  const fromBefore = new Set((["carried", "carriedEmbedding", "trend"] as const).flatMap(all));
  const carried = Object.fromEntries(Object.entries(module.inputs).filter(([name]) => fromBefore.has(name)));
  const outputs = ["sample", ...all("features"), ...all("embedding")];
  const keepEmbedding = streams.map((stream) => alias(stream, ofStream("embedding", stream), "enter"));
  const keepFeatures = streams.map((stream) => alias(stream, ofStream("features", stream), "block"));
  return {
    full: {
      ...backbone,
      outputs,
      stages: [
        ...stagesOf(entry),
        ...keepEmbedding,
        ...stagesOf(parts.slice(1, feed + 1)),
        ...keepFeatures,
        ...stagesOf(parts.slice(feed + 1)),
      ],
    },
    inner: {
      ...backbone,
      inputs: { ...backbone.inputs, ...carried },
      outputs,
      // A module with blocks of its own names its features itself, before them.
      stages: [
        ...stagesOf(entry),
        ...keepEmbedding,
        ...feedback,
        ...(module.outputs.includes(ofStream("features", streams[0])) ? [] : keepFeatures),
        ...stagesOf(tail),
      ],
    },
    shared: [...entry, ...tail],
  };
}
