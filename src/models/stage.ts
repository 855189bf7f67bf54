/** Stages, the parts that models consist of, and the named features that they read and write. */
import type { Dim, Value } from "../graph/value.ts";
import type { Weights } from "./weights.ts";

/** Named values that stages read and write, in the words of diffusers' `forward` ("hiddenStates", "timestep"). */
export type Features = Readonly<Record<string, Value>>;

/** A feature's dimensions in order, by what they count: { batch: 2, frame: 16, position: 4096, channel: 320 }. */
export type Layout = Readonly<Record<string, Dim>>;

/**
 * The part of a stage in its model: it embeds the inputs ("enter"), is one of the repeated blocks ("block"), or computes the
 * outputs ("leave"). The stages of a model have these roles in this order.
 */
export type Role = "enter" | "block" | "leave";

/** Where a stage of a UNet is. */
export interface UNetPlace {
  readonly way: "down" | "middle" | "up";
  /** How often height and width were halved before it: 0 at the latent's own size. */
  readonly level: number;
  /** Whether it leads from one level to the next. */
  readonly resizes: boolean;
  /** The skip connection: the feature of the down path that a stage of the up path joins to its input. */
  readonly skip?: string;
}

/** The smallest piece of a model that a planner knows. */
export interface Stage {
  /** As in the checkpoint: "transformer_blocks.3". */
  readonly name: string;
  /** Its role. Code that runs part of a model must look here, not at names, which are the checkpoint's. */
  readonly role: Role;
  /** Where it is, for a UNet's stages between the first convolution and the last. */
  readonly place?: UNetPlace;
  /** Along which axis of its features the work is independent; "whole" if along none but the batch. */
  readonly axis: "frame" | "position" | "whole";
  readonly reads: readonly string[];
  readonly writes: readonly string[];
  /**
   * The dimensions of everything that it reads and writes. They are a promise that slicing relies on: if `build`
   * gets the same part of every feature that has the stage's axis, and all of the other features, then it returns that part of
   * its outputs, exactly or nearly so. The part's length may stay open (a name instead of a number).
   * Every stage promises the same of "batch". A stage without layouts is never sliced.
   */
  readonly layouts?: Readonly<Record<string, Layout>>;
  /** The dimensions of a feature that it reads, where it writes another one under the same name. */
  readonly readLayouts?: Readonly<Record<string, Layout>>;
  /**
   * The same work in several stages that follow one another, for a planner: their weights can be read one after the other, and
   * some can be sliced where the whole cannot. They read and write the same features, and more between them.
   */
  readonly pieces?: readonly Stage[];
  /** The stage's graph: the features that it writes from those that it reads. */
  build(features: Features, weights: Weights): Features;
}

/** What a network does about cross-attention: see `Geometry`. */
export type CrossAttention = "kept" | "given";

/** Sizes that are fixed when a model is compiled; the batch may stay open ("batch"). */
export interface Geometry {
  batch: Dim;
  /** Of the latent (denoisers, decoder) or of the picture (encoder). */
  height?: number;
  width?: number;
  /** Text tokens. */
  tokens?: number;
  /** Numbers that Stable Diffusion XL's UNet is told about sizes and crops: 6 unless given; its refiner has 5. */
  timeIds?: number;
  /**
   * States that CLIP's text tower gives beside its outputs, as `hiddenStates.<n>` [batch, tokens, width], not normalised: 0 is
   * the embedding, n what layer n gives. Stable Diffusion XL and 3 take the one before the last layer.
   */
  hiddenStates?: readonly number[];
  /** Layers that CLIP's text tower leaves out at its end, before the final norm: CLIP skip. */
  skippedLayers?: number;
  /** Of a video. */
  frames?: number;
  /**
   * For denoisers with cross-attention to the text (UNets for images, PixArt). "kept": what each of them adds is an output beside the
   * others, `<block>.attn2` [batch, ...]. "given": they are inputs of these names instead, and the text is none. Computed, and no
   * output, unless given.
   */
  crossAttention?: CrossAttention;
}

/** A model that maps named inputs to named outputs in a row of stages. */
export interface StagedModel {
  readonly className: string;
  /** The configuration values that decide the weights' shapes, for errors: "out_channels 16 and patch_size 2". */
  readonly settings?: string;
  readonly inputs: Features;
  /** Inputs that the reference may leave out; zeros have the same effect. */
  readonly optional?: readonly string[];
  /**
   * For denoisers: the inputs that stay the same during a run of the sampler, such as the text. What follows from them alone need not
   * be computed at every step.
   */
  readonly conditions?: readonly string[];
  readonly outputs: readonly string[];
  readonly stages: readonly Stage[];
  /**
   * For denoisers: the input that is the noisy latent, [batch, channels, ...]. The first channels of the output belong
   * to it.
   */
  readonly latent?: string;
  /**
   * The features that run through the blocks, the latent's own first: ["hiddenStates"], or that and the text's. They are
   * there before the first block, and every block reads them and writes them, or some of them, in the shapes that they have
   * there. Where blocks come in rows of several kinds, a kind that joins or splits features does so inside of a block.
   */
  readonly streams?: readonly string[];
}
