/** Inner Loop Feedback (arXiv 2501.13107) as an entry of the table of methods; the method itself is in `ilf/`. */
import { type FeedbackConfig, feedbackCuts } from "../ilf/config.ts";
import { IlfDenoiser } from "../ilf/denoiser.ts";
import type { IlfSteps } from "../ilf/steps.ts";
import type { StagedModel } from "../models/architecture.ts";
import { type Method, scheduleOption, thresholdOption } from "../sampling/method.ts";
import { policyOf, type Schedule, type StepChoice, stretched } from "../sampling/step-policy.ts";

export interface IlfOptions {
  /** Which steps are full: those that the module was trained with unless given. */
  schedule?: StepChoice;
  /**
   * Lets the drift of the features decide instead of a schedule: a step is full if they would have drifted by more than
   * this since the last full one. About 0.1 to 1.
   */
  threshold?: number;
}

/** A network whose folder may have a feedback module. */
export interface FeedbackNetwork {
  readonly model: StagedModel;
  /** Its full and inner steps, compiled; null in a folder without one. */
  readonly feedback: { readonly config: FeedbackConfig; steps(): Promise<IlfSteps> } | null;
}

/** The drift alone decides about the others. */
const ONLY_THE_FIRST: Schedule = { every: Number.MAX_SAFE_INTEGER };

export const ilf: Method<"ilf", "transformer", FeedbackNetwork, IlfOptions> = {
  name: "ilf",
  summary: "a small trained module predicts a block's features, which go into the last blocks",
  source: "Inner Loop Feedback, arXiv 2501.13107",
  networks: ["transformer"],
  trained: true,
  options: {
    schedule: scheduleOption("what the module was trained with"),
    threshold: thresholdOption("none: the schedule decides"),
  },
  cuts: ({ model, feedback }) => feedbackCuts(model, feedback!.config).cuts,
  async open({ feedback }, { schedule, threshold }) {
    const { config } = feedback!;
    const own = threshold === undefined ? config.schedule : ONLY_THE_FIRST;
    // What a user gives is meant for this run; what the module was trained with, for any.
    const policy = schedule ? policyOf(schedule) : stretched(own);
    const steps = await feedback!.steps();
    return () => new IlfDenoiser(steps, policy, threshold);
  },
};
