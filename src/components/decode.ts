import type { AutoencoderConfig } from "../models/autoencoder.ts";
import { checkFinite } from "../sampling/sampler.ts";
import { type FloatTensor, floatOf, floatTensor } from "../tensor.ts";
import type { Component } from "./components.ts";

/** Latents as the autoencoder has them, of those as the denoiser has them; rounded as diffusers does. */
export const asDecoded = (data: Float32Array, { scalingFactor }: AutoencoderConfig, shift: number): Float32Array =>
  data.map((value) => Math.fround(value / scalingFactor) + shift);

/**
 * The denoiser's latents [batch, channels, h, w] to decoded values [batch, 3, f h, f w], not clamped. `shift` is added to latents
 * once they are scaled: of pipelines that use the autoencoder's shift_factor.
 */
export async function decodeLatents(
  vae: Component<AutoencoderConfig>,
  { shape, data }: FloatTensor,
  shift = 0,
): Promise<FloatTensor> {
  const latent = floatTensor(shape, asDecoded(data, vae.config, shift));
  const session = await vae.session({ batch: "batch", height: shape[2]!, width: shape[3]! });
  const decoded = floatOf(await session.run({ latent }), "decoded");
  // In a picture NaN would be black.
  checkFinite(decoded, "the autoencoder's picture");
  return decoded;
}
