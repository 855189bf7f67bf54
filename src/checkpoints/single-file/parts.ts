/** What the components of a single-file checkpoint have in common: prefixes, names, the autoencoder and CLIP's text towers. */
import { CheckpointError } from "../../errors.ts";
import { quote } from "../json.ts";
import { rowPart } from "../row-parts.ts";
import { memoryDType } from "../safetensors.ts";
import type { WeightEntry, WeightFiles } from "../weight-files.ts";
import { type Json, textConfig } from "./configs.ts";
import type { TextEncoderPlace } from "./families.ts";
import { type NameMap, openClipNames, renamed, vaeNames } from "./names.ts";
import { type Shapes, type TextNames, textShapes, vaeShapes } from "./shapes.ts";

export interface Component {
  readonly config: Json;
  readonly weights: WeightFiles;
}

export interface Checkpoint {
  /** By folder name. */
  readonly components: ReadonlyMap<string, Component>;
  /** Other files by path, except vocabularies. */
  readonly texts: ReadonlyMap<string, Json>;
  /** Folders of tokenizers. */
  readonly tokenizers: readonly string[];
}

export type Entries = ReadonlyMap<string, WeightEntry>;

/** A component's tensors, with its prefix removed from their names. */
export function part(entries: Entries, prefixes: readonly string[]): Map<string, WeightEntry> {
  const found = new Map<string, WeightEntry>();
  for (const [name, entry] of entries) {
    const prefix = prefixes.find((start) => name.startsWith(start));
    if (prefix !== undefined) found.set(name.slice(prefix.length), entry);
  }
  return found;
}

export function shapesOf(entries: Entries): Shapes {
  return new Map([...entries].map(([name, { shape }]) => [name, shape]));
}

/** The autoencoder's attention is stored as 1 x 1 convolutions in the original layout, and as matrices in diffusers. */
export function vaeOf(entries: Entries, where: string) {
  const shapes = vaeShapes(shapesOf(entries), where);
  const named = withNames(entries, vaeNames(shapes.channels.length), where);
  for (const [name, entry] of named) {
    if (
      /\.attentions\.\d+\.to_/.test(name) &&
      entry.shape.length > 2 &&
      entry.shape.slice(2).every((side) => side === 1)
    ) {
      named.set(name, { ...entry, shape: entry.shape.slice(0, 2) });
    }
  }
  return { shapes, entries: named };
}

export const classOf = ({ projected }: TextEncoderPlace) =>
  projected ? "CLIPTextModelWithProjection" : "CLIPTextModel";

const clipTexts: TextNames = {
  tokens: "text_model.embeddings.token_embedding.weight",
  positions: "text_model.embeddings.position_embedding.weight",
  layer: /^text_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.weight$/,
  inner: "text_model.encoder.layers.0.mlp.fc1.weight",
  projection: "text_projection.weight",
};

const openClipTexts: TextNames = {
  tokens: "token_embedding.weight",
  positions: "positional_embedding",
  layer: /^transformer\.resblocks\.(\d+)\.mlp\.c_fc\.weight$/,
  inner: "transformer.resblocks.0.mlp.c_fc.weight",
  projection: "text_projection",
};

export function textOf(entries: Map<string, WeightEntry>, place: TextEncoderPlace, where: string) {
  const open = place.layout === "open-clip";
  // Some tools leave the tower's name out.
  const whole = open ? entries : new Map([...entries].map(([name, entry]) => [withTower(name), entry]));
  const shapes = textShapes(shapesOf(whole), open ? openClipTexts : clipTexts, where);
  const layers = shapes.layers - place.unused;
  if (layers < 1) throw new CheckpointError(`${where}: its text encoder has ${shapes.layers} layers, too few.`);
  const config = textConfig(
    { ...shapes, layers, ...(open || place.projected ? {} : { projection: null }) },
    { className: classOf(place), activation: place.activation ?? (open ? "gelu" : "quick_gelu") },
  );
  const buffers = /position_ids$|^logit_scale$/;
  const used = new Map<string, WeightEntry>();
  for (const [name, entry] of whole) {
    const layer = Number((open ? /^transformer\.resblocks\.(\d+)\./ : /\.layers\.(\d+)\./).exec(name)?.[1] ?? 0);
    const projection = name === (open ? openClipTexts : clipTexts).projection;
    if (layer < layers && !buffers.test(name) && (!projection || place.projected)) used.set(name, entry);
  }
  return { shapes, config, entries: open ? openClip(used, where) : used };
}

const withTower = (name: string) =>
  /^(embeddings|encoder|final_layer_norm)\./.test(name) ? `text_model.${name}` : name;

/** OpenCLIP stacks queries, keys and values in one matrix, one below the other, and stores its projection transposed. */
function openClip(entries: Entries, where: string): Map<string, WeightEntry> {
  const made = new Map<string, WeightEntry>();
  for (const [name, entry] of entries) {
    const to = renamed(openClipNames, name);
    const joined = /^(.*)\.in_proj_(weight|bias)$/.exec(to);
    if (joined) {
      for (const [i, which] of ["q", "k", "v"].entries()) {
        made.set(`${joined[1]}.${which}_proj.${joined[2]}`, rowPart(entry, i, 3, `${where}: tensor ${quote(name)}`));
      }
    } else if (to === "text_projection.weight") {
      if (entry.shape.length !== 2) {
        throw new CheckpointError(
          `${where}: tensor ${quote(name)} has the shape [${entry.shape.join(", ")}]; expected a matrix.`,
        );
      }
      made.set(to, { ...entry, shape: [...entry.shape].reverse(), transposed: true });
    } else made.set(to, entry);
  }
  return made;
}

export function withNames(entries: Entries, names: NameMap, where: string): Map<string, WeightEntry> {
  const made = new Map<string, WeightEntry>();
  for (const [name, entry] of entries) {
    if (memoryDType[entry.dtype] !== "float32") continue; // counters and the like
    const to = renamed(names, name);
    if (made.has(to))
      throw new CheckpointError(`${where}: has tensor ${quote(to)} twice, under its old and its new name.`);
    made.set(to, entry);
  }
  return made;
}
