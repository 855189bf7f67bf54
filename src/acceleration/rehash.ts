/** Step Rehash (arXiv 2411.01171) as an entry of the table of methods; the method itself is in `streamlined/`. */
import type { Denoiser } from "../sampling/denoiser.ts";
import { choiceOption, countOption, type Method, nameOption, scheduleOption } from "../sampling/method.ts";
import type { StepChoice, StepPolicy } from "../sampling/step-policy.ts";
import type { Flow } from "../streamlined/grouping.ts";
import type { Rehash } from "../streamlined/plan.ts";
import { rehashAt, rehashPolicy } from "../streamlined/rehash.ts";

/** At which steps Step Rehash runs the network with and without the condition: the full ones, or all. */
export const guidanceStepsChoices = ["full", "all"] as const;

export interface RehashSettings {
  /** Which steps are full: of 25 the first seven and every third after them unless given, of others the same share. */
  schedule?: StepChoice;
  /** The feature after which a rehash step comes back in: after the first layer of the last block unless given. */
  cut?: string;
  /** How many features of the down path a rehash step computes anew; 1, the first convolution, unless given. */
  fresh?: number;
  /**
   * The steps at which guidance runs the network both with and without the condition: the "full" ones unless given. The
   * other steps use the difference from the last full step, and cost half as much.
   */
  guidanceSteps?: (typeof guidanceStepsChoices)[number];
}

/** A UNet, and whether its batch is guidance's two halves. */
export interface CutNetwork {
  readonly flow: Flow;
  readonly guided: boolean;
}

/** A UNet that can run some of its stages alone, as `StepInPart.part` says which. */
export interface NetworkInParts extends CutNetwork {
  /** Full steps and steps in part, compiled, with or without a plan for their memory. */
  inPart(policy: StepPolicy): Promise<() => Denoiser>;
}

/** What an entry says beside others if steps in part run some of a UNet's stages alone. */
export interface StepInPart<Options> {
  /**
   * What a step in part runs, and what it needs of the last full step; known before anything is compiled, so that memory can be
   * planned for it. Throws ArgumentError for options that do not fit.
   */
  readonly part: (network: CutNetwork, options: Options) => Rehash;
}

export const rehash: Method<"rehash", "unet" | "video-unet", NetworkInParts, RehashSettings> &
  StepInPart<RehashSettings> = {
  name: "rehash",
  summary: "the features at a cut in the way up, as the last full step left them, go into the layers after it",
  source: "Step Rehash of Streamlined Inference, arXiv 2411.01171",
  networks: ["unet", "video-unet"],
  options: {
    schedule: scheduleOption("3:7 for 25 steps, the same share of others"),
    cut: nameOption("feature", {
      help: "where such a step comes back in (rehash-profile proposes one)",
      usual: "after the first layer of the last block",
    }),
    fresh: countOption(0, 4096, { help: "features of the way down that are worked out anew", usual: "1" }),
    guidanceSteps: choiceOption(guidanceStepsChoices, {
      help: "work out both halves of guidance at full steps only, or at all",
      usual: "full; the others then cost half",
    }),
  },
  cuts: ({ flow }, { cut, fresh }) => [...rehashAt(flow, cut, fresh).cached],
  part: ({ flow, guided }, { cut, fresh, guidanceSteps = "full" }) =>
    rehashAt(flow, cut, fresh, guided && guidanceSteps === "full"),
  open: ({ inPart }, { schedule }) => inPart(rehashPolicy(schedule)),
};
