/**
 * The structure that all UNets share: down, through the middle and up again, with every feature of the way down joined to
 * one on the way up (Ronneberger et al. 2015, arXiv 1505.04597, figure 1). Each model defines its own layers.
 */
import { ArgumentError } from "../../errors.ts";
import { add, mul, reshape, silu, sub, transpose } from "../../graph/operators.ts";
import { type Dim, input, type Value, type ValueType } from "../../graph/value.ts";
import type { Features, Geometry, Layout, StagedModel } from "../architecture.ts";
import { conv, groupNorm, linear, type SinusoidOptions, sinusoidalEmbedding, timestepEmbedding } from "../layers.ts";
import type { Weights } from "../weights.ts";
import { type BlockKind, describeUNet, type UNetConfig, type UNetLevel } from "./config.ts";
import { downsample, type NormOptions, TIME, upsample } from "./layers.ts";
import { CONTEXT, type Field, StageList, toField, toPictures } from "./stages.ts";

/** Where a layer is: `block` is "down_blocks.0", "mid_block", ...; `index` its number in the block. */
export interface Layer<Level> {
  readonly block: string;
  readonly index: number;
  readonly level: Level;
  /** What follows each resnet of the block. */
  readonly kind: BlockKind;
  /** Number of blocks in its transformer. */
  readonly transformerLayers: number;
}

/** Builds a model's layers. Each function appends its stages and returns the field that the last one computes. */
export interface UNetParts<Level extends UNetLevel = UNetLevel> {
  /** On the way up `skip` is joined to the input. */
  resnet(x: Field, module: string, layer: Layer<Level>, skip?: Field): Field;
  /** Everything after a resnet in a layer: attention, temporal layers. */
  rest(x: Field, layer: Layer<Level>): Field;
  /** Changes the resolution between two levels, in simple blocks. */
  halve?(x: Field, module: string): Field;
  double?(x: Field, module: string): Field;
}

/** An embedding that is added to the timestep's. `module` is where its weights are; `reads` are the inputs that it needs. */
export interface AddedTime {
  module: string;
  reads: readonly string[];
  embed: (features: Features, w: Weights, width: number) => Value;
}

export interface UNetOptions<Level extends UNetLevel> {
  className: string;
  config: UNetConfig<Level>;
  geometry: Geometry;
  frames: number;
  /** The layout of `sample` for callers: batch, channel, frame, height and width with their sizes, in the model's order. */
  sample(sizes: { batch: Dim; frame: number; channel: number; height: number; width: number }): Layout;
  /** Inputs besides `sample`, `timestep` and `encoderHiddenStates`. */
  inputs?: (batch: Dim) => Readonly<Record<string, Layout>>;
  /** Types of the inputs that are not float32. */
  types?: Readonly<Record<string, ValueType>>;
  /** Options of the last norm. */
  norm: NormOptions;
  downsamplePadding?: 0 | 1;
  /** How the timestep is embedded. */
  sinusoids?: SinusoidOptions;
  /** Whether the sample is in [0, 1] and must be mapped to [-1, 1] for the network: diffusers' center_input_sample. */
  center?: boolean;
  /** Embeddings of further inputs that are added to the timestep's, each `width` wide. */
  addedTimes?: readonly AddedTime[];
  /** Width of the input `timestepCond`, which is added to the timestep's sinusoids: the guidance scale of distilled models. */
  timestepCond?: number | null;
  parts(net: StageList): UNetParts<Level>;
}

/**
 * The whole model. Inputs: `sample`, `timestep` [batch], `encoderHiddenStates` [batch, tokens, crossAttentionDim] and
 * those of `inputs`; float32 unless `types` says otherwise. Output: `sample`. Throws ArgumentError for a geometry that the
 * model cannot have.
 */
export function unet<Level extends UNetLevel>(options: UNetOptions<Level>): StagedModel {
  const { className, config, geometry, frames } = options;
  const { batch, tokens } = geometry;
  if (tokens === undefined) throw new ArgumentError(`${className}: how many tokens has the text?`);
  const size = { batch, frame: frames, ...latentSize(className, config, geometry) };
  const inputs: Record<string, Layout> = {
    sample: options.sample({ ...size, channel: config.inChannels }),
    timestep: { batch },
    [CONTEXT]: { batch, token: tokens, channel: config.crossAttentionDim },
    ...(options.timestepCond && { timestepCond: { batch, channel: options.timestepCond } }),
    ...options.inputs?.(batch),
  };
  const net = new StageList(batch, frames, inputs, geometry.crossAttention);
  timeStages(net, options);
  const start = convIn(net, inputs["sample"]!, config.levels[0]!.channels, options.center ?? false);
  const x = walk(net, start, options);
  net.leave();
  convOut(net, x, options.sample({ ...size, channel: config.outChannels }), options.norm);
  const attended = Object.fromEntries(net.attended);
  const { [CONTEXT]: _, ...withoutText } = inputs;
  const isGiven = geometry.crossAttention === "given";
  const own = isGiven ? withoutText : inputs;
  return {
    className,
    settings: describeUNet(config),
    inputs: Object.fromEntries(
      Object.entries({ ...own, ...(isGiven && attended) }).map(([name, dims]) => [
        name,
        input(name, Object.values(dims), options.types?.[name]),
      ]),
    ),
    outputs: ["sample", ...(isGiven ? [] : net.attended.keys())],
    conditions: Object.keys(own).filter((name) => name !== "sample" && name !== "timestep"),
    stages: net.stages,
    latent: "sample",
    ...(options.timestepCond && { optional: ["timestepCond"] }),
  };
}

/** The most elements on a latent's side: images of 131072 pixels. */
const MOST_LATENT = 2 ** 14;

/** Throws ArgumentError for missing or invalid sizes. Odd sizes are rounded up when halved, and cut to fit when doubled. */
function latentSize(className: string, config: UNetConfig, geometry: Geometry): { height: number; width: number } {
  const { height = config.sampleSize, width = config.sampleSize } = geometry;
  if (height === undefined || width === undefined) {
    throw new ArgumentError(`${className}: height and width are needed; its configuration has no sample_size.`);
  }
  if ([height, width].every((side) => Number.isInteger(side) && side > 0 && side <= MOST_LATENT))
    return { height, width };
  throw new ArgumentError(
    `${className}: a latent of ${height} x ${width}; its sides are whole numbers from 1 to ${MOST_LATENT}.`,
  );
}

/** The embedding that all resnets receive: a stage for the timestep, and one for each embedding that is added to it. */
function timeStages<Level extends UNetLevel>(net: StageList, options: UNetOptions<Level>): void {
  const { config, sinusoids, addedTimes = [], timestepCond } = options;
  const { channels } = config.levels[0]!;
  const layout = { batch: net.batch, channel: 4 * channels };
  const names = ["timeEmbedding", ...addedTimes.slice(0, -1).map(({ module }) => `timeEmbedding and ${module}`)];
  // The last stage's output has the name that resnets read.
  const written = [...names.slice(0, addedTimes.length), TIME];
  const reads = ["timestep", ...(timestepCond ? ["timestepCond"] : [])];
  net.add("time_embedding", "whole", reads, { [written[0]!]: layout }, (features, weights) => {
    const w = weights.at("time_embedding");
    const places = sinusoidalEmbedding(features["timestep"]!, channels, sinusoids);
    const told = timestepCond
      ? add(places, linear(features["timestepCond"]!, w.at("cond_proj"), channels, { bias: false }))
      : places;
    return { [written[0]!]: timestepEmbedding(told, w, 4 * channels) };
  });
  for (const [i, { module, reads, embed }] of addedTimes.entries()) {
    const [before, after] = [written[i]!, written[i + 1]!];
    net.add(module, "whole", [before, ...reads], { [after]: layout }, (features, w) => ({
      [after]: add(features[before]!, embed(features, w.at(module), 4 * channels)),
    }));
  }
}

/** The sample's dimensions in the order of convolutions; an image has no frames. */
const perFrame = ["batch", "frame", "channel", "height", "width"];

function convIn(net: StageList, layout: Layout, channels: number, center: boolean): Field {
  const dims = Object.keys(layout);
  const order = perFrame.filter((dim) => dims.includes(dim)).map((dim) => dims.indexOf(dim));
  const { channel, height, width } = layout as { channel: number; height: number; width: number };
  const name = "conv_in";
  const field = { name, height, width, channels };
  const out = { batch: net.batch, frame: net.frames, position: height * width, channel: channels };
  net.add(name, "frame", ["sample"], { [name]: out }, ({ sample }, w) => {
    const [batch, frames] = [sample!.shape[0]!, dims.includes("frame") ? sample!.shape[dims.indexOf("frame")]! : 1];
    const stored = reshape(transpose(sample!, order), [-1, channel, height, width]);
    const pictures = center ? sub(mul(stored, 2), 1) : stored;
    return { [name]: toField(conv(pictures, w.at(name), channels, 3, { padding: 1 }), [batch, frames]) };
  });
  return field;
}

function convOut(net: StageList, x: Field, layout: Layout, { groups, epsilon }: NormOptions): void {
  const dims = Object.keys(layout);
  const present = perFrame.filter((dim) => dims.includes(dim));
  const { channel, height, width } = layout as { channel: number; height: number; width: number };
  net.add("conv_out", "frame", [x.name], { sample: layout }, (features, w) => {
    const value = features[x.name]!;
    const normalised = silu(groupNorm(toPictures(value, x), groups, epsilon, w.at("conv_norm_out")));
    const pictures = conv(normalised, w.at("conv_out"), channel, 3, { padding: 1 });
    const [batch, frames] = value.shape as [Dim, Dim];
    const videos = reshape(pictures, [batch, ...(dims.includes("frame") ? [frames] : []), channel, height, width]);
    return {
      sample: transpose(
        videos,
        dims.map((dim) => present.indexOf(dim)),
      ),
    };
  });
}

/** Down, through the middle, and up again. */
function walk<Level extends UNetLevel>(net: StageList, start: Field, options: UNetOptions<Level>): Field {
  const { className, config } = options;
  const { levels, middle } = config;
  const parts = options.parts(net);
  const { resnet, rest } = parts;
  const deepest = levels.length - 1;
  let x = start;
  // Each is a single feature with two readers: the next layer, and the layer on the way up that it is joined to.
  const skips = [x];
  for (const [i, level] of levels.entries()) {
    const block = `down_blocks.${i}`;
    for (let index = 0; index < level.layers; index++) {
      const layer = { block, index, level, kind: level.down, transformerLayers: level.transformerLayers[index]! };
      net.at({ way: "down", level: i, resizes: false });
      x = rest(resnet(x, `${block}.resnets.${index}`, layer), layer);
      skips.push(x);
    }
    if (i === deepest) continue;
    net.at({ way: "down", level: i, resizes: true });
    const simple = level.down === "simple" && parts.halve;
    x = simple ? simple(x, `${block}.downsamplers.0`) : downsample(net, x, block, options.downsamplePadding ?? 1);
    if (Math.min(x.height, x.width) < 1) {
      throw new ArgumentError(
        `${className}: a latent of ${start.height} x ${start.width} is too small to be halved ${deepest} times.`,
      );
    }
    skips.push(x);
  }

  net.at({ way: "middle", level: deepest, resizes: false });
  if (middle) x = middleOf(x, middle, parts);

  for (const [i, level] of levels.toReversed().entries()) {
    const block = `up_blocks.${i}`;
    for (let index = 0; index <= level.layers; index++) {
      const layer = { block, index, level, kind: level.up, transformerLayers: level.upTransformerLayers[index]! };
      const skip = skips.pop()!;
      net.at({ way: "up", level: deepest - i, resizes: false, skip: skip.name });
      x = rest(resnet(x, `${block}.resnets.${index}`, layer, skip), layer);
    }
    if (i === deepest) continue;
    const next = skips.at(-1)!;
    net.at({ way: "up", level: deepest - i, resizes: true });
    if (level.up !== "simple" || !parts.double) {
      x = upsample(net, x, block, next);
      continue;
    }
    x = parts.double(x, `${block}.upsamplers.0`);
    if (x.height !== next.height || x.width !== next.width) {
      throw new ArgumentError(
        `${className}: a latent of ${start.height} x ${start.width} cannot be halved evenly, which the simple blocks of ` +
          `this model need; take multiples of ${2 ** deepest}.`,
      );
    }
  }
  return x;
}

/** A resnet, then attention and another resnet for each layer of the middle. */
function middleOf<Level extends UNetLevel>(
  x: Field,
  middle: Level & { kind: BlockKind },
  { resnet, rest }: UNetParts<Level>,
): Field {
  const { kind } = middle;
  const layer = (index: number) => ({
    ...{ block: "mid_block", index, level: middle, kind },
    transformerLayers: middle.transformerLayers[index]!,
  });
  x = resnet(x, "mid_block.resnets.0", layer(0));
  for (let index = 0; index < middle.layers; index++) {
    x = resnet(rest(x, layer(index)), `mid_block.resnets.${index + 1}`, layer(index));
  }
  return x;
}
