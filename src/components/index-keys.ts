/** What may be in a pipeline's model_index.json: a component or option that is not served is refused, not left out. */
import type { ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ConfigError } from "../errors.ts";

interface IndexKeys {
  /** Components that are used. */
  readonly components: readonly string[];
  /** Components and options that change nothing here: of filters, and of adapters that only some calls use. */
  readonly harmless: readonly string[];
}

const pixArt: IndexKeys = {
  components: ["tokenizer", "text_encoder", "vae", "transformer", "scheduler"],
  harmless: [],
};
const stableDiffusion = ["vae", "text_encoder", "tokenizer", "unet", "scheduler", "motion_adapter"];
const imageAdapter = ["feature_extractor", "image_encoder"];
const stableDiffusion3: IndexKeys = {
  components: [
    ...["vae", "transformer", "scheduler"],
    ...["", "_2", "_3"].flatMap((suffix) => [`text_encoder${suffix}`, `tokenizer${suffix}`]),
  ],
  harmless: imageAdapter,
};
const plain = (name: string): [string, IndexKeys] => [
  name,
  { components: stableDiffusion, harmless: [...imageAdapter, "safety_checker", "requires_safety_checker"] },
];
const xl = (name: string): [string, IndexKeys] => [
  name,
  {
    components: [...stableDiffusion, "text_encoder_2", "tokenizer_2"],
    harmless: [
      ...imageAdapter,
      "add_watermarker",
      "force_zeros_for_empty_prompt",
      // Of a refiner; the pipeline of texts has no such setting.
      ...(name === "StableDiffusionXLPipeline" ? [] : ["requires_aesthetics_score"]),
    ],
  },
];

/** By pipeline class; a class that is not here is checked by whoever opens it. */
const keys: ReadonlyMap<string, IndexKeys> = new Map([
  ["PixArtAlphaPipeline", pixArt],
  ["PixArtSigmaPipeline", pixArt],
  ["DiTPipeline", { components: ["vae", "transformer", "scheduler"], harmless: ["id2label"] }],
  ["AnimateDiffPipeline", { components: stableDiffusion, harmless: imageAdapter }],
  ...["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"].map(plain),
  ...["LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"].map(plain),
  ...["StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"].map(xl),
  ["StableDiffusion3Pipeline", stableDiffusion3],
  ["StableDiffusion3Img2ImgPipeline", stableDiffusion3],
  ["StableDiffusion3InpaintPipeline", stableDiffusion3],
  xl("AnimateDiffSDXLPipeline"),
  [
    "StableVideoDiffusionPipeline",
    { components: ["vae", "image_encoder", "unet", "scheduler", "feature_extractor"], harmless: [] },
  ],
]);

/** Throws ConfigError. Options that are null or false, and those with an underscore in front, pass. */
export function checkIndex(folder: Folder, { className, components, options }: ModelIndex): void {
  const known = keys.get(className);
  if (!known) return;
  const where = `${folder.name}/model_index.json`;
  const passes = (name: string) => known.harmless.includes(name) || name.startsWith("_");
  for (const [name, component] of components) {
    if (known.components.includes(name) || passes(name)) continue;
    throw new ConfigError(
      `${where}: has a component "${name.slice(0, 100)}" (${component.className.slice(0, 100)}), which a ${className} does ` +
        "not have here. Take it out of the file to run without it.",
    );
  }
  for (const [name, value] of Object.entries(options)) {
    if (value === null || value === false || passes(name)) continue;
    throw new ConfigError(
      `${where}: has "${name.slice(0, 100)}", which is not known for a ${className}. If you are sure that the result does not ` +
        "depend on it, take it out of the file or put an underscore in front.",
    );
  }
}
