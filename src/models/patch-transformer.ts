/** The shared parts of transformers over image patches (DiT, PixArt): configuration, patch embedding, and the way back. */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import { add, reshape, transpose } from "../graph/operators.ts";
import { constant, type Value } from "../graph/value.ts";
import type { Geometry } from "./architecture.ts";
import { type ConfigReader, MOST_LAYERS, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import { conv } from "./layers.ts";
import type { Weights } from "./weights.ts";

export interface PatchTransformerConfig {
  heads: number;
  /** heads * attention_head_dim */
  width: number;
  inChannels: number;
  outChannels: number;
  numLayers: number;
  /** Whether q, k and v have biases. */
  attentionBias: boolean;
  /** Height and width of the latent that the model was made for; other sizes scale its position embedding. */
  sampleSize: number;
  patchSize: number;
  normEps: number;
  interpolationScale: number;
}

/** The most patches on a side in a configuration: those of an image of 4096 pixels. */
const MOST_PATCHES = 256;

/** The class of these models before each had its own; `norm_type` tells them apart. */
export const olderClassName = "Transformer2DModel";

/** Reads the common keys. `defaults` are those of the class; the older class has none for values that the model depends on. */
export function parsePatchTransformer(
  read: ConfigReader,
  raw: RawConfig,
  className: string,
  normType: string,
  defaults: { outChannels?: number; sampleSize: number; normEps: number },
): PatchTransformerConfig {
  const older = raw["_class_name"] === olderClassName;
  read.require("norm_type", normType, older ? "layer_norm" : normType);
  read.require("activation_fn", "gelu-approximate", older ? "geglu" : "gelu-approximate");
  read.require("norm_elementwise_affine", false, older);
  read.require("attention_type", "default");
  read.require("double_self_attention", false);
  read.require("only_cross_attention", false);
  read.require("num_vector_embeds", null);
  const own = <T>(value: T) => (older ? undefined : value);
  const heads = read.integer("num_attention_heads", 16, 1, MOST_WIDTH);
  const headDim = read.integer("attention_head_dim", older ? 88 : 72, 1, MOST_WIDTH);
  const width = heads * headDim;
  // Half of the position embedding is for rows and half for columns, and half of each is cosines.
  if (width > MOST_WIDTH || width % 4 !== 0) {
    throw new ConfigError(
      `${className}: ${heads} heads (config "num_attention_heads") of ${headDim} ("attention_head_dim") make a width of ` +
        `${width}; supported is a multiple of 4 up to ${MOST_WIDTH}.`,
    );
  }
  const inChannels = read.integer("in_channels", own(4), 1, MOST_WIDTH);
  const outChannels = read.isNull("out_channels") ? inChannels : (own(defaults.outChannels) ?? inChannels);
  const patchSize = read.integer("patch_size", own(2), 1, 256);
  const sampleSize = read.side("sample_size", own(defaults.sampleSize), MOST_PATCHES * patchSize);
  return {
    heads,
    width,
    inChannels,
    outChannels: read.has("out_channels") ? read.integer("out_channels", undefined, 1, MOST_WIDTH) : outChannels,
    numLayers: read.integer("num_layers", older ? 1 : 28, 1, MOST_LAYERS),
    attentionBias: read.boolean("attention_bias", !older),
    sampleSize,
    patchSize,
    normEps: read.epsilon("norm_eps", older ? 1e-5 : defaults.normEps),
    interpolationScale: 1,
  };
}

/** Settings without effect here: for training, for precisions below float32, and for other models of this class. */
export const harmlessKeys = [
  "dropout",
  "norm_num_groups",
  "num_vector_embeds",
  "upcast_attention",
  "use_linear_projection",
];

export function transformerCounts({ numLayers, width, patchSize, inChannels }: PatchTransformerConfig): Count[] {
  const tensor = "pos_embed.proj.weight";
  return [
    { key: "num_layers", module: "transformer_blocks", count: numLayers },
    { key: "num_attention_heads", tensor, axis: 0, size: width },
    { key: "in_channels", tensor, axis: 1, size: inChannels },
    { key: "patch_size", tensor, axis: 3, size: patchSize },
  ];
}

/** The configuration values that decide the shapes of the weights, for error messages. */
export function describePatchTransformer(config: PatchTransformerConfig): string {
  const { heads, width, inChannels, outChannels, patchSize, numLayers } = config;
  return (
    `in_channels ${inChannels}, out_channels ${outChannels}, patch_size ${patchSize}, num_layers ${numLayers}, ` +
    `num_attention_heads ${heads} and attention_head_dim ${width / heads}`
  );
}

/** The most values of a position table: 1 GB, and 40 times what PixArt needs at 4096 x 4096 pixels. */
const MOST_POSITIONS = 2 ** 28;

/** Rows and columns of patches. Throws ArgumentError for a latent that is not whole patches, or too many of them. */
export function patchGrid({ height, width }: Geometry, config: PatchTransformerConfig): [number, number] {
  const sides = [height ?? config.sampleSize, width ?? config.sampleSize].map((size) => {
    if (Number.isInteger(size / config.patchSize) && size > 0) return size / config.patchSize;
    throw new ArgumentError(`A latent's side of ${size} is not a multiple of patch_size ${config.patchSize}.`);
  }) as [number, number];
  const [rows, columns] = sides;
  if (rows * columns * config.width <= MOST_POSITIONS) return sides;
  throw new ArgumentError(
    `${rows} x ${columns} patches of width ${config.width} are too many: their places would take ` +
      `${rows * columns * config.width} values, at most ${MOST_POSITIONS} are supported. Ask for a smaller picture.`,
  );
}

/** latent [batch, channels, height, width] -> tokens [batch, rows * columns, width], with the position embedding added. */
export function patchEmbedding(latent: Value, w: Weights, config: PatchTransformerConfig): Value {
  const { patchSize, width } = config;
  const patches = conv(latent, w.at("proj"), width, patchSize, { stride: patchSize });
  const [batch, , rows, columns] = patches.shape as [number, number, number, number];
  const tokens = reshape(transpose(patches, [0, 2, 3, 1]), [batch, rows * columns, width]);
  return add(tokens, constant(positionTable(rows, columns, config), [1, rows * columns, width], "float32"));
}

/**
 * Sines and cosines of each patch's position, [rows * columns, width]: the first half of the width for the column, the
 * second for the row. On a grid other than the model's own, positions are scaled to the length of the model's grid.
 */
export function positionTable(
  rows: number,
  columns: number,
  { width, sampleSize, patchSize, interpolationScale }: PatchTransformerConfig,
): Float32Array {
  const base = Math.floor(sampleSize / patchSize);
  // diffusers computes positions in single precision and sines in double.
  const place = (i: number, count: number) => Math.fround(Math.fround(i / (count / base)) / interpolationScale);
  const quarter = width / 4;
  const table = new Float32Array(rows * columns * width);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const start = (row * columns + column) * width;
      [place(column, columns), place(row, rows)].forEach((position, axis) => {
        for (let i = 0; i < quarter; i++) {
          const angle = position * 10000 ** (-i / quarter);
          table[start + 2 * axis * quarter + i] = Math.sin(angle);
          table[start + (2 * axis + 1) * quarter + i] = Math.cos(angle);
        }
      });
    }
  }
  return table;
}

/** tokens [batch, rows * columns, patch * patch * channels] -> [batch, channels, rows * patch, columns * patch] */
export function unpatchify(
  tokens: Value,
  [rows, columns]: readonly [number, number],
  { patchSize, outChannels }: Pick<PatchTransformerConfig, "patchSize" | "outChannels">,
): Value {
  const batch = tokens.shape[0]!;
  const patches = reshape(tokens, [batch, rows, columns, patchSize, patchSize, outChannels]);
  return reshape(transpose(patches, [0, 5, 1, 3, 2, 4]), [batch, outChannels, rows * patchSize, columns * patchSize]);
}
