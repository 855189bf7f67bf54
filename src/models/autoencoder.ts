/** The autoencoders that pipelines of images can have: AutoencoderKL, and AutoencoderTiny in its place. */
import type { Architecture } from "./architecture.ts";
import { type AutoencoderKLConfig, autoencoderKL, spatialFactor } from "./autoencoder-kl.ts";
import { type AutoencoderTinyConfig, autoencoderTiny, tinySpatialFactor } from "./autoencoder-tiny.ts";

/** Of either class; both have `latentChannels` and `scalingFactor`. */
export type AutoencoderConfig = AutoencoderKLConfig | AutoencoderTinyConfig;

type Networks = readonly Architecture<AutoencoderConfig>[];

export const imageEncoders: Networks = [autoencoderKL.encoder, autoencoderTiny.encoder];
export const imageDecoders: Networks = [autoencoderKL.decoder, autoencoderTiny.decoder];

const isTiny = (config: AutoencoderConfig): config is AutoencoderTinyConfig => "decoderBlocks" in config;

/** The network that decodes latents. */
export const decoderOf = (config: AutoencoderConfig): Architecture<AutoencoderConfig> =>
  isTiny(config) ? autoencoderTiny.decoder : autoencoderKL.decoder;

/** How many times smaller than the image the latent is, on each side. */
export const latentFactor = (config: AutoencoderConfig): number =>
  isTiny(config) ? tinySpatialFactor(config) : spatialFactor(config);

/** Channels of the two feature maps of the image's size that the decoder holds at one time, at least. */
export function fullSizeChannels(config: AutoencoderConfig): readonly [before: number, own: number] {
  if (isTiny(config)) return [config.decoderChannels.at(-1)!, config.decoderChannels.at(-1)!];
  // The last block begins with the channels of the block before.
  const [own, before = own!] = config.blockOutChannels;
  return [before, own!];
}
