/** The guidance scale as latent consistency models are told of it. */
import { type FloatTensor, floatTensor } from "../tensor.ts";

/**
 * Sines, then cosines, of 1000 (scale - 1), with diffusers' frequencies (`get_guidance_scale_embedding`): [batch, width], all rows
 * alike.
 */
export function guidanceEmbedding(guidanceScale: number, width: number, batch: number): FloatTensor {
  const half = Math.floor(width / 2);
  const weight = Math.fround(Math.fround(guidanceScale - 1) * 1000);
  const step = Math.log(10000) / (half - 1);
  const row = new Float32Array(width);
  for (let i = 0; i < half; i++) {
    const angle = Math.fround(weight * Math.fround(Math.exp(i * -step)));
    row[i] = Math.sin(angle);
    row[half + i] = Math.cos(angle);
  }
  const rows = floatTensor([batch, width]);
  for (let i = 0; i < batch; i++) rows.data.set(row, i * width);
  return rows;
}
