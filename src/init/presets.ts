/** Configurations of networks at published sizes. */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";

const patchTransformer = {
  activation_fn: "gelu-approximate",
  attention_bias: true,
  in_channels: 4,
  out_channels: 8,
  norm_elementwise_affine: false,
  norm_num_groups: 32,
};

/** The sizes of DiT (Peebles & Xie 2023, table 1): blocks, heads, and the width of a head. */
const ditSizes = { s: [12, 6, 64], b: [12, 12, 64], l: [24, 16, 64], xl: [28, 16, 72] } as const;

const ditPresets = Object.entries(ditSizes).flatMap(([size, [layers, heads, headDim]]) =>
  [2, 4, 8].map((patch): [string, RawConfig] => [
    `dit-${size}-${patch}`,
    {
      _class_name: "DiTTransformer2DModel",
      ...patchTransformer,
      norm_type: "ada_norm_zero",
      norm_eps: 1e-5,
      num_embeds_ada_norm: 1000,
      num_layers: layers,
      num_attention_heads: heads,
      attention_head_dim: headDim,
      patch_size: patch,
      sample_size: 32,
    },
  ]),
);

/** PixArt-alpha and PixArt-sigma at 512 pixels are this one network; captions are T5 v1.1 XXL's. */
const pixartXl2: RawConfig = {
  _class_name: "PixArtTransformer2DModel",
  ...patchTransformer,
  norm_type: "ada_norm_single",
  norm_eps: 1e-6,
  num_layers: 28,
  num_attention_heads: 16,
  attention_head_dim: 72,
  cross_attention_dim: 1152,
  caption_channels: 4096,
  patch_size: 2,
  sample_size: 64,
  interpolation_scale: 1,
  use_additional_conditions: false,
};

/** The sizes of Stable Diffusion's UNet, with which video models are built too. */
const stableDiffusion = { block_out_channels: [320, 640, 1280, 1280], layers_per_block: 2, out_channels: 4 };
const stableDiffusion15 = {
  ...stableDiffusion,
  cross_attention_dim: 768,
  in_channels: 4,
  norm_num_groups: 32,
  sample_size: 64,
};

const unetPresets: readonly (readonly [string, RawConfig])[] = [
  ["sd-1.5", { _class_name: "UNet2DConditionModel", ...stableDiffusion15, attention_head_dim: 8 }],
  // Version 2.1's sizes.
  [
    "sd-turbo",
    {
      _class_name: "UNet2DConditionModel",
      ...stableDiffusion,
      attention_head_dim: [5, 10, 20, 20],
      cross_attention_dim: 1024,
      in_channels: 4,
      norm_num_groups: 32,
      sample_size: 64,
      use_linear_projection: true,
    },
  ],
  [
    "sdxl",
    {
      _class_name: "UNet2DConditionModel",
      addition_embed_type: "text_time",
      addition_time_embed_dim: 256,
      attention_head_dim: [5, 10, 20],
      block_out_channels: [320, 640, 1280],
      cross_attention_dim: 2048,
      down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
      in_channels: 4,
      layers_per_block: 2,
      norm_num_groups: 32,
      out_channels: 4,
      projection_class_embeddings_input_dim: 2816,
      sample_size: 128,
      transformer_layers_per_block: [1, 2, 10],
      up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
      use_linear_projection: true,
    },
  ],
  // With the motion modules of the adapter v1.5.2.
  [
    "animatediff",
    {
      _class_name: "UNetMotionModel",
      ...stableDiffusion15,
      num_attention_heads: 8,
      motion_num_attention_heads: 8,
      motion_max_seq_length: 32,
      use_motion_mid_block: true,
    },
  ],
  [
    "svd",
    {
      _class_name: "UNetSpatioTemporalConditionModel",
      ...stableDiffusion,
      addition_time_embed_dim: 256,
      cross_attention_dim: 1024,
      in_channels: 8,
      num_attention_heads: [5, 10, 20, 20],
      num_frames: 14,
      projection_class_embeddings_input_dim: 768,
      sample_size: 96,
    },
  ],
];

/** Stable Diffusion 3.5 medium. */
const sd35Medium: RawConfig = {
  _class_name: "SD3Transformer2DModel",
  attention_head_dim: 64,
  caption_projection_dim: 1536,
  dual_attention_layers: Array.from({ length: 13 }, (_, i) => i),
  in_channels: 16,
  joint_attention_dim: 4096,
  num_attention_heads: 24,
  num_layers: 24,
  out_channels: 16,
  patch_size: 2,
  pooled_projection_dim: 2048,
  pos_embed_max_size: 384,
  qk_norm: "rms_norm",
  sample_size: 128,
};

/** Configurations by the name that `initModel` and `halfstep init` know them under. */
export const presets: ReadonlyMap<string, RawConfig> = new Map([
  ...ditPresets,
  ["pixart-xl-2", pixartXl2],
  ...unetPresets,
  ["sd3.5-medium", sd35Medium],
]);
