/**
 * Runs a video network for its pipeline: in one session or by a plan within a memory budget, with or without Step
 * Rehash.
 */
import { checkWeights, type WeightFiles } from "../checkpoints/weights.ts";
import { type Component, MOST_TWICE } from "../components/components.ts";
import { SessionCache } from "../components/session-cache.ts";
import {
  type Architecture,
  buildModel,
  describeModel,
  type StagedModel,
  weightShapes,
} from "../models/architecture.ts";
import { namedWeights } from "../models/staged-session.ts";
import type { SessionOptions } from "../runtime/runtime.ts";
import { type Denoiser, PlainDenoiser } from "../sampling/denoiser.ts";
import type { StepPolicy } from "../sampling/step-policy.ts";
import { memoryBytes } from "../streamlined/bytes.ts";
import { activationBytes, costSource } from "../streamlined/cost.ts";
import { flowOf } from "../streamlined/grouping.ts";
import type { Rehash } from "../streamlined/plan.ts";
import { type PlannedRun, planFor } from "../streamlined/planner.ts";
import { allCuts, type Listeners, rehashCuts, rehashShare, StreamlinedDenoiser } from "../streamlined/rehash.ts";
import {
  bytesTwice,
  RehashDenoiser,
  type RehashModels,
  rehashModels,
  stepsOfModels,
} from "../streamlined/rehash-steps.ts";
import type { StreamlinedSession } from "../streamlined/session.ts";
import { type CutNetwork, rehash as stepRehash } from "./rehash.ts";
import { type ChosenMethod, type StreamlinedOptions, type VideoAccelerate, videoMethodOf } from "./video-options.ts";

/** The sizes of a denoiser's inputs: the latent, and the tokens of the condition. */
export interface NetworkSize {
  /** Of the network: both halves of guidance. */
  batch: number;
  /** Whether the batch is the same latents twice: without the condition in the first half, with it in the second. */
  guided?: boolean;
  /** Of a video. */
  frames?: number;
  height: number;
  width: number;
  tokens: number;
  /** As in the geometry of a network. */
  timeIds?: number;
}

/** How a denoiser is to run: settled once, before anything is compiled, and all that is needed to compile and run it. */
export type DenoiserPlan = ChosenMethod & {
  readonly size: NetworkSize;
} & (
    | { readonly kind: "one session" }
    | { readonly kind: "rehash sessions"; readonly rehash: Rehash; readonly models: RehashModels }
    | {
        readonly kind: "planned";
        readonly rehash: Rehash | null;
        /** Groups and slices, where their features lie, and the memory that they are predicted to take. */
        readonly run: PlannedRun;
      }
  );

/** What a caller asks for, with its budget in bytes. */
export interface PlanOptions {
  /** Of the whole process; Infinity without one. */
  budget: number;
  accelerate?: VideoAccelerate | undefined;
  /** Whether every step must report the features at all places where it could be cut. */
  allFeatures?: boolean;
}

/** On the CPU, networks with more bytes of weights always run by a plan: in slices they are faster. */
const LARGE = 2 ** 28;

/**
 * Values that are alive at once in a run, in bytes, up to which a session holds on to their memory between runs: its arena is a
 * few times as large. In small networks the time that it takes to clear new memory shows.
 */
const HELD = 32e6;

/** Whatever is compiled for one plan is kept until another plan is opened. */
export class Streamlined<Config> {
  readonly #component: Component<Config>;
  readonly #architecture: Architecture<Config>;
  readonly #sessions = new SessionCache<StreamlinedSession>();
  readonly #large: number;
  readonly #mostTwice: number;
  /** By size, whether what is alive in a run is at most `HELD`. */
  readonly #small = new Map<string, boolean>();

  constructor(component: Component<Config>, architecture: Architecture<Config>, large = LARGE, mostTwice = MOST_TWICE) {
    this.#component = component;
    this.#architecture = architecture;
    this.#large = large;
    this.#mostTwice = mostTwice;
  }

  /**
   * How a denoiser will run on latents of this size: by a plan if there is a budget, if the network is a large one, if features
   * are asked for, or if the two sessions of Step Rehash would hold too much twice. Compiles nothing. Throws ArgumentError and
   * BudgetError. Whether a schedule that is a list has an action for every step shows at the first step.
   * @internal
   */
  plan(size: NetworkSize, { budget, accelerate, allFeatures = false }: PlanOptions): DenoiserPlan {
    const chosen = videoMethodOf(allFeatures ? "none" : accelerate);
    const { method, settings } = chosen;
    const { streams, onProcessor, weights } = this.#component;
    const large = weights.bytes > this.#large && onProcessor && !streams;
    const wantsPlan = budget < Number.POSITIVE_INFINITY || allFeatures || large;
    if (!wantsPlan && !("part" in method)) return { kind: "one session", size, ...chosen };
    const network = this.#cutNetwork(size);
    const part = "part" in method ? method.part(network, settings) : null;
    const rehash = allFeatures ? allCuts(network.flow) : part;
    if (!wantsPlan && !streams) {
      const models = rehashModels(network.flow, rehash!);
      if (bytesTwice(models) <= this.#mostTwice)
        return { kind: "rehash sessions", size, ...chosen, rehash: rehash!, models };
    }
    return { kind: "planned", size, ...chosen, rehash, run: this.#planned(network.flow, budget, rehash) };
  }

  #planned(flow: CutNetwork["flow"], memory: number, rehash: Rehash | null): PlannedRun {
    return planFor(flow, { memory, rehash, held: this.#component.heldShare });
  }

  #cutNetwork(size: NetworkSize): CutNetwork {
    const flow = flowOf(this.#component.model(size));
    return { flow, guided: size.guided ?? false };
  }

  /**
   * Compiles what a plan needs. Gives a denoiser for one run of the sampler. Listeners hear of a network that runs by groups.
   * @internal
   */
  async open(plan: DenoiserPlan, listeners: Listeners = {}): Promise<Denoiser> {
    const { size } = plan;
    const component = this.#component;
    const network = {
      get flow() {
        return flowOf(component.model(size));
      },
      guided: size.guided ?? false,
      whole: () => this.#open(plan, null, listeners),
      inPart: (policy: StepPolicy) => this.#open(plan, policy, listeners),
    };
    const open = await plan.method.open(network, plan.settings);
    return open();
  }

  /** A denoiser for one run of the sampler on latents of this size. Throws ArgumentError and BudgetError. */
  openDenoiser(size: NetworkSize, { memory, accelerate, ...listeners }: StreamlinedOptions = {}): Promise<Denoiser> {
    const allFeatures = listeners.onFeatures !== undefined;
    return this.open(this.plan(size, { budget: memoryBytes(memory), accelerate, allFeatures }), listeners);
  }

  /** The share of a full step's multiply-adds that a rehash step has, for each cut, the earliest first. */
  shares(size: NetworkSize): Map<string, number> {
    const network = this.#cutNetwork(size);
    const at = (cut: string) => rehashShare(network.flow, stepRehash.part(network, { cut }));
    return new Map(rehashCuts(network.flow).map((cut) => [cut, at(cut)]));
  }

  /** Without a policy all steps are full. */
  async #open(plan: DenoiserPlan, policy: StepPolicy | null, listeners: Listeners): Promise<() => Denoiser> {
    const { size } = plan;
    if (plan.kind === "planned") {
      const { run, rehash } = plan;
      const key = JSON.stringify([geometryOf(size), run.plan, rehash && partOf(rehash)]);
      const [session] = await this.#sessions.get(key, async () => [await this.#component.streamlined(run.layout)]);
      return () => new StreamlinedDenoiser(session!, policy, listeners);
    }
    await this.release();
    if (plan.kind === "one session") {
      const session = await this.#component.session({ ...geometryOf(size), batch: "batch" }, this.#memoryFor(size));
      return () => new PlainDenoiser(session.forRun());
    }
    const { models, rehash } = plan;
    const key = JSON.stringify(["rehash", geometryOf(size), partOf(rehash)]);
    const assemble = async () => {
      this.#checkedWeights(models.full);
      return { models: [models.full, models.again] };
    };
    const [full, again] = await this.#component.assembled(key, assemble, this.#memoryFor(size));
    return () => new RehashDenoiser(stepsOfModels(full!.forRun(), again!.forRun(), rehash), rehash.half, policy!);
  }

  #memoryFor(size: NetworkSize): SessionOptions {
    const key = JSON.stringify(geometryOf(size));
    if (!this.#small.has(key)) {
      const values = activationBytes(buildModel(this.#component.model(size), costSource().source));
      this.#small.set(key, values <= HELD);
    }
    return this.#small.get(key) ? { arena: true } : {};
  }

  #checkedWeights(model: StagedModel): WeightFiles {
    const files = namedWeights(this.#architecture, this.#component.weights);
    checkWeights(files, weightShapes(model), describeModel(model), () => true);
    return files;
  }

  /** Frees memory and threads; what is needed later is compiled anew. */
  release(): Promise<void> {
    return this.#sessions.release();
  }
}

/** The sizes that a network is compiled for; guidance makes no difference there. */
const geometryOf = ({ guided: _, ...geometry }: NetworkSize) => geometry;

/** What of a step in part another network has to be compiled for. */
const partOf = ({ stages, cached, half }: Rehash) => [[...stages], [...cached], half];
