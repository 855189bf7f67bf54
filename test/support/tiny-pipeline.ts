/**
 * Pipeline folders in diffusers' layout with networks so small that a picture takes milliseconds. Their weights are
 * random: nothing about the pictures is right but that they depend on everything that they should depend on.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import type { FloatStorage } from "../../src/checkpoints/safetensors-writer.ts";
import { type Architecture, type Geometry, weightShapes } from "../../src/models/architecture.ts";
import { autoencoderKL } from "../../src/models/autoencoder-kl.ts";
import { dit } from "../../src/models/dit.ts";
import { pixart } from "../../src/models/pixart.ts";
import { t5 } from "../../src/models/t5.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type FloatTensor, floatTensor, sizeOf, type Tensor } from "../../src/tensor.ts";
import { buildTokenizer } from "../../training/tokenizer.ts";

/** Pixels on a side of what the tiny pipelines make. */
export const tinySize = 16;
/** Tokens of a prompt, the ending one included. */
export const tinyTokens = 6;
/** As DiTPipeline has it: class 1000 is none. */
export const tinyClasses = 1000;

const tokenizer = buildTokenizer([["a red cat"], ["a blue dog"], ["the happy house"]], tinyTokens);

const transformer = {
  activation_fn: "gelu-approximate",
  attention_head_dim: 8,
  in_channels: 4,
  num_attention_heads: 2,
  num_layers: 2,
  out_channels: 8,
  patch_size: 2,
  sample_size: tinySize / 2,
};

const components: Record<string, { config: RawConfig; networks: Architecture<unknown>[]; stem: string }> = {
  pixart: {
    config: {
      ...transformer,
      _class_name: "PixArtTransformer2DModel",
      caption_channels: 12,
      cross_attention_dim: 16,
      norm_type: "ada_norm_single",
      use_additional_conditions: false,
    },
    networks: [pixart],
    stem: "diffusion_pytorch_model",
  },
  dit: {
    config: {
      ...transformer,
      _class_name: "DiTTransformer2DModel",
      norm_type: "ada_norm_zero",
      num_embeds_ada_norm: tinyClasses,
    },
    networks: [dit],
    stem: "diffusion_pytorch_model",
  },
  vae: {
    config: {
      _class_name: "AutoencoderKL",
      block_out_channels: [8, 16],
      down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D"],
      up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D"],
      latent_channels: 4,
      norm_num_groups: 4,
      scaling_factor: 0.5,
    },
    networks: [autoencoderKL.encoder, autoencoderKL.decoder],
    stem: "diffusion_pytorch_model",
  },
  text_encoder: {
    config: {
      architectures: ["T5EncoderModel"],
      model_type: "t5",
      d_model: 12,
      d_kv: 4,
      d_ff: 24,
      num_layers: 2,
      num_heads: 3,
      feed_forward_proj: "gated-gelu",
      vocab_size: Object.keys(tokenizer.tokenizer.model.vocab).length,
    },
    networks: [t5],
    stem: "model",
  },
};

const scheduler = {
  _class_name: "DPMSolverMultistepScheduler",
  beta_start: 0.0001,
  beta_end: 0.02,
  beta_schedule: "linear",
};

const classNames = { pixart: "PixArtSigmaPipeline", dit: "DiTPipeline" };

export interface TinyOptions {
  /** Instead of the right one in model_index.json. */
  className?: string;
  /** How the weights are stored; "F32" unless given. */
  dtype?: FloatStorage;
  /** Blocks of the transformer; 2 unless given. */
  layers?: number;
  /** Changes a component's tensors in place: "transformer", "vae", "text_encoder". */
  weights?: (component: string, tensors: Map<string, Tensor>) => void;
}

/** Writes a pipeline of this kind to `path`, the same one every time. */
export async function writeTinyPipeline(
  path: string,
  kind: "pixart" | "dit",
  { className = classNames[kind], dtype = "F32", layers = transformer.num_layers, weights }: TinyOptions = {},
): Promise<NodeFolder> {
  const parts = { transformer: kind, vae: "vae", ...(kind === "pixart" ? { text_encoder: "text_encoder" } : {}) };
  for (const [name, component] of Object.entries(parts)) {
    const { config: settings, networks, stem } = components[component]!;
    const config = name === "transformer" ? { ...settings, num_layers: layers } : settings;
    const tensors = randomWeights(networks, config);
    weights?.(name, tensors);
    await writeJson(path, `${name}/config.json`, config);
    await writeSafetensors(join(path, name, `${stem}.safetensors`), tensors, { dtype });
  }
  await writeJson(path, "scheduler/scheduler_config.json", scheduler);
  if (kind === "pixart") {
    await writeJson(path, "tokenizer/tokenizer.json", tokenizer.tokenizer);
    await writeJson(path, "tokenizer/tokenizer_config.json", tokenizer.config);
  }
  await writeJson(path, "model_index.json", {
    _class_name: className,
    transformer: ["diffusers", components[kind]!.config["_class_name"]],
    vae: ["diffusers", "AutoencoderKL"],
    scheduler: ["diffusers", "DPMSolverMultistepScheduler"],
    ...(kind === "pixart" && {
      text_encoder: ["transformers", "T5EncoderModel"],
      tokenizer: ["transformers", "T5Tokenizer"],
      _max_sequence_length: tinyTokens,
    }),
    ...(kind === "dit" && { id2label: { 0: "cat, tomcat", 1: "dog", 2: "tiger cat", 3: "dog" } }),
  });
  return new NodeFolder(path);
}

async function writeJson(path: string, file: string, value: unknown): Promise<void> {
  await mkdir(join(path, file, ".."), { recursive: true });
  await writeFile(join(path, file), JSON.stringify(value, null, 2));
}

/** Matrices that keep the size of what they multiply, biases and tables that are not zero. */
function randomWeights(networks: readonly Architecture<unknown>[], raw: RawConfig): Map<string, Tensor> {
  const geometry: Geometry = { batch: 1, height: 8, width: 8, tokens: tinyTokens };
  const generator = new TorchGenerator(1);
  const tensors = new Map<string, Tensor>();
  for (const architecture of networks) {
    const shapes = weightShapes(architecture.model(architecture.parseConfig(raw), geometry));
    for (const [name, shape] of shapes) tensors.set(name, randomWeight(generator, shape));
  }
  return tensors;
}

function randomWeight(generator: TorchGenerator, shape: readonly number[]): FloatTensor {
  const { data } = generator.randn(shape);
  const fanIn = sizeOf(shape.slice(1));
  return floatTensor(
    shape,
    data.map((value) => (shape.length > 1 ? value / Math.sqrt(fanIn) : 0.5 + 0.2 * value)),
  );
}
