/** The option `accelerate` of image pipelines: the method by which most steps are done in part, and its settings. */

import { quote } from "../checkpoints/json.ts";
import { type Component, MOST_TWICE } from "../components/components.ts";
import { ArgumentError } from "../errors.ts";
import { type CrossAttention, type Geometry, type StagedModel, weightBytes } from "../models/architecture.ts";
import type { ModelSession, StagedSession } from "../models/staged-session.ts";
import { type Denoiser, DenoiserByRows, PlainDenoiser } from "../sampling/denoiser.ts";
import type { DividedNetwork, Method } from "../sampling/method.ts";
import type { StepPolicy } from "../sampling/step-policy.ts";
import { flowOf } from "../streamlined/grouping.ts";
import { partsOf, RehashDenoiser, stepsOfParts } from "../streamlined/rehash-steps.ts";
import type { FeedbackComponent } from "./feedback-component.ts";
import {
  type MethodEntry,
  type MethodFor,
  type MethodSettings,
  methodCheck,
  methodsFor,
  namesOf,
  type OfferedMethod,
} from "./methods.ts";
import type { StepInPart } from "./rehash.ts";
import type { VideoAccelerate } from "./video-options.ts";

/** Kinds of networks that draw single images. */
export const pictureKinds = ["transformer", "unet"] as const;
export type PictureKind = (typeof pictureKinds)[number];

const methods = methodsFor(...pictureKinds);

/** A method's name. */
export type AccelerationMethod = MethodFor<PictureKind>["name"];
/** Those that are offered; "reuse" is only there to compare others with. */
export const accelerations = namesOf(methods) as readonly OfferedMethod<PictureKind>[];

/** A method with settings. Its entry in the table of methods says which settings it has. */
export type Acceleration = MethodSettings<PictureKind>;

/** A method's name, or it with settings. The default is ILF where the model has a feedback module, none elsewhere. */
export type Accelerate = OfferedMethod<PictureKind> | Acceleration;

/** How the steps were done, for metadata: `{ accelerate: "ilf", fullSteps: 10, innerSteps: 10 }`. */
export interface AccelerationReport {
  accelerate: AccelerationMethod;
  fullSteps: number;
  innerSteps: number;
}

export function reportOf(method: AccelerationMethod, { actions }: Denoiser): AccelerationReport {
  const fullSteps = actions.filter((action) => action === "full").length;
  return { accelerate: method, fullSteps, innerSteps: actions.length - fullSteps };
}

/** A method that exists, or settings of one. */
export const accelerateCheck = methodCheck(methods);

/**
 * Throws ArgumentError for a method or setting that does not exist, one that is for another kind of network, or ILF of a model
 * without a feedback module.
 */
export function checkAcceleration(
  given: Accelerate | undefined,
  feedback: unknown,
  kind: PictureKind = "transformer",
): Acceleration {
  const acceleration = typeof given === "string" ? { method: given } : (given ?? { method: feedback ? "ilf" : "none" });
  accelerateCheck(acceleration, "accelerate");
  const { name, networks, trained }: MethodEntry = entryOf(acceleration);
  if (!networks.includes(kind)) {
    throw new ArgumentError(
      `${name} is for networks of the kind ${networks.join(" or ")}; this model's is a ${kind}, which takes ` +
        `${namesOf(methodsFor(kind)).map(quote).join(", ")}.`,
    );
  }
  if (trained && !feedback) {
    const others = methodsFor(kind).filter(
      (each: MethodEntry) => !each.trained && !each.baseline && each.name !== "none",
    );
    throw new ArgumentError(
      "This model has no feedback module (a folder ilf/ beside its transformer). `halfstep distill` trains one; " +
        `${namesOf(others).join(", ")} need none.`,
    );
  }
  return acceleration;
}

const entryOf = ({ method }: Acceleration): MethodFor<PictureKind> => methods.find(({ name }) => name === method)!;

/**
 * How a network runs by a plan for its memory: the method that is planned, and whether the one that was asked for goes over the
 * network's output instead. Throws ArgumentError for a method that needs the network in one piece, or its blocks.
 */
export function plannedAcceleration(
  acceleration: Acceleration,
  denoiser: Component<unknown>,
  geometry: Geometry,
): { accelerate: VideoAccelerate; overOutput: boolean } {
  const ofOutput = ({ ofOutput }: MethodEntry) => ofOutput?.(denoiser.model(geometry)) ?? false;
  if (ofOutput(entryOf(acceleration))) return { accelerate: "none", overOutput: true };
  const planned = methodsFor("video-unet");
  if (planned.some(({ name }) => name === acceleration.method)) {
    return { accelerate: acceleration as VideoAccelerate, overOutput: false };
  }
  const others = methods.filter(
    (entry: MethodEntry) =>
      entry.name !== "none" && (ofOutput(entry) || planned.some(({ name }) => name === entry.name)),
  );
  throw new ArgumentError(
    `memory and accelerate "${acceleration.method}" do not go together; with memory go ${namesOf(others).join(", ")}, if they are for the ` +
      "model's network.",
  );
}

/** A method that sees the output alone, over a denoiser that runs by a plan. */
export async function denoiserOverOutput(
  denoiser: Denoiser,
  model: StagedModel,
  { method, ...options }: Acceleration,
): Promise<Denoiser> {
  // Nothing asks a planned network which step it is.
  const step = { index: 0, steps: 1, timestep: 0 };
  const session: ModelSession = { model, run: async (feeds) => ({ sample: await denoiser.run(feeds, step) }) };
  const network = { model, inParts: async () => [session] };
  const entry = methods.find(({ name }) => name === method) as Method<string, PictureKind, DividedNetwork, object>;
  return new DenoiserByRows(await entry.open(network, options));
}

/** A denoiser for one run of the sampler, in which guidance may begin or end. */
export async function openDenoiser(
  denoiser: Component<unknown>,
  geometry: Geometry,
  acceleration: Acceleration,
  feedback: FeedbackComponent | null,
  mostTwice = MOST_TWICE,
): Promise<Denoiser> {
  const { method: _, ...options } = acceleration;
  const network = networkOf(denoiser, geometry, acceleration, feedback, mostTwice);
  return new DenoiserByRows(await entryOf(acceleration).open(network, options));
}

/**
 * Throws ArgumentError for a method or settings that do not fit a network of this size, before anything is compiled: a network without
 * cross-attention, a cut that there is not.
 */
export function checkNetwork(
  denoiser: Component<unknown>,
  geometry: Geometry,
  acceleration: Acceleration,
  feedback: FeedbackComponent | null,
): void {
  const { method: _, ...options } = acceleration;
  entryOf(acceleration).cuts(networkOf(denoiser, geometry, acceleration, feedback), options);
}

/** What methods need of a network. */
function networkOf(
  denoiser: Component<unknown>,
  geometry: Geometry,
  acceleration: Acceleration,
  feedback: FeedbackComponent | null,
  mostTwice = MOST_TWICE,
) {
  const { method: _, ...options } = acceleration;
  const entry = entryOf(acceleration);
  const inParts = async (cuts: readonly number[]) => {
    const parts = await denoiser.inParts(geometry, cuts);
    return parts.map((part) => part.forRun());
  };
  const network = {
    get model() {
      return denoiser.model(geometry);
    },
    get flow() {
      // What is cut where does not depend on the batch, but a flow has all sizes.
      return flowOf(denoiser.model({ ...geometry, batch: 1 }), { whole: true });
    },
    // In some steps at least: the denoiser is told at each.
    guided: true,
    inParts,
    inPart: async (policy: StepPolicy) => {
      const rehash = (entry as StepInPart<typeof options>).part(network, options);
      const parts = await inParts(partsOf(network.flow, rehash));
      const steps = stepsOfParts(parts as [StagedSession, StagedSession, StagedSession]);
      return () => new RehashDenoiser(steps, rehash.half, policy);
    },
    gated: (crossAttention: CrossAttention) => denoiser.model({ ...geometry, crossAttention }),
    gates: () => gatesOf(denoiser, geometry, mostTwice),
    whole: async () => {
      const [session] = await inParts([]);
      return () => new PlainDenoiser(session!);
    },
    feedback: feedback && { config: feedback.config, steps: () => feedback.steps(geometry) },
  };
  return network;
}

/** Both networks of T-GATE where that is little twice, otherwise the one that is asked for. */
function gatesOf(denoiser: Component<unknown>, geometry: Geometry, mostTwice: number) {
  const of = (crossAttention: CrossAttention) => ({ ...geometry, crossAttention });
  const models = (["kept", "given"] as const).map((which) => denoiser.model(of(which)));
  const both = weightBytes(models[1]!) <= mostTwice;
  const key = JSON.stringify(["cross-attention", geometry]);
  const sessions = new Map<CrossAttention, Promise<StagedSession>>();
  return (which: CrossAttention): Promise<StagedSession> => {
    const known = sessions.get(which);
    if (known) return known;
    const compiled = both
      ? denoiser.assembled(key, async () => ({ models })).then((all) => all[which === "kept" ? 0 : 1]!)
      : denoiser.session(of(which));
    const session = compiled.then((made) => made.forRun());
    // The other one was released if the two are not kept.
    if (!both) sessions.clear();
    sessions.set(which, session);
    return session;
  };
}
