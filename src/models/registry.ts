/** Finds the architecture for a configuration. A new architecture is one line here. */
import { classNameOf, type RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";
import type { Architecture } from "./architecture.ts";
import { autoencoderKL } from "./autoencoder-kl.ts";
import { autoencoderKLTemporalDecoder } from "./autoencoder-kl-temporal-decoder.ts";
import { autoencoderTiny } from "./autoencoder-tiny.ts";
import { clip } from "./clip.ts";
import { clipText, clipTextWithProjection } from "./clip-text.ts";
import { clipVisionWithProjection } from "./clip-vision.ts";
import { dit } from "./dit.ts";
import { emojiAlign } from "./emoji-align.ts";
import { fidInception } from "./fid-inception.ts";
import { olderClassName } from "./patch-transformer.ts";
import { pixart } from "./pixart.ts";
import { sd3 } from "./sd3.ts";
import { t5 } from "./t5.ts";
import { unet2DCondition } from "./unet-2d-condition.ts";
import { unetMotion } from "./unet-motion.ts";
import { unetSpatioTemporal } from "./unet-spatio-temporal.ts";

/** The networks of a class that share one configuration and one set of weights: most have one, autoencoders two. */
export type Networks = Readonly<Record<string, Architecture<unknown>>>;

/** Networks by the name of their class. */
export type Registry = ReadonlyMap<string, Networks>;

const builtIn: readonly Networks[] = [
  autoencoderKL,
  autoencoderKLTemporalDecoder,
  autoencoderTiny,
  clip,
  { model: clipText },
  { model: clipTextWithProjection },
  { model: clipVisionWithProjection },
  { model: dit },
  emojiAlign,
  { model: fidInception },
  { model: pixart },
  { model: sd3 },
  { model: t5 },
  { model: unet2DCondition },
  { model: unetMotion },
  { model: unetSpatioTemporal },
];

/** A new registry with these networks added to those of another, which is not changed. */
export const registered = (more: readonly Networks[], beside: Registry = new Map()): Registry =>
  new Map([...beside, ...more.map((networks) => [Object.values(networks)[0]!.className, networks] as const)]);

/** The networks of this folder. */
export const registry = registered(builtIn);

/** Transformer2DModel was one class for several architectures; `norm_type` tells which one is meant. */
const olderClasses: Readonly<Record<string, Networks>> = {
  ada_norm_zero: { model: dit },
  ada_norm_single: { model: pixart },
};

/** transformers' `model_type`: whole encoder-decoders are saved under several class names. */
const modelTypes: Readonly<Record<string, Networks>> = {
  clip: clip,
  clip_text_model: { model: clipText },
  t5: { model: t5 },
};

/** Class names that `networksOf` knows. */
export const supportedClasses: readonly string[] = classesOf(registry);

function classesOf(known: Registry): string[] {
  return [...known.keys(), olderClassName].sort();
}

/** The networks of a `config.json`. Throws ConfigError for a class that is not supported, with the list of those that are. */
export function networksOf(config: RawConfig, known: Registry = registry): Networks {
  const name = classNameOf(config);
  const { model_type: modelType, norm_type: normType } = config;
  if (name === olderClassName) {
    const found = typeof normType === "string" ? entry(olderClasses, normType) : undefined;
    if (found) return found;
    throw new ConfigError(
      `${olderClassName}: config "norm_type" is ${JSON.stringify(normType)}; ` +
        `supported is one of ${Object.keys(olderClasses).join(", ")}.`,
    );
  }
  const found =
    (name !== undefined ? known.get(name) : undefined) ??
    (typeof modelType === "string" ? entry(modelTypes, modelType) : undefined);
  if (found) return found;
  const what = name ?? (typeof modelType === "string" ? `model_type "${modelType}"` : undefined);
  throw new ConfigError(
    `${what === undefined ? "The configuration names no class" : `${what} is not supported`}; ` +
      `supported are ${classesOf(known).join(", ")}.`,
  );
}

/** The network of a class that has one. Throws ConfigError as `networksOf` does, and for a class with several. */
export function architectureOf(config: RawConfig, known: Registry = registry): Architecture<unknown> {
  const networks = networksOf(config, known);
  const [architecture, ...others] = Object.values(networks);
  if (architecture && others.length === 0) return architecture;
  throw new ConfigError(`${architecture?.className} has several networks: ${Object.keys(networks).join(", ")}.`);
}

/** Own entries only, since names come from a file: "constructor" is not one of ours. */
function entry(table: Readonly<Record<string, Networks>>, name: string): Networks | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}
