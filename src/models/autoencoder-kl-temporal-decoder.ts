/**
 * AutoencoderKLTemporalDecoder: AutoencoderKL's encoder, and a decoder whose every resnet is followed by one along time
 * (Blattmann et al. 2023, "Stable Video Diffusion", arXiv 2311.15127, appendix D; "Align your Latents", arXiv 2304.08818,
 * section 3.1.1). Class and names are diffusers'.
 */
import { ArgumentError } from "../errors.ts";
import { add, reshape, silu, transpose } from "../graph/operators.ts";
import { input, staticShape, type Value } from "../graph/value.ts";
import type { Architecture, Geometry, Stage, StagedModel } from "./architecture.ts";
import {
  type AutoencoderKLConfig,
  decoderCounts,
  encoder,
  encoderCounts,
  parseConfig,
  rename,
  resnet,
  spatialAttention,
  stage,
} from "./autoencoder-kl.ts";
import { conv, groupNorm } from "./layers.ts";
import { alphaBlender, frameConv } from "./temporal-layers.ts";
import { upsampleConv } from "./upsample.ts";
import type { Weights } from "./weights.ts";

const className = "AutoencoderKLTemporalDecoder";
/** Epsilon of the spatial layers; temporal layers use `TEMPORAL_EPSILON`. */
const EPSILON = 1e-6;
const TEMPORAL_EPSILON = 1e-5;

const fixed = {
  act_fn: "silu",
  mid_block_add_attention: true,
  norm_num_groups: 32,
  up_block_types: undefined,
  use_post_quant_conv: false,
  use_quant_conv: true,
};

const shared = {
  className,
  rename,
  // The class has no choice in these, and its files do not say so.
  parseConfig: (raw: Readonly<Record<string, unknown>>) => parseConfig({ ...raw, ...fixed }, className),
  // diffusers makes one attention, and runs it with the resnet after it only if there is one: see `middle`.
  ignores: /^decoder\.mid_block\.(attentions\.0|resnets\.([2-9]|\d\d+))\./,
} as const;

/** The two networks that share a configuration and a file of weights. */
export const autoencoderKLTemporalDecoder: Readonly<Record<"encoder" | "decoder", Architecture<AutoencoderKLConfig>>> =
  {
    encoder: {
      ...shared,
      counts: encoderCounts,
      picture: "image",
      model: (config, geometry) => ({ ...encoder(config, geometry), className }),
    },
    decoder: {
      ...shared,
      counts: (config) => decoderCounts(config, "spatial_res_block.conv1"),
      picture: "latent",
      model: decoder,
    },
  };

/**
 * Input: `latent` [batch * frames, latentChannels, height, width], the frames of one video after those of another, not
 * scaled. Output: `decoded` [batch * frames, outChannels, f height, f width]. Throws ArgumentError unless the numbers of
 * videos and frames are known.
 */
export function decoder(config: AutoencoderKLConfig, { batch, frames, height, width }: Geometry): StagedModel {
  if (typeof batch !== "number" || frames === undefined) {
    throw new ArgumentError(
      `${className}: how many videos of how many frames are there? They are fixed when it is compiled.`,
    );
  }
  const { blockOutChannels, latentChannels, normNumGroups, outChannels } = config;
  return {
    className,
    settings: `block_out_channels [${blockOutChannels.join(", ")}] and layers_per_block ${config.layersPerBlock}`,
    inputs: { latent: input("latent", [batch * frames, latentChannels, height!, width!]) },
    outputs: ["decoded"],
    stages: [
      stage("decoder.conv_in", "enter", "latent", "hidden", (x, w) =>
        conv(x, w.at("decoder").at("conv_in"), blockOutChannels.at(-1)!, 3, { padding: 1 }),
      ),
      ...middle(config, frames),
      ...blockOutChannels.flatMap((_, i) => upBlock(i, config, frames)),
      stage("decoder.conv_out", "leave", "hidden", "hidden", (x, w) => {
        const normalised = silu(groupNorm(x, normNumGroups, EPSILON, w.at("decoder").at("conv_norm_out")));
        return conv(normalised, w.at("decoder").at("conv_out"), outChannels, 3, { padding: 1 });
      }),
      {
        name: "decoder.time_conv_out",
        role: "leave",
        axis: "position",
        reads: ["hidden"],
        writes: ["decoded"],
        build: ({ hidden }, w) => {
          const mixed = frameConv(alongTime(hidden!, frames), w.at("decoder").at("time_conv_out"));
          return { decoded: perFrame(mixed, hidden!) };
        },
      },
    ],
  };
}

/**
 * A resnet, then attention and another resnet. With `layers_per_block` 1 it is only the first resnet; more than 2
 * change nothing.
 */
function middle(config: AutoencoderKLConfig, frames: number): Stage[] {
  const name = "decoder.mid_block";
  const channels = config.blockOutChannels.at(-1)!;
  const [first, second] = [0, 1].map((i) => videoResnet(`${name}.resnets.${i}`, channels, config, frames));
  if (config.layersPerBlock === 1) return first!;
  const attention = stage(`${name}.attentions.0`, "block", "hidden", "hidden", (x, w) =>
    spatialAttention(x, w.at("decoder").at("mid_block").at("attentions").at(0), config),
  );
  return [...first!, attention, ...second!];
}

/** `index` counts from the coarsest resolution. */
function upBlock(index: number, config: AutoencoderKLConfig, frames: number): Stage[] {
  const out = config.blockOutChannels.at(-1 - index)!;
  const name = `decoder.up_blocks.${index}`;
  const resnets = Array.from({ length: config.layersPerBlock + 1 }, (_, i) =>
    videoResnet(`${name}.resnets.${i}`, out, config, frames),
  ).flat();
  if (index === config.blockOutChannels.length - 1) return resnets;
  const upsampler = stage(`${name}.upsamplers.0`, "block", "hidden", "hidden", (x, w) =>
    upsampleConv(x, w.at(`${name}.upsamplers.0`).at("conv"), out),
  );
  return [...resnets, upsampler];
}

/** diffusers' SpatioTemporalResBlock without a time embedding: each frame alone, then all frames, blended. */
function videoResnet(name: string, out: number, config: AutoencoderKLConfig, frames: number): Stage[] {
  return [
    stage(`${name}.spatial_res_block`, "block", "hidden", "hidden", (x, w) =>
      resnet(x, w.at(name).at("spatial_res_block"), out, config),
    ),
    {
      name: `${name}.temporal_res_block`,
      role: "block",
      // Its group norms are over all frames and positions.
      axis: "whole",
      reads: ["hidden"],
      writes: ["hidden"],
      build: ({ hidden }, w) => {
        const spatial = alongTime(hidden!, frames);
        const temporal = temporalResnet(spatial, w.at(name).at("temporal_res_block"), config);
        // The opposite of the UNet: here the learned share is the temporal one.
        const blended = alphaBlender(spatial, temporal, w.at(name).at("time_mixer"), { switched: true });
        return { hidden: perFrame(blended, hidden!) };
      },
    },
  ];
}

/** x: [batch, channels, frames, positions] -> the same. */
function temporalResnet(x: Value, w: Weights, { normNumGroups: groups }: AutoencoderKLConfig): Value {
  let h = frameConv(silu(groupNorm(x, groups, TEMPORAL_EPSILON, w.at("norm1"))), w.at("conv1"));
  h = frameConv(silu(groupNorm(h, groups, TEMPORAL_EPSILON, w.at("norm2"))), w.at("conv2"));
  return add(x, h);
}

/** [batch * frames, channels, height, width] -> [batch, channels, frames, height * width] */
function alongTime(x: Value, frames: number): Value {
  const [rows, channels, height, width] = staticShape(x, className) as [number, number, number, number];
  return transpose(reshape(x, [rows / frames, frames, channels, height * width]), [0, 2, 1, 3]);
}

/** And back, to the shape that `like` has. */
function perFrame(x: Value, like: Value): Value {
  return reshape(transpose(x, [0, 2, 1, 3]), like.shape);
}
