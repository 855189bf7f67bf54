/**
 * DeepCache (Ma et al. 2023, arXiv 2312.00858) as an entry of the table of methods: Step Rehash with another cut, the same steps between
 * full ones all along, and guidance at every step. Its parameters have the meaning that they have in the authors' code.
 */
import { countOption, type Method } from "../sampling/method.ts";
import { scheduled } from "../sampling/step-policy.ts";
import { cutBefore, rehashAt } from "../streamlined/rehash.ts";
import type { NetworkInParts, StepInPart } from "./rehash.ts";

export interface DeepCacheSettings {
  /** Every how many steps one is full, N in the paper: 5 unless given. The paper has figures for 2 to 10. */
  interval?: number;
  /**
   * The skip connection at which a step in part comes back in, counted from the latent's side: 0 unless given. The way down is computed
   * up to it, and the way up from the layer that reads it.
   */
  branch?: number;
}

/** More than a run has steps, and more than a UNet has skip connections. */
const MOST = 4096;

export const deepCache: Method<"deepcache", "unet" | "video-unet", NetworkInParts, DeepCacheSettings> &
  StepInPart<DeepCacheSettings> = {
  name: "deepcache",
  summary: "the features before the layer that reads a skip connection, as the last full step left them, go into it",
  source: "arXiv 2312.00858",
  networks: ["unet", "video-unet"],
  options: {
    interval: countOption(1, MOST, { help: "every how many steps one is full", usual: "5" }),
    branch: countOption(0, MOST, { help: "the skip connection that it comes back in at", usual: "0" }),
  },
  cuts: ({ flow }, { branch = 0 }) => [cutBefore(flow, branch)],
  part: ({ flow }, { branch = 0 }) => rehashAt(flow, cutBefore(flow, branch), branch + 1),
  open: ({ inPart }, { interval = 5 }) => inPart(scheduled({ every: interval }, "rehash")),
};
