/**
 * DiT, the diffusion transformer (Peebles & Xie 2023, arXiv 2212.09748): blocks of self-attention, conditioned on
 * timestep and class by adaptive layer norm. Names and configuration keys are those of diffusers'
 * DiTTransformer2DModel.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { add, mul, reshape, silu, split } from "../graph/operators.ts";
import { input, type Value } from "../graph/value.ts";
import type { Architecture, Features, Geometry, Layout, StagedModel } from "./architecture.ts";
import { ConfigReader } from "./config.ts";
import { type BareStage, withLayouts } from "./features.ts";
import {
  embedding,
  feedForward,
  layerNorm,
  linear,
  modulate,
  sinusoidalEmbedding,
  timestepEmbedding,
} from "./layers.ts";
import {
  describePatchTransformer,
  harmlessKeys,
  type PatchTransformerConfig,
  parsePatchTransformer,
  patchEmbedding,
  patchGrid,
  transformerCounts,
  unpatchify,
} from "./patch-transformer.ts";
import { attentionPieces, SelfAttentionBlock } from "./self-attention-block.ts";
import type { Weights } from "./weights.ts";

/** The values of a DiT's `config.json` that its graph depends on. */
export interface DiTConfig extends PatchTransformerConfig {
  /** Rows of the label table without the last one, which stands for no class. */
  numClasses: number;
}

/** Number of sinusoids that encode the timestep. */
const FREQUENCIES = 256;
/** Epsilon of the norms that are modulated by the condition; the second norm of a block has `norm_eps`. */
const EPSILON = 1e-6;

/** DiT (Peebles & Xie 2023): `DiTTransformer2DModel`. */
export const dit: Architecture<DiTConfig> = {
  className: "DiTTransformer2DModel",
  parseConfig,
  model,
  counts: transformerCounts,
  picture: "hiddenStates",
  // The table of sines and cosines, which some versions store.
  ignores: /^pos_embed\.pos_embed$/,
};

function parseConfig(raw: RawConfig): DiTConfig {
  const read = new ConfigReader(raw, dit.className);
  const common = parsePatchTransformer(read, raw, dit.className, "ada_norm_zero", { sampleSize: 32, normEps: 1e-5 });
  const config = { ...common, numClasses: read.integer("num_embeds_ada_norm", 1000) };
  read.finish(harmlessKeys);
  return config;
}

/**
 * Inputs: `hiddenStates` float32 [batch, inChannels, height, width] latent, `timestep` float32 [batch] in 0..1000,
 * `classLabels` int64 [batch] in 0..numClasses, the last being no class. Output: `sample` [batch, outChannels, height,
 * width].
 */
function model(config: DiTConfig, geometry: Geometry): StagedModel {
  const { batch } = geometry;
  const grid = patchGrid(geometry, config);
  const [height, width] = grid.map((size) => size * config.patchSize) as [number, number];
  const patches = grid[0] * grid[1];
  const latent: Layout = { batch, channel: config.inChannels, row: height, column: width };
  const layouts: Record<string, Layout> = {
    hiddenStates: { batch, position: patches, channel: config.width },
    timestep: { batch },
    classLabels: { batch },
    modulation: { batch, channel: 6 * config.width },
    keys: { batch, key: patches, channel: config.width },
    values: { batch, key: patches, channel: config.width },
    sample: { batch, channel: config.outChannels, row: height, column: width },
  };
  const stages: BareStage[] = [
    {
      name: "pos_embed",
      role: "enter",
      axis: "whole",
      reads: ["hiddenStates"],
      writes: ["hiddenStates"],
      readLayouts: { hiddenStates: latent },
      build: ({ hiddenStates }, w) => ({ hiddenStates: patchEmbedding(hiddenStates!, w.at("pos_embed"), config) }),
    },
    ...Array.from({ length: config.numLayers }, (_, i) => blockStage(`transformer_blocks.${i}`, config)),
    {
      name: "proj_out_2",
      role: "leave",
      axis: "whole",
      reads: ["hiddenStates", "timestep", "classLabels"],
      writes: ["sample"],
      build: (features, w) => ({ sample: unpatchify(finalLayer(features, w, config), grid, config) }),
    },
  ];
  return {
    className: dit.className,
    settings: `${describePatchTransformer(config)}, num_embeds_ada_norm ${config.numClasses}`,
    inputs: {
      hiddenStates: input("hiddenStates", Object.values(latent)),
      timestep: input("timestep", [batch]),
      classLabels: input("classLabels", [batch], "int64"),
    },
    outputs: ["sample"],
    latent: "hiddenStates",
    streams: ["hiddenStates"],
    stages: stages.map((stage) => withLayouts(stage, layouts)),
  };
}

/** Timestep and class as one vector [batch, width]. */
function condition({ timestep, classLabels }: Features, w: Weights, { width, numClasses }: DiTConfig): Value {
  const frequencies = sinusoidalEmbedding(timestep!, FREQUENCIES, { shift: 1 });
  const time = timestepEmbedding(frequencies, w.at("timestep_embedder"), width);
  return add(time, embedding(classLabels!, w.at("class_embedder").at("embedding_table"), numClasses + 1, width));
}

function blockStage(name: string, config: DiTConfig): BareStage {
  const [modulated, writes] = [["hiddenStates", "modulation"], ["hiddenStates"]];
  return {
    name,
    role: "block",
    axis: "whole",
    reads: ["hiddenStates", "timestep", "classLabels"],
    writes,
    build: (features, weights) => ({ hiddenStates: ditBlock(features, weights.at(name), config) }),
    pieces: [
      {
        name: `${name}.norm1`,
        role: "block",
        axis: "whole",
        reads: ["timestep", "classLabels"],
        writes: ["modulation"],
        build: (features, weights) => ({ modulation: modulationOf(features, weights.at(name), config) }),
      },
      ...attentionPieces(name, { attentionReads: modulated, reads: modulated, writes }, (features, w) =>
        modulatedBlock(features, w, config),
      ),
    ],
  };
}

/**
 * Block with adaLN-zero (section 3.2): hiddenStates [batch, patches, width] -> the same. In diffusers' checkpoints each
 * block embeds timestep and class with weights of its own.
 */
export function ditBlock(features: Features, w: Weights, config: DiTConfig): Value {
  return modulatedBlock({ ...features, modulation: modulationOf(features, w, config) }, w, config).whole();
}

/** Shifts, scales and gates: [batch, 6 * width]. */
function modulationOf(features: Features, w: Weights, config: DiTConfig): Value {
  const embedded = condition(features, w.at("norm1").at("emb"), config);
  return linear(silu(embedded), w.at("norm1").at("linear"), 6 * config.width);
}

function modulatedBlock({ hiddenStates, modulation }: Features, w: Weights, config: DiTConfig): SelfAttentionBlock {
  const [shift1, scale1, gate1, shift2, scale2, gate2] = vectors(modulation!, 6) as Six;
  const normed = () => modulate(layerNorm(hiddenStates!, EPSILON), shift1, scale1);
  return new SelfAttentionBlock(config, w, normed, (attended) => {
    const x = add(hiddenStates!, mul(gate1, attended));
    return add(x, mul(gate2, feedForward(modulate(layerNorm(x, config.normEps), shift2, scale2), w.at("ff"))));
  });
}

type Six = readonly [Value, Value, Value, Value, Value, Value];

/** [batch, count * width] -> `count` values [batch, 1, width], one for all patches. */
function vectors(x: Value, count: number): readonly Value[] {
  return split(reshape(x, [x.shape[0]!, count, -1]), count, 1);
}

/** [batch, patches, width] -> [batch, patches, patch * patch * outChannels]. The condition is block 0's. */
function finalLayer(features: Features, w: Weights, config: DiTConfig): Value {
  const { width, patchSize, outChannels } = config;
  const embedded = condition(features, w.at("transformer_blocks").at(0).at("norm1").at("emb"), config);
  const modulation = linear(silu(embedded), w.at("proj_out_1"), 2 * width);
  const [shift, scale] = vectors(modulation, 2) as [Value, Value];
  const x = modulate(layerNorm(features["hiddenStates"]!, EPSILON), shift, scale);
  return linear(x, w.at("proj_out_2"), patchSize ** 2 * outChannels);
}
