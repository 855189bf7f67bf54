/** Latents of videos to frames. */
import type { Geometry } from "../models/architecture.ts";
import type { AutoencoderConfig } from "../models/autoencoder.ts";
import { checkFinite } from "../sampling/sampler.ts";
import { inTiles } from "../streamlined/tiles.ts";
import { type FloatTensor, floatOf, floatTensor, sizeOf } from "../tensor.ts";
import type { Component } from "./components.ts";
import { asDecoded } from "./decode.ts";

/** How frames are decoded. */
export interface DecodeOptions {
  /** Stops before the next frames; what is thrown is the signal's reason. */
  signal?: AbortSignal;
  /** How many frames are decoded, of all videos together. */
  onDecode?: (progress: { done: number; total: number }) => void;
  /** Is added to latents once they are scaled: of pipelines that use the autoencoder's shift_factor. */
  shift?: number;
  /** Of the latent: larger pictures are decoded in tiles of this size, which overlap by `overlap` and are blended. */
  tile?: { height: number; width: number; overlap: number };
}

/** The second and third axis of a video exchanged: [batch, a, b, height, width] -> [batch, b, a, height, width]. */
export function exchangeFrames({ shape, data }: FloatTensor): FloatTensor {
  const [batch, a, b, height, width] = shape as [number, number, number, number, number];
  const size = height * width;
  const out = new Float32Array(data.length);
  for (let i = 0; i < batch; i++) {
    for (let j = 0; j < a; j++) {
      for (let k = 0; k < b; k++) {
        const from = ((i * a + j) * b + k) * size;
        out.set(data.subarray(from, from + size), ((i * b + k) * a + j) * size);
      }
    }
  }
  return floatTensor([batch, b, a, height, width], out);
}

/**
 * The denoiser's latents [batch, frames, channels, h, w] to decoded values [batch, 3, frames, f h, f w], not clamped.
 *
 * `chunk` frames go through the decoder together, which is compiled for `sizes` of so many. One of pictures (AutoencoderKL) has
 * them as its batch. One that looks along time gives other values for other chunks; as in diffusers a chunk may have frames
 * of two videos.
 */
export async function decodeFrames(
  vae: Component<AutoencoderConfig>,
  latents: FloatTensor,
  { chunk, sizes }: { chunk: number; sizes: (frames: number) => Pick<Geometry, "batch" | "frames"> },
  { signal, onDecode, tile, shift = 0 }: DecodeOptions = {},
): Promise<FloatTensor> {
  const [batch, frames, ...picture] = latents.shape as [number, number, number, number, number];
  const [, height, width] = picture;
  const each = sizeOf(picture);
  const total = batch * frames;
  let videos: FloatTensor | null = null;
  for (let start = 0; start < total; start += chunk) {
    signal?.throwIfAborted();
    onDecode?.({ done: start, total });
    const count = Math.min(chunk, total - start);
    const scaled = latents.data.subarray(start * each, (start + count) * each);
    const latent = floatTensor([count, ...picture], asDecoded(scaled, vae.config, shift));
    const decoded = await inTiles(latent, tile ?? { height, width }, tile?.overlap ?? 0, async (part) => {
      signal?.throwIfAborted();
      const [, , high, wide] = part.shape as [number, number, number, number];
      const session = await vae.session({ ...sizes(count), height: high, width: wide });
      return floatOf(await session.run({ latent: part }), "decoded");
    });
    // In a picture NaN would be black.
    checkFinite(decoded, `frame ${start + 1} of ${total} from the autoencoder`);
    const [, channels, tall, wide] = decoded.shape as [number, number, number, number];
    const area = tall * wide;
    videos ??= floatTensor([batch, channels, frames, tall, wide]);
    for (let i = 0; i < count * channels; i++) {
      const [row, channel] = [start + Math.floor(i / channels), i % channels];
      const [video, frame] = [Math.floor(row / frames), row % frames];
      const to = ((video * channels + channel) * frames + frame) * area;
      videos.data.set(decoded.data.subarray(i * area, (i + 1) * area), to);
    }
  }
  onDecode?.({ done: total, total });
  return videos!;
}
