/** What the configurations of all UNets have in common, with diffusers' keys. */
import { ConfigError } from "../../errors.ts";
import type { ConfigReader } from "../config.ts";

/** One resolution. Its down and up blocks have the same sizes; the up block has one layer more. */
export interface UNetLevel {
  channels: number;
  /** Resnets of the down block. */
  layers: number;
  /** Of attention; what UNet2DConditionModel calls `attention_head_dim`. */
  heads: number;
  /** Blocks in each transformer. */
  transformerLayers: number;
  /** Whether resnets are followed by cross-attention. */
  downAttention: boolean;
  upAttention: boolean;
}

export interface UNetConfig<Level extends UNetLevel = UNetLevel> {
  inChannels: number;
  outChannels: number;
  /** Height and width of the latent that the model was made for, where the configuration says it. */
  sampleSize: number | undefined;
  /** The finest resolution first. Each of the others has half the height and width of the one before. */
  levels: readonly Level[];
  /** The middle: this many times a transformer and a resnet, after a first resnet. */
  middle: Level;
  crossAttentionDim: number;
}

/** The two kinds of blocks on each way: with cross-attention, and without. */
export interface BlockTypes {
  down: readonly [attending: string, plain: string];
  up: readonly [attending: string, plain: string];
}

export interface LevelOptions {
  blocks: BlockTypes;
  /** The key of the number of heads, and its default. */
  heads: readonly [key: string, fallback: number | readonly number[]];
  /** Groups of all group norms: channels must divide into them. */
  groups: number;
}

/** Reads the levels. Throws ConfigError for values that do not fit together or are not supported. */
export function parseLevels(read: ConfigReader, className: string, options: LevelOptions): UNetLevel[] {
  const channels = read.integers("block_out_channels", [320, 640, 1280, 1280]);
  const count = channels.length;
  const layers = read.integerPerBlock("layers_per_block", count, 2);
  const [headsKey, headsFallback] = options.heads;
  const heads = read.integerPerBlock(headsKey, count, headsFallback);
  const transformerLayers = read.integerPerBlock("transformer_layers_per_block", count, 1);
  const down = attending(read, className, "down_block_types", options.blocks.down, count);
  const up = attending(read, className, "up_block_types", options.blocks.up, count).reverse();
  const { groups } = options;
  // Half of the timestep's sinusoids are cosines.
  if (channels[0]! % 2 !== 0) {
    throw new ConfigError(`${className}: config "block_out_channels" begins with ${channels[0]}, an odd number.`);
  }
  return channels.map((width, i) => {
    if (width % groups !== 0) {
      throw new ConfigError(`${className}: ${width} channels cannot be normalised in ${groups} groups.`);
    }
    const level = { channels: width, layers: layers[i]!, heads: heads[i]!, transformerLayers: transformerLayers[i]! };
    // The middle attends, with the sizes of the last level.
    if (down[i] || up[i] || i === count - 1) divisible(className, headsKey, width, level.heads);
    return { ...level, downAttention: down[i]!, upAttention: up[i]! };
  });
}

/** Channels of the latent on both ends, its size, and the width of the text. */
export function parseSizes(read: ConfigReader, { inChannels = 4, crossAttentionDim = 1280 } = {}) {
  return {
    inChannels: read.integer("in_channels", inChannels),
    outChannels: read.integer("out_channels", 4),
    sampleSize: read.has("sample_size") ? read.integer("sample_size") : undefined,
    crossAttentionDim: read.integer("cross_attention_dim", crossAttentionDim),
  };
}

/** Throws ConfigError unless `channels` divide into heads. */
export function divisible(className: string, key: string, channels: number, heads: number): void {
  if (channels % heads === 0) return;
  throw new ConfigError(`${className}: ${channels} channels are not ${heads} equal heads (config "${key}").`);
}

/** Whether each block attends. Without the key the last down block and the first up block do not, the others do. */
function attending(
  read: ConfigReader,
  className: string,
  key: "down_block_types" | "up_block_types",
  [attends, plain]: readonly [string, string],
  count: number,
): boolean[] {
  const deepest = key === "down_block_types" ? 3 : 0;
  const fallback = Array.from({ length: 4 }, (_, i) => (i === deepest ? plain : attends));
  const types = read.strings(key, fallback);
  const unknown = types.find((type) => type !== attends && type !== plain);
  if (unknown !== undefined) {
    throw new ConfigError(
      `${className}: config "${key}" has ${JSON.stringify(unknown)}; supported are ${attends} and ${plain}.`,
    );
  }
  if (types.length !== count) {
    throw new ConfigError(
      `${className}: config "${key}" has ${types.length} blocks, but block_out_channels has ${count}.`,
    );
  }
  return types.map((type) => type === attends);
}

/** What decides the weights' shapes, for errors. */
export function describeUNet({ inChannels, levels, crossAttentionDim }: UNetConfig): string {
  const each = (value: (level: UNetLevel) => number) => levels.map(value).join(", ");
  return (
    `in_channels ${inChannels}, block_out_channels [${each((level) => level.channels)}], ` +
    `layers_per_block [${each((level) => level.layers)}] and cross_attention_dim ${crossAttentionDim}`
  );
}
