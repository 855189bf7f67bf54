import { mersenne } from "pure-rand/generator/mersenne";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";
import { ArgumentError } from "../errors.ts";
import { type FloatTensor, floatTensor, sizeOf } from "../tensor.ts";

/**
 * Random numbers as PyTorch's CPU generator gives them, so that a seed means the same picture here and there:
 * `torch.Generator("cpu").manual_seed(seed)`, then successive `torch.randn(shape)` and `torch.rand(shape)` in float32.
 * Equal to within one unit in the last place of the logarithm and the cosine (1e-6).
 */
export class TorchGenerator {
  private readonly engine: RandomGenerator;
  /** The second normal of a pair, kept for the next draw of fewer than 16 values; survives longer draws in between. */
  private spare: number | undefined;

  /** `seed`: a whole number from 0 to 2^64 - 1, of which PyTorch uses the low 32 bits. Throws ArgumentError. */
  constructor(seed: number | bigint) {
    if (!(typeof seed === "bigint" || Number.isSafeInteger(seed)) || seed < 0 || seed >= 2n ** 64n) {
      throw new ArgumentError(`The seed must be a whole number from 0 to 2^64 - 1 (a bigint above 2^53), not ${seed}.`);
    }
    this.engine = mersenne(Number(BigInt.asIntN(32, BigInt(seed))));
  }

  /** Standard normal values. */
  randn(shape: readonly number[]): FloatTensor {
    const out = new Float32Array(sizeOf(shape));
    if (out.length < 16) {
      for (let i = 0; i < out.length; i++) out[i] = this.normal();
      return floatTensor(shape, out);
    }
    for (let i = 0; i < out.length; i++) out[i] = this.uniform24();
    for (let i = 0; i + 16 <= out.length; i += 16) boxMuller16(out.subarray(i, i + 16));
    if (out.length % 16 !== 0) {
      // What does not fill a block is drawn anew as part of a last block that overlaps the one before.
      const last = out.subarray(out.length - 16);
      for (let i = 0; i < 16; i++) last[i] = this.uniform24();
      boxMuller16(last);
    }
    return floatTensor(shape, out);
  }

  /** Uniform values in [0, 1), multiples of 2^-24. */
  rand(shape: readonly number[]): FloatTensor {
    const out = new Float32Array(sizeOf(shape));
    for (let i = 0; i < out.length; i++) out[i] = this.uniform24();
    return floatTensor(shape, out);
  }

  /** One normal value in double precision (Box & Muller 1958). */
  private normal(): number {
    if (this.spare !== undefined) {
      const value = this.spare;
      this.spare = undefined;
      return value;
    }
    const angle = 2 * Math.PI * this.uniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-this.uniform53()));
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  private uniform24(): number {
    return (this.engine.next() & 0xffffff) / 0x1000000;
  }

  /** The low 53 of 64 bits, of which the first draw is the high half. */
  private uniform53(): number {
    const high = this.engine.next() & 0x1fffff;
    return (high * 2 ** 32 + (this.engine.next() >>> 0)) / 2 ** 53;
  }
}

/** Sixteen uniform values to sixteen normal ones in place: radii from the first eight, angles from the last eight. */
function boxMuller16(block: Float32Array): void {
  for (let i = 0; i < 8; i++) {
    const radius = Math.fround(Math.sqrt(-2 * Math.fround(Math.log(1 - block[i]!))));
    const angle = Math.fround(Math.fround(2 * Math.PI) * block[i + 8]!);
    block[i] = radius * Math.cos(angle);
    block[i + 8] = radius * Math.sin(angle);
  }
}
