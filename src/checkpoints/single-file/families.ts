/** The families of single-file checkpoints: how to recognise each, and where its parts are. One entry per family. */
import { CheckpointError } from "../../errors.ts";
import type { Prediction } from "./configs.ts";

/** Where a text encoder is in the file, and in which layout. */
export interface TextEncoderPlace {
  readonly component: "text_encoder" | "text_encoder_2";
  readonly prefix: string;
  readonly layout: "clip" | "open-clip";
  /** OpenCLIP's towers have "gelu", OpenAI's "quick_gelu"; that of the layout unless given. */
  readonly activation?: "gelu" | "quick_gelu";
  /** Number of layers at the end whose output is not used. */
  readonly unused: number;
  /** Whether the pooled text is projected, which needs the class with a projection. */
  readonly projected: boolean;
  readonly pad: "!" | "<|endoftext|>";
}

export interface Family {
  /** Its name in messages. */
  readonly name: string;
  readonly pipeline: string;
  readonly inpainting: string;
  readonly encoders: readonly TextEncoderPlace[];
  readonly scheduler: "pndm" | "ddim" | "euler";
  /** Default image size in pixels, by what the network predicts; the file may say otherwise. */
  readonly size: Readonly<Record<Prediction, number>>;
  /** Default prediction; the file may say otherwise. */
  readonly prediction: Prediction;
  readonly eightHeads: boolean;
  readonly scalingFactor: number;
  readonly forceUpcast: boolean;
}

const clipL = { component: "text_encoder", layout: "clip", unused: 0, projected: false } as const;

export const families: readonly Family[] = [
  {
    name: "Stable Diffusion 1",
    pipeline: "StableDiffusionPipeline",
    inpainting: "StableDiffusionInpaintPipeline",
    encoders: [{ ...clipL, prefix: "cond_stage_model.transformer.", pad: "<|endoftext|>" }],
    scheduler: "pndm",
    size: { epsilon: 512, v_prediction: 512 },
    prediction: "epsilon",
    eightHeads: true,
    scalingFactor: 0.18215,
    forceUpcast: false,
  },
  {
    name: "Stable Diffusion 2",
    pipeline: "StableDiffusionPipeline",
    inpainting: "StableDiffusionInpaintPipeline",
    encoders: [
      {
        component: "text_encoder",
        prefix: "cond_stage_model.model.",
        layout: "open-clip",
        unused: 1,
        projected: false,
        pad: "!",
      },
    ],
    scheduler: "ddim",
    size: { epsilon: 512, v_prediction: 768 },
    prediction: "v_prediction",
    eightHeads: false,
    scalingFactor: 0.18215,
    forceUpcast: false,
  },
  {
    name: "Stable Diffusion XL",
    pipeline: "StableDiffusionXLPipeline",
    inpainting: "StableDiffusionXLInpaintPipeline",
    encoders: [
      { ...clipL, prefix: "conditioner.embedders.0.transformer.", pad: "<|endoftext|>" },
      {
        component: "text_encoder_2",
        prefix: "conditioner.embedders.1.model.",
        layout: "open-clip",
        unused: 0,
        projected: true,
        pad: "!",
      },
    ],
    scheduler: "euler",
    size: { epsilon: 1024, v_prediction: 1024 },
    prediction: "epsilon",
    eightHeads: false,
    scalingFactor: 0.13025,
    forceUpcast: true,
  },
];

/** Of Stable Diffusion 3. T5, which some files have too (text_encoders.t5xxl), comes without its tokenizer and is left out. */
export const sd3Encoders: readonly TextEncoderPlace[] = [
  { ...clipL, projected: true, prefix: "text_encoders.clip_l.transformer.", pad: "<|endoftext|>" },
  {
    component: "text_encoder_2",
    prefix: "text_encoders.clip_g.transformer.",
    layout: "clip",
    activation: "gelu",
    unused: 0,
    projected: true,
    pad: "!",
  },
];

export const unetPrefix = "model.diffusion_model.";
/** Prefixes of the autoencoder: the original one, and one that some tools write. */
export const vaePrefixes = ["first_stage_model.", "vae."];

/** Tensors of similar models that are not supported. */
const others: readonly [pattern: RegExp, is: string][] = [
  [/^edm_(mean|std)$/, "a Playground 2.5 checkpoint, whose schedule (EDM) is not that of Stable Diffusion XL"],
  [/^conditioner\.embedders\.0\.model\./, "a refiner of Stable Diffusion XL, which draws nothing by itself"],
];

/** Whether the names include an image UNet or Stable Diffusion 3's transformer in the original layout, so that the file is, or is meant as, a whole checkpoint. */
export function isOriginalLayout(names: Iterable<string>): boolean {
  const all = [...names];
  // Video UNets have the same blocks and additional ones.
  if (isSd3(all)) return true;
  return all.some((name) => name.startsWith(`${unetPrefix}input_blocks.`)) && !all.some((name) => video.test(name));
}

/** Whether the names include a transformer of Stable Diffusion 3, with the prefix of a whole checkpoint or alone. */
export function isSd3(names: Iterable<string>): boolean {
  for (const name of names) if (/^(model\.diffusion_model\.)?joint_blocks\.\d/.test(name)) return true;
  return false;
}

const video = /\.(time_stack|time_mixer)\./;

/**
 * The family of a file with tensors of these names. Throws CheckpointError, which begins with `where`, if the file belongs to
 * no family or to two, or lacks a part; the message says which names were looked for.
 */
export function familyOf(names: readonly string[], where: string): Family {
  const has = (prefix: string) => names.some((name) => name.startsWith(prefix));
  const other = others.find(([pattern]) => names.some((name) => pattern.test(name)));
  if (other) throw new CheckpointError(`${where}: is ${other[1]}, and is not served in one file.`);
  const found = families.filter(({ encoders }) => encoders.some(({ prefix }) => has(prefix)));
  if (found.length > 1) {
    throw new CheckpointError(
      `${where}: has text encoders of ${found.map(({ name }) => name).join(" and of ")}; a checkpoint is of one family.`,
    );
  }
  const [family] = found;
  const missing = [
    ...(has(`${unetPrefix}input_blocks.`) ? [] : [`a UNet (${unetPrefix}input_blocks.*)`]),
    ...(vaePrefixes.some(has) ? [] : [`an autoencoder (${vaePrefixes.map((prefix) => `${prefix}*`).join(" or ")})`]),
    ...(family
      ? family.encoders.flatMap(({ prefix }) => (has(prefix) ? [] : [`a text encoder (${prefix}*)`]))
      : [
          `a text encoder (${families.flatMap(({ encoders }) => encoders.map(({ prefix }) => `${prefix}*`)).join(", ")})`,
        ]),
  ];
  if (family && missing.length === 0) return family;
  throw new CheckpointError(
    `${where}: is no whole checkpoint of Stable Diffusion: it lacks ${missing.join(" and ")}. Take a file that has all parts, or a ` +
      "folder in diffusers' layout.",
  );
}
