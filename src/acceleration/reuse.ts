/** Reuses the last prediction: an entry of the table of methods that only serves as the baseline for the others. */
import { NoiseReuse } from "../caching/noise-reuse.ts";
import { type Method, type NetworkKind, networkKinds, scheduleOption, type WholeNetwork } from "../sampling/method.ts";
import type { StepChoice } from "../sampling/step-policy.ts";
import { rehashPolicy } from "../streamlined/rehash.ts";

export interface ReuseSettings {
  /** Which steps are full: those of Step Rehash unless given. */
  schedule?: StepChoice;
}

export const reuse: Method<"reuse", NetworkKind, WholeNetwork, ReuseSettings> & { readonly baseline: true } = {
  name: "reuse",
  summary: "the prediction of the last full step again",
  source: "",
  networks: networkKinds,
  baseline: true,
  options: { schedule: scheduleOption("as with rehash") },
  cuts: () => [],
  async open({ whole }, { schedule }) {
    const policy = rehashPolicy(schedule);
    const open = await whole();
    return () => new NoiseReuse(open(), policy);
  },
};
