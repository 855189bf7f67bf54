/** What every model file provides: its configuration, its inputs, and the list of stages that it consists of. */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Dim, Value } from "../graph/value.ts";
import { sizeOf } from "../tensor.ts";
import type { Count } from "./counts.ts";
import { buildStages, pick } from "./features.ts";
import { parameterWeights, type WeightSource, Weights } from "./weights.ts";

/** Named values that stages read and write, in the words of diffusers' `forward` ("hiddenStates", "timestep"). */
export type Features = Readonly<Record<string, Value>>;

/** A feature's dimensions in order, by what they count: { batch: 2, frame: 16, position: 4096, channel: 320 }. */
export type Layout = Readonly<Record<string, Dim>>;

/**
 * What inputs become first, the work that is repeated, or how outputs come out of it. The stages of a model have these
 * roles in this order.
 */
export type Role = "enter" | "block" | "leave";

/** Where a stage of a UNet is. */
export interface UNetPlace {
  readonly way: "down" | "middle" | "up";
  /** How often height and width were halved on the way to it: 0 at the latent's own size. */
  readonly level: number;
  /** Whether it leads from one level to the next. */
  readonly resizes: boolean;
  /** The feature of the way down that a stage of the way up joins to its input. */
  readonly skip?: string;
}

/** The smallest piece of a model that a planner knows. */
export interface Stage {
  /** As in the checkpoint: "transformer_blocks.3". */
  readonly name: string;
  /** What it is there for. Whoever does part of a model looks here; names are the checkpoint's and say nothing. */
  readonly role: Role;
  /** Of a UNet's stages between the first convolution and the last. */
  readonly place?: UNetPlace;
  /** Along which axis of its features the work is independent; "whole" if along none but the batch. */
  readonly axis: "frame" | "position" | "whole";
  readonly reads: readonly string[];
  readonly writes: readonly string[];
  /**
   * The dimensions of everything that it reads and writes. They promise what a slicer lives on: if every feature with a
   * dimension of the stage's axis is given in part, the same part of each, and the others whole, then `build` gives just
   * that part of what it writes, to the last bit or nearly. The part's length may stay open (a name instead of a number).
   * Every stage promises the same of "batch". One without layouts is never cut.
   */
  readonly layouts?: Readonly<Record<string, Layout>>;
  build(features: Features, weights: Weights): Features;
}

/** Sizes that are fixed when a model is compiled; the batch may stay open ("batch"). */
export interface Geometry {
  batch: Dim;
  /** Of the latent (denoisers, decoder) or of the picture (encoder). */
  height?: number;
  width?: number;
  /** Text tokens. */
  tokens?: number;
  /** Of a video. */
  frames?: number;
}

/** A model that maps named inputs to named outputs in a row of stages. */
export interface StagedModel {
  readonly className: string;
  /** The configuration values that decide the weights' shapes, for errors: "out_channels 16 and patch_size 2". */
  readonly settings?: string;
  readonly inputs: Features;
  readonly outputs: readonly string[];
  readonly stages: readonly Stage[];
  /** Of a denoiser: the input that is the noisy latent, [batch, channels, ...]. The output's first channels are its. */
  readonly latent?: string;
  /**
   * The features that run through the blocks, the latent's own first: ["hiddenStates"], or that and the text's. They are
   * there before the first block, and every block reads them and writes them, or some of them, in the shapes that they have
   * there. Where blocks come in rows of several kinds, a kind that joins or splits features does so inside of a block.
   */
  readonly streams?: readonly string[];
}

/** A network's file: its class name in diffusers or transformers, and how its stages follow from a config.json. */
export interface Architecture<Config> {
  readonly className: string;
  parseConfig(raw: RawConfig): Config;
  model(config: Config, geometry: Geometry): StagedModel;
  /** What the configuration promises about the weights, of everything that would be costly to build in vain. */
  counts?(config: Config): readonly Count[];
  /** A tensor's name here, from the one that a checkpoint has it under: for names that changed over time. */
  rename?(stored: string): string;
  /** The input whose last two dimensions are the height and width of a geometry: a latent or a picture. */
  readonly picture?: string;
  /** The input whose second dimension counts the tokens of a geometry. */
  readonly text?: string;
  /** Of a network for videos: which dimension of `picture` counts the frames. */
  readonly framesAxis?: number;
  /** Tensors that checkpoints of this class may have and the model does not need: buffers, other parts, duplicates. */
  readonly ignores?: RegExp;
}

/** The outputs of all stages in a row, as one graph. */
export function buildModel(model: StagedModel, source: WeightSource): Features {
  const weights = new Weights(source);
  return pick(buildStages(model.stages, model.inputs, weights), model.outputs);
}

/** What errors say needs the weights: "DiTTransformer2DModel with in_channels 4 and ...". */
export function describeModel({ className, settings }: StagedModel): string {
  return settings === undefined ? className : `${className} with ${settings}`;
}

/** Of a model's weights in float32. */
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

/** Every weight that a model needs, with its shape, in the order in which it asks. */
export function weightShapes(model: StagedModel): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  // Values with no contents are enough to learn what is asked for.
  const { source, parameters } = parameterWeights();
  buildModel(model, source);
  for (const [name, value] of parameters) shapes.set(name, value.shape as readonly number[]);
  return shapes;
}
