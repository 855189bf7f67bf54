/** How tensors of LoRA files are called: by diffusers and PEFT, by diffusers before, and by kohya's sd-scripts. */

/** Which of a pipeline's networks: "denoiser" is the UNet or the transformer. */
export type LoraTarget = "denoiser" | "text_encoder" | "text_encoder_2" | "text_encoder_3";

export interface LoraKey {
  readonly target: LoraTarget;
  /** The layer, with "_" for ".": kohya's names do not tell the two apart. */
  readonly layer: string;
  readonly part: "up" | "down" | "mid" | "alpha";
}

const parts: readonly (readonly [RegExp, LoraKey["part"]])[] = [
  [/\.lora_B(\.default)?\.weight$/, "up"],
  [/\.lora_A(\.default)?\.weight$/, "down"],
  [/\.lora_up\.weight$/, "up"],
  [/\.lora_down\.weight$/, "down"],
  [/\.lora_mid\.weight$/, "mid"],
  // diffusers before it had PEFT
  [/(\.lora|\.lora_linear_layer|_lora)\.up\.weight$/, "up"],
  [/(\.lora|\.lora_linear_layer|_lora)\.down\.weight$/, "down"],
  [/(\.lora|\.lora_linear_layer|_lora)?\.alpha$/, "alpha"],
];

/** What is in front; the rest is the layer. The first that fits. */
const targets: readonly (readonly [RegExp, LoraTarget])[] = [
  [/^(lora_unet_|lora_transformer_|lora_dit_)/, "denoiser"],
  [/^(lora_te_|lora_te1_)/, "text_encoder"],
  [/^lora_te2_/, "text_encoder_2"],
  [/^lora_te3_/, "text_encoder_3"],
  [/^(unet\.|transformer\.|diffusion_model\.)/, "denoiser"],
  [/^text_encoder\./, "text_encoder"],
  [/^text_encoder_2\./, "text_encoder_2"],
  [/^text_encoder_3\./, "text_encoder_3"],
  [/^/, "denoiser"],
];

/** What a tensor's name says; undefined if it is none of a LoRA. */
export function readKey(name: string): LoraKey | undefined {
  const found = parts.find(([suffix]) => suffix.test(name));
  if (!found) return undefined;
  const [suffix, part] = found;
  // PEFT puts this in front of a model of its own, and of one in a pipeline.
  const path = name.replace(suffix, "").replace(/(^|\.)base_model\.model\./, "$1");
  const [prefix, target] = targets.find(([prefix]) => prefix.test(path))!;
  const layer = path.replace(prefix, "").replace(/\.processor(\.|$)/, "$1");
  return layer === "" ? undefined : { target, layer: asLayer(layer), part };
}

/** A layer's name as it is looked up. transformers has had CLIP's tower with and without a name of its own. */
export function asLayer(module: string): string {
  return module.replaceAll(".", "_").replace(/^text_model_/, "");
}

/** Other kinds of small changes to a model, by their tensors' names. */
const others: readonly (readonly [RegExp, string])[] = [
  [
    /\.dora_scale$|\.lora_magnitude_vector(\.default)?(\.weight)?$/,
    "DoRA, which scales the columns of the merged matrix",
  ],
  [/\.hada_(w1|w2|t1|t2)(_[ab])?$/, "LoHa, a product of two LoRAs element by element"],
  [/\.lokr_(w1|w2|t2)(_[ab])?$/, "LoKr, a Kronecker product"],
  [/\.(diff|diff_b|on_input|oft_blocks|oft_diag|a1\.weight|b1\.weight)$/, "a LyCORIS kind other than LoRA"],
  [/\.lora_B(\.default)?\.bias$/, "a LoRA with biases"],
  [/\.lora_embedding_[AB]/, "a LoRA of embeddings"],
];

/** What a tensor is that is of another kind. */
export function otherKind(name: string): string | undefined {
  return others.find(([pattern]) => pattern.test(name))?.[1];
}
