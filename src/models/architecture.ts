/** The interface of every model file: how to read its configuration, and the list of stages that it consists of. */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { sizeOf } from "../tensor.ts";
import type { Count } from "./counts.ts";
import { buildStages, pick } from "./features.ts";
import type { Features, Geometry, Role, Stage, StagedModel } from "./stage.ts";
import { parameterWeights, type WeightSource, Weights } from "./weights.ts";

export type * from "./stage.ts";

/** A network's file: its class name in diffusers or transformers, and how its stages follow from a config.json. */
export interface Architecture<Config> {
  readonly className: string;
  /** Reads a config.json. Throws ConfigError for settings that are not supported. */
  parseConfig(raw: RawConfig): Config;
  /** The network at these sizes, as a list of stages. */
  model(config: Config, geometry: Geometry): StagedModel;
  /** Counts from the configuration to check against the weights before anything expensive is built. */
  counts?(config: Config): readonly Count[];
  /** Maps a tensor's name in a checkpoint to its name here, for names that changed over time. */
  rename?(stored: string): string;
  /** The input whose last two dimensions are the height and width of a geometry: a latent or an image. */
  readonly picture?: string;
  /** The input whose second dimension counts the tokens of a geometry. */
  readonly text?: string;
  /** For video networks: which dimension of `picture` counts the frames. */
  readonly framesAxis?: number;
  /** Tensors that checkpoints of this class may contain but the model does not need: buffers, other parts, duplicates. */
  readonly ignores?: RegExp;
}

/** The outputs of all stages in a row, as one graph. */
export function buildModel(model: StagedModel, source: WeightSource): Features {
  const weights = new Weights(source);
  return pick(buildStages(model.stages, model.inputs, weights), model.outputs);
}

/** A description of the model for errors about weights: "DiTTransformer2DModel with in_channels 4 and ...". */
export function describeModel({ className, settings }: StagedModel): string {
  return settings === undefined ? className : `${className} with ${settings}`;
}

/** Bytes of a model's weights in float32. */
export const weightBytes = (model: StagedModel): number =>
  [...weightShapes(model).values()].reduce((sum, shape) => sum + 4 * sizeOf(shape), 0);

/** A feature under a second name. */
export const alias = (name: string, second: string, role: Role): Stage => ({
  name: second,
  role,
  axis: "whole",
  reads: [name],
  writes: [second],
  build: (features) => ({ [second]: features[name]! }),
});

/** Every weight that a model needs, with its shape, in the order in which the model asks for it. */
export function weightShapes(model: StagedModel): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  // Values without contents are enough to find out which weights are needed.
  const { source, parameters } = parameterWeights();
  buildModel(model, source);
  for (const [name, value] of parameters) shapes.set(name, value.shape as readonly number[]);
  return shapes;
}
