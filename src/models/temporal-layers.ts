/**
 * Temporal layers, which work along the frames of a video for every position separately, as in AnimateDiff (Guo et al. 2023,
 * arXiv 2307.04725, section 4.2) and Stable Video Diffusion (Blattmann et al. 2023, arXiv 2311.15127, appendix D).
 */
import { ShapeError } from "../errors.ts";
import { add, concat, conv2d, div, mul, reduceMean, reshape, sigmoid, split, sqrt, sub } from "../graph/operators.ts";
import { staticDim, type Value } from "../graph/value.ts";
import type { Weights } from "./weights.ts";

/** PyTorch's Conv3d with a kernel of three frames and one position: [batch, channels, frames, positions] -> the same. */
export function frameConv(x: Value, w: Weights): Value {
  const channels = staticDim(x, 1, "frameConv");
  const kernel = reshape(w.tensor("weight", [channels, channels, 3, 1, 1]), [channels, channels, 3, 1]);
  return conv2d(x, kernel, w.tensor("bias", [channels]), { padding: [1, 0, 1, 0] });
}

/** How diffusers' AlphaBlender computes the share of the spatial branch from its stored number. */
export type MergeStrategy = "learned" | "fixed" | "learned_with_images";

/**
 * diffusers' AlphaBlender: share * spatial + (1 - share) * temporal, of two values of one shape. "learned_with_images"
 * is the same as "learned" for every frame of a video; it differs only for batches of single images, which do not occur here.
 * `switched` swaps the shares, as in the autoencoder's decoder.
 */
export function alphaBlender(
  spatial: Value,
  temporal: Value,
  w: Weights,
  { strategy = "learned_with_images", switched = false }: { strategy?: MergeStrategy; switched?: boolean } = {},
): Value {
  const factor = w.tensor("mix_factor", [1]);
  const share = strategy === "fixed" ? factor : sigmoid(factor);
  const [first, second] = switched ? [temporal, spatial] : [spatial, temporal];
  return add(mul(first, share), mul(second, sub(1, share)));
}

/**
 * Mean and variance over some axes of x, which must include the last one. The last axis then holds the two, the others
 * have length 1. They are the moments of the equal parts that a group norm covers.
 */
export function moments(x: Value, axes: readonly number[]): Value {
  // One axis after the other, which is right for equal parts, and ONNX Runtime has a fast path for each of these reductions.
  const average = (value: Value) => axes.reduce((reduced, axis) => reduceMean(reduced, [axis]), value);
  const mean = average(x);
  const deviation = sub(x, mean);
  return concat([mean, average(mul(deviation, deviation))], -1);
}

/**
 * A group norm in the form x * scale + shift, computed from the moments of the equal parts that its groups consist of:
 * [batch, parts, groups, 2] -> [batch, 2, channels], scale first. This is exact: the variance of the whole is the mean of the
 * parts' variances plus the mean squared deviation of the parts' means.
 */
export function groupNormFromMoments(moments: Value, channels: number, epsilon: number, w: Weights): Value {
  const [batch, , groups] = moments.shape;
  const [means, variances] = split(moments, 2, -1) as [Value, Value];
  const mean = reduceMean(means, [1]);
  const off = sub(means, mean);
  const variance = reduceMean(add(variances, mul(off, off)), [1]);
  const perGroup = (name: string) => reshape(w.tensor(name, [channels]), [groups!, channels / Number(groups)]);
  const scale = mul(perGroup("weight"), div(1, sqrt(add(variance, epsilon))));
  const shift = sub(perGroup("bias"), mul(mean, scale));
  return concat(
    [scale, shift].map((line) => reshape(line, [batch!, 1, channels])),
    1,
  );
}

/** Applies the result of `groupNormFromMoments`, [batch, 2, channels], to x [batch, frames, positions, channels]. */
export function scaleAndShift(x: Value, lines: Value): Value {
  const [batch, , channels] = lines.shape;
  const [scale, shift] = split(lines, 2, 1).map((line) => reshape(line, [batch!, 1, 1, channels!])) as [Value, Value];
  return add(mul(x, scale), shift);
}

/**
 * The position table of AnimateDiff's motion modules, [length, width]: for frame t, alternately sin(t / 10000^(2i / width))
 * and its cosine (Vaswani et al. 2017, arXiv 1706.03762, section 3.5). Checkpoints store it; this is for new ones.
 */
export function positionTable(length: number, width: number): Float32Array {
  if (length * width > 2 ** 26) {
    throw new ShapeError(
      `a table of ${length} positions, ${width} wide, is too large; at most 2^26 values are supported.`,
    );
  }
  return Float32Array.from({ length: length * width }, (_, index) => {
    const [t, channel] = [Math.floor(index / width), index % width];
    const angle = t / 10000 ** ((channel - (channel % 2)) / width);
    return channel % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
  });
}
