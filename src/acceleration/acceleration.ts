/** `accelerate`: how a pipeline's denoiser may do steps in part, and what with. */

import { EasyCache } from "../caching/easy-cache.ts";
import { FirstBlockCache } from "../caching/first-block-cache.ts";
import { TaylorSeer } from "../caching/taylor-seer.ts";
import { type Check, number, oneOf, textOr, whole } from "../checks.ts";
import type { Component } from "../components/components.ts";
import { ArgumentError } from "../errors.ts";
import { feedbackCuts } from "../ilf/config.ts";
import { IlfDenoiser } from "../ilf/denoiser.ts";
import { carriedOn, StepsInParts } from "../ilf/steps.ts";
import type { Geometry } from "../models/architecture.ts";
import { blocksOf } from "../models/split-model.ts";
import type { StagedSession } from "../models/staged-session.ts";
import { type OptionTable, settings } from "../options/options.ts";
import { type Denoiser, DenoiserByRows, PlainDenoiser } from "../sampling/denoiser.ts";
import { policyOf, type Schedule, type StepChoice, stepChoiceCheck, stretched } from "../sampling/step-policy.ts";
import type { FeedbackComponent } from "./feedback-steps.ts";

/** Far more than there are steps to tell them from. */
const MOST_DERIVATIVES = 16;
/** More than any transformer has. */
const MOST_BLOCKS = 4096;

export const accelerations = ["none", "ilf", "cache", "first-block", "easycache", "taylorseer"] as const;
export type AccelerationMethod = (typeof accelerations)[number];

export interface Acceleration {
  method: AccelerationMethod;
  /** Which steps are full: ILF, cache and TaylorSeer. ILF's own is what it was trained with. A function decides step by step. */
  schedule?: StepChoice;
  /**
   * How much change is let pass before a step is done in full: of first-block and easycache, each with its published
   * default; of ILF, whose schedule decides unless it is given (the features' drift, about 0.1 to 1).
   */
  threshold?: number;
  /** Highest derivative of TaylorSeer, 4 unless given. */
  order?: number;
  /**
   * After how many blocks `cache` takes its features, and after how many they come back; unless given as ILF does, or all
   * but two.
   */
  feedBlock?: number;
  resumeBlock?: number;
}

/** A method's name, or it with settings. The default is ILF where the model has a feedback module, none elsewhere. */
export type Accelerate = AccelerationMethod | Acceleration;

/** What was done, for metadata: `{ accelerate: "ilf", fullSteps: 10, innerSteps: 10 }`. */
export interface AccelerationReport {
  accelerate: AccelerationMethod;
  fullSteps: number;
  innerSteps: number;
}

export function reportOf(method: AccelerationMethod, { actions }: Denoiser): AccelerationReport {
  const fullSteps = actions.filter((action) => action === "full").length;
  return { accelerate: method, fullSteps, innerSteps: actions.length - fullSteps };
}

const accelerationTable: OptionTable<Acceleration> = {
  method: oneOf(accelerations),
  schedule: stepChoiceCheck,
  threshold: number(0),
  order: whole(0, MOST_DERIVATIVES),
  feedBlock: whole(0, MOST_BLOCKS),
  resumeBlock: whole(0, MOST_BLOCKS),
};

/** A method that exists, or settings of one. */
export const accelerateCheck: Check = textOr(oneOf(accelerations), settings(accelerationTable));

/** Throws ArgumentError for a method or setting that does not exist, or ILF of a model without a feedback module. */
export function checkAcceleration(given: Accelerate | undefined, feedback: unknown): Acceleration {
  const acceleration = typeof given === "string" ? { method: given } : (given ?? { method: feedback ? "ilf" : "none" });
  const { method } = acceleration;
  accelerateCheck(acceleration, "accelerate");
  if (method === "ilf" && !feedback) {
    throw new ArgumentError(
      "This model has no feedback module (a folder ilf/ beside its transformer). `halfstep distill` trains one; " +
        `${accelerations.filter((name) => name !== "ilf" && name !== "none").join(", ")} need none.`,
    );
  }
  return acceleration;
}

/** The drift alone decides about the others. */
const ONLY_THE_FIRST: Schedule = { every: Number.MAX_SAFE_INTEGER };

/** A denoiser for one run of the sampler, in which guidance may begin or end. */
export async function openDenoiser(
  transformer: Component<unknown>,
  geometry: Geometry,
  acceleration: Acceleration,
  feedback: FeedbackComponent | null,
): Promise<Denoiser> {
  return new DenoiserByRows(await denoisers(transformer, geometry, acceleration, feedback));
}

/** Compiles what a method needs. Gives what opens a denoiser that knows of no step yet. */
async function denoisers(
  transformer: Component<unknown>,
  geometry: Geometry,
  acceleration: Acceleration,
  feedback: FeedbackComponent | null,
): Promise<() => Denoiser> {
  const { method, threshold, order, schedule } = acceleration;
  const limit = threshold === undefined ? {} : { threshold };
  if (method === "none" || method === "easycache") {
    const session = await transformer.session(geometry);
    return () => (method === "none" ? new PlainDenoiser(session) : new EasyCache(session, limit));
  }
  const model = transformer.model(geometry);
  const { first, end } = blocksOf(model);
  if (method === "first-block") {
    const segments = await transformer.segments(geometry, [first, first + 1, end]);
    return () => new FirstBlockCache(segments as [StagedSession, StagedSession, StagedSession, StagedSession], limit);
  }
  if (method === "taylorseer") {
    const segments = await transformer.segments(geometry, [first, end]);
    const options = { ...(order === undefined ? {} : { order }), ...(schedule ? { policy: policyOf(schedule) } : {}) };
    return () => new TaylorSeer(segments as [StagedSession, StagedSession, StagedSession], options);
  }
  // What a user gives is meant for this run; what the module was trained with, for any.
  const own = threshold === undefined ? (feedback?.config.schedule ?? { every: 2 }) : ONLY_THE_FIRST;
  const policy = schedule ? policyOf(schedule) : stretched(own);
  if (method === "ilf") {
    const steps = await feedback!.steps(geometry);
    return () => new IlfDenoiser(steps, policy, threshold);
  }
  const allButTwo = Math.max(1, end - first - 2);
  const { feedBlock, resumeBlock } = feedback?.config ?? { feedBlock: allButTwo, resumeBlock: allButTwo };
  const { cuts, ...places } = feedbackCuts(model, { feedBlock, resumeBlock, ...definedBlocks(acceleration) });
  const parts = await transformer.segments(geometry, cuts);
  const steps = new StepsInParts({ parts, ...places, feedback: carriedOn });
  return () => new IlfDenoiser(steps, policy, threshold);
}

function definedBlocks({ feedBlock, resumeBlock }: Acceleration) {
  return {
    ...(feedBlock === undefined ? {} : { feedBlock }),
    ...(resumeBlock === undefined ? {} : { resumeBlock }),
  };
}
