/** Reads the sizes of the networks that differ within a family from the names and shapes of the original layout. */
import { CheckpointError } from "../../errors.ts";

/** Shapes of a component's tensors, by their original names without the component's prefix. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

/** More than any published UNet has (12), and than any CLIP (32). */
const MOST_BLOCKS = 64;

export interface UNetShapes {
  inChannels: number;
  outChannels: number;
  /** Channels of each level, from the finest resolution to the coarsest. */
  channels: number[];
  layers: number[];
  /** Transformer layers per level; 0 for levels without attention. */
  depths: number[];
  middleDepth: number;
  contextWidth: number;
  linearProjection: boolean;
  /** Width of the input that SDXL embeds and adds to the time embedding: the pooled text and the sinusoids of six sizes. */
  addedWidth: number | null;
}

/** Throws CheckpointError, which begins with `where`, if the names are not those of a UNet. */
export function unetShapes(shapes: Shapes, where: string): UNetShapes {
  const at = (name: string, axis: number) => dimension(shapes, name, axis, where);
  const halvings = indices(shapes, /^input_blocks\.(\d+)\.0\.op\.weight$/);
  const blocks = indices(shapes, /^input_blocks\.(\d+)\.0\.in_layers\.2\.weight$/);
  const last = Math.max(0, ...blocks);
  if (last > MOST_BLOCKS) throw new CheckpointError(`${where}: has input block ${last}; the limit is ${MOST_BLOCKS}.`);
  const ends = [...halvings, last + 1];
  const starts = [1, ...halvings.map((index) => index + 1)];
  const firsts = starts.map((start, level) => (ends[level]! > start ? start : Number.NaN));
  if (firsts.some(Number.isNaN)) {
    throw new CheckpointError(
      `${where}: its input blocks are not those of a UNet: of residual blocks there are ${blocks.join(", ") || "none"}, of ` +
        `halvings ${halvings.join(", ") || "none"}.`,
    );
  }
  const depths = firsts.map((block) => depthOf(shapes, `input_blocks.${block}.1.`));
  const middleDepth = depthOf(shapes, "middle_block.1.");
  const deepest = depths.findIndex((depth) => depth > 0);
  const attention = deepest < 0 ? "middle_block.1." : `input_blocks.${firsts[deepest]}.1.`;
  return {
    inChannels: at("input_blocks.0.0.weight", 1),
    outChannels: at("out.2.weight", 0),
    channels: firsts.map((block) => at(`input_blocks.${block}.0.in_layers.2.weight`, 0)),
    layers: starts.map((start, level) => ends[level]! - start),
    depths,
    middleDepth,
    contextWidth: at(`${attention}transformer_blocks.0.attn2.to_k.weight`, 1),
    linearProjection: shapes.get(`${attention}proj_in.weight`)?.length === 2,
    addedWidth: shapes.has("label_emb.0.0.weight") ? at("label_emb.0.0.weight", 1) : null,
  };
}

export interface Sd3Shapes {
  inChannels: number;
  outChannels: number;
  patchSize: number;
  width: number;
  layers: number;
  /** Blocks with a second attention. */
  dualLayers: number[];
  /** Of a head whose queries are normalised; null in a transformer without such norms. */
  headWidth: number | null;
  contextWidth: number;
  pooledWidth: number;
  /** Rows of the table of positions, and its columns. */
  positions: number;
}

/** Throws CheckpointError, which begins with `where`, if the names are not those of Stable Diffusion 3's transformer. */
export function sd3Shapes(shapes: Shapes, where: string): Sd3Shapes {
  const at = (name: string, axis: number) => dimension(shapes, name, axis, where);
  const layers = indices(shapes, /^joint_blocks\.(\d+)\.x_block\.attn\.qkv\.weight$/);
  if (layers.length === 0 || layers.at(-1) !== layers.length - 1 || layers.length > MOST_BLOCKS) {
    throw new CheckpointError(
      `${where}: its transformer's blocks are ${layers.slice(0, MOST_BLOCKS).join(", ") || "missing"}; expected 0, 1, ...`,
    );
  }
  const patchSize = at("x_embedder.proj.weight", 3);
  const norm = "joint_blocks.0.x_block.attn.ln_q.weight";
  return {
    inChannels: at("x_embedder.proj.weight", 1),
    outChannels: Math.floor(at("final_layer.linear.weight", 0) / patchSize ** 2),
    patchSize,
    width: at("x_embedder.proj.weight", 0),
    layers: layers.length,
    dualLayers: indices(shapes, /^joint_blocks\.(\d+)\.x_block\.attn2\.qkv\.weight$/),
    headWidth: shapes.has(norm) ? at(norm, 0) : null,
    contextWidth: at("context_embedder.weight", 1),
    pooledWidth: at("y_embedder.mlp.0.weight", 1),
    positions: Math.floor(Math.sqrt(at("pos_embed", 1))),
  };
}

export interface VaeShapes {
  channels: number[];
  latentChannels: number;
}

export function vaeShapes(shapes: Shapes, where: string): VaeShapes {
  const levels = indices(shapes, /^decoder\.up\.(\d+)\.block\.0\.conv2\.weight$/);
  if (levels.length === 0 || levels.at(-1) !== levels.length - 1 || levels.length > MOST_BLOCKS) {
    throw new CheckpointError(
      `${where}: its decoder's blocks are ${levels.join(", ") || "missing"}; expected 0, 1, ...`,
    );
  }
  return {
    channels: levels.map((level) => dimension(shapes, `decoder.up.${level}.block.0.conv2.weight`, 0, where)),
    latentChannels: dimension(shapes, "decoder.conv_in.weight", 1, where),
  };
}

export interface TextShapes {
  width: number;
  inner: number;
  layers: number;
  tokens: number;
  vocabulary: number;
  /** Width of the space into which pooled texts are projected; null in towers without a projection. */
  projection: number | null;
}

/** Tensor names of a text tower: transformers' (OpenAI's CLIP) or OpenCLIP's. */
export interface TextNames {
  tokens: string;
  positions: string;
  layer: RegExp;
  inner: string;
  projection: string;
}

export function textShapes(shapes: Shapes, names: TextNames, where: string): TextShapes {
  const layers = indices(shapes, names.layer);
  if (layers.length === 0 || layers.at(-1) !== layers.length - 1 || layers.length > MOST_BLOCKS) {
    throw new CheckpointError(
      `${where}: its text encoder's layers are ${layers.slice(0, MOST_BLOCKS).join(", ") || "missing"}; expected 0, 1, ...`,
    );
  }
  return {
    width: dimension(shapes, names.tokens, 1, where),
    vocabulary: dimension(shapes, names.tokens, 0, where),
    tokens: dimension(shapes, names.positions, 0, where),
    inner: dimension(shapes, names.inner, 0, where),
    layers: layers.length,
    projection: shapes.has(names.projection) ? dimension(shapes, names.projection, 1, where) : null,
  };
}

function dimension(shapes: Shapes, name: string, axis: number, where: string): number {
  const size = shapes.get(name)?.[axis];
  if (size !== undefined && size > 0) return size;
  const found = shapes.get(name);
  const what = found ? `has the shape [${found.join(", ")}]` : "is missing";
  throw new CheckpointError(`${where}: tensor "${name}" ${what}, from which axis ${axis} is read.`);
}

/** The numbers captured by a pattern's group in the names that it matches, in ascending order. */
function indices(shapes: Shapes, pattern: RegExp): number[] {
  const found = new Set<number>();
  for (const name of shapes.keys()) {
    const index = pattern.exec(name)?.[1];
    if (index !== undefined) found.add(Number(index));
  }
  return [...found].sort((a, b) => a - b);
}

/** Number of transformer layers of the attention with this prefix. */
function depthOf(shapes: Shapes, prefix: string): number {
  let depth = 0;
  while (depth < MOST_BLOCKS && shapes.has(`${prefix}transformer_blocks.${depth}.attn2.to_k.weight`)) depth++;
  return depth;
}
