/**
 * AutoencoderTiny (Ollin Boer Bohan's TAESD, https://github.com/madebyollin/taesd; diffusers' class and names): convolutions
 * and ReLUs that give nearly the same images and latents as a pipeline's own autoencoder in a fraction of the time. For previews,
 * or instead of the full autoencoder. It takes the pipeline's latents, of 4 or 16 channels, as they are.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";
import { add, conv2d, mul, relu, sub, tanh, upsampleNearest } from "../graph/operators.ts";
import { input, staticDim, type Value } from "../graph/value.ts";
import { activations } from "./activations.ts";
import type { Architecture, Geometry, Role, Stage, StagedModel } from "./architecture.ts";
import { ConfigReader, MOST_LAYERS, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import { conv } from "./layers.ts";
import type { Weights } from "./weights.ts";

const activationNames = ["relu", "gelu", "silu", "swish"] as const;

/** What of an AutoencoderTiny's `config.json` its graph depends on. */
export interface AutoencoderTinyConfig {
  inChannels: number;
  outChannels: number;
  latentChannels: number;
  /** Channels and blocks at each resolution: the encoder's finest first, the decoder's coarsest first. */
  encoderChannels: readonly number[];
  encoderBlocks: readonly number[];
  decoderChannels: readonly number[];
  decoderBlocks: readonly number[];
  activation: (typeof activationNames)[number];
  /** How many times larger each step of the decoder makes the picture. */
  upsamplingFactor: number;
  /** A pipeline divides latents by the one and adds the other before decoding: 1 and 0 in all published models. */
  scalingFactor: number;
  shiftFactor: number;
  /** Latents from -latentMagnitude to latentMagnitude become [0, 1] around latentShift: `scaleLatents`. */
  latentMagnitude: number;
  latentShift: number;
}

const className = "AutoencoderTiny";
/** Resolutions, each half of the one before. */
const MOST_STEPS = 16;
/** How many times larger a picture's side may be than the latent's. */
const MOST_FACTOR = 2 ** 15;
/** Before decoding, latents are limited smoothly to this much on either side, whatever the configuration says. */
const LIMIT = 3;

/** The two networks that share a configuration and a file of weights. */
export const autoencoderTiny: Readonly<Record<"encoder" | "decoder", Architecture<AutoencoderTinyConfig>>> = {
  encoder: { className, parseConfig, model: encoder, counts: encoderCounts, picture: "image" },
  decoder: { className, parseConfig, model: decoder, counts: decoderCounts, picture: "latent" },
};

function parseConfig(raw: RawConfig): AutoencoderTinyConfig {
  const read = new ConfigReader(raw, className);
  const steps = (part: "encoder" | "decoder", usual: readonly number[]) => {
    const channels = read.integers(`${part}_block_out_channels`, [64, 64, 64, 64], { most: MOST_WIDTH });
    const blocks = read.integers(`num_${part}_blocks`, usual, { least: 0, most: MOST_LAYERS });
    if (channels.length !== blocks.length || channels.length > MOST_STEPS) {
      throw new ConfigError(
        `${className}: config "${part}_block_out_channels" has ${channels.length} resolutions and "num_${part}_blocks" ` +
          `${blocks.length}; supported are equally many, at most ${MOST_STEPS}.`,
      );
    }
    // Only a first or last convolution changes the number of channels.
    if (channels.some((count) => count !== channels[0])) {
      throw new ConfigError(
        `${className}: config "${part}_block_out_channels" is [${channels.join(", ")}]; supported is the same number for all.`,
      );
    }
    return { channels, blocks };
  };
  const encoding = steps("encoder", [1, 3, 3, 3]);
  const decoding = steps("decoder", [3, 3, 3, 1]);
  read.require("upsample_fn", "nearest");
  const config = {
    inChannels: read.integer("in_channels", 3, 1, MOST_WIDTH),
    outChannels: read.integer("out_channels", 3, 1, MOST_WIDTH),
    latentChannels: read.integer("latent_channels", 4, 1, MOST_WIDTH),
    encoderChannels: encoding.channels,
    encoderBlocks: encoding.blocks,
    decoderChannels: decoding.channels,
    decoderBlocks: decoding.blocks,
    activation: read.choice("act_fn", activationNames, "relu"),
    upsamplingFactor: read.integer("upsampling_scaling_factor", 2, 1, 16),
    scalingFactor: read.number("scaling_factor", 1),
    shiftFactor: read.has("shift_factor") ? read.number("shift_factor") : 0,
    latentMagnitude: read.number("latent_magnitude", 3),
    latentShift: read.number("latent_shift", 0.5),
  };
  if (tinySpatialFactor(config) > MOST_FACTOR) {
    throw new ConfigError(
      `${className}: config "upsampling_scaling_factor" ${config.upsamplingFactor} makes pictures ` +
        `${tinySpatialFactor(config)} times as large as latents; at most ${MOST_FACTOR} is supported.`,
    );
  }
  // The decoder's channels once more, which diffusers writes down for its pipelines; and precisions below float32.
  read.finish(["block_out_channels", "force_upcast"]);
  return config;
}

type Config = AutoencoderTinyConfig;

/** How many times smaller than the picture the latent is, on each side. */
export const tinySpatialFactor = ({ decoderBlocks, upsamplingFactor }: Config): number =>
  upsamplingFactor ** (decoderBlocks.length - 1);

/** Maps raw latents to [0, 1], so that they can be stored as images. */
export const scaleLatents = (x: number, { latentMagnitude, latentShift }: Config): number =>
  Math.min(1, Math.max(0, x / (2 * latentMagnitude) + latentShift));

/** And back. */
export const unscaleLatents = (x: number, { latentMagnitude, latentShift }: Config): number =>
  (x - latentShift) * 2 * latentMagnitude;

/** A convolution or block of one of the two, and the number of its layer in the checkpoint. */
type Layer = (x: Value, w: Weights) => Value;

/**
 * Both networks are one numbered list of layers. null is a layer without weights (activation, upsampling), which has a
 * number too.
 */
function encoderLayers(config: Config): (Layer | null)[] {
  const { encoderChannels, encoderBlocks, latentChannels, activation } = config;
  const layers = encoderBlocks.flatMap((count, i): Layer[] => {
    const channels = encoderChannels[i]!;
    const first: Layer = (x, w) =>
      i === 0 ? conv(x, w, channels, 3, { padding: 1 }) : unbiased(x, w, channels, { stride: 2, padding: 1 });
    return [first, ...blocksOf(count, channels, activation)];
  });
  return [...layers, (x, w) => conv(x, w, latentChannels, 3, { padding: 1 })];
}

function decoderLayers(config: Config): (Layer | null)[] {
  const { decoderChannels, decoderBlocks, outChannels, activation, upsamplingFactor: factor } = config;
  const first: Layer = (x, w) => activations[activation](conv(x, w, decoderChannels[0]!, 3, { padding: 1 }));
  const steps = decoderBlocks.flatMap((count, i): (Layer | null)[] => {
    const channels = decoderChannels[i]!;
    const blocks = blocksOf(count, channels, activation);
    if (i === decoderBlocks.length - 1) return [...blocks, (x, w) => conv(x, w, outChannels, 3, { padding: 1 })];
    const enlarged = (x: Value) => (factor === 1 ? x : upsampleNearest(x, factor));
    return [...blocks, null, (x, w) => unbiased(enlarged(x), w, channels, { padding: 1 })];
  });
  return [first, null, ...steps];
}

const blocksOf = (count: number, channels: number, activation: Config["activation"]): Layer[] =>
  new Array<Layer>(count).fill((x, w) => block(x, w, channels, activation));

/** AutoencoderTinyBlock: three convolutions, and a ReLU of their sum with what they were given. */
function block(x: Value, w: Weights, channels: number, activation: Config["activation"]): Value {
  const layer = (value: Value, index: number) => conv(value, w.at("conv").at(index), channels, 3, { padding: 1 });
  const act = activations[activation];
  return relu(add(layer(act(layer(act(layer(x, 0)), 2)), 4), x));
}

function unbiased(x: Value, w: Weights, out: number, options: { stride?: number; padding: number }): Value {
  return conv2d(x, w.tensor("weight", [out, staticDim(x, 1, "convolution"), 3, 3]), null, options);
}

const layerCount = (part: "encoder" | "decoder", layers: readonly unknown[], key: string): Count[] => [
  { key, module: `${part}.layers`, count: layers.length },
];

function encoderCounts(config: Config): Count[] {
  const tensor = "encoder.layers.0.weight";
  return [
    ...layerCount("encoder", encoderLayers(config), "num_encoder_blocks"),
    { key: "encoder_block_out_channels", tensor, axis: 0, size: config.encoderChannels[0]! },
  ];
}

function decoderCounts(config: Config): Count[] {
  const tensor = "decoder.layers.0.weight";
  return [
    ...layerCount("decoder", decoderLayers(config), "num_decoder_blocks"),
    { key: "decoder_block_out_channels", tensor, axis: 0, size: config.decoderChannels[0]! },
  ];
}

/** One stage per layer; the first also does `before`, and the last `after`. */
function stagesOf(
  part: "encoder" | "decoder",
  layers: readonly (Layer | null)[],
  [from, to]: readonly [string, string],
  before: (x: Value) => Value,
  after: (x: Value) => Value,
): Stage[] {
  const numbered = layers.flatMap((layer, number) => (layer ? [{ layer, number }] : []));
  return numbered.map(({ layer, number }, i) => {
    const [first, last] = [i === 0, i === numbered.length - 1];
    const role: Role = first ? "enter" : last ? "leave" : "block";
    const [reads, writes] = [first ? from : "hidden", last ? to : "hidden"];
    return {
      name: `${part}.layers.${number}`,
      role,
      axis: "frame",
      reads: [reads],
      writes: [writes],
      build: (features, w) => {
        const given = features[reads]!;
        const made = layer(first ? before(given) : given, w.at(part).at("layers").at(number));
        return { [writes]: last ? after(made) : made };
      },
    };
  });
}

/** image [batch, inChannels, height, width] in [-1, 1] -> latents [batch, latentChannels, h, w], halves rounded up. */
function encoder(config: Config, { batch, height, width }: Geometry): StagedModel {
  const toUnit = (x: Value) => mul(add(x, 1), 0.5);
  return {
    className,
    inputs: { image: input("image", [batch, config.inChannels, height!, width!]) },
    outputs: ["latents"],
    stages: stagesOf("encoder", encoderLayers(config), ["image", "latents"], toUnit, (x) => x),
  };
}

/** latent [batch, latentChannels, height, width] -> decoded [batch, outChannels, f height, f width], about [-1, 1]. */
function decoder(config: Config, { batch, height, width }: Geometry): StagedModel {
  const limited = (x: Value) => mul(tanh(mul(x, 1 / LIMIT)), LIMIT);
  const fromUnit = (x: Value) => sub(mul(x, 2), 1);
  return {
    className,
    inputs: { latent: input("latent", [batch, config.latentChannels, height!, width!]) },
    outputs: ["decoded"],
    stages: stagesOf("decoder", decoderLayers(config), ["latent", "decoded"], limited, fromUnit),
  };
}
