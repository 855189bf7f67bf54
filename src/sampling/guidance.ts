/** Classifier-free guidance (Ho & Salimans 2022): away from what the model predicts without the condition. */
import { type FloatTensor, floatTensor, sizeOf } from "../tensor.ts";

/** unconditional + scale * (conditional - unconditional), element by element. */
export function guide(unconditional: Float32Array, conditional: Float32Array, scale: number): Float32Array {
  const out = new Float32Array(conditional.length);
  for (let i = 0; i < out.length; i++) out[i] = unconditional[i]! + scale * (conditional[i]! - unconditional[i]!);
  return out;
}

/** Guidance of a batch that has what is predicted without the condition in its first half, and with it in its second. */
export function guideHalves(both: FloatTensor, scale: number): FloatTensor {
  const batch = both.shape[0]! / 2;
  const [unconditional, conditional] = [rows(both, 0, batch), rows(both, batch, 2 * batch)];
  return floatTensor(conditional.shape, guide(unconditional.data, conditional.data, scale));
}

/** Two batches one after the other. */
export function stack(first: FloatTensor, second: FloatTensor): FloatTensor {
  const data = new Float32Array(first.data.length + second.data.length);
  data.set(first.data);
  data.set(second.data, first.data.length);
  return { dtype: "float32", shape: [first.shape[0]! + second.shape[0]!, ...first.shape.slice(1)], data };
}

/** Rows start..end of a batch, as a view. */
export function rows(tensor: FloatTensor, start: number, end: number): FloatTensor {
  const each = sizeOf(tensor.shape.slice(1));
  const shape = [end - start, ...tensor.shape.slice(1)];
  return { dtype: "float32", shape, data: tensor.data.subarray(start * each, end * each) };
}

/** A copy of some rows of a batch, in this order. */
export function pickRows(tensor: FloatTensor, indices: readonly number[]): FloatTensor {
  const each = sizeOf(tensor.shape.slice(1));
  const picked = floatTensor([indices.length, ...tensor.shape.slice(1)]);
  for (const [i, index] of indices.entries()) picked.data.set(rows(tensor, index, index + 1).data, i * each);
  return picked;
}

/** One row of a batch, `count` times. */
export const repeatRow = (tensor: FloatTensor, row: number, count: number): FloatTensor =>
  pickRows(tensor, new Array<number>(count).fill(row));

/** The first `count` channels of [batch, channels, height, width]: without the variance that some models predict too. */
export function firstChannels(tensor: FloatTensor, count: number): FloatTensor {
  const [batch, channels, height, width] = tensor.shape as [number, number, number, number];
  if (channels === count) return tensor;
  const area = height * width;
  const data = new Float32Array(batch * count * area);
  for (let i = 0; i < batch; i++) {
    const from = i * channels * area;
    data.set(tensor.data.subarray(from, from + count * area), i * count * area);
  }
  return { dtype: "float32", shape: [batch, count, height, width], data };
}

/** The same with a scale for each frame: [batch, frames, channels, height, width]. */
export function guideFrames(
  unconditional: FloatTensor,
  conditional: FloatTensor,
  scales: readonly number[],
): FloatTensor {
  const { shape } = conditional;
  const each = sizeOf(shape.slice(2));
  const data = new Float32Array(conditional.data.length);
  for (let row = 0; row < data.length / each; row++) {
    const [start, end] = [row * each, (row + 1) * each];
    const scale = scales[row % scales.length]!;
    data.set(guide(unconditional.data.subarray(start, end), conditional.data.subarray(start, end), scale), start);
  }
  return { dtype: "float32", shape, data };
}

/**
 * The channels of a picture [batch, more, height, width] after those of each frame of a video [batch, frames, channels,
 * height, width].
 */
export function joinChannels(video: FloatTensor, picture: FloatTensor): FloatTensor {
  const [batch, frames, channels, height, width] = video.shape as [number, number, number, number, number];
  const more = picture.shape[1]!;
  const area = height * width;
  const data = new Float32Array(batch * frames * (channels + more) * area);
  for (let row = 0; row < batch * frames; row++) {
    const to = row * (channels + more) * area;
    const own = rows(picture, Math.floor(row / frames), Math.floor(row / frames) + 1).data;
    data.set(video.data.subarray(row * channels * area, (row + 1) * channels * area), to);
    data.set(own, to + channels * area);
  }
  return { dtype: "float32", shape: [batch, frames, channels + more, height, width], data };
}
