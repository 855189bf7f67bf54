/**
 * How a call keeps to a budget of memory: planned once, before anything runs, and that plan is what its networks are compiled and run by.
 */
import { type DecodingSize, decodingIn } from "../acceleration/decoding-size.ts";
import type { DenoiserPlan, NetworkSize, Streamlined } from "../acceleration/streamlined.ts";
import type { StreamlinedOptions } from "../acceleration/video-options.ts";
import type { Component } from "../components/components.ts";
import { BudgetError } from "../errors.ts";
import { type Releasable, releaseAll } from "../runtime/open-all.ts";
import { memoryBytes } from "../streamlined/bytes.ts";
import type { Listeners } from "../streamlined/rehash.ts";
import type { TextEncoder } from "./text-to-image-family.ts";

/** A part of a call with a budget. The parts run one after the other, and each has all of the memory to itself. */
export interface PlannedPart {
  readonly name: string;
  /** The most bytes that the process is predicted to take meanwhile. */
  readonly peak: number;
}

/** How a call will run, settled before anything does. */
export interface RunPlan {
  /** Bytes that the process may take; Infinity without a limit. */
  readonly budget: number;
  readonly denoiser: DenoiserPlan;
  readonly decoding: DecodingSize;
  /** With a budget: all parts, in their order. */
  readonly parts: readonly PlannedPart[];
}

/** A part that runs before the denoiser. */
export interface EarlierPart {
  readonly name: string;
  /** The peak of a run within a budget in bytes. Throws BudgetError. */
  peak(budget: number): number;
}

/** Text encoders as parts of a call: for so many texts, of so many tokens where an encoder has no own number. */
export const earlierTexts = (
  encoders: readonly TextEncoder[],
  { texts, tokens }: { texts: number; tokens: number },
): EarlierPart[] =>
  encoders.map((encoder, i) => ({
    name: encoders.length > 1 ? `text encoder ${i + 1}` : "text encoder",
    peak: (budget) => encoder.planned(texts, budget, tokens).prediction.peak,
  }));

/** What a call is planned for. */
export interface RunParts<Config> {
  readonly streamlined: Streamlined<Config>;
  readonly decoder: Component<unknown>;
  /** Encoders of texts and images. */
  readonly earlier?: readonly EarlierPart[];
}

/**
 * `together`: how many frames are decoded at a time where memory allows it. Throws ArgumentError, and BudgetError with the smallest
 * budget that is enough for all parts.
 */
export function planRun<Config>(
  { streamlined, decoder, earlier = [] }: RunParts<Config>,
  size: NetworkSize,
  together: number,
  { memory, accelerate, onFeatures }: StreamlinedOptions,
): RunPlan {
  const budget = memoryBytes(memory);
  const { height, width } = size;
  const limited = budget < Number.POSITIVE_INFINITY;
  const [denoiser, decoding, ...peaks] = allOrNone(
    () => streamlined.plan(size, { budget, accelerate, allFeatures: onFeatures !== undefined }),
    () => decodingIn(decoder, { frames: together, height, width }, budget),
    ...(limited ? earlier : []).map((part) => () => ({ name: part.name, peak: part.peak(budget) })),
  );
  const parts = limited
    ? [
        ...peaks,
        ...(denoiser.kind === "planned" ? [{ name: "denoiser", peak: denoiser.run.prediction.peak }] : []),
        { name: "decoder", peak: decoding.peak! },
      ]
    : [];
  return { budget, denoiser, decoding, parts };
}

/** What all of them give. Throws the BudgetError that asks for the most. */
function allOrNone<A, B, C>(first: () => A, second: () => B, ...more: readonly (() => C)[]): [A, B, ...C[]] {
  const errors: BudgetError[] = [];
  const made = [first, second, ...more].map((make) => {
    try {
      return make();
    } catch (error) {
      if (!(error instanceof BudgetError)) throw error;
      errors.push(error);
      return undefined;
    }
  });
  if (errors.length > 0) throw errors.reduce((most, error) => (error.smallest > most.smallest ? error : most));
  return made as [A, B, ...C[]];
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
