/**
 * What the sampling loop calls once a step: a denoiser, which may do a step in part and reuse what earlier steps
 * computed.
 */
import type { ModelSession } from "../models/staged-session.ts";
import { type FloatTensor, floatOf, floatTensor, sizeOf, type Tensor } from "../tensor.ts";
import type { Action, StepContext } from "./step-policy.ts";

/** Tensors by the names that a network's inputs have. */
export type Feeds = Readonly<Record<string, Tensor>>;

/** A denoiser within one run of the sampler: what it keeps from step to step belongs to that run alone. */
export interface Denoiser {
  /** The network's output (`sample`) for `feeds`, the inputs of the whole network. */
  run(feeds: Feeds, step: StepContext): Promise<FloatTensor>;
  /** What was done at each step so far. */
  readonly actions: readonly Action[];
}

/** Every step in full. */
export class PlainDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly #session: ModelSession;

  constructor(session: ModelSession) {
    this.#session = session;
  }

  async run(feeds: Feeds): Promise<FloatTensor> {
    this.actions.push("full");
    return floatOf(await this.#session.run(feeds), "sample");
  }
}

/**
 * Starts a new denoiser when the number of rows changes: if guidance begins or ends within a run, what earlier steps
 * kept belongs to other rows.
 */
export class DenoiserByRows implements Denoiser {
  readonly #open: () => Denoiser;
  readonly #denoisers: Denoiser[] = [];
  #rows = 0;

  constructor(open: () => Denoiser) {
    this.#open = open;
  }

  get actions(): readonly Action[] {
    return this.#denoisers.flatMap(({ actions }) => actions);
  }

  run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    // Every input has a row for each of the batch.
    const rows = Object.values(feeds)[0]!.shape[0]!;
    if (rows !== this.#rows) this.#denoisers.push(this.#open());
    this.#rows = rows;
    return this.#denoisers.at(-1)!.run(feeds, step);
  }
}

/**
 * Runs a denoiser that was compiled for `rows` rows on a multiple of them, part by part. So guidance may begin or end within a run,
 * although a plan is for one number of rows.
 */
export class FixedRows implements Denoiser {
  readonly actions: Action[] = [];
  readonly #denoiser: Denoiser;
  readonly #rows: number;

  constructor(denoiser: Denoiser, rows: number) {
    this.#denoiser = denoiser;
    this.#rows = rows;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const given = Object.values(feeds)[0]!.shape[0]!;
    let output: FloatTensor | null = null;
    for (let start = 0; start < given; start += this.#rows) {
      const part = Object.fromEntries(
        Object.entries(feeds).map(([name, feed]) => [name, someRows(feed, start, start + this.#rows)]),
      );
      const made = await this.#denoiser.run(part, step);
      if (given === this.#rows) output = made;
      output ??= floatTensor([given, ...made.shape.slice(1)]);
      if (output !== made) output.data.set(made.data, start * sizeOf(made.shape.slice(1)));
    }
    this.actions.push(this.#denoiser.actions.at(-1)!);
    return output!;
  }
}

/** Rows start..end of a tensor of any type, as a view. */
function someRows(tensor: Tensor, start: number, end: number): Tensor {
  const shape = tensor.shape.slice(1);
  const each = sizeOf(shape);
  const data = tensor.data.subarray(start * each, end * each);
  return { ...tensor, shape: [end - start, ...shape], data } as Tensor;
}

/**
 * Runs parts of a model one after the other (`splitModel`) and gives all features at the end: what was fed, and what
 * was written last.
 */
export async function runParts(parts: readonly ModelSession[], feeds: Feeds): Promise<Record<string, Tensor>> {
  let features: Record<string, Tensor> = { ...feeds };
  for (const part of parts) features = { ...features, ...(await part.run(features)) };
  return features;
}
