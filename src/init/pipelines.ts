/**
 * Whole pipelines for `init`: configurations of every component as diffusers publishes them, and the same at the sizes of
 * diffusers' own tests. One entry per pipeline.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import {
  type Json,
  modelIndex,
  schedulerConfig,
  textConfig,
  tokenizerConfig,
  vaeConfig,
} from "../checkpoints/single-file/configs.ts";
import { presets } from "./presets.ts";
import { T5_TOKENS, t5Tokenizer } from "./t5-tokenizer.ts";

/** What a pipeline's folder contains, except weights. */
export interface PipelineGeometry {
  readonly className: string;
  /** Configurations of the networks, by folder name. The order is that in which weights are drawn. */
  readonly networks: ReadonlyMap<string, RawConfig>;
  /** All other files by path, except CLIP's vocabulary. */
  readonly files: ReadonlyMap<string, Json>;
  /** Folders that get CLIP's vocabulary. */
  readonly clipTokenizers: readonly string[];
}

export interface PipelineChoice {
  /** The small sizes of diffusers' tests, for trying things out: the folder is written in a second. */
  tiny?: boolean;
  /** Stable Diffusion 3: with its third text encoder, T5. Its weights take 19 GB in float32; the model works without. */
  withT5?: boolean;
}

/** Sizes of a pipeline's networks. */
interface Sizes {
  readonly denoiser: RawConfig;
  readonly vae: { readonly channels: number[]; readonly sampleSize: number };
  /** CLIP's text encoders: the only or the first one, and the second. */
  readonly first: Tower;
  readonly second: Tower;
}

interface Tower {
  readonly width: number;
  readonly inner: number;
  readonly layers: number;
}

interface Entry {
  readonly full: Sizes;
  readonly tiny: Sizes;
  make(sizes: Sizes, choice: PipelineChoice): PipelineGeometry;
}

/** CLIP's vocabulary and the length of its texts. */
const CLIP_TOKENS = 49408;
const CLIP_LENGTH = 77;

const vitL: Tower = { width: 768, inner: 3072, layers: 12 };
/** Stable Diffusion 2's encoder: OpenCLIP's ViT-H without its last layer. */
const vitH: Tower = { width: 1024, inner: 4096, layers: 23 };
const vitBigG: Tower = { width: 1280, inner: 5120, layers: 32 };
const tinyTower: Tower = { width: 32, inner: 64, layers: 3 };

const preset = (name: string, more: RawConfig = {}): RawConfig => ({ ...presets.get(name)!, ...more });

const fullSizes = (name: string, sampleSize: number, first: Tower, second: Tower): Sizes => ({
  ...{ denoiser: preset(name), first, second },
  vae: { channels: [128, 256, 512, 512], sampleSize },
});

const tinySizes = (name: string, denoiser: RawConfig): Sizes => ({
  ...{ denoiser: preset(name, denoiser), first: tinyTower, second: tinyTower },
  vae: { channels: [32, 64], sampleSize: 64 },
});

/** Two levels, of which the second attends to the text. */
const tinyUNet = {
  attention_head_dim: [2, 4],
  block_out_channels: [32, 64],
  cross_attention_dim: tinyTower.width,
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D"],
  sample_size: 32,
  up_block_types: ["CrossAttnUpBlock2D", "UpBlock2D"],
};

const tinyXl = {
  ...tinyUNet,
  addition_time_embed_dim: 8,
  cross_attention_dim: 2 * tinyTower.width,
  // The pooled text, and the sinusoids of six sizes.
  projection_class_embeddings_input_dim: tinyTower.width + 6 * 8,
  transformer_layers_per_block: [1, 2],
};

const tinySd3 = {
  attention_head_dim: 8,
  caption_projection_dim: 32,
  dual_attention_layers: [0],
  joint_attention_dim: 2 * tinyTower.width,
  num_attention_heads: 4,
  num_layers: 3,
  pooled_projection_dim: 2 * tinyTower.width,
  pos_embed_max_size: 32,
  sample_size: 32,
};

interface TowerOptions {
  projected?: boolean;
  openClip?: boolean;
}

function clipTower({ width, inner, layers }: Tower, { projected = false, openClip = false }: TowerOptions = {}): Json {
  return textConfig(
    { width, inner, layers, tokens: CLIP_LENGTH, vocabulary: CLIP_TOKENS, projection: projected ? width : null },
    {
      className: projected ? "CLIPTextModelWithProjection" : "CLIPTextModel",
      activation: openClip ? "gelu" : "quick_gelu",
    },
  );
}

const vae = ({ channels, sampleSize }: Sizes["vae"], scalingFactor: number, forceUpcast = false): Json =>
  vaeConfig({ channels, latentChannels: 4 }, { sampleSize, scalingFactor, forceUpcast });

/** 16 channels, and no convolutions between them and the networks. */
const vae3 = ({ channels, sampleSize }: Sizes["vae"]): Json => ({
  ...vaeConfig({ channels, latentChannels: 16 }, { sampleSize, scalingFactor: 1.5305, forceUpcast: true }),
  shift_factor: 0.0609,
  use_post_quant_conv: false,
  use_quant_conv: false,
});

const CLIP_PAD = "<|endoftext|>";
const OPEN_CLIP_PAD = "!";
const none = [null, null];
const noImages = { feature_extractor: none, image_encoder: none };
const notChecked = { ...noImages, requires_safety_checker: false, safety_checker: none };

const pipelines: ReadonlyMap<string, Entry> = new Map<string, Entry>([
  [
    "sd-1.5",
    {
      full: fullSizes("sd-1.5", 512, vitL, vitL),
      tiny: tinySizes("sd-1.5", { ...tinyUNet, attention_head_dim: 4 }),
      make: (sizes) =>
        geometry(
          "StableDiffusionPipeline",
          { text_encoder: clipTower(sizes.first), unet: sizes.denoiser, vae: vae(sizes.vae, 0.18215) },
          { tokenizer: CLIP_PAD },
          schedulerConfig("pndm", "epsilon"),
          notChecked,
        ),
    },
  ],
  [
    "sd-turbo",
    {
      full: fullSizes("sd-turbo", 768, vitH, vitH),
      tiny: tinySizes("sd-turbo", tinyUNet),
      make: (sizes) =>
        geometry(
          "StableDiffusionPipeline",
          {
            text_encoder: clipTower(sizes.first, { openClip: true }),
            unet: sizes.denoiser,
            vae: vae(sizes.vae, 0.18215),
          },
          { tokenizer: OPEN_CLIP_PAD },
          { ...schedulerConfig("euler", "epsilon"), timestep_spacing: "trailing" },
          notChecked,
        ),
    },
  ],
  [
    "sdxl",
    {
      full: fullSizes("sdxl", 1024, vitL, vitBigG),
      tiny: tinySizes("sdxl", tinyXl),
      make: (sizes) =>
        geometry(
          "StableDiffusionXLPipeline",
          {
            text_encoder: clipTower(sizes.first),
            text_encoder_2: clipTower(sizes.second, { projected: true, openClip: true }),
            unet: sizes.denoiser,
            vae: vae(sizes.vae, 0.13025, true),
          },
          { tokenizer: CLIP_PAD, tokenizer_2: OPEN_CLIP_PAD },
          schedulerConfig("euler", "epsilon"),
          { ...noImages, force_zeros_for_empty_prompt: true },
        ),
    },
  ],
  [
    "sd3.5-medium",
    {
      full: fullSizes("sd3.5-medium", 1024, vitL, vitBigG),
      tiny: tinySizes("sd3.5-medium", tinySd3),
      make: stableDiffusion3,
    },
  ],
]);

function stableDiffusion3(sizes: Sizes, { tiny = false, withT5 = false }: PipelineChoice): PipelineGeometry {
  const made = geometry(
    "StableDiffusion3Pipeline",
    {
      text_encoder: clipTower(sizes.first, { projected: true }),
      text_encoder_2: clipTower(sizes.second, { projected: true, openClip: true }),
      transformer: sizes.denoiser,
      vae: vae3(sizes.vae),
      // Last, so that the other networks have the same weights with and without it.
      ...(withT5 && { text_encoder_3: tiny ? tinyT5 : t5Xxl }),
    },
    { tokenizer: CLIP_PAD, tokenizer_2: OPEN_CLIP_PAD },
    { _class_name: "FlowMatchEulerDiscreteScheduler", num_train_timesteps: 1000, shift: 3 },
    {
      ...noImages,
      text_encoder_3: none,
      tokenizer_3: none,
      ...(withT5 && { tokenizer_3: ["transformers", "T5TokenizerFast"] }),
    },
  );
  return withT5 ? { ...made, files: new Map([...made.files, ...t5Tokenizer("tokenizer_3")]) } : made;
}

/** T5 v1.1: the encoder alone. `vocab_size` is that of the published weights, of which the tokenizer here has few. */
const t5 = {
  architectures: ["T5EncoderModel"],
  d_kv: 64,
  dense_act_fn: "gelu_new",
  feed_forward_proj: "gated-gelu",
  is_encoder_decoder: true,
  is_gated_act: true,
  layer_norm_epsilon: 1e-6,
  model_type: "t5",
  relative_attention_max_distance: 128,
  relative_attention_num_buckets: 32,
};
const t5Xxl = { ...t5, d_ff: 10240, d_model: 4096, num_heads: 64, num_layers: 24, vocab_size: 32128 };
const tinyT5 = { ...t5, d_ff: 64, d_kv: 16, d_model: 64, num_heads: 4, num_layers: 2, vocab_size: T5_TOKENS };

/** Names of whole pipelines; each is also a preset, that of its denoiser. */
export const pipelineNames: readonly string[] = [...pipelines.keys()];

/** The files of a pipeline; undefined for a name that is none's. */
export function pipelineGeometry(name: string, choice: PipelineChoice = {}): PipelineGeometry | undefined {
  const entry = pipelines.get(name);
  return entry?.make(choice.tiny ? entry.tiny : entry.full, choice);
}

function geometry(
  className: string,
  networks: Readonly<Record<string, RawConfig>>,
  tokenizers: Readonly<Record<string, "!" | "<|endoftext|>">>,
  scheduler: Json,
  more: Json,
): PipelineGeometry {
  const index: Record<string, unknown> = { ...more, scheduler: ["diffusers", scheduler["_class_name"]] };
  for (const [name, { _class_name: own, architectures }] of Object.entries(networks)) {
    index[name] = own === undefined ? ["transformers", (architectures as string[])[0]] : ["diffusers", own];
  }
  for (const name of Object.keys(tokenizers)) index[name] = ["transformers", "CLIPTokenizer"];
  return {
    className,
    networks: new Map(Object.entries(networks)),
    files: new Map<string, Json>([
      ["model_index.json", modelIndex(className, index, {})],
      ["scheduler/scheduler_config.json", scheduler],
      ...Object.entries(tokenizers).map(([name, pad]): [string, Json] => [
        `${name}/tokenizer_config.json`,
        tokenizerConfig(CLIP_LENGTH, pad),
      ]),
    ]),
    clipTokenizers: Object.keys(tokenizers),
  };
}
