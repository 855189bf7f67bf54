/**
 * How a call keeps to a budget of memory: planned once, before anything runs, and that plan is what the denoiser and the decoder are
 * compiled and run by.
 */
import { type DecodingSize, decodingIn } from "../acceleration/decoding-size.ts";
import type { DenoiserPlan, NetworkSize, Streamlined } from "../acceleration/streamlined.ts";
import type { StreamlinedOptions } from "../acceleration/video-options.ts";
import type { Component } from "../components/components.ts";
import { type Releasable, releaseAll } from "../runtime/open-all.ts";
import { memoryBytes } from "../streamlined/bytes.ts";
import type { Listeners } from "../streamlined/rehash.ts";

/** How a call will run, settled before anything does. */
export interface RunPlan {
  /** Bytes that the process may take; Infinity without a limit. */
  readonly budget: number;
  readonly denoiser: DenoiserPlan;
  readonly decoding: DecodingSize;
}

/** `together`: how many frames are decoded at a time where memory allows it. Throws ArgumentError and BudgetError. */
export function planRun<Config>(
  { streamlined, decoder }: { streamlined: Streamlined<Config>; decoder: Component<unknown> },
  size: NetworkSize,
  together: number,
  { memory, accelerate, onFeatures }: StreamlinedOptions,
): RunPlan {
  const budget = memoryBytes(memory);
  const denoiser = streamlined.plan(size, { budget, accelerate, allFeatures: onFeatures !== undefined });
  const { height, width } = size;
  return { budget, denoiser, decoding: decodingIn(decoder, { frames: together, height, width }, budget) };
}

/** Releases parts that have done their work, if there is a budget: each network has all of it to itself. */
export async function makeRoom({ budget }: RunPlan, done: readonly (Releasable | null)[]): Promise<void> {
  if (budget < Number.POSITIVE_INFINITY) await releaseAll(done);
}

/** Listeners of a call, of which `onGroup` also stops a step between two groups when the signal is aborted: a step may take minutes. */
export const listenersOf = ({
  onGroup,
  onFeatures,
  signal,
}: StreamlinedOptions & { signal?: AbortSignal }): Listeners => ({
  onGroup: (progress) => {
    signal?.throwIfAborted();
    onGroup?.(progress);
  },
  onFeatures,
});
