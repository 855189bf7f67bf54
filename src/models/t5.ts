/**
 * The encoder of T5 v1.1 (Raffel et al. 2020, arXiv 1910.10683, section 2.1; gated feed-forward: Shazeer 2020, arXiv
 * 2002.05202). Names and configuration keys are those of transformers' T5EncoderModel.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import { add, attention, gather, mul, reshape, sub, transpose } from "../graph/operators.ts";
import { constant, input, type Value } from "../graph/value.ts";
import { type Activation, activationNames, activations } from "./activations.ts";
import type { Architecture, Features, Geometry, Layout, StagedModel } from "./architecture.ts";
import { ConfigReader, MOST_LAYERS, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import { type BareStage, withLayouts } from "./features.ts";
import { embedding, linear, rmsNorm } from "./layers.ts";
import { transformersKeys } from "./transformers-keys.ts";
import type { Weights } from "./weights.ts";

/** The values of a T5 encoder's `config.json` that its graph depends on. */
export interface T5Config {
  vocabSize: number;
  /** d_model */
  width: number;
  /** d_ff */
  inner: number;
  heads: number;
  /** d_kv: width of a head; all heads together need not be as wide as the model. */
  headWidth: number;
  numLayers: number;
  activation: Activation;
  /** Whether the output of the activation is multiplied with that of a second linear layer. */
  gated: boolean;
  epsilon: number;
  numBuckets: number;
  maxDistance: number;
}

/** Each token has a position bias to each other: 4096 tokens of 64 heads are 4 GB. */
const MOST_TOKENS = 4096;

/** Added to the attention scores of padding: the most negative float. */
const HIDDEN = -3.4028234663852886e38;

/** T5's encoder: `T5EncoderModel`. */
export const t5: Architecture<T5Config> = {
  className: "T5EncoderModel",
  parseConfig,
  model,
  counts,
  text: "inputIds",
  // transformers ties the two tensors and stores either or both; a complete T5 also has a decoder.
  rename: (stored) => (stored === "encoder.embed_tokens.weight" ? "shared.weight" : stored),
  ignores: /^(decoder\.|lm_head\.|encoder\.embed_tokens\.weight$)/,
};

/** Settings without effect on the encoder: for training, for the decoder, and notes. */
const harmless = [
  ...transformersKeys,
  "classifier_dropout",
  "decoder_start_token_id",
  "dropout_rate",
  "eos_token_id",
  "initializer_factor",
  "is_decoder",
  "is_encoder_decoder",
  "n_positions",
  "num_decoder_layers",
  "output_past",
  "pad_token_id",
  "scale_decoder_outputs",
  "tie_word_embeddings",
  "use_cache",
];

function parseConfig(raw: RawConfig): T5Config {
  const read = new ConfigReader(raw, t5.className);
  if (read.has("model_type")) read.require("model_type", "t5");
  const numBuckets = read.integer("relative_attention_num_buckets", 32, 4, 4096);
  const maxDistance = read.integer("relative_attention_max_distance", 128);
  if (numBuckets % 4 !== 0 || maxDistance <= numBuckets / 4) {
    throw new ConfigError(
      `${t5.className}: config "relative_attention_num_buckets" is ${numBuckets} for distances up to ${maxDistance}; ` +
        "supported is a multiple of 4 that is less than four times the distance.",
    );
  }
  const config = {
    vocabSize: read.integer("vocab_size", 32128),
    width: read.integer("d_model", 512, 1, MOST_WIDTH),
    inner: read.integer("d_ff", 2048, 1, MOST_WIDTH),
    heads: read.integer("num_heads", 8, 1, MOST_WIDTH),
    headWidth: read.integer("d_kv", 64, 1, MOST_WIDTH),
    numLayers: read.integer("num_layers", 6, 1, MOST_LAYERS),
    ...parseFeedForward(read),
    epsilon: read.epsilon("layer_norm_epsilon", 1e-6),
    numBuckets,
    maxDistance,
  };
  read.finish(harmless);
  return config;
}

/** "gated-gelu" means the tanh form of GELU; other names are literal. `dense_act_fn` and `is_gated_act` override the name. */
function parseFeedForward(read: ConfigReader): Pick<T5Config, "activation" | "gated"> {
  const kinds = activationNames.flatMap((name) => [name, `gated-${name}` as const]);
  const kind = read.choice("feed_forward_proj", kinds, "relu");
  const gated = kind.startsWith("gated-");
  const name = kind === "gated-gelu" ? "gelu_new" : (kind.replace("gated-", "") as Activation);
  return {
    activation: read.has("dense_act_fn") ? read.choice("dense_act_fn", activationNames) : name,
    gated: read.has("is_gated_act") ? read.boolean("is_gated_act") : gated,
  };
}

function counts({ numLayers, vocabSize, width }: T5Config): Count[] {
  return [
    { key: "num_layers", module: "encoder.block", count: numLayers },
    { key: "vocab_size", tensor: "shared.weight", axis: 0, size: vocabSize },
    { key: "d_model", tensor: "shared.weight", axis: 1, size: width },
  ];
}

/**
 * Inputs: `inputIds` int64 [batch, tokens], `attentionMask` float32 [batch, tokens] of 1 (text) and 0 (padding).
 * Output: `lastHiddenState` [batch, tokens, width]; its values at padding are meaningless.
 */
function model(config: T5Config, { batch, tokens }: Geometry): StagedModel {
  if (tokens === undefined) throw new ArgumentError(`${t5.className}: how many tokens are there?`);
  if (tokens > MOST_TOKENS) {
    throw new ArgumentError(`${t5.className}: ${tokens} tokens; at most ${MOST_TOKENS} are supported.`);
  }
  const { width, heads, headWidth, inner, numLayers, vocabSize, epsilon } = config;
  const layouts: Record<string, Layout> = {
    inputIds: { batch, token: tokens },
    attentionMask: { batch, token: tokens },
    hiddenStates: { batch, token: tokens, channel: width },
    positionBias: { batch, head: heads, query: tokens, key: tokens },
    lastHiddenState: { batch, token: tokens, channel: width },
  };
  const stages: BareStage[] = [
    {
      name: "shared",
      role: "enter",
      axis: "whole",
      reads: ["inputIds"],
      writes: ["hiddenStates"],
      build: ({ inputIds }, w) => ({ hiddenStates: embedding(inputIds!, w.at("shared"), vocabSize, width) }),
    },
    positionStage(config, tokens),
    ...Array.from({ length: numLayers }, (_, i) => blockStage(`encoder.block.${i}`, config)),
    {
      name: "encoder.final_layer_norm",
      role: "leave",
      axis: "whole",
      reads: ["hiddenStates"],
      writes: ["lastHiddenState"],
      build: ({ hiddenStates }, w) => ({
        lastHiddenState: rmsNorm(hiddenStates!, w.at("encoder").at("final_layer_norm"), epsilon),
      }),
    },
  ];
  return {
    className: t5.className,
    settings:
      `d_model ${width}, num_heads ${heads}, d_kv ${headWidth}, d_ff ${inner} ` +
      `(${config.gated ? "gated " : ""}${config.activation}), ` +
      `num_layers ${numLayers} and vocab_size ${vocabSize}`,
    inputs: {
      inputIds: input("inputIds", [batch, tokens], "int64"),
      attentionMask: input("attentionMask", [batch, tokens]),
    },
    outputs: ["lastHiddenState"],
    stages: stages.map((stage) => withLayouts(stage, layouts)),
  };
}

/**
 * What every block adds to its attention scores: a learned bias for each head and range of distances, which is stored
 * with block 0, and the mask. Writes `positionBias` [batch, heads, tokens, tokens].
 */
function positionStage(config: T5Config, tokens: number): BareStage {
  const { heads, numBuckets } = config;
  return {
    name: "encoder.block.0.layer.0.SelfAttention.relative_attention_bias",
    role: "enter",
    axis: "whole",
    reads: ["attentionMask"],
    writes: ["positionBias"],
    build: ({ attentionMask }, w) => {
      const selfAttention = w.at("encoder").at("block").at(0).at("layer").at(0).at("SelfAttention");
      const table = selfAttention.at("relative_attention_bias").tensor("weight", [numBuckets, heads]);
      const buckets = constant(positionBuckets(tokens, config), [tokens, tokens], "int64");
      const bias = reshape(transpose(gather(table, buckets), [2, 0, 1]), [1, heads, tokens, tokens]);
      const mask = reshape(mul(sub(1, attentionMask!), HIDDEN), [attentionMask!.shape[0]!, 1, 1, tokens]);
      return { positionBias: add(bias, mask) };
    },
  };
}

/**
 * The bucket of the distance from each query to each key, [tokens, tokens] (section 2.1): half of them for keys that
 * come later; in each half one for each short distance, then ever wider ones up to `maxDistance`.
 */
export function positionBuckets(
  tokens: number,
  { numBuckets, maxDistance }: Pick<T5Config, "numBuckets" | "maxDistance">,
): BigInt64Array {
  const half = numBuckets / 2;
  const exact = half / 2;
  // Distances such as 64 fall on the edge of a bucket, and transformers computes the edges in single precision.
  const range = Math.fround(Math.log(maxDistance / exact));
  const bucket = (distance: number) => {
    if (distance < exact) return distance;
    const share = Math.fround(Math.fround(Math.log(Math.fround(distance / exact))) / range);
    return Math.min(exact + Math.floor(Math.fround(share * (half - exact))), half - 1);
  };
  return BigInt64Array.from({ length: tokens * tokens }, (_, i) => {
    const distance = (i % tokens) - Math.floor(i / tokens);
    return BigInt(bucket(Math.abs(distance)) + (distance > 0 ? half : 0));
  });
}

/** A planner can cut a block between its two layers, each of which may have hundreds of megabytes of weights. */
function blockStage(name: string, config: T5Config): BareStage {
  const layer = (index: 0 | 1, reads: readonly string[], run: typeof attentionLayer | typeof feedForwardLayer) => ({
    name: `${name}.layer.${index}`,
    role: "block" as const,
    axis: "whole" as const,
    reads,
    writes: ["hiddenStates"],
    build: ({ hiddenStates, positionBias }: Features, w: Weights) => ({
      hiddenStates: run(hiddenStates!, w.at(name).at("layer").at(index), config, positionBias!),
    }),
  });
  const reads = ["hiddenStates", "positionBias"];
  return {
    name,
    role: "block",
    axis: "whole",
    reads,
    writes: ["hiddenStates"],
    build: ({ hiddenStates, positionBias }, weights) => {
      const w = weights.at(name).at("layer");
      const attended = attentionLayer(hiddenStates!, w.at(0), config, positionBias!);
      return { hiddenStates: feedForwardLayer(attended, w.at(1), config) };
    },
    pieces: [layer(0, reads, attentionLayer), layer(1, ["hiddenStates"], feedForwardLayer)],
  };
}

/** x: [batch, tokens, width] -> the same. */
function attentionLayer(x: Value, w: Weights, config: T5Config, positionBias: Value): Value {
  const normed = rmsNorm(x, w.at("layer_norm"), config.epsilon);
  return add(x, selfAttention(normed, positionBias, w.at("SelfAttention"), config));
}

/** x: [batch, tokens, width] -> the same. */
function feedForwardLayer(x: Value, w: Weights, config: T5Config): Value {
  return add(x, feedForward(rmsNorm(x, w.at("layer_norm"), config.epsilon), w.at("DenseReluDense"), config));
}

/** Scores are not divided by the square root of the head width, since T5's initialisation accounts for it. */
function selfAttention(x: Value, positionBias: Value, w: Weights, { width, heads, headWidth }: T5Config): Value {
  const [q, k, v] = ["q", "k", "v"].map((name) => linear(x, w.at(name), heads * headWidth, { bias: false })) as [
    Value,
    Value,
    Value,
  ];
  return linear(attention(q, k, v, heads, positionBias, 1), w.at("o"), width, { bias: false });
}

function feedForward(x: Value, w: Weights, { width, inner, activation, gated }: T5Config): Value {
  const widen = (name: string) => linear(x, w.at(name), inner, { bias: false });
  const activate = activations[activation];
  const hidden = gated ? mul(activate(widen("wi_0")), widen("wi_1")) : activate(widen("wi"));
  return linear(hidden, w.at("wo"), width, { bias: false });
}
