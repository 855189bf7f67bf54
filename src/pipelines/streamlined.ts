/** `memory` and `accelerate` of video pipelines: their denoiser by a plan, and with Step Rehash. */
import { ArgumentError } from "../errors.ts";
import { type Architecture, describeModel, type Geometry } from "../models/architecture.ts";
import { namedWeights } from "../models/staged.ts";
import { checkpointWeights, weightLocations } from "../models/weights.ts";
import type { Denoiser } from "../sampling/denoiser.ts";
import { type Schedule, type StepContext, scheduled } from "../sampling/step-policy.ts";
import { parseBytes } from "../streamlined/bytes.ts";
import { flowOf } from "../streamlined/grouping.ts";
import type { Rehash } from "../streamlined/plan.ts";
import { type PlannedRun, planFor } from "../streamlined/planner.ts";
import { rehashAt, StreamlinedDenoiser } from "../streamlined/rehash.ts";
import { type GroupProgress, StreamlinedSession } from "../streamlined/session.ts";
import type { Component } from "./components.ts";
import { checkWhole } from "./settings.ts";

/** Step Rehash, with what it needs to know. */
export interface RehashOptions {
  method: "rehash";
  /** Which steps are full: every second unless given, 13 of 25. */
  schedule?: Schedule;
  /** The feature after which a rehash step comes back in: after the first layer of the last block unless given. */
  cut?: string;
  /** How many features of the way down a rehash step works out anew, 1 unless given: the first convolution. */
  fresh?: number;
}

export const videoAccelerations = ["none", "rehash"] as const;
/** "none" unless given. */
export type VideoAccelerate = (typeof videoAccelerations)[number] | RehashOptions;

export interface StreamlinedOptions {
  /** What the whole process may take, as bytes or "6GB"; as much as it likes unless given. */
  memory?: number | string;
  accelerate?: VideoAccelerate;
  /** Told before each group of layers runs. */
  onGroup?: (progress: GroupProgress & StepContext) => void;
}

/** What is compiled for these options is kept until others are asked for. */
export class Streamlined<Config> {
  readonly #component: Component<Config>;
  readonly #architecture: Architecture<Config>;
  #compiled: { key: string; session: Promise<StreamlinedSession> } | null = null;

  constructor(component: Component<Config>, architecture: Architecture<Config>) {
    this.#component = component;
    this.#architecture = architecture;
  }

  /** A denoiser for one run of the sampler; the batch is that of the network, both guidance halves. Throws BudgetError. */
  async denoiser(geometry: Geometry & { batch: number }, options: StreamlinedOptions): Promise<Denoiser> {
    const rehash = checkVideoAcceleration(options.accelerate);
    // Before the network that is compiled without a plan is given up for this.
    const { plan } = this.plan(geometry, options);
    const key = JSON.stringify([geometry, plan, rehash && [rehash.cut, rehash.fresh]]);
    if (this.#compiled?.key !== key) {
      const compiled = { key, session: this.release().then(() => this.#compile(geometry, options)) };
      this.#compiled = compiled;
      compiled.session.catch(() => {
        if (this.#compiled === compiled) this.#compiled = null;
      });
    }
    const policy = rehash ? scheduled(rehash.schedule ?? { every: 2 }, "rehash") : null;
    return new StreamlinedDenoiser(await this.#compiled!.session, policy, options.onGroup);
  }

  /** How it would run, and how much memory that takes. Throws BudgetError. */
  plan(geometry: Geometry & { batch: number }, { memory, accelerate }: StreamlinedOptions): PlannedRun {
    return planFor(flowOf(this.#component.model(geometry)), {
      memory: memoryBytes(memory),
      rehash: this.#rehash(geometry, accelerate),
    });
  }

  #rehash(geometry: Geometry, accelerate: VideoAccelerate | undefined): Rehash | null {
    const options = checkVideoAcceleration(accelerate);
    return options && rehashAt(flowOf(this.#component.model(geometry)), options.cut, options.fresh);
  }

  async #compile(geometry: Geometry & { batch: number }, options: StreamlinedOptions): Promise<StreamlinedSession> {
    await this.#component.release();
    const model = this.#component.model(geometry);
    const files = namedWeights(this.#architecture, this.#component.weights);
    const source = checkpointWeights(files, describeModel(model));
    const rehash = this.#rehash(geometry, options.accelerate);
    const { plan } = this.plan(geometry, options);
    return this.#component.withRuntime((runtime, session) =>
      StreamlinedSession.compile(runtime, model, source, weightLocations(files), plan, { ...session, rehash }),
    );
  }

  async release(): Promise<void> {
    const compiled = this.#compiled;
    this.#compiled = null;
    await (await compiled?.session.catch(() => null))?.release();
  }
}

/** Whether a denoiser needs a plan at all. */
export const isPlanned = ({ memory, accelerate }: StreamlinedOptions) =>
  memory !== undefined || checkVideoAcceleration(accelerate) !== null;

/** Infinity without a budget. Throws ArgumentError. */
export function memoryBytes(memory: number | string | undefined): number {
  if (memory === undefined) return Number.POSITIVE_INFINITY;
  if (typeof memory === "string") return parseBytes(memory);
  checkWhole("memory", memory, 1, Number.MAX_SAFE_INTEGER);
  return memory;
}

/** Null for none. Throws ArgumentError for a method that there is not. */
export function checkVideoAcceleration(accelerate: VideoAccelerate = "none"): RehashOptions | null {
  const options = typeof accelerate === "string" ? { method: accelerate } : accelerate;
  if (options.method === "rehash") return options as RehashOptions;
  if (options.method === "none") return null;
  throw new ArgumentError(`accelerate of a video is one of ${videoAccelerations.join(", ")}, not "${options.method}".`);
}
