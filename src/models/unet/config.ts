/** The settings that the configurations of all UNets share, with diffusers' keys. */
import { ConfigError } from "../../errors.ts";
import { type ConfigReader, MOST_LAYERS, MOST_WIDTH } from "../config.ts";
import type { Count } from "../counts.ts";

/** The largest native latent side of a model, for images of 4096 pixels: attention's time grows with its fourth power. */
const MOST_SAMPLE = 512;

/** The most resolutions: the coarsest of 16 is 32768 times smaller than the finest. */
const MOST_LEVELS = 16;

/** One resolution. Its down and up blocks have the same sizes; the up block has one layer more. */
export interface UNetLevel {
  channels: number;
  /** Resnets of the down block. */
  layers: number;
  /** Attention heads; UNet2DConditionModel calls their number `attention_head_dim`. */
  heads: number;
  /** Blocks in each transformer of the down block. */
  transformerLayers: readonly number[];
  /** The same for the up block, in its own order: diffusers' reverse_transformer_layers_per_block. */
  upTransformerLayers: readonly number[];
  /** Whether the self-attention also attends to the text, and only to it: diffusers' only_cross_attention. */
  onlyCross: boolean;
  /** What follows each resnet. */
  down: BlockKind;
  up: BlockKind;
}

/**
 * What a block has after each resnet: nothing; a transformer; or, in diffusers' "simple" blocks, one attention over the
 * image and the text together. Simple blocks also halve or double the size with a resnet instead of a convolution.
 */
export type BlockKind = "plain" | "transformer" | "simple";

/** The configuration values that all UNets have. */
export interface UNetConfig<Level extends UNetLevel = UNetLevel> {
  inChannels: number;
  outChannels: number;
  /** Height and width of the latent that the model was made for; undefined if the configuration does not say. */
  sampleSize: number | undefined;
  /** The finest resolution first. Each level has half the height and width of the one before. */
  levels: readonly Level[];
  /** The middle: a resnet, then `layers` times attention and another resnet. Null in a model without a middle. */
  middle: (Level & { kind: BlockKind }) | null;
  crossAttentionDim: number;
}

/** Block names of the way down and of the way up. The first two are the defaults: with attention, and plain. */
export interface BlockTypes {
  down: Readonly<Record<string, BlockKind>>;
  up: Readonly<Record<string, BlockKind>>;
}

export interface LevelOptions {
  blocks: BlockTypes;
  /** The key of the number of heads, and its default. */
  heads: readonly [key: string, fallback: number | readonly number[]];
  /** Groups of all group norms: channels must divide into them. */
  groups: number;
  /** For each level, diffusers' only_cross_attention; false unless given. */
  onlyCross?: readonly boolean[];
}

/** Reads the levels. Throws ConfigError for values that do not fit together or are not supported. */
export function parseLevels(read: ConfigReader, className: string, options: LevelOptions): UNetLevel[] {
  const channels = read.integers("block_out_channels", [320, 640, 1280, 1280], { most: MOST_WIDTH });
  const count = channels.length;
  if (count > MOST_LEVELS) {
    throw new ConfigError(
      `${className}: config "block_out_channels" has ${count} resolutions; at most ${MOST_LEVELS} are supported.`,
    );
  }
  const layers = read.integerPerBlock("layers_per_block", count, 2, MOST_LAYERS);
  const [headsKey, headsFallback] = options.heads;
  const heads = read.integerPerBlock(headsKey, count, headsFallback, MOST_WIDTH);
  const transformers = transformerLayers(read, layers);
  const down = kinds(read, className, "down_block_types", options.blocks.down, count);
  const up = kinds(read, className, "up_block_types", options.blocks.up, count).reverse();
  const { groups, onlyCross } = options;
  // Half of the timestep's sinusoids are cosines, so the width must be even.
  if (channels[0]! % 2 !== 0) {
    throw new ConfigError(`${className}: config "block_out_channels" begins with ${channels[0]}, an odd number.`);
  }
  return channels.map((width, i) => {
    if (width % groups !== 0) {
      throw new ConfigError(`${className}: ${width} channels cannot be normalised in ${groups} groups.`);
    }
    // The middle has attention too, with the sizes of the last level.
    if (down[i] !== "plain" || up[i] !== "plain" || i === count - 1) divisible(className, headsKey, width, heads[i]!);
    return {
      channels: width,
      layers: layers[i]!,
      heads: heads[i]!,
      transformerLayers: transformers.down[i]!,
      upTransformerLayers: transformers.up[i]!,
      onlyCross: onlyCross?.[i] ?? false,
      down: down[i]!,
      up: up[i]!,
    };
  });
}

/**
 * The number of blocks in every transformer, by level, for down and up blocks. As in diffusers a level may have one number per
 * layer if the up blocks have a list of their own (SSD-1B).
 */
function transformerLayers(read: ConfigReader, layers: readonly number[]) {
  const [key, upKey] = ["transformer_layers_per_block", "reverse_transformer_layers_per_block"];
  const upLayers = layers.map((count) => count + 1);
  if (read.has(upKey)) {
    const up = read.integerPerLayer(upKey, upLayers.toReversed(), undefined, MOST_LAYERS).toReversed();
    return { down: read.integerPerLayer(key, layers, 1, MOST_LAYERS), up };
  }
  const each = read.integerPerBlock(key, layers.length, 1, MOST_LAYERS);
  const repeated = (counts: readonly number[]) => counts.map((count, i) => new Array<number>(count).fill(each[i]!));
  return { down: repeated(layers), up: repeated(upLayers) };
}

/** Channels of the input and output latents, the latent's size, and the width of the text. */
export function parseSizes(
  read: ConfigReader,
  className: string,
  levels: number,
  { inChannels = 4, crossAttentionDim = 1280 } = {},
) {
  const widths = read.integerPerBlock("cross_attention_dim", levels, crossAttentionDim, MOST_WIDTH);
  if (widths.some((width) => width !== widths[0])) {
    throw new ConfigError(
      `${className}: config "cross_attention_dim" is [${widths.join(", ")}]; supported is one width for all blocks, ` +
        "since all of them see the same text.",
    );
  }
  return {
    inChannels: read.integer("in_channels", inChannels, 1, MOST_WIDTH),
    outChannels: read.integer("out_channels", 4, 1, MOST_WIDTH),
    sampleSize: read.has("sample_size") ? read.side("sample_size", undefined, MOST_SAMPLE) : undefined,
    crossAttentionDim: widths[0]!,
  };
}

/** Throws ConfigError unless `channels` divide into heads. */
export function divisible(className: string, key: string, channels: number, heads: number): void {
  if (channels % heads === 0) return;
  throw new ConfigError(`${className}: ${channels} channels are not ${heads} equal heads (config "${key}").`);
}

/** The kind of each block. Without the key the last down block and the first up block are plain; the others have attention. */
function kinds(
  read: ConfigReader,
  className: string,
  key: "down_block_types" | "up_block_types",
  known: Readonly<Record<string, BlockKind>>,
  count: number,
): BlockKind[] {
  const [attends, plain] = Object.keys(known) as [string, string];
  const deepest = key === "down_block_types" ? 3 : 0;
  const fallback = Array.from({ length: 4 }, (_, i) => (i === deepest ? plain : attends));
  const types = read.strings(key, fallback);
  const unknown = types.find((type) => !Object.hasOwn(known, type));
  if (unknown !== undefined) {
    const names = Object.keys(known);
    const list = `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
    throw new ConfigError(`${className}: config "${key}" has ${JSON.stringify(unknown)}; supported are ${list}.`);
  }
  if (types.length !== count) {
    throw new ConfigError(
      `${className}: config "${key}" has ${types.length} blocks, but block_out_channels has ${count}.`,
    );
  }
  return types.map((type) => known[type]!);
}

/** The configuration values that decide the shapes of the weights, for error messages. */
export function describeUNet({ inChannels, levels, crossAttentionDim }: UNetConfig): string {
  const each = (value: (level: UNetLevel) => number) => levels.map(value).join(", ");
  return (
    `in_channels ${inChannels}, block_out_channels [${each((level) => level.channels)}], ` +
    `layers_per_block [${each((level) => level.layers)}] and cross_attention_dim ${crossAttentionDim}`
  );
}

/** `resnet`: the name of the first convolution within a layer. */
export function unetCounts({ levels, middle }: UNetConfig, resnet = "conv1"): Count[] {
  const key = "layers_per_block";
  const ofTransformers = (block: string, counts: readonly number[]): Count[] =>
    counts.map((count, i) => ({
      key: "transformer_layers_per_block",
      module: `${block}.attentions.${i}.transformer_blocks`,
      count,
    }));
  const ofLevels = levels.flatMap(({ channels, layers, down, up, ...level }, i): Count[] => {
    const [downBlock, upBlock] = [`down_blocks.${i}`, `up_blocks.${levels.length - 1 - i}`];
    return [
      { key: "block_out_channels", tensor: `${downBlock}.resnets.0.${resnet}.weight`, axis: 0, size: channels },
      { key, module: `${downBlock}.resnets`, count: layers },
      { key, module: `${upBlock}.resnets`, count: layers + 1 },
      ...(down === "transformer" ? ofTransformers(downBlock, level.transformerLayers) : []),
      ...(up === "transformer" ? ofTransformers(upBlock, level.upTransformerLayers) : []),
    ];
  });
  const ofMiddle: Count[] = middle
    ? [
        { key: "mid_block_layers", module: "mid_block.resnets", count: middle.layers + 1 },
        ...(middle.kind === "transformer" ? ofTransformers("mid_block", middle.transformerLayers) : []),
      ]
    : [];
  return [{ key: "block_out_channels", module: "down_blocks", count: levels.length }, ...ofLevels, ...ofMiddle];
}
