/**
 * Step Rehash where memory is no concern: a full step and a rehash step as a session each. Calls of the runtime and copies of
 * features between groups tell in small networks.
 */
import { input } from "../graph/value.ts";
import { alias, type Stage, type StagedModel, weightBytes } from "../models/architecture.ts";
import type { StagedSession } from "../models/staged.ts";
import type { Denoiser, Feeds } from "../sampling/denoiser.ts";
import type { Action, StepContext, StepPolicy } from "../sampling/step-policy.ts";
import type { FloatTensor, Tensor } from "../tensor.ts";
import type { Flow, FlowStage } from "./grouping.ts";
import type { Rehash } from "./plan.ts";

/** Both kinds of steps as models. `full` has the kept features as outputs, `again` has them as inputs. */
export interface RehashModels {
  readonly full: StagedModel;
  readonly again: StagedModel;
}

export function rehashModels(flow: Flow, { stages, kept }: Rehash): RehashModels {
  const { model } = flow;
  const own = new Map([...flow.inputs].map(([name, id]) => [id, name]));
  // Features by what tells them apart, but inputs and outputs by their names.
  const nameOf = (id: string) => own.get(id) ?? id;
  const all = flow.stages.map((each) => renamed(each, nameOf));
  const outputs = [...flow.outputs].map(([name, id]) => alias(id, name));
  const keptInputs = [...kept].map((id) => [id, input(id, Object.values(flow.sizes.get(id)!))] as const);
  return {
    full: { ...model, outputs: [...model.outputs, ...kept], stages: [...all, ...outputs] },
    again: {
      ...model,
      inputs: { ...model.inputs, ...Object.fromEntries(keptInputs) },
      stages: [...all.filter((_, i) => stages.has(i)), ...outputs],
    },
  };
}

/** A stage that reads and writes features under other names. */
function renamed({ stage, reads, writes }: FlowStage, nameOf: (id: string) => string): Stage {
  return {
    name: stage.name,
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

/** Bytes of weights that both sessions hold. */
export const bytesTwice = ({ again }: RehashModels): number => weightBytes(again);

/** A run of the sampler whose steps are full or rehash ones. */
export class RehashDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly #full: StagedSession;
  readonly #again: StagedSession;
  readonly #kept: readonly string[];
  readonly #policy: StepPolicy;
  #features: Record<string, Tensor> | null = null;

  constructor(full: StagedSession, again: StagedSession, kept: ReadonlySet<string>, policy: StepPolicy) {
    this.#full = full;
    this.#again = again;
    this.#kept = [...kept];
    this.#policy = policy;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const chosen = this.#policy(step);
    if (this.#features && chosen !== "full") {
      this.actions.push(chosen);
      return (await this.#again.run({ ...feeds, ...this.#features }))["sample"] as FloatTensor;
    }
    this.actions.push("full");
    const { sample, ...made } = await this.#full.run(feeds);
    this.#features = Object.fromEntries(this.#kept.map((id) => [id, made[id]!]));
    return sample as FloatTensor;
  }
}
