/** Configurations of the embedded model's parts: a PixArt pipeline, deep and narrow. */
const width = 128;

export const transformerConfig = {
  _class_name: "PixArtTransformer2DModel",
  activation_fn: "gelu-approximate",
  attention_bias: true,
  attention_head_dim: 32,
  attention_type: "default",
  caption_channels: 128,
  cross_attention_dim: width,
  dropout: 0,
  in_channels: 16,
  interpolation_scale: 1,
  norm_elementwise_affine: false,
  norm_eps: 1e-6,
  norm_num_groups: 32,
  norm_type: "ada_norm_single",
  num_attention_heads: width / 32,
  num_embeds_ada_norm: 1000,
  num_layers: 20,
  out_channels: 16,
  patch_size: 2,
  sample_size: 8,
  upcast_attention: false,
  use_additional_conditions: false,
};

export const textEncoderConfig = {
  _class_name: "T5EncoderModel",
  architectures: ["T5EncoderModel"],
  model_type: "t5",
  d_model: 128,
  d_kv: 32,
  d_ff: 256,
  num_layers: 2,
  num_heads: 4,
  feed_forward_proj: "gated-gelu",
  is_gated_act: true,
  dense_act_fn: "gelu_new",
  relative_attention_num_buckets: 32,
  relative_attention_max_distance: 128,
  layer_norm_epsilon: 1e-6,
  dropout_rate: 0,
  vocab_size: 2032,
  pad_token_id: 0,
  eos_token_id: 1,
};

/** Cosine: an 8 x 8 latent is a small picture, which a linear schedule would drown in noise for most of its steps. */
export const schedulerConfig = {
  _class_name: "DPMSolverMultistepScheduler",
  algorithm_type: "dpmsolver++",
  beta_schedule: "squaredcos_cap_v2",
  beta_start: 0.0001,
  beta_end: 0.02,
  num_train_timesteps: 1000,
  prediction_type: "v_prediction",
  solver_order: 2,
  solver_type: "midpoint",
  timestep_spacing: "linspace",
  final_sigmas_type: "zero",
  lower_order_final: true,
  lambda_min_clipped: -5.1,
  // For other solvers: latents go beyond [-1, 1], and PNDM need not begin with Runge-Kutta steps.
  clip_sample: false,
  skip_prk_steps: true,
};
