/** A text-to-image pipeline's sampling with what a recorded call says: prompts, sizes, an image and a mask, drawn noise. */
import { describe } from "../checkpoints/files.ts";
import { listOf, number } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import { spatialFactor } from "../models/autoencoder-kl.ts";
import { defined } from "../options/defined.ts";
import { PictureSource } from "../pipelines/picture-source.ts";
import type { SampleLatentsOptions, TextToImagePipeline } from "../pipelines/text-to-image.ts";
import type { TextEmbeddings } from "../pipelines/text-to-image-family.ts";
import { strengthCheck } from "../sampling/from-picture.ts";
import { rows } from "../sampling/guidance.ts";
import type { CustomSchedule } from "../schedulers/scheduler.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../tensor.ts";
import { reference } from "./compare.ts";
import { MOST_STEPS, numberOf } from "./recorded-call.ts";

type Io = ReadonlyMap<string, Tensor>;
type Call = Readonly<Record<string, unknown>>;

/** Of the recorded noise, if there is any: the first for the latents, unless an image takes some before. */
export type Run = Pick<SampleLatentsOptions, "scheduler" | "steps" | "guidanceScale" | "onStep">;

export async function sampleText(pipe: TextToImagePipeline, run: Run, call: Call, io: Io): Promise<FloatTensor> {
  const draw = drawsOf(io);
  const image = io.get("input.image");
  const begun = image
    ? await pipe.encodePicture(sourceOf(pipe, call, io), draw)
    : { noise: io.has("input.latents") ? reference(io, "input.latents", "float32") : draw(), picture: undefined };
  return pipe.sampleLatents({
    ...run,
    ...solverOf(run, call),
    ...begun,
    drawNoise: draw,
    guidanceRescale: call["guidance_rescale"] === undefined ? 0 : numberOf(call, "guidance_rescale"),
    originalSize: pairOf(call, "original_size"),
    cropsCoordsTopLeft: pairOf(call, "crops_coords_top_left"),
    targetSize: pairOf(call, "target_size"),
    ...scoresOf(call),
    prompt: embeddingsOf(pipe, io, ""),
    negative: pipe.family.guided(run.guidanceScale) ? embeddingsOf(pipe, io, "negative_") : null,
  });
}

function scoresOf(call: Call): Pick<SampleLatentsOptions, "aestheticScore" | "negativeAestheticScore"> {
  const score = (name: string) => (call[name] === undefined ? undefined : numberOf(call, name));
  return defined({
    aestheticScore: score("aesthetic_score"),
    negativeAestheticScore: score("negative_aesthetic_score"),
  });
}

/** Timesteps, sigmas and eta of a call; diffusers' pipelines give a scheduler that takes eta 0 unless the call says more. */
function solverOf({ scheduler }: Run, call: Call): Pick<SampleLatentsOptions, "schedule" | "eta"> {
  const { timesteps, sigmas } = call;
  const schedule = timesteps === undefined && sigmas === undefined ? undefined : defined({ timesteps, sigmas });
  if (schedule) for (const [name, list] of Object.entries(schedule)) numbersCheck(list, `call.json: ${name}`);
  const eta = call["eta"] === undefined ? 0 : numberOf(call, "eta");
  return {
    ...(schedule && { schedule: schedule as CustomSchedule }),
    ...(scheduler.takes.includes("eta") && { eta }),
  };
}

const numbersCheck = listOf(number(), { least: 1, most: MOST_STEPS });

/** Rows of `input.draws`, one after the other: what the reference drew, each of the latent's shape. */
function drawsOf(io: Io): () => FloatTensor {
  let next = 0;
  return () => {
    const { shape, data } = reference(io, "input.draws", "float32");
    const index = next++;
    if (index < shape[0]!) return { ...rows(floatTensor(shape, data), index, index + 1), shape: shape.slice(1) };
    throw new ArgumentError(`input.draws has ${shape[0]} tensors of noise; the run needs more.`);
  };
}

function sourceOf(pipe: TextToImagePipeline, call: Call, io: Io): PictureSource {
  const { family } = pipe;
  const mask = io.has("input.mask") ? reference(io, "input.mask", "float32") : undefined;
  const usual = mask ? family.usual.maskedStrength : family.usual.strength;
  const { strength = usual } = call;
  strengthCheck(strength, "call.json: strength");
  return new PictureSource(
    { image: reference(io, "input.image", "float32"), ...(mask && { mask }) },
    {
      strength: strength as number,
      seen: family.inChannels !== family.latentChannels,
      factor: spatialFactor(pipe.vae.config),
    },
  );
}

/** Under the names of the denoiser's inputs, of what was recorded. */
function embeddingsOf({ family: { pooled } }: TextToImagePipeline, io: Io, prefix: string): TextEmbeddings {
  const maskName = `input.${prefix}prompt_attention_mask`;
  return {
    encoderHiddenStates: reference(io, `input.${prefix}prompt_embeds`, "float32"),
    ...(io.has(maskName) && { encoderAttentionMask: inFloats(reference(io, maskName, "int64")) }),
    ...(pooled && { [pooled]: reference(io, `input.${prefix}pooled_prompt_embeds`, "float32") }),
  };
}

const inFloats = ({ shape, data }: Tensor<"int64">) => floatTensor(shape, Float32Array.from(data, Number));

function pairOf(call: Call, key: string): readonly [number, number] | undefined {
  const value = call[key];
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.length === 2 && value.every((item) => Number.isFinite(item))) {
    return value as unknown as [number, number];
  }
  throw new ArgumentError(`call.json: "${key}" is ${describe(value)}, not two numbers.`);
}
