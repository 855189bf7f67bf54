/**
 * AutoencoderKL (Rombach et al. 2022, section 3.1; diffusers' class and names): maps images [batch, 3, height, width]
 * in [-1, 1] to the mean and log-variance of a latent that is 2^(blocks - 1) times smaller on each side, and back.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";
import { add, clip, exp, mul, pad, reshape, silu, slice, transpose } from "../graph/operators.ts";
import { input, staticDim, type Value } from "../graph/value.ts";
import type { Architecture, Features, Geometry, Role, Stage, StagedModel } from "./architecture.ts";
import { ConfigReader, MOST_LAYERS, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import { attentionLayer, conv, groupNorm } from "./layers.ts";
import { upsampleConv } from "./upsample.ts";
import type { Weights } from "./weights.ts";

/** The values of an AutoencoderKL's `config.json` that its graph depends on. */
export interface AutoencoderKLConfig {
  inChannels: number;
  outChannels: number;
  latentChannels: number;
  /** Channels at each resolution, the finest first. */
  blockOutChannels: readonly number[];
  /** Whether each block of the encoder, and of the decoder, has attention after each resnet. */
  downAttention: readonly boolean[];
  upAttention: readonly boolean[];
  layersPerBlock: number;
  normNumGroups: number;
  /** Latents are multiplied by it before the denoiser sees them. */
  scalingFactor: number;
  /**
   * The pipelines of Flux and Stable Diffusion 3 add this to latents in diffusers; the other pipelines do not, neither
   * here nor there.
   */
  shiftFactor: number;
  useQuantConv: boolean;
  usePostQuantConv: boolean;
  midBlockAddAttention: boolean;
}

export const className = "AutoencoderKL";
const EPSILON = 1e-6;
/** The most blocks; each but the last halves the image. */
const MOST_BLOCKS = 16;

/**
 * Settings without effect here: for precisions below float32, for tiling, and the numbers by which pipelines of other models
 * normalise latents.
 */
const harmless = ["force_upcast", "latents_mean", "latents_std", "sample_size"];

/** `owner`: the class that errors name, which has these keys too. */
export function parseConfig(
  raw: RawConfig,
  owner: string = className,
  more: readonly string[] = [],
): AutoencoderKLConfig {
  const read = new ConfigReader(raw, owner);
  read.choice("act_fn", ["silu", "swish"], "silu");
  const blockOutChannels = read.integers("block_out_channels", [64], { most: MOST_WIDTH });
  if (blockOutChannels.length > MOST_BLOCKS) {
    throw new ConfigError(
      `${owner}: config "block_out_channels" has ${blockOutChannels.length} blocks; at most ${MOST_BLOCKS} are supported.`,
    );
  }
  const attending = (key: string, [plain, attends]: readonly [string, string]) => {
    const types = read.strings(
      key,
      blockOutChannels.map(() => plain),
    );
    if (types.length !== blockOutChannels.length || types.some((name) => name !== plain && name !== attends)) {
      throw new ConfigError(
        `${owner}: config "${key}" is ${JSON.stringify(types.slice(0, MOST_BLOCKS))}; supported is one ${plain} or ` +
          `${attends} for each of block_out_channels.`,
      );
    }
    return types.map((name) => name === attends);
  };
  const normNumGroups = read.integer("norm_num_groups", 32, 1, MOST_WIDTH);
  const odd = blockOutChannels.find((channels) => channels % normNumGroups !== 0);
  if (odd) throw new ConfigError(`${owner}: ${odd} channels cannot be normalised in ${normNumGroups} groups.`);
  const config = {
    inChannels: read.integer("in_channels", 3, 1, MOST_WIDTH),
    outChannels: read.integer("out_channels", 3, 1, MOST_WIDTH),
    latentChannels: read.integer("latent_channels", 4, 1, MOST_WIDTH),
    blockOutChannels,
    downAttention: attending("down_block_types", ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]),
    upAttention: attending("up_block_types", ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]),
    layersPerBlock: read.integer("layers_per_block", 1, 1, MOST_LAYERS),
    normNumGroups,
    scalingFactor: read.number("scaling_factor", 0.18215),
    shiftFactor: read.has("shift_factor") ? read.number("shift_factor") : 0,
    useQuantConv: read.boolean("use_quant_conv", true),
    usePostQuantConv: read.boolean("use_post_quant_conv", true),
    midBlockAddAttention: read.boolean("mid_block_add_attention", true),
  };
  read.finish([...harmless, ...more]);
  return config;
}

export function encoderCounts({ blockOutChannels, layersPerBlock: count }: AutoencoderKLConfig): Count[] {
  return blockOutChannels.flatMap((size, i): Count[] => {
    const block = `encoder.down_blocks.${i}.resnets`;
    return [
      { key: "block_out_channels", tensor: `${block}.0.conv1.weight`, axis: 0, size },
      { key: "layers_per_block", module: block, count },
    ];
  });
}

/** `resnet`: where in a layer its first convolution is. */
export function decoderCounts({ blockOutChannels, layersPerBlock }: AutoencoderKLConfig, resnet = "conv1"): Count[] {
  return blockOutChannels.toReversed().flatMap((size, i): Count[] => {
    const block = `decoder.up_blocks.${i}.resnets`;
    return [
      { key: "layers_per_block", module: block, count: layersPerBlock + 1 },
      { key: "block_out_channels", tensor: `${block}.0.${resnet}.weight`, axis: 0, size },
    ];
  });
}

/** The names of the attention's projections in diffusers before all its attentions got the same names. */
const olderNames: Readonly<Record<string, string>> = {
  query: "to_q",
  key: "to_k",
  value: "to_v",
  proj_attn: "to_out.0",
};

export function rename(stored: string): string {
  return stored.replace(
    /(\.attentions\.\d+\.)(query|key|value|proj_attn)\./,
    (_, module: string, name: string) => `${module}${olderNames[name]}.`,
  );
}

/** The two networks that share a configuration and a file of weights. */
export const autoencoderKL: Readonly<Record<"encoder" | "decoder", Architecture<AutoencoderKLConfig>>> = {
  encoder: {
    className,
    parseConfig: (raw) => parseConfig(raw),
    model: encoder,
    rename,
    counts: encoderCounts,
    picture: "image",
  },
  decoder: {
    className,
    parseConfig: (raw) => parseConfig(raw),
    model: decoder,
    rename,
    counts: (config) => decoderCounts(config),
    picture: "latent",
  },
};

/** How many times smaller than the image the latent is, on each side. */
export const spatialFactor = ({ blockOutChannels }: AutoencoderKLConfig) => 2 ** (blockOutChannels.length - 1);

type Groups = Pick<AutoencoderKLConfig, "normNumGroups">;

/** x: [batch, in, height, width] -> [batch, out, height, width] */
export function resnet(x: Value, w: Weights, out: number, { normNumGroups: groups }: Groups): Value {
  let h = conv(silu(groupNorm(x, groups, EPSILON, w.at("norm1"))), w.at("conv1"), out, 3, { padding: 1 });
  h = conv(silu(groupNorm(h, groups, EPSILON, w.at("norm2"))), w.at("conv2"), out, 3, { padding: 1 });
  return add(staticDim(x, 1, "resnet") === out ? x : conv(x, w.at("conv_shortcut"), out, 1), h);
}

/** One head over all positions, with a residual. */
export function spatialAttention(x: Value, w: Weights, { normNumGroups: groups }: Groups): Value {
  const channels = staticDim(x, 1, "attention");
  const normalised = groupNorm(x, groups, EPSILON, w.at("group_norm"));
  const tokens = transpose(reshape(normalised, [x.shape[0]!, channels, -1]), [0, 2, 1]);
  const mixed = attentionLayer(tokens, tokens, w, { heads: 1, inner: channels });
  return add(x, reshape(transpose(mixed, [0, 2, 1]), x.shape));
}

function midBlock(x: Value, w: Weights, config: AutoencoderKLConfig): Value {
  const channels = staticDim(x, 1, "mid block");
  x = resnet(x, w.at("resnets").at(0), channels, config);
  if (config.midBlockAddAttention) x = spatialAttention(x, w.at("attentions").at(0), config);
  return resnet(x, w.at("resnets").at(1), channels, config);
}

function downBlock(x: Value, w: Weights, index: number, config: AutoencoderKLConfig): Value {
  const out = config.blockOutChannels[index]!;
  for (let i = 0; i < config.layersPerBlock; i++) {
    x = resnet(x, w.at("resnets").at(i), out, config);
    if (config.downAttention[index]) x = spatialAttention(x, w.at("attentions").at(i), config);
  }
  if (index === config.blockOutChannels.length - 1) return x;
  // One row and one column of zeros after the image only, none before it.
  const padded = pad(x, [0, 0, 0, 0], [0, 0, 1, 1]);
  return conv(padded, w.at("downsamplers").at(0).at("conv"), out, 3, { stride: 2 });
}

/** `index` counts from the coarsest resolution. */
function upBlock(x: Value, w: Weights, index: number, config: AutoencoderKLConfig): Value {
  const out = config.blockOutChannels.at(-1 - index)!;
  for (let i = 0; i <= config.layersPerBlock; i++) {
    x = resnet(x, w.at("resnets").at(i), out, config);
    if (config.upAttention[index]) x = spatialAttention(x, w.at("attentions").at(i), config);
  }
  if (index === config.blockOutChannels.length - 1) return x;
  return upsampleConv(x, w.at("upsamplers").at(0).at("conv"), out);
}

/** A stage that works on each image of a batch, or each frame of a video, alone. */
export function stage(
  name: string,
  role: Role,
  from: string,
  to: string,
  build: (x: Value, w: Weights) => Value,
): Stage {
  return {
    name,
    role,
    axis: "frame",
    reads: [from],
    writes: [to],
    build: (features, weights) => ({ [to]: build(features[from]!, weights) }),
  };
}

/** image [batch, inChannels, height, width] -> moments, mean, logvar (clamped), std: [batch, channels, h, w]. */
export function encoder(config: AutoencoderKLConfig, { batch, height, width }: Geometry): StagedModel {
  const { blockOutChannels, latentChannels, normNumGroups } = config;
  return {
    className,
    inputs: { image: input("image", [batch, config.inChannels, height!, width!]) },
    outputs: ["moments", "mean", "logvar", "std"],
    stages: [
      stage("encoder.conv_in", "enter", "image", "hidden", (x, w) =>
        conv(x, w.at("encoder").at("conv_in"), blockOutChannels[0]!, 3, { padding: 1 }),
      ),
      ...blockOutChannels.map((_, i) =>
        stage(`encoder.down_blocks.${i}`, "block", "hidden", "hidden", (x, w) =>
          downBlock(x, w.at("encoder").at("down_blocks").at(i), i, config),
        ),
      ),
      stage("encoder.mid_block", "block", "hidden", "hidden", (x, w) =>
        midBlock(x, w.at("encoder").at("mid_block"), config),
      ),
      stage("encoder.conv_out", "leave", "hidden", "moments", (x, w) => {
        const normalised = silu(groupNorm(x, normNumGroups, EPSILON, w.at("encoder").at("conv_norm_out")));
        const moments = conv(normalised, w.at("encoder").at("conv_out"), 2 * latentChannels, 3, { padding: 1 });
        return config.useQuantConv ? conv(moments, w.at("quant_conv"), 2 * latentChannels, 1) : moments;
      }),
      {
        name: "posterior",
        role: "leave",
        axis: "frame",
        reads: ["moments"],
        writes: ["mean", "logvar", "std"],
        build: (features) => posterior(features["moments"]!, latentChannels),
      },
    ],
  };
}

function posterior(moments: Value, channels: number): Features {
  const logvar = clip(slice(moments, 1, channels, 2 * channels), -30, 20);
  return { mean: slice(moments, 1, 0, channels), logvar, std: exp(mul(logvar, 0.5)) };
}

/** latent [batch, latentChannels, height, width], not scaled -> decoded [batch, outChannels, f height, f width]. */
export function decoder(config: AutoencoderKLConfig, { batch, height, width }: Geometry): StagedModel {
  const { blockOutChannels, latentChannels, normNumGroups, outChannels } = config;
  return {
    className,
    inputs: { latent: input("latent", [batch, latentChannels, height!, width!]) },
    outputs: ["decoded"],
    stages: [
      stage("decoder.conv_in", "enter", "latent", "hidden", (x, w) => {
        const latent = config.usePostQuantConv ? conv(x, w.at("post_quant_conv"), latentChannels, 1) : x;
        return conv(latent, w.at("decoder").at("conv_in"), blockOutChannels.at(-1)!, 3, { padding: 1 });
      }),
      stage("decoder.mid_block", "block", "hidden", "hidden", (x, w) =>
        midBlock(x, w.at("decoder").at("mid_block"), config),
      ),
      ...blockOutChannels.map((_, i) =>
        stage(`decoder.up_blocks.${i}`, "block", "hidden", "hidden", (x, w) =>
          upBlock(x, w.at("decoder").at("up_blocks").at(i), i, config),
        ),
      ),
      stage("decoder.conv_out", "leave", "hidden", "decoded", (x, w) => {
        const normalised = silu(groupNorm(x, normNumGroups, EPSILON, w.at("decoder").at("conv_norm_out")));
        return conv(normalised, w.at("decoder").at("conv_out"), outChannels, 3, { padding: 1 });
      }),
    ],
  };
}
