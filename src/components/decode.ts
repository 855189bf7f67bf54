import type { AutoencoderConfig } from "../models/autoencoder.ts";
import { checkFinite } from "../sampling/sampler.ts";
import { type FloatTensor, floatOf, floatTensor } from "../tensor.ts";
import type { Component } from "./components.ts";

/**
 * The denoiser's latents [batch, channels, h, w] to decoded values [batch, 3, f h, f w], not clamped. `shift` is added to latents
 * once they are scaled: of pipelines that use the autoencoder's shift_factor.
 */
export async function decodeLatents(
  vae: Component<AutoencoderConfig>,
  { shape, data }: FloatTensor,
  shift = 0,
): Promise<FloatTensor> {
  const { scalingFactor } = vae.config;
  const latent = floatTensor(
    shape,
    data.map((value) => Math.fround(value / scalingFactor) + shift),
  );
  const session = await vae.session({ batch: "batch", height: shape[2]!, width: shape[3]! });
  const decoded = floatOf(await session.run({ latent }), "decoded");
  // In a picture NaN would be black.
  checkFinite(decoded, "the autoencoder's picture");
  return decoded;
}
