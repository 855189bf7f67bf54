/** States of several text encoders brought together. */
import { ConfigError } from "../errors.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";

/** [prompts, tokens, a] and [prompts, tokens, b] as [prompts, tokens, a + b]. */
export function beside(a: FloatTensor, b: FloatTensor): FloatTensor {
  const [prompts, tokens, wide] = a.shape as [number, number, number];
  const more = b.shape[2]!;
  if (b.shape[1] !== tokens) {
    throw new ConfigError(
      `The two tokenizers make prompts of ${tokens} and ${b.shape[1]} tokens; they have to be as long.`,
    );
  }
  const joined = floatTensor([prompts, tokens, wide + more]);
  for (let i = 0; i < prompts * tokens; i++) {
    joined.data.set(a.data.subarray(i * wide, (i + 1) * wide), i * (wide + more));
    joined.data.set(b.data.subarray(i * more, (i + 1) * more), i * (wide + more) + wide);
  }
  return joined;
}

/** Pooled states, [prompts, a] and [prompts, b], as [prompts, a + b]. */
export function pooledBeside(a: FloatTensor, b: FloatTensor): FloatTensor {
  const one = ({ shape, data }: FloatTensor) => floatTensor([shape[0]!, 1, shape[1]!], data);
  const { shape, data } = beside(one(a), one(b));
  return floatTensor([shape[0]!, shape[2]!], data);
}

/**
 * The tokens of `first`, then those of `second`: [prompts, tokens, width] each, and as wide as the second. What the first lacks in
 * width is zeros.
 */
export function afterEachOther(first: FloatTensor, second: FloatTensor): FloatTensor {
  const [prompts, tokens, narrow] = first.shape as [number, number, number];
  const [, more, width] = second.shape as [number, number, number];
  const joined = floatTensor([prompts, tokens + more, width]);
  for (let prompt = 0; prompt < prompts; prompt++) {
    const to = prompt * (tokens + more) * width;
    for (let token = 0; token < tokens; token++) {
      const row = prompt * tokens + token;
      joined.data.set(first.data.subarray(row * narrow, (row + 1) * narrow), to + token * width);
    }
    const own = second.data.subarray(prompt * more * width, (prompt + 1) * more * width);
    joined.data.set(own, to + tokens * width);
  }
  return joined;
}
