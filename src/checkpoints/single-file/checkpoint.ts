/** Splits a single-file checkpoint into the components of a pipeline: their weights, used in place, and configurations. */
import { CheckpointError } from "../../errors.ts";
import { WeightFiles } from "../weight-files.ts";
import {
  type Json,
  modelIndex,
  type Prediction,
  schedulerConfig,
  tokenizerConfig,
  unetConfig,
  vaeConfig,
} from "./configs.ts";
import { type Family, familyOf, isSd3, type TextEncoderPlace, unetPrefix, vaePrefixes } from "./families.ts";
import { unetNames } from "./names.ts";
import {
  type Checkpoint,
  type Component,
  classOf,
  type Entries,
  part,
  shapesOf,
  textOf,
  vaeOf,
  withNames,
} from "./parts.ts";
import { readSd3 } from "./sd3-checkpoint.ts";
import { unetShapes } from "./shapes.ts";

export type { Checkpoint, Component } from "./parts.ts";

/**
 * Reads names, shapes and metadata, but no tensor. Throws CheckpointError if the file is not a complete checkpoint of one
 * family.
 */
export function readCheckpoint(file: WeightFiles, metadata: Readonly<Record<string, string>>): Checkpoint {
  const where = file.name;
  if (isSd3(file.entries.keys())) return readSd3(file);
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
  return { components, ...files(family, inpainting, predicts, file.entries, texts) };
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

function unetOf(entries: Entries, where: string) {
  const shapes = unetShapes(shapesOf(entries), where);
  const names = unetNames(shapes.layers, (level) => shapes.depths[level]! > 0);
  return { shapes, entries: withNames(entries, names, where) };
}
