/**
 * Stable Diffusion 3's MMDiT (Esser et al. 2024, arXiv 2403.03206, figure 2): the image's patches and the text's tokens both
 * run through the blocks, with separate weights and one joint attention. The first blocks of 3.5 medium have a second
 * attention over the patches only. Names and configuration keys are those of diffusers' SD3Transformer2DModel.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import { add, concat, reshape, transpose } from "../graph/operators.ts";
import { input, type Value } from "../graph/value.ts";
import type { Architecture, Geometry, Layout, StagedModel } from "./architecture.ts";
import { ConfigReader, MOST_LAYERS, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import { withLayouts } from "./features.ts";
import { conv, linear, sinusoidalEmbedding, timestepEmbedding } from "./layers.ts";
import { unpatchify } from "./patch-transformer.ts";
import { blockStage, continuousNorm, type SD3BlockConfig, type SD3Stage } from "./sd3-block.ts";
import { rows, type Weights } from "./weights.ts";

/** The values of a Stable Diffusion 3 transformer's `config.json` that its graph depends on. */
export interface SD3Config extends SD3BlockConfig {
  inChannels: number;
  outChannels: number;
  patchSize: number;
  /** Height and width of the latent that the model was made for. */
  sampleSize: number;
  /** Rows and columns of the position table; every image uses the middle of it. */
  posEmbedMaxSize: number;
  /** Width of the text's states and of its pooled state. */
  jointAttentionDim: number;
  pooledProjectionDim: number;
}

/** Number of sinusoids that encode the timestep. */
const FREQUENCIES = 256;
/** The most rows of the position table: 3.5 medium has 384. */
const MOST_POSITIONS = 1024;

/** The transformer of Stable Diffusion 3: `SD3Transformer2DModel`. */
export const sd3: Architecture<SD3Config> = {
  className: "SD3Transformer2DModel",
  parseConfig,
  model,
  counts,
  picture: "hiddenStates",
  text: "encoderHiddenStates",
};

function parseConfig(raw: RawConfig): SD3Config {
  const { className } = sd3;
  const read = new ConfigReader(raw, className);
  const heads = read.integer("num_attention_heads", 18, 1, MOST_WIDTH);
  const headDim = read.integer("attention_head_dim", 64, 1, MOST_WIDTH);
  const width = heads * headDim;
  if (width > MOST_WIDTH) {
    throw new ConfigError(
      `${className}: ${heads} heads (config "num_attention_heads") of ${headDim} ("attention_head_dim") make a width of ` +
        `${width}; at most ${MOST_WIDTH} is supported.`,
    );
  }
  // Text tokens must be as wide as patches, since both run through the same attention.
  read.require("caption_projection_dim", width, 1152);
  const inChannels = read.integer("in_channels", 16, 1, MOST_WIDTH);
  const patchSize = read.integer("patch_size", 2, 1, 256);
  const posEmbedMaxSize = read.integer("pos_embed_max_size", 96, 1, MOST_POSITIONS);
  const config = {
    heads,
    width,
    inChannels,
    outChannels: read.isNull("out_channels") ? inChannels : read.integer("out_channels", 16, 1, MOST_WIDTH),
    numLayers: read.integer("num_layers", 18, 1, MOST_LAYERS),
    patchSize,
    sampleSize: read.side("sample_size", 128, MOST_POSITIONS * patchSize),
    posEmbedMaxSize,
    jointAttentionDim: read.integer("joint_attention_dim", 4096, 1, MOST_WIDTH),
    pooledProjectionDim: read.integer("pooled_projection_dim", 2048, 1, MOST_WIDTH),
    dualAttentionLayers: new Set(read.integers("dual_attention_layers", [], { least: 0, fewest: 0 })),
    qkNorm: read.choiceOrNull("qk_norm", ["rms_norm"], null) !== null,
  };
  read.finish([]);
  return config;
}

function counts({ numLayers, width, inChannels, patchSize }: SD3Config): Count[] {
  const tensor = "pos_embed.proj.weight";
  return [
    { key: "num_layers", module: "transformer_blocks", count: numLayers },
    { key: "num_attention_heads", tensor, axis: 0, size: width },
    { key: "in_channels", tensor, axis: 1, size: inChannels },
    { key: "patch_size", tensor, axis: 3, size: patchSize },
  ];
}

/** The configuration values that decide the shapes of the weights, for error messages. */
function describeSD3(config: SD3Config): string {
  const { heads, width, inChannels, outChannels, patchSize, numLayers, jointAttentionDim, posEmbedMaxSize } = config;
  return (
    `in_channels ${inChannels}, out_channels ${outChannels}, patch_size ${patchSize}, num_layers ${numLayers}, ` +
    `num_attention_heads ${heads}, attention_head_dim ${width / heads}, joint_attention_dim ${jointAttentionDim} and ` +
    `pos_embed_max_size ${posEmbedMaxSize}`
  );
}

/**
 * Inputs: `hiddenStates` [batch, inChannels, height, width] latent, `timestep` [batch] in 0..1000, `encoderHiddenStates`
 * [batch, tokens, jointAttentionDim], `pooledProjections` [batch, pooledProjectionDim]; all float32. Output: `sample` [batch,
 * outChannels, height, width]. Throws ArgumentError for a latent that is not whole patches or larger than the table of
 * positions.
 */
function model(config: SD3Config, geometry: Geometry): StagedModel {
  const { batch, tokens } = geometry;
  if (tokens === undefined) throw new ArgumentError(`${sd3.className}: how many text tokens are there?`);
  const { sampleSize, width } = config;
  const size = { row: geometry.height ?? sampleSize, column: geometry.width ?? sampleSize };
  const grid = patchGrid(size.row, size.column, config);
  const inputs: Record<string, Layout> = {
    hiddenStates: { batch, channel: config.inChannels, ...size },
    timestep: { batch },
    encoderHiddenStates: { batch, token: tokens, channel: config.jointAttentionDim },
    pooledProjections: { batch, channel: config.pooledProjectionDim },
  };
  const layouts: Record<string, Layout> = {
    ...inputs,
    patches: { batch, position: grid[0] * grid[1], channel: width },
    context: { batch, token: tokens, channel: width },
    temb: { batch, channel: width },
    imageModulation: { batch, channel: 6 * width },
    dualModulation: { batch, channel: 3 * width },
    textModulation: { batch, channel: 6 * width },
    keys: { batch, key: grid[0] * grid[1] + tokens, channel: width },
    values: { batch, key: grid[0] * grid[1] + tokens, channel: width },
    dualKeys: { batch, key: grid[0] * grid[1], channel: width },
    dualValues: { batch, key: grid[0] * grid[1], channel: width },
    sample: { batch, channel: config.outChannels, ...size },
  };
  return {
    className: sd3.className,
    settings: describeSD3(config),
    inputs: Object.fromEntries(
      Object.entries(inputs).map(([name, layout]) => [name, input(name, Object.values(layout))]),
    ),
    outputs: ["sample"],
    conditions: Object.keys(inputs).filter((name) => name !== "hiddenStates" && name !== "timestep"),
    latent: "hiddenStates",
    streams: ["patches", "context"],
    stages: stagesOf(config, grid).map((stage) => withLayouts({ ...stage, axis: "whole" }, layouts)),
  };
}

function stagesOf(config: SD3Config, grid: readonly [number, number]): SD3Stage[] {
  const { width, patchSize, numLayers } = config;
  return [
    {
      name: "pos_embed",
      role: "enter",
      reads: ["hiddenStates"],
      writes: ["patches"],
      build: ({ hiddenStates }, w) => ({ patches: patchEmbedding(hiddenStates!, w.at("pos_embed"), grid, config) }),
    },
    {
      name: "time_text_embed",
      role: "enter",
      reads: ["timestep", "pooledProjections"],
      writes: ["temb"],
      build: ({ timestep, pooledProjections }, weights) => {
        const w = weights.at("time_text_embed");
        const embed = (x: Value, name: string) => timestepEmbedding(x, w.at(name), width);
        const time = embed(sinusoidalEmbedding(timestep!, FREQUENCIES), "timestep_embedder");
        return { temb: add(time, embed(pooledProjections!, "text_embedder")) };
      },
    },
    {
      name: "context_embedder",
      role: "enter",
      reads: ["encoderHiddenStates"],
      writes: ["context"],
      build: ({ encoderHiddenStates }, w) => ({
        context: linear(encoderHiddenStates!, w.at("context_embedder"), width),
      }),
    },
    ...Array.from({ length: numLayers }, (_, i) => blockStage(i, config)),
    {
      name: "proj_out",
      role: "leave",
      reads: ["patches", "temb"],
      writes: ["sample"],
      build: ({ patches, temb }, w) => {
        const normed = continuousNorm(patches!, temb!, w.at("norm_out"));
        const pixels = linear(normed, w.at("proj_out"), patchSize ** 2 * config.outChannels);
        return { sample: unpatchify(pixels, grid, config) };
      },
    },
  ];
}

/** Rows and columns of patches. */
function patchGrid(height: number, width: number, { patchSize, posEmbedMaxSize }: SD3Config): [number, number] {
  const grid: [number, number] = [height / patchSize, width / patchSize];
  if (grid.every((count) => Number.isInteger(count) && count >= 1 && count <= posEmbedMaxSize)) return grid;
  throw new ArgumentError(
    `${sd3.className}: a latent of ${height} x ${width}; its sides are multiples of patch_size ${patchSize}, up to ` +
      `${posEmbedMaxSize * patchSize} (config "pos_embed_max_size").`,
  );
}

/** latent [batch, channels, height, width] -> tokens [batch, rows * columns, width], position added. */
function patchEmbedding(
  latent: Value,
  w: Weights,
  [height, width]: readonly [number, number],
  config: SD3Config,
): Value {
  const { patchSize, posEmbedMaxSize: most } = config;
  const cut = conv(latent, w.at("proj"), config.width, patchSize, { stride: patchSize });
  const tokens = reshape(transpose(cut, [0, 2, 3, 1]), [latent.shape[0]!, height * width, config.width]);
  // The middle of the table, row by row: each row is contiguous in the file, and the rest of the table is never read.
  const table = reshape(w.tensor("pos_embed", [1, most ** 2, config.width]), [most ** 2, config.width]);
  const [top, left] = [Math.floor((most - height) / 2), Math.floor((most - width) / 2)];
  const places = Array.from({ length: height }, (_, row) => {
    const start = (top + row) * most + left;
    return rows(table, start, start + width);
  });
  return add(tokens, places.length === 1 ? places[0]! : concat(places, 0));
}
