/** How a call for images keeps to a budget of memory. */
import { type Acceleration, denoiserOverOutput, plannedAcceleration } from "../acceleration/acceleration.ts";
import { type DecodingSize, encodingIn } from "../acceleration/decoding-size.ts";
import type { Streamlined } from "../acceleration/streamlined.ts";
import type { Component } from "../components/components.ts";
import { type DecodeOptions, decodeFrames } from "../components/decode-video.ts";
import type { PictureEncoder } from "../components/picture-encoder.ts";
import { ArgumentError } from "../errors.ts";
import type { StagedModel } from "../models/architecture.ts";
import { type AutoencoderConfig, latentFactor } from "../models/autoencoder.ts";
import { defined } from "../options/defined.ts";
import { type Denoiser, FixedRows } from "../sampling/denoiser.ts";
import type { GuidanceInterval } from "../sampling/guidance.ts";
import { describeBytes } from "../streamlined/bytes.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import { earlierTexts, listenersOf, planRun, type RunPlan } from "./run-plan.ts";
import type { TextEncoder } from "./text-to-image-family.ts";

/** The plan of a call for images. */
export interface PicturePlan extends RunPlan {
  /** Rows that the denoiser is compiled for: both halves of guidance, or where there is guidance in some steps only, one. */
  readonly rows: number;
  /** How an image to begin at is encoded, if there is one. */
  readonly encoding: DecodingSize | null;
  /** A method over the denoiser's output. */
  readonly over: { readonly acceleration: Acceleration; readonly model: StagedModel } | null;
}

/** The networks of a pipeline for images. */
export interface PictureNetworks {
  readonly streamlined: Streamlined<unknown>;
  readonly denoiser: Component<unknown>;
  readonly decoder: Component<unknown>;
  readonly textEncoders?: readonly TextEncoder[];
  readonly imageEncoder?: PictureEncoder;
}

/** What a call asks of them. Height and width are those of the latent. */
export interface PictureCall {
  readonly pictures: number;
  readonly guided: boolean;
  readonly guidanceInterval: GuidanceInterval;
  readonly height: number;
  readonly width: number;
  /** Texts to encode, negative ones included, and the tokens that the denoiser sees of each. */
  readonly texts?: number;
  readonly tokens?: number;
  /** As in the geometry of a network. */
  readonly timeIds?: number | undefined;
}

/**
 * Plans all parts of a call; an image encoder only if one is given. Throws ArgumentError for a method that cannot be planned, and
 * BudgetError.
 */
export async function planPictures(
  { streamlined, denoiser, decoder, textEncoders = [], imageEncoder }: PictureNetworks,
  { pictures, guided, guidanceInterval, height, width, texts = 0, tokens = 0, timeIds }: PictureCall,
  acceleration: Acceleration,
  memory: number | string,
): Promise<PicturePlan> {
  const [start, stop] = guidanceInterval;
  const both = guided && start <= 0 && stop >= 1;
  const size = { batch: both ? 2 * pictures : pictures, guided: both, height, width, tokens, ...defined({ timeIds }) };
  const { accelerate, overOutput } = plannedAcceleration(acceleration, denoiser, size);
  if (guided && !both && acceleration.method !== "none" && !overOutput) {
    throw new ArgumentError(
      `With memory and accelerate "${acceleration.method}" there is guidance in all steps or in none (guidanceInterval).`,
    );
  }
  let encoding: DecodingSize | null = null;
  const encoder = imageEncoder?.component();
  const earlier = earlierTexts(textEncoders, { texts, tokens });
  if (encoder) {
    const peak = (budget: number) => {
      encoding = encodingIn(encoder, latentFactor(encoder.config), { height, width }, budget);
      return encoding.peak!;
    };
    earlier.push({ name: "image encoder", peak });
  }
  const plan = planRun({ streamlined, decoder, earlier }, size, pictures, { memory, accelerate });
  const over = overOutput ? { acceleration, model: denoiser.model(size) } : null;
  return { ...plan, rows: size.batch, encoding, over };
}

/** A model's feedback module, which decides what method a call has if it names none: with a budget none. */
export const usualFeedback = <Feedback>(
  feedback: Feedback | null,
  { memory, accelerate }: { memory?: unknown; accelerate?: unknown },
): Feedback | null => (memory !== undefined && accelerate === undefined ? null : feedback);

/** A denoiser for one run of the sampler, for as many rows as the steps have. */
export async function openPlanned(
  streamlined: Streamlined<unknown>,
  { denoiser: plan, rows, over }: PicturePlan,
  signal?: AbortSignal,
): Promise<Denoiser> {
  const denoiser = new FixedRows(await streamlined.open(plan, listenersOf({ signal })), rows);
  return over ? denoiserOverOutput(denoiser, over.model, over.acceleration) : denoiser;
}

/** Decodes as many images at a time, or tiles of one, as the plan says. */
export async function decodePlanned(
  vae: Component<AutoencoderConfig>,
  { shape, data }: FloatTensor,
  { decoding: { frames: chunk, tile } }: RunPlan,
  options: Pick<DecodeOptions, "signal" | "shift"> = {},
): Promise<FloatTensor> {
  const asVideos = floatTensor([shape[0]!, 1, ...shape.slice(1)], data);
  const decoded = await decodeFrames(vae, asVideos, { chunk, sizes: () => ({ batch: "batch" }) }, { ...options, tile });
  const [batch, channels, , ...sides] = decoded.shape;
  return floatTensor([batch!, channels!, ...sides], decoded.data);
}

/** What a user should know of a plan: where its results differ from those without a budget. */
export function planNotes({ decoding, encoding, budget }: PicturePlan): string[] {
  const parts = [...(encoding?.tile ? ["encoded"] : []), ...(decoding.tile ? ["decoded"] : [])];
  if (parts.length === 0) return [];
  return [
    `Within ${describeBytes(budget)} the image was ${parts.join(" and ")} in tiles; brightness and contrast can vary a little from tile to tile.`,
  ];
}
