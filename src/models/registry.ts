/** Which file of this folder a configuration belongs to. A new architecture is one line here. */
import { classNameOf, type RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";
import type { Architecture } from "./architecture.ts";
import { autoencoderKL } from "./autoencoder-kl.ts";
import { autoencoderKLTemporalDecoder } from "./autoencoder-kl-temporal-decoder.ts";
import { clip } from "./clip.ts";
import { clipText, clipTextWithProjection } from "./clip-text.ts";
import { clipVisionWithProjection } from "./clip-vision.ts";
import { dit } from "./dit.ts";
import { emojiAlign } from "./emoji-align.ts";
import { fidInception } from "./fid-inception.ts";
import { olderClassName } from "./patch-transformer.ts";
import { pixart } from "./pixart.ts";
import { t5 } from "./t5.ts";
import { unet2DCondition } from "./unet-2d-condition.ts";
import { unetMotion } from "./unet-motion.ts";
import { unetSpatioTemporal } from "./unet-spatio-temporal.ts";

/** The networks of a class that share one configuration and one set of weights: most have one, autoencoders two. */
export type Networks = Readonly<Record<string, Architecture<unknown>>>;

const classes: Readonly<Record<string, Networks>> = {
  [autoencoderKL.encoder.className]: autoencoderKL,
  [autoencoderKLTemporalDecoder.encoder.className]: autoencoderKLTemporalDecoder,
  [clip.text.className]: clip,
  [clipText.className]: { model: clipText },
  [clipTextWithProjection.className]: { model: clipTextWithProjection },
  [clipVisionWithProjection.className]: { model: clipVisionWithProjection },
  [dit.className]: { model: dit },
  [emojiAlign.image.className]: emojiAlign,
  [fidInception.className]: { model: fidInception },
  [pixart.className]: { model: pixart },
  [t5.className]: { model: t5 },
  [unet2DCondition.className]: { model: unet2DCondition },
  [unetMotion.className]: { model: unetMotion },
  [unetSpatioTemporal.className]: { model: unetSpatioTemporal },
};

/** Transformer2DModel was one class for several architectures, of which `norm_type` says the one that is meant. */
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
export const supportedClasses: readonly string[] = [...Object.keys(classes), olderClassName].sort();

/** The networks of a `config.json`. Throws ConfigError for a class that is not supported, with the list of those that are. */
export function networksOf(config: RawConfig): Networks {
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
    (name !== undefined ? entry(classes, name) : undefined) ??
    (typeof modelType === "string" ? entry(modelTypes, modelType) : undefined);
  if (found) return found;
  const what = name ?? (typeof modelType === "string" ? `model_type "${modelType}"` : undefined);
  throw new ConfigError(
    `${what === undefined ? "The configuration names no class" : `${what} is not supported`}; ` +
      `supported are ${supportedClasses.join(", ")}.`,
  );
}

/** The network of a class that has one. Throws ConfigError as `networksOf` does, and for a class with several. */
export function architectureOf(config: RawConfig): Architecture<unknown> {
  const networks = networksOf(config);
  const [architecture, ...others] = Object.values(networks);
  if (architecture && others.length === 0) return architecture;
  throw new ConfigError(`${architecture?.className} has several networks: ${Object.keys(networks).join(", ")}.`);
}

/** Own entries only: names come out of a file, and "constructor" is not one of ours. */
function entry(table: Readonly<Record<string, Networks>>, name: string): Networks | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}
