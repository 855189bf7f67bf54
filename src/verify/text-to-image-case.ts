/** A text-to-image pipeline's sampling with what a recorded call says: prompts, sizes, an image and a mask, drawn noise. */
import { listOf, number } from "../checks.ts";
import { latentFactor } from "../models/autoencoder.ts";
import { defined } from "../options/defined.ts";
import { PictureSource } from "../pipelines/picture-source.ts";
import type { SampleLatentsOptions, TextToImagePipeline } from "../pipelines/text-to-image.ts";
import type { TextConditions, TextEmbeddings } from "../pipelines/text-to-image-family.ts";
import { shareCheck } from "../sampling/denoising-range.ts";
import { strengthCheck } from "../sampling/from-picture.ts";
import type { CustomSchedule } from "../schedulers/scheduler.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../tensor.ts";
import { reference } from "./compare.ts";
import { type Call, drawsOf, type Io, MOST_STEPS, noiseOf, numberOf, pairOf } from "./recorded-call.ts";

/** Of the recorded noise, if there is any: the first for the latents, unless an image takes some before. */
export type Run = Pick<SampleLatentsOptions, "scheduler" | "steps" | "guidanceScale" | "onStep">;

export async function sampleText(pipe: TextToImagePipeline, run: Run, call: Call, io: Io): Promise<FloatTensor> {
  const draw = drawsOf(io);
  const image = io.get("input.image");
  const begun = image
    ? await pipe.encodePicture(sourceOf(pipe, call, io), draw)
    : { noise: noiseOf(io, draw), picture: undefined };
  return pipe.sampleLatents({
    ...run,
    ...solverOf(run, call),
    ...begun,
    drawNoise: draw,
    ...toldOf(call),
    denoisingEnd: shareOf(call, "denoising_end"),
    ...scoresOf(call),
    prompt: embeddingsOf(pipe.family, io, ""),
    negative: pipe.family.guided(run.guidanceScale) ? embeddingsOf(pipe.family, io, "negative_") : null,
  });
}

function scoresOf(call: Call): Pick<SampleLatentsOptions, "aestheticScore" | "negativeAestheticScore"> {
  return defined({
    aestheticScore: optionalNumber(call, "aesthetic_score"),
    negativeAestheticScore: optionalNumber(call, "negative_aesthetic_score"),
  });
}

/** Timesteps, sigmas and eta of a call; diffusers' pipelines give a scheduler that takes eta 0 unless the call says more. */
export function solverOf(
  { scheduler }: Pick<Run, "scheduler">,
  call: Call,
): Pick<SampleLatentsOptions, "schedule" | "eta"> {
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

function sourceOf(pipe: TextToImagePipeline, call: Call, io: Io): PictureSource {
  const { family } = pipe;
  const mask = io.has("input.mask") ? reference(io, "input.mask", "float32") : undefined;
  const usual = mask ? family.usual.maskedStrength : family.usual.strength;
  const { strength = usual } = call;
  strengthCheck(strength, "call.json: strength");
  const image = reference(io, "input.image", "float32");
  const factor = latentFactor(pipe.vae.config);
  return new PictureSource(
    // Latents are passed on as they are by diffusers' image processor.
    image.shape[1] === pipe.family.latentChannels ? image : { image, ...(mask && { mask }) },
    {
      strength: strength as number,
      denoisingStart: shareOf(call, "denoising_start"),
      seen: family.inChannels !== family.latentChannels,
      factor,
    },
  );
}

/** What a call says of sizes and of guidance beside its scale. */
export const toldOf = (call: Call) => ({
  guidanceRescale: call["guidance_rescale"] === undefined ? 0 : numberOf(call, "guidance_rescale"),
  originalSize: pairOf(call, "original_size"),
  cropsCoordsTopLeft: pairOf(call, "crops_coords_top_left"),
  targetSize: pairOf(call, "target_size"),
  negativeOriginalSize: pairOf(call, "negative_original_size"),
  negativeCropsCoordsTopLeft: pairOf(call, "negative_crops_coords_top_left"),
  negativeTargetSize: pairOf(call, "negative_target_size"),
});

/** Under the names of the denoiser's inputs, of what was recorded. */
export function embeddingsOf({ pooled }: Pick<TextConditions, "pooled">, io: Io, prefix: string): TextEmbeddings {
  const maskName = `input.${prefix}prompt_attention_mask`;
  return {
    encoderHiddenStates: reference(io, `input.${prefix}prompt_embeds`, "float32"),
    ...(io.has(maskName) && { encoderAttentionMask: inFloats(reference(io, maskName, "int64")) }),
    ...(pooled && { [pooled]: reference(io, `input.${prefix}pooled_prompt_embeds`, "float32") }),
  };
}

const optionalNumber = (call: Call, key: string): number | undefined =>
  call[key] === undefined ? undefined : numberOf(call, key);

function shareOf(call: Call, key: string): number | undefined {
  const share = optionalNumber(call, key);
  if (share !== undefined) shareCheck(share, `call.json: ${key}`);
  return share;
}

const inFloats = ({ shape, data }: Tensor<"int64">) => floatTensor(shape, Float32Array.from(data, Number));
