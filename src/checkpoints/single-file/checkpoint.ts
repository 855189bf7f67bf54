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

/** Training steps of Stable Diffusion 2's base model, which predicts noise, unlike the larger one. diffusers tells it by them too. */
const BASE_STEPS = 875_000;

/**
 * Reads names, shapes and metadata, but no tensor. `known` are what the network predicts, which counts before what the file
 * says, and how many steps it was trained for. Throws CheckpointError if the file is not a complete checkpoint of one family.
 */
export function readCheckpoint(
  file: WeightFiles,
  metadata: Readonly<Record<string, string>>,
  known: { readonly prediction?: Prediction | undefined; readonly steps?: number | undefined } = {},
): Checkpoint {
  const where = file.name;
  if (isSd3(file.entries.keys())) return readSd3(file);
  const family = familyOf([...file.entries.keys()], where);
  const bySteps = known.steps === BASE_STEPS ? "epsilon" : undefined;
  const said = known.prediction ?? predictionOf(file.entries, metadata) ?? bySteps;
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
  const predicts = said ?? (inpainting ? "epsilon" : family.prediction);
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

/** Whether these are the names of an autoencoder of images without a UNet, in the original layout. */
export function isAutoencoder(names: readonly string[]): boolean {
  const more = /^model\.diffusion_model\.|\.time_(stack|mixer|mix_conv)\b/;
  const decoder = /^(first_stage_model\.|vae\.)?decoder\.up\.\d+\.block\./;
  return names.some((name) => decoder.test(name)) && !names.some((name) => more.test(name));
}

/**
 * An autoencoder alone in a file. How its latents are scaled is not in such a file. Throws CheckpointError for one that is not
 * whole.
 */
export function readAutoencoder(file: WeightFiles): Component {
  const all = part(file.entries, [...vaePrefixes, ""]);
  const own = new Map([...all].filter(([name]) => /^((en|de)coder|(post_)?quant_conv)\./.test(name)));
  const { shapes, entries } = vaeOf(own, file.name);
  const unsaid = { sampleSize: 0, scalingFactor: 0, forceUpcast: false };
  const { scaling_factor: _, force_upcast: __, sample_size: ___, ...known } = vaeConfig(shapes, unsaid);
  const has = (name: string) => entries.has(`${name}.weight`);
  const convolutions = { use_quant_conv: has("quant_conv"), use_post_quant_conv: has("post_quant_conv") };
  return { config: { ...known, ...convolutions }, weights: new WeightFiles(entries, file.files) };
}
