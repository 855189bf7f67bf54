/**
 * Stable Diffusion 3 and 3.5 in one file, as Stability AI publishes them: `sd3_medium_incl_clips.safetensors` and the like. T5, where
 * the file has it, is left out, since its tokenizer is not in the file.
 */
import { CheckpointError } from "../../errors.ts";
import { quote } from "../json.ts";
import { rowPart } from "../row-parts.ts";
import { memoryDType } from "../safetensors.ts";
import { type WeightEntry, WeightFiles } from "../weight-files.ts";
import { flowConfig, modelIndex, sd3Config, tokenizerConfig, vaeConfig } from "./configs.ts";
import { sd3Encoders, unetPrefix, vaePrefixes } from "./families.ts";
import { type Checkpoint, type Component, classOf, type Entries, part, shapesOf, textOf, vaeOf } from "./parts.ts";
import { type Sd3Layer, sd3Layers } from "./sd3-names.ts";
import { sd3Shapes } from "./shapes.ts";

/** Names, shapes, no tensor. Throws CheckpointError for a file that lacks a part, which says what was looked for. */
export function readSd3(file: WeightFiles): Checkpoint {
  const where = file.name;
  const has = (prefix: string) => [...file.entries.keys()].some((name) => name.startsWith(prefix));
  const missing = [
    ...(has(`${unetPrefix}joint_blocks.`) ? [] : [`a transformer (${unetPrefix}joint_blocks.*)`]),
    ...(vaePrefixes.some(has) ? [] : [`an autoencoder (${vaePrefixes.map((prefix) => `${prefix}*`).join(" or ")})`]),
    ...sd3Encoders.flatMap(({ prefix }) => (has(prefix) ? [] : [`a text encoder (${prefix}*)`])),
  ];
  if (missing.length > 0) {
    throw new CheckpointError(
      `${where}: is no whole checkpoint of Stable Diffusion 3: it lacks ${missing.join(" and ")}. Take a file that has all parts ` +
        '("incl_clips" in its name), or a folder in diffusers\' layout.',
    );
  }
  const transformer = transformerOf(part(file.entries, [unetPrefix]), where);
  const vae = vaeOf(part(file.entries, vaePrefixes), where);
  const { inChannels } = transformer.shapes;
  const { latentChannels } = vae.shapes;
  if (inChannels !== latentChannels && inChannels !== 2 * latentChannels + 1) {
    throw new CheckpointError(
      `${where}: its transformer reads ${inChannels} channels; its autoencoder's latents have ${latentChannels}, so it has to be ` +
        `${latentChannels}, or ${2 * latentChannels + 1} for inpainting.`,
    );
  }
  const texts = sd3Encoders.map((place) => {
    const read = textOf(part(file.entries, [place.prefix]), place, where);
    return { place, tokens: read.shapes.tokens, config: read.config, weights: projecting(read, file, where) };
  });
  const config = vaeConfig(vae.shapes, { sampleSize: 1024, scalingFactor: 1.5305, forceUpcast: true });
  const own = (name: string) => vae.entries.has(`${name}.weight`);
  const shifted = {
    shift_factor: 0.0609,
    use_post_quant_conv: own("post_quant_conv"),
    use_quant_conv: own("quant_conv"),
  };
  const components: [string, Component][] = [
    [
      "transformer",
      { config: sd3Config(transformer.shapes), weights: new WeightFiles(transformer.entries, file.files) },
    ],
    ["vae", { config: { ...config, ...shifted }, weights: new WeightFiles(vae.entries, file.files) }],
    ...texts.map(({ place, ...component }): [string, Component] => [place.component, component]),
  ];
  return { components: new Map(components), ...filesOf(texts, inChannels !== latentChannels) };
}

function filesOf(
  texts: readonly { place: (typeof sd3Encoders)[number]; tokens: number }[],
  inpainting: boolean,
): Pick<Checkpoint, "texts" | "tokenizers"> {
  const tokenizers = texts.map(({ place, tokens }) => ({
    folder: place.component.replace("text_encoder", "tokenizer"),
    config: tokenizerConfig(tokens, place.pad),
  }));
  const index: Record<string, unknown> = {
    scheduler: ["diffusers", flowConfig["_class_name"]],
    transformer: ["diffusers", "SD3Transformer2DModel"],
    vae: ["diffusers", "AutoencoderKL"],
    ...Object.fromEntries(
      ["feature_extractor", "image_encoder", "text_encoder_3", "tokenizer_3"].map((name) => [name, [null, null]]),
    ),
  };
  for (const { place } of texts) index[place.component] = ["transformers", classOf(place)];
  for (const { folder } of tokenizers) index[folder] = ["transformers", "CLIPTokenizer"];
  const className = inpainting ? "StableDiffusion3InpaintPipeline" : "StableDiffusion3Pipeline";
  return {
    texts: new Map([
      ["model_index.json", modelIndex(className, index, {})],
      ["scheduler/scheduler_config.json", flowConfig],
      ...tokenizers.map(({ folder, config }) => [`${folder}/tokenizer_config.json`, config] as const),
    ]),
    tokenizers: tokenizers.map(({ folder }) => folder),
  };
}

/** The transformer's tensors under diffusers' names: some are parts of one, some have their halves in another order. */
function transformerOf(entries: Entries, where: string) {
  const shapes = sd3Shapes(shapesOf(entries), where);
  const layers = new Map(sd3Layers(shapes.layers).map((layer) => [layer.original, layer]));
  const made = new Map<string, WeightEntry>();
  for (const [name, entry] of entries) {
    if (memoryDType[entry.dtype] !== "float32") continue;
    if (name === "pos_embed") {
      made.set("pos_embed.pos_embed", entry);
      continue;
    }
    const [, module = name, kind = ""] = /^(.*)\.(weight|bias)$/.exec(name) ?? [];
    const layer = layers.get(module);
    for (const [to, part] of layer
      ? partsOf(layer, entry, `${where}: tensor ${quote(name)}`)
      : [[module, entry] as const]) {
      made.set(kind ? `${to}.${kind}` : to, part);
    }
  }
  return { shapes, entries: made };
}

function partsOf({ diffusers, swapped }: Sd3Layer, entry: WeightEntry, where: string): [string, WeightEntry][] {
  if (!swapped) return diffusers.map((to, i) => [to, rowPart(entry, i, diffusers.length, where)]);
  // Throws for rows without halves.
  rowPart(entry, 0, 2, where);
  return [[diffusers[0]!, { ...entry, swapped }]];
}

/** Wider than any of CLIP's towers (1280). */
const MOST_WIDTH = 4096;
const PROJECTION = "text_projection.weight";

/** The weights of a tower; one without a projection has the identity, as CLIP-L in Stable Diffusion 3. */
function projecting(
  { entries, shapes: { width } }: { entries: Map<string, WeightEntry>; shapes: { width: number } },
  { files }: WeightFiles,
  where: string,
): WeightFiles {
  if (entries.has(PROJECTION)) return new WeightFiles(entries, files);
  if (width > MOST_WIDTH) {
    throw new CheckpointError(`${where}: its text encoder is ${width} wide; at most ${MOST_WIDTH} is supported.`);
  }
  const [file] = files.keys();
  const place = { offset: 0, length: 0, file: file! };
  const entry: WeightEntry = { name: PROJECTION, dtype: "F32", shape: [width, width], identity: true, ...place };
  return new WeightFiles(new Map([...entries, [PROJECTION, entry]]), files);
}
