/**
 * The transformer that CLIP's two towers share (Radford et al. 2021, arXiv 2103.00020, section 2.4), with the names of
 * transformers' CLIPEncoder and the configuration keys of both towers.
 */
import { ConfigError } from "../errors.ts";
import { add, attention } from "../graph/operators.ts";
import { staticDim, type Value } from "../graph/value.ts";
import { type Activation, activationNames, activations } from "./activations.ts";
import type { Stage } from "./architecture.ts";
import { type ConfigReader, MOST_LAYERS, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import { layerNorm, linear } from "./layers.ts";
import { transformersKeys } from "./transformers-keys.ts";
import type { Weights } from "./weights.ts";

export interface CLIPEncoderConfig {
  /** hidden_size */
  width: number;
  /** intermediate_size */
  inner: number;
  heads: number;
  numLayers: number;
  /** OpenAI's models use the quick GELU, those trained by OpenCLIP mostly the exact one. */
  activation: Activation;
  epsilon: number;
}

/** Throws ConfigError for values that are not supported; `defaults` are the tower's own. */
export function parseEncoder(
  read: ConfigReader,
  className: string,
  defaults: Pick<CLIPEncoderConfig, "width" | "inner" | "heads">,
): CLIPEncoderConfig {
  const width = read.integer("hidden_size", defaults.width, 1, MOST_WIDTH);
  const heads = read.integer("num_attention_heads", defaults.heads, 1, MOST_WIDTH);
  if (width % heads !== 0) {
    throw new ConfigError(`${className}: config "hidden_size" ${width} is not ${heads} equal heads.`);
  }
  return {
    width,
    inner: read.integer("intermediate_size", defaults.inner, 1, MOST_WIDTH),
    heads,
    numLayers: read.integer("num_hidden_layers", 12, 1, MOST_LAYERS),
    activation: read.choice("hidden_act", activationNames, "quick_gelu"),
    epsilon: read.epsilon("layer_norm_eps", 1e-5),
  };
}

/** Settings of either tower without effect: for training, for text generation, and notes. */
export const harmlessKeys = [
  ...transformersKeys,
  "attention_dropout",
  "bos_token_id",
  "dropout",
  "eos_token_id",
  "gradient_checkpointing",
  "initializer_factor",
  "initializer_range",
  "logit_scale_init_value",
  "model_type",
  "pad_token_id",
  "use_cache",
];

export const encoderCounts = (tower: string, { numLayers }: CLIPEncoderConfig): Count[] => [
  { key: "num_hidden_layers", module: `${tower}.encoder.layers`, count: numLayers },
];

export const describeEncoder = ({ width, inner, heads, numLayers, activation }: CLIPEncoderConfig) =>
  `hidden_size ${width}, num_attention_heads ${heads}, intermediate_size ${inner} (${activation}) and ` +
  `num_hidden_layers ${numLayers}`;

/** One stage per layer, on `hiddenStates` [batch, tokens, width]; `mask` [1, 1, tokens, tokens] is added to all scores. */
export function encoderStages(tower: string, config: CLIPEncoderConfig, mask: Value | null = null): Stage[] {
  return Array.from({ length: config.numLayers }, (_, i) => ({
    name: `${tower}.encoder.layers.${i}`,
    role: "block",
    axis: "whole",
    reads: ["hiddenStates"],
    writes: ["hiddenStates"],
    build: ({ hiddenStates }, w) => ({
      hiddenStates: layer(hiddenStates!, w.at(tower).at("encoder").at("layers").at(i), config, mask),
    }),
  }));
}

/** x: [batch, tokens, width] -> the same. */
function layer(x: Value, w: Weights, config: CLIPEncoderConfig, mask: Value | null): Value {
  const { width, inner, epsilon, activation } = config;
  x = add(x, selfAttention(layerNorm(x, epsilon, w.at("layer_norm1")), w.at("self_attn"), config.heads, mask));
  const hidden = linear(layerNorm(x, epsilon, w.at("layer_norm2")), w.at("mlp").at("fc1"), inner);
  return add(x, linear(activations[activation](hidden), w.at("mlp").at("fc2"), width));
}

function selfAttention(x: Value, w: Weights, heads: number, mask: Value | null): Value {
  const width = staticDim(x, -1, "attention");
  const project = (name: string) => linear(x, w.at(name), width);
  const mixed = attention(project("q_proj"), project("k_proj"), project("v_proj"), heads, mask);
  return linear(mixed, w.at("out_proj"), width);
}
