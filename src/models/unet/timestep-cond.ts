/**
 * The guidance scale as a condition of UNets that were distilled with guidance (Luo et al. 2023, arXiv 2310.04378): its embedding
 * is projected and added to the timestep's sinusoids.
 */
import { type ConfigReader, MOST_WIDTH } from "../config.ts";
import type { Count } from "../counts.ts";

/** Whether a UNet is told of its guidance scale. */
export interface TimestepCond {
  /** Width of the input `timestepCond`; null in a model without it. */
  timeCondProjDim: number | null;
}

/** Reads `time_cond_proj_dim`. Throws ConfigError. */
export const parseTimestepCond = (read: ConfigReader): TimestepCond => ({
  timeCondProjDim: read.has("time_cond_proj_dim") ? read.integer("time_cond_proj_dim", undefined, 1, MOST_WIDTH) : null,
});

export const timestepCondCounts = ({ timeCondProjDim: size }: TimestepCond): Count[] =>
  size === null ? [] : [{ key: "time_cond_proj_dim", tensor: "time_embedding.cond_proj.weight", axis: 1, size }];
