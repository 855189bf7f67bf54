/** The option `accelerate` of image pipelines: the method by which most steps are done in part, and its settings. */

import { quote } from "../checkpoints/json.ts";
import type { Component } from "../components/components.ts";
import { ArgumentError } from "../errors.ts";
import type { Geometry } from "../models/architecture.ts";
import { type Denoiser, DenoiserByRows, PlainDenoiser } from "../sampling/denoiser.ts";
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

/** A denoiser for one run of the sampler, in which guidance may begin or end. */
export async function openDenoiser(
  transformer: Component<unknown>,
  geometry: Geometry,
  acceleration: Acceleration,
  feedback: FeedbackComponent | null,
): Promise<Denoiser> {
  const { method: _, ...options } = acceleration;
  const inParts = (cuts: readonly number[]) => transformer.inParts(geometry, cuts);
  const network = {
    get model() {
      return transformer.model(geometry);
    },
    inParts,
    whole: async () => {
      const [session] = await inParts([]);
      return () => new PlainDenoiser(session!);
    },
    feedback: feedback && { config: feedback.config, steps: () => feedback.steps(geometry) },
  };
  return new DenoiserByRows(await entryOf(acceleration).open(network, options));
}
