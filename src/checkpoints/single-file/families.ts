/** The families of checkpoints in one file: how each is told, and where its parts lie. One entry a family. */
import { CheckpointError } from "../../errors.ts";
import type { Prediction } from "./configs.ts";

/** Where a text encoder lies, and in whose layout. */
export interface TextEncoderPlace {
  readonly component: "text_encoder" | "text_encoder_2";
  readonly prefix: string;
  readonly layout: "clip" | "open-clip";
  /** Layers at the end whose result is not used. */
  readonly unused: number;
  /** Whether the pooled text is projected: the class with a projection. */
  readonly projected: boolean;
  readonly pad: "!" | "<|endoftext|>";
}

export interface Family {
  /** What messages call it. */
  readonly name: string;
  readonly pipeline: string;
  readonly inpainting: string;
  readonly encoders: readonly TextEncoderPlace[];
  readonly scheduler: "pndm" | "ddim" | "euler";
  /** Unless the file says otherwise: in pixels, by what the network predicts. */
  readonly size: Readonly<Record<Prediction, number>>;
  /** Unless the file says otherwise. */
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

export const unetPrefix = "model.diffusion_model.";
/** Of the autoencoder: the original's, and what some tools write. */
export const vaePrefixes = ["first_stage_model.", "vae."];

/** Tensors of models that look alike and are not served. */
const others: readonly [pattern: RegExp, is: string][] = [
  [/^edm_(mean|std)$/, "a Playground 2.5 checkpoint, whose schedule (EDM) is not that of Stable Diffusion XL"],
  [/^conditioner\.embedders\.0\.model\./, "a refiner of Stable Diffusion XL, which draws nothing by itself"],
];

/** Whether a file with tensors of these names has a UNet of pictures in the original layout: a whole checkpoint, or meant as one. */
export function isOriginalLayout(names: Iterable<string>): boolean {
  const all = [...names];
  // Those of videos have the same blocks and more.
  return all.some((name) => name.startsWith(`${unetPrefix}input_blocks.`)) && !all.some((name) => video.test(name));
}

const video = /\.(time_stack|time_mixer)\./;

/**
 * The family of a file with tensors of these names. Throws CheckpointError, which begins with `where`, for a file of none, of
 * two, and without one of its parts; it says which names were looked for.
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
