/**
 * Configurations of Stable Diffusion's families as diffusers publishes them (stable-diffusion-v1-5, stable-diffusion-2-1,
 * stable-diffusion-xl-base-1.0 and their inpainting models), with the sizes found in the file.
 */
import type { Sd3Shapes, TextShapes, UNetShapes, VaeShapes } from "./shapes.ts";

export type Json = Readonly<Record<string, unknown>>;
const _diffusers_version = "0.42.1";

/** Stable Diffusion 2 and XL have heads of width 64; version 1 has eight heads at every level. */
const HEAD_WIDTH = 64;

export function unetConfig(
  shapes: UNetShapes,
  { sampleSize, eightHeads }: { sampleSize: number; eightHeads: boolean },
): Json {
  const { channels, layers, depths, middleDepth, addedWidth } = shapes;
  const kinds = (plain: string, attention: string) => depths.map((depth) => (depth > 0 ? attention : plain));
  // The number of the last level is also that of the middle.
  const transformerLayers = depths.map((depth, i) => depth || (i === depths.length - 1 ? middleDepth : 1));
  return {
    _class_name: "UNet2DConditionModel",
    _diffusers_version,
    act_fn: "silu",
    ...(addedWidth === null
      ? {}
      : {
          addition_embed_type: "text_time",
          addition_time_embed_dim: 256,
          projection_class_embeddings_input_dim: addedWidth,
        }),
    attention_head_dim: eightHeads ? 8 : channels.map((width) => Math.max(1, Math.floor(width / HEAD_WIDTH))),
    block_out_channels: channels,
    center_input_sample: false,
    cross_attention_dim: shapes.contextWidth,
    down_block_types: kinds("DownBlock2D", "CrossAttnDownBlock2D"),
    downsample_padding: 1,
    flip_sin_to_cos: true,
    freq_shift: 0,
    in_channels: shapes.inChannels,
    layers_per_block: new Set(layers).size === 1 ? layers[0] : layers,
    mid_block_scale_factor: 1,
    mid_block_type: "UNetMidBlock2DCrossAttn",
    norm_eps: 1e-5,
    norm_num_groups: 32,
    out_channels: shapes.outChannels,
    sample_size: sampleSize,
    transformer_layers_per_block: transformerLayers.every((count) => count === 1) ? 1 : transformerLayers,
    up_block_types: kinds("UpBlock2D", "CrossAttnUpBlock2D").reverse(),
    use_linear_projection: shapes.linearProjection,
  };
}

export function vaeConfig(
  { channels, latentChannels }: VaeShapes,
  { sampleSize, scalingFactor, forceUpcast }: { sampleSize: number; scalingFactor: number; forceUpcast: boolean },
): Json {
  return {
    _class_name: "AutoencoderKL",
    _diffusers_version,
    act_fn: "silu",
    block_out_channels: channels,
    down_block_types: channels.map(() => "DownEncoderBlock2D"),
    force_upcast: forceUpcast,
    in_channels: 3,
    latent_channels: latentChannels,
    layers_per_block: 2,
    norm_num_groups: 32,
    out_channels: 3,
    sample_size: sampleSize,
    scaling_factor: scalingFactor,
    up_block_types: channels.map(() => "UpDecoderBlock2D"),
  };
}

/**
 * OpenAI's CLIP uses a faster approximation of GELU than OpenCLIP; Stable Diffusion 2 leaves out the last layer. Defaults of
 * training are left out: 1.0 is written as 1, which transformers refuses for `initializer_factor`.
 */
export function textConfig(
  { width, inner, layers, tokens, vocabulary, projection }: TextShapes,
  { className, activation }: { className: string; activation: "quick_gelu" | "gelu" },
): Json {
  return {
    architectures: [className],
    bos_token_id: 0,
    eos_token_id: 2,
    hidden_act: activation,
    hidden_size: width,
    intermediate_size: inner,
    layer_norm_eps: 1e-5,
    max_position_embeddings: tokens,
    model_type: "clip_text_model",
    num_attention_heads: Math.max(1, Math.floor(width / HEAD_WIDTH)),
    num_hidden_layers: layers,
    pad_token_id: 1,
    projection_dim: projection ?? width,
    vocab_size: vocabulary,
  };
}

/** `pad`: OpenCLIP pads with "!" (id 0), OpenAI's CLIP with the end-of-text token. */
export function tokenizerConfig(tokens: number, pad: "!" | "<|endoftext|>"): Json {
  return {
    add_prefix_space: false,
    bos_token: "<|startoftext|>",
    do_lower_case: true,
    eos_token: "<|endoftext|>",
    errors: "replace",
    model_max_length: tokens,
    pad_token: pad,
    tokenizer_class: "CLIPTokenizer",
    unk_token: "<|endoftext|>",
  };
}

const betas = { beta_end: 0.012, beta_schedule: "scaled_linear", beta_start: 0.00085, num_train_timesteps: 1000 };
/** What the network of a model in one file may predict: the noise, or the velocity (Salimans & Ho 2022, arXiv 2202.00512). */
export type Prediction = "epsilon" | "v_prediction";
export const predictions: readonly Prediction[] = ["epsilon", "v_prediction"];

export function schedulerConfig(kind: "pndm" | "ddim" | "euler", prediction: Prediction, zeroTerminal = false): Json {
  const shared = {
    _diffusers_version,
    ...betas,
    clip_sample: false,
    prediction_type: prediction,
    set_alpha_to_one: false,
    skip_prk_steps: true,
    steps_offset: 1,
    trained_betas: null,
    ...(zeroTerminal ? { rescale_betas_zero_snr: true } : {}),
  };
  if (kind === "pndm") return { _class_name: "PNDMScheduler", ...shared };
  if (kind === "ddim") return { _class_name: "DDIMScheduler", ...shared };
  return {
    _class_name: "EulerDiscreteScheduler",
    ...shared,
    interpolation_type: "linear",
    sample_max_value: 1,
    timestep_spacing: zeroTerminal ? "trailing" : "leading",
    use_karras_sigmas: false,
  };
}

/** Stable Diffusion 3's transformers draw 1024 pixels; those without norms of queries have heads of width 64. */
export function sd3Config(shapes: Sd3Shapes): Json {
  const { headWidth, width } = shapes;
  return {
    _class_name: "SD3Transformer2DModel",
    _diffusers_version,
    attention_head_dim: headWidth ?? HEAD_WIDTH,
    caption_projection_dim: width,
    dual_attention_layers: shapes.dualLayers,
    in_channels: shapes.inChannels,
    joint_attention_dim: shapes.contextWidth,
    num_attention_heads: Math.max(1, Math.floor(width / (headWidth ?? HEAD_WIDTH))),
    num_layers: shapes.layers,
    out_channels: shapes.outChannels,
    patch_size: shapes.patchSize,
    pooled_projection_dim: shapes.pooledWidth,
    pos_embed_max_size: shapes.positions,
    qk_norm: headWidth === null ? null : "rms_norm",
    sample_size: 128,
  };
}

export const flowConfig: Json = {
  _class_name: "FlowMatchEulerDiscreteScheduler",
  _diffusers_version,
  num_train_timesteps: 1000,
  shift: 3,
};

/** `components`: [library, class] by name; null for components of the original pipelines that the file lacks. */
export function modelIndex(className: string, components: Json, more: Json): Json {
  return { _class_name: className, _diffusers_version, ...more, ...components };
}
