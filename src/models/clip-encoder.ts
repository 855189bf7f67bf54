/**
 * The transformer that CLIP's two towers share (Radford et al. 2021, arXiv 2103.00020, section 2.4), with the names of
 * transformers' CLIPEncoder and the configuration keys of both towers.
 */
import { ConfigError } from "../errors.ts";
import { add, attention, gelu, quickGelu } from "../graph/operators.ts";
import { staticDim, type Value } from "../graph/value.ts";
import type { Stage } from "./architecture.ts";
import type { ConfigReader } from "./config.ts";
import { layerNorm, linear } from "./layers.ts";
import type { Weights } from "./weights.ts";

const activations = {
  quick_gelu: (x: Value) => quickGelu(x),
  gelu: (x: Value) => gelu(x),
} as const;

export interface CLIPEncoderConfig {
  /** hidden_size */
  width: number;
  /** intermediate_size */
  inner: number;
  heads: number;
  numLayers: number;
  /** OpenAI's models have the quick one, those that OpenCLIP trained mostly the exact one. */
  activation: keyof typeof activations;
  epsilon: number;
}

/** Throws ConfigError for values that are not supported; `defaults` are the tower's own. */
export function parseEncoder(
  read: ConfigReader,
  className: string,
  defaults: Pick<CLIPEncoderConfig, "width" | "inner" | "heads">,
): CLIPEncoderConfig {
  const width = read.integer("hidden_size", defaults.width);
  const heads = read.integer("num_attention_heads", defaults.heads);
  if (width % heads !== 0) {
    throw new ConfigError(`${className}: config "hidden_size" ${width} is not ${heads} equal heads.`);
  }
  return {
    width,
    inner: read.integer("intermediate_size", defaults.inner),
    heads,
    numLayers: read.integer("num_hidden_layers", 12),
    activation: read.choice("hidden_act", Object.keys(activations) as (keyof typeof activations)[], "quick_gelu"),
    epsilon: read.number("layer_norm_eps", 1e-5),
  };
}

export const describeEncoder = ({ width, inner, heads, numLayers, activation }: CLIPEncoderConfig) =>
  `hidden_size ${width}, num_attention_heads ${heads}, intermediate_size ${inner} (${activation}) and ` +
  `num_hidden_layers ${numLayers}`;

/** One stage a layer, on `hiddenStates` [batch, tokens, width]; `mask` [1, 1, tokens, tokens] is added to all scores. */
export function encoderStages(tower: string, config: CLIPEncoderConfig, mask: Value | null = null): Stage[] {
  return Array.from({ length: config.numLayers }, (_, i) => ({
    name: `${tower}.encoder.layers.${i}`,
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
