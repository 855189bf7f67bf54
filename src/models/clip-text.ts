/**
 * CLIP's text tower (Radford et al. 2021, arXiv 2103.00020, section 2.4). Its last states are the prompts of
 * Stable Diffusion, and its projected state at the end-of-text token is the embedding of a caption. Names and configuration keys
 * are those of transformers' CLIPTextModel and CLIPTextModelWithProjection.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError } from "../errors.ts";
import { add, cast, equal, mul, reduceMax, reduceSum, reshape, slice, where } from "../graph/operators.ts";
import { constant, input, type Value } from "../graph/value.ts";
import { type Architecture, alias, type Geometry, type Layout, type Stage, type StagedModel } from "./architecture.ts";
import {
  type CLIPEncoderConfig,
  describeEncoder,
  encoderCounts,
  encoderStages,
  harmlessKeys,
  parseEncoder,
} from "./clip-encoder.ts";
import { ConfigReader, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import { type BareStage, withLayouts } from "./features.ts";
import { embedding, layerNorm, linear } from "./layers.ts";

/** The values of CLIP's text configuration that its graph depends on. */
export interface CLIPTextConfig extends CLIPEncoderConfig {
  vocabSize: number;
  /** The most tokens of a text, including the first and the last one. */
  maxPositions: number;
  /** The token that ends a text. Old configurations say 2, which means the highest id in the text. */
  eosTokenId: number;
  /** Width of the space that both towers share. */
  projectionWidth: number;
}

/** Every token is masked from every other: a table of 4096 x 4096. The longest published text is 248. */
const MOST_POSITIONS = 4096;

/** Stored by some versions: 0, 1, 2, ...; and what a whole CLIPModel has beside this tower. */
const ignores = /(\.position_ids|^logit_scale|^text_projection\.weight)$|^(vision_model|visual_projection)\./;

/** CLIP's text encoder. */
export const clipText: Architecture<CLIPTextConfig> = {
  className: "CLIPTextModel",
  parseConfig: (raw) => parseTextConfig(raw, clipText.className),
  model: (config, geometry) => textModel(clipText.className, config, geometry),
  // transformers 5 stores this class, and no other, without the tower's name.
  rename: (stored) => (/^(embeddings|encoder|final_layer_norm)\./.test(stored) ? `text_model.${stored}` : stored),
  ignores,
  counts: textCounts,
  text: "inputIds",
};

/** CLIP's text encoder with its projection. */
export const clipTextWithProjection: Architecture<CLIPTextConfig> = {
  className: "CLIPTextModelWithProjection",
  parseConfig: (raw) => parseTextConfig(raw, clipTextWithProjection.className),
  model: (config, geometry) => projectedTextModel(clipTextWithProjection.className, config, geometry),
  ignores: /(\.position_ids|^logit_scale)$|^(vision_model|visual_projection)\./,
  counts: textCounts,
  text: "inputIds",
};

export function parseTextConfig(raw: RawConfig, className: string): CLIPTextConfig {
  const read = new ConfigReader(raw, className);
  const encoder = parseEncoder(read, className, { width: 512, inner: 2048, heads: 8 });
  const config = {
    ...encoder,
    // transformers compares ids as 32-bit integers; here they are compared as float32, exact up to the limit of 2^24.
    vocabSize: read.integer("vocab_size", 49408),
    maxPositions: read.integer("max_position_embeddings", 77, 1, MOST_POSITIONS),
    eosTokenId: read.integer("eos_token_id", 49407, 0),
    projectionWidth: read.integer("projection_dim", 512, 1, MOST_WIDTH),
  };
  read.finish(harmlessKeys);
  return config;
}

export function textCounts(config: CLIPTextConfig): Count[] {
  const tables = "text_model.embeddings";
  return [
    ...encoderCounts("text_model", config),
    { key: "hidden_size", tensor: `${tables}.token_embedding.weight`, axis: 1, size: config.width },
    { key: "vocab_size", tensor: `${tables}.token_embedding.weight`, axis: 0, size: config.vocabSize },
    {
      key: "max_position_embeddings",
      tensor: `${tables}.position_embedding.weight`,
      axis: 0,
      size: config.maxPositions,
    },
  ];
}

/**
 * Inputs: `inputIds` int64 [batch, tokens]. A token attends to itself and those before it, so padding after the end does not
 * change the text's own tokens, and no mask is needed.
 * Outputs: `lastHiddenState` [batch, tokens, width], `poolerOutput` [batch, width], the state at the end of the text, and
 * `hiddenStates.<n>` for each n of the geometry's. Throws ArgumentError for layers that the tower does not have.
 */
export function textModel(className: string, config: CLIPTextConfig, geometry: Geometry): StagedModel {
  const { batch, tokens } = geometry;
  if (tokens === undefined) throw new ArgumentError(`${className}: how many tokens are there?`);
  const { maxPositions, vocabSize, epsilon } = config;
  if (tokens > maxPositions) {
    throw new ArgumentError(`${className}: ${tokens} tokens are more than the ${maxPositions} that it was made for.`);
  }
  const { layers, states } = wantedLayers(className, config, geometry);
  const layerStages = encoderStages("text_model", { ...config, numLayers: layers }, causalMask(tokens));
  const state = { batch, token: tokens, channel: config.width };
  const layouts: Record<string, Layout> = {
    inputIds: { batch, token: tokens },
    hiddenStates: state,
    lastHiddenState: state,
    poolerOutput: { batch, channel: config.width },
    ...Object.fromEntries([...states].map((layer) => [stateName(layer), state])),
  };
  const stages: BareStage[] = [
    ...[embeddingStage(config, tokens), ...layerStages].flatMap((stage, i) =>
      states.has(i) ? [stage, alias("hiddenStates", stateName(i), stage.role)] : [stage],
    ),
    {
      name: "text_model.final_layer_norm",
      role: "leave",
      axis: "whole",
      reads: ["hiddenStates"],
      writes: ["lastHiddenState"],
      build: ({ hiddenStates }, w) => ({
        lastHiddenState: layerNorm(hiddenStates!, epsilon, w.at("text_model").at("final_layer_norm")),
      }),
    },
    {
      name: "pooler",
      role: "leave",
      axis: "whole",
      reads: ["inputIds", "lastHiddenState"],
      writes: ["poolerOutput"],
      build: ({ inputIds, lastHiddenState }) => ({
        poolerOutput: atEnd(lastHiddenState!, inputIds!, tokens, config.eosTokenId),
      }),
    },
  ];
  return {
    className,
    settings: `${describeEncoder(config)}, max_position_embeddings ${maxPositions} and vocab_size ${vocabSize}`,
    inputs: { inputIds: input("inputIds", [batch, tokens], "int64") },
    outputs: ["lastHiddenState", "poolerOutput", ...[...states].map(stateName)],
    stages: stages.map((stage) => withLayouts(stage, layouts)),
  };
}

const stateName = (layer: number) => `hiddenStates.${layer}`;

/** How many layers are run, and after which of them, the embedding counted as 0, the state is an output. */
function wantedLayers(
  className: string,
  { numLayers }: CLIPTextConfig,
  { hiddenStates = [], skippedLayers = 0 }: Geometry,
): { layers: number; states: ReadonlySet<number> } {
  const layers = numLayers - skippedLayers;
  if (!Number.isInteger(skippedLayers) || skippedLayers < 0 || layers < 1) {
    throw new ArgumentError(
      `${className}: ${skippedLayers} layers to skip; it has ${numLayers}, of which at least one is needed.`,
    );
  }
  const wrong = hiddenStates.find((layer) => !(Number.isInteger(layer) && layer >= 0 && layer <= layers));
  if (wrong === undefined) return { layers, states: new Set(hiddenStates) };
  throw new ArgumentError(`${className}: there is no state after layer ${wrong}; ${layers} layers are run.`);
}

/** The same, and `textEmbeds` [batch, projection width], not normalised, as transformers gives them. */
export function projectedTextModel(className: string, config: CLIPTextConfig, geometry: Geometry): StagedModel {
  const { outputs, stages, settings, ...model } = textModel(className, config, geometry);
  const { batch } = geometry;
  return {
    ...model,
    settings: `${settings} and projection_dim ${config.projectionWidth}`,
    outputs: ["textEmbeds", ...outputs.filter((name) => name !== "poolerOutput")],
    stages: [
      ...stages,
      {
        name: "text_projection",
        role: "leave",
        axis: "whole",
        reads: ["poolerOutput"],
        writes: ["textEmbeds"],
        layouts: {
          poolerOutput: { batch, channel: config.width },
          textEmbeds: { batch, channel: config.projectionWidth },
        },
        build: ({ poolerOutput }, w) => ({
          textEmbeds: linear(poolerOutput!, w.at("text_projection"), config.projectionWidth, { bias: false }),
        }),
      },
    ],
  };
}

function embeddingStage({ vocabSize, width, maxPositions }: CLIPTextConfig, tokens: number): Stage {
  return {
    name: "text_model.embeddings",
    role: "enter",
    axis: "whole",
    reads: ["inputIds"],
    writes: ["hiddenStates"],
    build: ({ inputIds }, w) => {
      const tables = w.at("text_model").at("embeddings");
      const positions = tables.at("position_embedding").tensor("weight", [maxPositions, width]);
      const states = embedding(inputIds!, tables.at("token_embedding"), vocabSize, width);
      return { hiddenStates: add(states, tokens === maxPositions ? positions : slice(positions, 0, 0, tokens)) };
    },
  };
}

/** Added to attention scores [1, 1, tokens, tokens]: nothing up to the query's own place, the most negative float after. */
function causalMask(tokens: number): Value {
  const mask = Float32Array.from({ length: tokens * tokens }, (_, i) =>
    i % tokens > Math.floor(i / tokens) ? -3.4028234663852886e38 : 0,
  );
  return constant(mask, [1, 1, tokens, tokens], "float32");
}

/**
 * The state at the first token that ends each text: [batch, tokens, width] -> [batch, width]. Without such
 * a token it is the first token's state, as an argmax over "is it the end" gives.
 */
function atEnd(states: Value, inputIds: Value, tokens: number, eosTokenId: number): Value {
  const ids = cast(inputIds, "float32");
  // Old configurations wrongly have eos_token_id 2 for models whose vocabulary ends with the end-of-text token.
  const isEnd = equal(ids, eosTokenId === 2 ? reduceMax(ids, [1]) : eosTokenId);
  const row = (value: (place: number) => number) =>
    constant(
      Float32Array.from({ length: tokens }, (_, place) => value(place)),
      [1, tokens],
      "float32",
    );
  const rank = where(
    isEnd,
    row((place) => tokens - place),
    row((place) => (place === 0 ? 0.5 : 0)),
  );
  const chosen = cast(equal(rank, reduceMax(rank, [1])), "float32");
  return reduceSum(mul(states, reshape(chosen, [states.shape[0]!, tokens, 1])), [1], false);
}
