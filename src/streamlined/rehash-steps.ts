/**
 * Step Rehash without a memory plan: one session for full steps and one for rehash steps. In small networks, separate groups would
 * spend a noticeable share of the time on runtime calls and on copies of features.
 */
import { input } from "../graph/value.ts";
import { alias, type Stage, type StagedModel, weightBytes } from "../models/architecture.ts";
import type { FlowStage } from "../models/grouping.ts";
import type { StagedSession } from "../models/staged-session.ts";
import type { Denoiser, Feeds } from "../sampling/denoiser.ts";
import { rows, stack } from "../sampling/guidance.ts";
import type { Action, StepContext, StepPolicy } from "../sampling/step-policy.ts";
import { type FloatTensor, floatOf } from "../tensor.ts";
import { type Flow, shapeWith } from "./grouping.ts";
import type { Rehash } from "./plan.ts";
import { GuidanceDifference } from "./rehash.ts";

/**
 * Both kinds of steps as models. `full` has the cached features as outputs, and `again` (a rehash step) has them as inputs. The
 * batch is open, since a rehash step may compute half of it; small networks also run a few percent faster than with a fixed batch.
 */
export interface RehashModels {
  readonly full: StagedModel;
  readonly again: StagedModel;
}

export function rehashModels(flow: Flow, { stages, cached }: Rehash): RehashModels {
  const { model, sizes } = flow;
  const own = new Map([...flow.inputs].map(([name, id]) => [id, name]));
  // Inputs and outputs have the names that callers know; all other features have their unique names.
  const nameOf = (id: string) => own.get(id) ?? id;
  const inputs = (ids: Iterable<string>) =>
    Object.fromEntries([...ids].map((id) => [nameOf(id), input(nameOf(id), shapeWith(sizes.get(id)!, "batch"))]));
  const all = flow.stages.map((each) => renamed(each, nameOf));
  const outputs = [...flow.outputs].map(([name, id]) => alias(id, name, "leave"));
  return {
    full: {
      ...model,
      inputs: inputs(flow.inputs.values()),
      outputs: [...model.outputs, ...cached],
      stages: [...all, ...outputs],
    },
    again: {
      ...model,
      inputs: inputs([...flow.inputs.values(), ...cached]),
      stages: [...all.filter((_, i) => stages.has(i)), ...outputs],
    },
  };
}

/** A stage that reads and writes features under other names. */
function renamed({ stage, reads, writes }: FlowStage, nameOf: (id: string) => string): Stage {
  return {
    name: stage.name,
    role: stage.role,
    axis: stage.axis,
    reads: [...reads.values()].map(nameOf),
    writes: [...writes.values()].map(nameOf),
    build: (features, weights) => {
      const known = Object.fromEntries([...reads].map(([name, id]) => [name, features[nameOf(id)]!]));
      const made = stage.build(known, weights);
      return Object.fromEntries([...writes].map(([name, id]) => [nameOf(id), made[name]!]));
    },
  };
}

/** Bytes of the weights that are in both sessions. */
export const bytesTwice = ({ again }: RehashModels): number => weightBytes(again);

/** The denoiser of one run of the sampler: each step is a full step or a rehash step. */
export class RehashDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly #full: StagedSession;
  readonly #again: StagedSession;
  readonly #rehash: Rehash;
  readonly #policy: StepPolicy;
  readonly #guidance = new GuidanceDifference();
  #features: Record<string, FloatTensor> | null = null;

  constructor(full: StagedSession, again: StagedSession, rehash: Rehash, policy: StepPolicy) {
    this.#full = full;
    this.#again = again;
    this.#rehash = rehash;
    this.#policy = policy;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const chosen = this.#policy(step);
    if (this.#features && chosen !== "full") {
      this.actions.push(chosen);
      return this.#inPart({ ...(feeds as Record<string, FloatTensor>), ...this.#features });
    }
    this.actions.push("full");
    const made = (await this.#full.run(feeds)) as Record<string, FloatTensor>;
    const sample = made["sample"]!;
    this.#features = Object.fromEntries([...this.#rehash.cached].map((id) => [id, made[id]!]));
    if (this.#rehash.half) this.#guidance.keep(sample);
    return sample;
  }

  async #inPart(feeds: Readonly<Record<string, FloatTensor>>): Promise<FloatTensor> {
    const run = async (given: Feeds) => floatOf(await this.#again.run(given), "sample");
    if (!this.#rehash.half) return run(feeds);
    const conditional = await run(
      Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, secondHalf(feed)])),
    );
    const both = stack(conditional, conditional);
    this.#guidance.fill(both);
    return both;
  }
}

const secondHalf = (tensor: FloatTensor) => rows(tensor, tensor.shape[0]! / 2, tensor.shape[0]!);
