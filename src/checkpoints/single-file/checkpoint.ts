/** Splits a single-file checkpoint into the components of a pipeline: their weights, used in place, and configurations. */
import { CheckpointError } from "../../errors.ts";
import { blockBytes, isBlockDType } from "../gguf/blocks.ts";
import { quote } from "../json.ts";
import { memoryDType } from "../safetensors.ts";
import { type WeightEntry, WeightFiles } from "../weight-files.ts";
import {
  type Json,
  modelIndex,
  type Prediction,
  schedulerConfig,
  textConfig,
  tokenizerConfig,
  unetConfig,
  vaeConfig,
} from "./configs.ts";
import { type Family, familyOf, type TextEncoderPlace, unetPrefix, vaePrefixes } from "./families.ts";
import { type NameMap, openClipNames, renamed, unetNames, vaeNames } from "./names.ts";
import { type Shapes, type TextNames, textShapes, unetShapes, vaeShapes } from "./shapes.ts";

export interface Component {
  readonly config: Json;
  readonly weights: WeightFiles;
}

export interface Checkpoint {
  readonly family: Family;
  /** By folder name. */
  readonly components: ReadonlyMap<string, Component>;
  /** Other files by path, except vocabularies. */
  readonly texts: ReadonlyMap<string, Json>;
  /** Folders of tokenizers. */
  readonly tokenizers: readonly string[];
}

type Entries = ReadonlyMap<string, WeightEntry>;

/**
 * Reads names, shapes and metadata, but no tensor. Throws CheckpointError if the file is not a complete checkpoint of one
 * family.
 */
export function readCheckpoint(file: WeightFiles, metadata: Readonly<Record<string, string>>): Checkpoint {
  const where = file.name;
  const family = familyOf([...file.entries.keys()], where);
  const prediction = predictionOf(file.entries, metadata) ?? family.prediction;
  const unet = unetOf(part(file.entries, [unetPrefix]), where);
  const { inChannels, contextWidth } = unet.shapes;
  if (inChannels !== 4 && inChannels !== 9) {
    throw new CheckpointError(
      `${where}: its UNet takes ${inChannels} channels. Read are UNets of 4 (pictures) and 9 (inpainting); others get their ` +
        "picture, depth or instruction in ways that are not served.",
    );
  }
  const inpainting = inChannels === 9;
  // Stable Diffusion 2's inpainting model predicts noise, at 512 pixels.
  const predicts = inpainting ? (predictionOf(file.entries, metadata) ?? "epsilon") : prediction;
  const size = family.size[predicts];
  const vae = vaeOf(part(file.entries, vaePrefixes), where);
  const factor = 2 ** (vae.shapes.channels.length - 1);
  const texts = family.encoders.map((place) => ({
    place,
    ...textOf(part(file.entries, [place.prefix]), place, where),
  }));
  const width = texts.reduce((sum, { shapes }) => sum + shapes.width, 0);
  if (width !== contextWidth) {
    throw new CheckpointError(
      `${where}: its UNet reads texts of width ${contextWidth}, but its text encoders write ${texts.map(({ shapes }) => shapes.width).join(" + ")}; ` +
        "these parts are of different models.",
    );
  }
  const components = new Map<string, Component>([
    [
      "unet",
      {
        config: unetConfig(unet.shapes, { sampleSize: Math.floor(size / factor), eightHeads: family.eightHeads }),
        weights: new WeightFiles(unet.entries, file.files),
      },
    ],
    [
      "vae",
      {
        config: vaeConfig(vae.shapes, { sampleSize: size, ...family }),
        weights: new WeightFiles(vae.entries, file.files),
      },
    ],
    ...texts.map(({ place, config, entries }): [string, Component] => [
      place.component,
      { config, weights: new WeightFiles(entries, file.files) },
    ]),
  ]);
  return { family, components, ...files(family, inpainting, predicts, file.entries, texts) };
}

function files(
  family: Family,
  inpainting: boolean,
  prediction: Prediction,
  entries: Entries,
  encoders: readonly { place: TextEncoderPlace; shapes: { tokens: number } }[],
): Pick<Checkpoint, "texts" | "tokenizers"> {
  const xl = family.encoders.length > 1;
  const zeroTerminal = entries.has("ztsnr");
  const scheduler =
    family.scheduler === "pndm" && (prediction !== "epsilon" || zeroTerminal) ? "ddim" : family.scheduler;
  const schedule = schedulerConfig(scheduler, prediction, zeroTerminal);
  const tokenizers = encoders.map(({ place, shapes }) => ({
    folder: place.component.replace("text_encoder", "tokenizer"),
    config: tokenizerConfig(shapes.tokens, place.pad),
  }));
  const index: Record<string, unknown> = {
    scheduler: ["diffusers", schedule["_class_name"]],
    unet: ["diffusers", "UNet2DConditionModel"],
    vae: ["diffusers", "AutoencoderKL"],
    feature_extractor: [null, null],
    image_encoder: [null, null],
    ...(xl ? {} : { safety_checker: [null, null] }),
  };
  for (const { place } of encoders) index[place.component] = ["transformers", classOf(place)];
  for (const { folder } of tokenizers) index[folder] = ["transformers", "CLIPTokenizer"];
  const more = xl ? { force_zeros_for_empty_prompt: true } : { requires_safety_checker: false };
  return {
    texts: new Map<string, Json>([
      ["model_index.json", modelIndex(inpainting ? family.inpainting : family.pipeline, index, more)],
      ["scheduler/scheduler_config.json", schedule],
      ...tokenizers.map(({ folder, config }): [string, Json] => [`${folder}/tokenizer_config.json`, config]),
    ]),
    tokenizers: tokenizers.map(({ folder }) => folder),
  };
}

const classOf = ({ projected }: TextEncoderPlace) => (projected ? "CLIPTextModelWithProjection" : "CLIPTextModel");

/**
 * What the network predicts, if that can be known: from the metadata of Stability's model specification, or from a tensor
 * that trainers leave as a marker. Names and shapes do not tell, since they are the same.
 */
function predictionOf(entries: Entries, metadata: Readonly<Record<string, string>>): Prediction | undefined {
  const said = metadata["modelspec.predict_key"] ?? metadata["modelspec.prediction_type"];
  const architecture = metadata["modelspec.architecture"] ?? "";
  if (said === "v" || said === "v_prediction" || entries.has("v_pred") || /v2-768-v/.test(architecture)) {
    return "v_prediction";
  }
  return said === "epsilon" || /v2-512/.test(architecture) ? "epsilon" : undefined;
}

/** A component's tensors, with its prefix removed from their names. */
function part(entries: Entries, prefixes: readonly string[]): Map<string, WeightEntry> {
  const found = new Map<string, WeightEntry>();
  for (const [name, entry] of entries) {
    const prefix = prefixes.find((start) => name.startsWith(start));
    if (prefix !== undefined) found.set(name.slice(prefix.length), entry);
  }
  return found;
}

function shapesOf(entries: Entries): Shapes {
  return new Map([...entries].map(([name, { shape }]) => [name, shape]));
}

function unetOf(entries: Entries, where: string) {
  const shapes = unetShapes(shapesOf(entries), where);
  const names = unetNames(shapes.layers, (level) => shapes.depths[level]! > 0);
  return { shapes, entries: withNames(entries, names, where) };
}

/** The autoencoder's attention is stored as 1 x 1 convolutions in the original layout, and as matrices in diffusers. */
function vaeOf(entries: Entries, where: string) {
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

function textOf(entries: Map<string, WeightEntry>, place: TextEncoderPlace, where: string) {
  const open = place.layout === "open-clip";
  // Some tools leave the tower's name out.
  const whole = open ? entries : new Map([...entries].map(([name, entry]) => [withTower(name), entry]));
  const shapes = textShapes(shapesOf(whole), open ? openClipTexts : clipTexts, where);
  const layers = shapes.layers - place.unused;
  if (layers < 1) throw new CheckpointError(`${where}: its text encoder has ${shapes.layers} layers, too few.`);
  const config = textConfig(
    { ...shapes, layers, ...(open ? {} : { projection: null }) },
    { className: classOf(place), activation: open ? "gelu" : "quick_gelu" },
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
        made.set(`${joined[1]}.${which}_proj.${joined[2]}`, third(entry, i, `${where}: tensor ${quote(name)}`));
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

/** A third of the rows, which are contiguous. */
function third(entry: WeightEntry, index: number, where: string): WeightEntry {
  const [rows = 0, ...rest] = entry.shape;
  if (rows === 0 || rows % 3 !== 0) {
    throw new CheckpointError(`${where} has ${rows} rows; queries, keys and values are three equal parts of them.`);
  }
  const length = entry.length / 3;
  if (!isBlockDType(entry.dtype) || length % blockBytes[entry.dtype] === 0) {
    return { ...entry, shape: [rows / 3, ...rest], offset: entry.offset + index * length, length };
  }
  throw new CheckpointError(
    `${where} is stored in blocks of ${entry.dtype} that go over the end of its queries or keys.`,
  );
}

function withNames(entries: Entries, names: NameMap, where: string): Map<string, WeightEntry> {
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
