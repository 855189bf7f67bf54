/** Names of tensors in LoRA files: those of diffusers with PEFT, of older diffusers, and of kohya's sd-scripts. */

import { motionName } from "../motion-names.ts";

/** The networks of a pipeline; "denoiser" is the UNet or the transformer. */
export type LoraTarget = "denoiser" | "text_encoder" | "text_encoder_2" | "text_encoder_3";

export interface LoraKey {
  readonly target: LoraTarget;
  /** The layer's name with "_" for ".", since kohya's names do not distinguish the two. */
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

/** Prefixes and their networks; the rest of a name is the layer. The first match counts. */
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

/** Parses a tensor's name; undefined if it does not belong to a LoRA. */
export function readKey(name: string): LoraKey | undefined {
  const found = parts.find(([suffix]) => suffix.test(name));
  if (!found) return undefined;
  const [suffix, part] = found;
  // PEFT adds this prefix, for a model on its own as well as for one in a pipeline.
  const path = name.replace(suffix, "").replace(/(^|\.)base_model\.model\./, "$1");
  const [prefix, target] = targets.find(([prefix]) => prefix.test(path))!;
  // Processors have a level of their own in old files, and motion LoRAs the names of AnimateDiff.
  const layer = motionName(path.replace(prefix, "").replace(/\.processor(\.|$)/, "$1"));
  return layer === "" ? undefined : { target, layer: asLayer(layer), part };
}

/** A layer's name for look-ups. In transformers CLIP's tower has had names with and without a prefix. */
export function asLayer(module: string): string {
  return module.replaceAll(".", "_").replace(/^text_model_/, "");
}

/** Other kinds of adapters, by the names of their tensors. */
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

/** The kind of adapter that a tensor of this name belongs to, if it is not a LoRA. */
export function otherKind(name: string): string | undefined {
  return others.find(([pattern]) => pattern.test(name))?.[1];
}
