/**
 * ggml's block formats: 32 weights of a row share a binary16 scale, which comes first. "Q8_0": followed by 32 signed bytes.
 * "Q4_0": followed by 16 bytes with two 4-bit numbers each, stored with 8 added; the low halves are the first 16 weights.
 */
import { halfToFloat } from "../half.ts";

/** Bytes per block in each format. */
export const blockBytes = { Q8_0: 34, Q4_0: 18 } as const;
/** The block formats of ggml that are supported. */
export type BlockDType = keyof typeof blockBytes;

/** Weights per block. */
export const BLOCK = 32;

export function isBlockDType(dtype: string): dtype is BlockDType {
  return Object.hasOwn(blockBytes, dtype);
}

/** The weights of some blocks as float32. */
export function dequantise(dtype: BlockDType, bytes: Uint8Array): Float32Array {
  const size = blockBytes[dtype];
  const blocks = Math.floor(bytes.length / size);
  const scales = new Uint16Array(blocks);
  for (let b = 0; b < blocks; b++) scales[b] = bytes[b * size]! | (bytes[b * size + 1]! << 8);
  const scale = halfToFloat(scales);
  const values = new Float32Array(blocks * BLOCK);
  for (let b = 0; b < blocks; b++) {
    const [from, to] = [b * size + 2, b * BLOCK];
    for (let i = 0; i < BLOCK; i++) {
      const quant =
        dtype === "Q8_0" ? (bytes[from + i]! << 24) >> 24 : ((bytes[from + (i % 16)]! >> (i < 16 ? 0 : 4)) & 15) - 8;
      values[to + i] = quant * scale[b]!;
    }
  }
  return values;
}
