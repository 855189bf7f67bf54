/**
 * Names of Stable Diffusion 3's transformer in Stability AI's code (Stability-AI/sd3-ref) and what they are in diffusers, without
 * ".weight" and ".bias". Queries, keys and values are one layer there. What a norm's layer gives is shift and scale there, and scale
 * and shift where diffusers has an AdaLayerNormContinuous.
 */

export interface Sd3Layer {
  readonly original: string;
  /** Equal parts of the original's rows, in this order. */
  readonly diffusers: readonly string[];
  /** Its two halves are in the other order in diffusers. */
  readonly swapped?: true;
}

type Row = readonly [original: string, ...diffusers: readonly string[]];

const outside: readonly Row[] = [
  ["x_embedder.proj", "pos_embed.proj"],
  ["t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"],
  ["t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"],
  ["y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"],
  ["y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"],
  ["context_embedder", "context_embedder"],
  ["final_layer.linear", "proj_out"],
  ["final_layer.adaLN_modulation.1", "norm_out.linear"],
];

/** Of the image's half of a block. */
const image: readonly Row[] = [
  ["attn.qkv", "attn.to_q", "attn.to_k", "attn.to_v"],
  ["attn.proj", "attn.to_out.0"],
  ["attn.ln_q", "attn.norm_q"],
  ["attn.ln_k", "attn.norm_k"],
  ["attn2.qkv", "attn2.to_q", "attn2.to_k", "attn2.to_v"],
  ["attn2.proj", "attn2.to_out.0"],
  ["attn2.ln_q", "attn2.norm_q"],
  ["attn2.ln_k", "attn2.norm_k"],
  ["mlp.fc1", "ff.net.0.proj"],
  ["mlp.fc2", "ff.net.2"],
  ["adaLN_modulation.1", "norm1.linear"],
];

/** Of the text's. */
const text: readonly Row[] = [
  ["attn.qkv", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
  ["attn.proj", "attn.to_add_out"],
  ["attn.ln_q", "attn.norm_added_q"],
  ["attn.ln_k", "attn.norm_added_k"],
  ["mlp.fc1", "ff_context.net.0.proj"],
  ["mlp.fc2", "ff_context.net.2"],
  ["adaLN_modulation.1", "norm1_context.linear"],
];

/** Of a transformer with so many blocks. */
export function sd3Layers(blocks: number): Sd3Layer[] {
  const within = (from: string, to: string, rows: readonly Row[]) =>
    rows.map(
      ([original, ...diffusers]): Sd3Layer => ({
        original: from + original,
        diffusers: diffusers.map((name) => to + name),
      }),
    );
  const all = [
    ...within("", "", outside),
    ...Array.from({ length: blocks }, (_, i) => [
      ...within(`joint_blocks.${i}.x_block.`, `transformer_blocks.${i}.`, image),
      ...within(`joint_blocks.${i}.context_block.`, `transformer_blocks.${i}.`, text),
    ]).flat(),
  ];
  // In the last block nothing but the attention reads the text, so its norm has no gates: it is a continuous one.
  const continuous = new Set(["norm_out.linear", `transformer_blocks.${blocks - 1}.norm1_context.linear`]);
  return all.map((layer) => (continuous.has(layer.diffusers[0]!) ? { ...layer, swapped: true } : layer));
}
