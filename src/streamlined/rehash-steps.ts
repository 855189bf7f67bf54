/**
 * Step Rehash without a memory plan. Either full steps and rehash steps are one session each: in small networks, separate groups would
 * spend a noticeable share of the time on runtime calls and on copies of features. Or the network is three sessions, of which a rehash
 * step leaves out the second.
 */
import { ArgumentError } from "../errors.ts";
import { input } from "../graph/value.ts";
import { alias, type Stage, type StagedModel, weightBytes } from "../models/architecture.ts";
import type { FlowStage } from "../models/grouping.ts";
import type { StagedSession } from "../models/staged-session.ts";
import { type Denoiser, type Feeds, runParts } from "../sampling/denoiser.ts";
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

/** The two kinds of steps, compiled. */
export interface RehashSteps {
  /** The network's output, and the features that the steps after it start from. */
  full(feeds: Feeds): Promise<{ sample: FloatTensor; cached: Feeds }>;
  /** `feeds` has the cached features too. */
  again(feeds: Feeds): Promise<FloatTensor>;
}

/** Steps that are a session each: `rehashModels`, compiled. */
export const stepsOfModels = (full: StagedSession, again: StagedSession, { cached }: Rehash): RehashSteps => ({
  full: async (feeds) => {
    const made = await full.run(feeds);
    return { sample: floatOf(made, "sample"), cached: Object.fromEntries([...cached].map((id) => [id, made[id]!])) };
  },
  again: async (feeds) => floatOf(await again.run(feeds), "sample"),
});

/**
 * The stages at which the second and the third part of a UNet begin: a rehash step runs the first part and the third. Throws
 * ArgumentError if what it runs is not the beginning and the end.
 */
export function partsOf({ stages, model }: Flow, rehash: Rehash): readonly [number, number] {
  const runs = stages.map((_, i) => rehash.stages.has(i));
  const [middle, end] = [runs.indexOf(false), runs.lastIndexOf(false) + 1];
  const inOrder = runs.every((again, i) => again === (i < middle || i >= end));
  if (middle > 0 && end < stages.length && inOrder) return [middle, end];
  throw new ArgumentError(`What a rehash step runs of ${model.className} is not its beginning and its end.`);
}

/** Steps of a network in the parts of `partsOf`: no weight is in memory twice. */
export function stepsOfParts([first, middle, last]: readonly [
  StagedSession,
  StagedSession,
  StagedSession,
]): RehashSteps {
  return {
    full: async (feeds) => {
      const entered = await runParts([first], feeds);
      const cached = await middle.run(entered);
      return { sample: floatOf(await last.run({ ...entered, ...cached }), "sample"), cached };
    },
    again: async (feeds) => floatOf(await runParts([first, last], feeds), "sample"),
  };
}

/** The denoiser of one run of the sampler: each step is a full step or a rehash step. */
export class RehashDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly #steps: RehashSteps;
  readonly #half: boolean;
  readonly #policy: StepPolicy;
  readonly #guidance = new GuidanceDifference();
  #cached: Feeds | null = null;

  /** `half`: whether rehash steps with guidance run only for the conditional half of the batch. */
  constructor(steps: RehashSteps, half: boolean, policy: StepPolicy) {
    this.#steps = steps;
    this.#half = half;
    this.#policy = policy;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const chosen = this.#policy(step);
    const half = this.#half && step.guided !== false;
    if (this.#cached && chosen !== "full") {
      this.actions.push(chosen);
      const given = { ...feeds, ...this.#cached };
      return half ? this.#inHalf(given) : this.#steps.again(given);
    }
    this.actions.push("full");
    const { sample, cached } = await this.#steps.full(feeds);
    this.#cached = cached;
    if (half) this.#guidance.keep(sample);
    return sample;
  }

  async #inHalf(feeds: Feeds): Promise<FloatTensor> {
    const conditional = await this.#steps.again(
      Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, secondHalf(feed as FloatTensor)])),
    );
    const both = stack(conditional, conditional);
    this.#guidance.fill(both);
    return both;
  }
}

const secondHalf = (tensor: FloatTensor) => rows(tensor, tensor.shape[0]! / 2, tensor.shape[0]!);
