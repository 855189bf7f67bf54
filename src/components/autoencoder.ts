/** A pipeline's autoencoder: its own, or another one that the caller chose. */
import {
  componentFolder,
  isPipeline,
  type ModelIndex,
  type RawConfig,
  readConfig,
  readModelIndex,
} from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { openWeights } from "../checkpoints/weights.ts";
import { ConfigError } from "../errors.ts";
import type { Architecture } from "../models/architecture.ts";
import { type AutoencoderConfig, imageDecoders, imageEncoders, latentFactor } from "../models/autoencoder.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { Component } from "./components.ts";
import { expectedFirst } from "./expected-class.ts";
import type { PipelineOptions } from "./loading.ts";
import { PictureEncoder } from "./picture-encoder.ts";

/** Which autoencoder a pipeline has. */
export interface AutoencoderChoice<Vae = Folder> {
  /**
   * An AutoencoderKL or AutoencoderTiny instead of the pipeline's own: a folder, a Hub id, a `.safetensors` file in the original
   * layout, or a whole model whose autoencoder is taken. Its latents must have as many channels, and be as much smaller than images.
   */
  vae?: Vae;
}

/** The two networks of an autoencoder; nothing is compiled yet. */
export interface OpenedAutoencoder {
  readonly vae: Component<AutoencoderConfig>;
  readonly encoder: PictureEncoder;
}

/**
 * The component `vae` of a pipeline's folder, or `chosen` in its place. Throws ConfigError if that one's latents are not like those
 * of the pipeline's own.
 */
export async function openAutoencoder(
  folder: Folder,
  index: ModelIndex,
  runtime: Runtime,
  options: PipelineOptions,
  chosen?: Folder,
): Promise<OpenedAutoencoder> {
  const own = componentFolder(folder, index, "vae");
  const ownRaw = await readConfig(own);
  const ownDecoder = expectedFirst(...imageDecoders)(ownRaw, own.name);
  if (!chosen) return networks(own, ownRaw, runtime, options);
  const other = (await isPipeline(chosen)) ? componentFolder(chosen, await readModelIndex(chosen), "vae") : chosen;
  const raw = await readConfig(other);
  const decoder = expectedFirst(...imageDecoders)(raw, other.name);
  const ownConfig = ownDecoder.parseConfig(ownRaw);
  checkFit({ name: own.name, config: ownConfig }, { name: other.name, config: decoder.parseConfig(raw) });
  // A file alone does not say how its latents are scaled; the denoiser was trained with the pipeline's own scale.
  const { scalingFactor, shiftFactor } = ownConfig;
  const scale = { scaling_factor: scalingFactor, shift_factor: shiftFactor };
  const scaled = decoder === ownDecoder ? { ...scale, ...raw } : raw;
  return networks(other, scaled, runtime, { ...options, variant: undefined });
}

async function networks(
  folder: Folder,
  raw: RawConfig,
  runtime: Runtime,
  { variant, ...options }: PipelineOptions,
): Promise<OpenedAutoencoder> {
  const weights = await openWeights(folder, variant);
  const network = (of: readonly Architecture<AutoencoderConfig>[]) =>
    Component.of(expectedFirst(...of)(raw, folder.name), raw, weights, runtime, options);
  return { vae: network(imageDecoders), encoder: new PictureEncoder(() => network(imageEncoders)) };
}

interface Named {
  readonly name: string;
  readonly config: AutoencoderConfig;
}

function checkFit(own: Named, other: Named): void {
  const sizes = ({ config }: Named) =>
    `${config.latentChannels} channels and are ${latentFactor(config)} times smaller than images`;
  if (sizes(own) === sizes(other)) return;
  throw new ConfigError(
    `${other.name}: its latents have ${sizes(other)}; those of ${own.name} have ${sizes(own)}. Another autoencoder must have the ` +
      "same, as the denoiser was trained on such latents.",
  );
}
