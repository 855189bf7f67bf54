/** Random weights of a model, one tensor after the other. */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { weightShapes } from "../models/architecture.ts";
import { networksOf } from "../models/registry.ts";
import { positionTable } from "../models/temporal-layers.ts";
import type { TorchGenerator } from "../sampling/noise.ts";
import { type FloatTensor, floatTensor, sizeOf } from "../tensor.ts";

/** The image's side, in pixels, at which networks are described that have no size of their own: autoencoders. */
const SIDE = 64;

/** Every weight of a class, in the order in which its networks ask for it. Throws ConfigError for what is not supported. */
export function shapesOf(config: RawConfig): Map<string, readonly number[]> {
  const networks = Object.values(networksOf(config));
  const size = networks.length > 1 ? { height: SIDE, width: SIDE } : {};
  const models = networks.map((network) =>
    network.model(network.parseConfig(config), { batch: 1, tokens: 1, ...size }),
  );
  return new Map(models.flatMap((model) => [...weightShapes(model)]));
}

/**
 * Uniform with the deviation 1/sqrt(inputs) for matrices and convolutions, which keeps the size of activations, and
 * 0.02 for biases, tables and, around 1, the scales of norms. Nothing is zero: the gates of adaLN-zero are open and motion
 * modules move, as after training, so that every block has a say in the output. Tables of frames' positions are what
 * they are in every checkpoint.
 */
export function randomWeight(name: string, shape: readonly number[], generator: TorchGenerator): FloatTensor {
  if (name.endsWith(".pos_embed.pe")) return floatTensor(shape, positionTable(shape[1]!, shape[2]!));
  const inputs = sizeOf(shape.slice(1));
  const matrix = shape.length > 1 && !/(table|embedding|pos_embed)(\.weight)?$/.test(name);
  const range = Math.sqrt(12) * (matrix ? 1 / Math.sqrt(inputs) : 0.02);
  const middle = shape.length === 1 && name.endsWith(".weight") ? 1 : 0;
  const tensor = generator.rand(shape);
  const { data } = tensor;
  for (let i = 0; i < data.length; i++) data[i] = middle + (data[i]! - 0.5) * range;
  return tensor;
}
