/** Compares whole runs of video pipelines with the reference. */
import { readConfig } from "../checkpoints/diffusers-folder.ts";
import { describe, expectObject, type Folder, insidePath, quote } from "../checkpoints/files.ts";
import { ArgumentError } from "../errors.ts";
import { ImageToVideoPipeline, imageToVideoClass } from "../pipelines/image-to-video.ts";
import { TextToVideoPipeline } from "../pipelines/text-to-video.ts";
import type { Runtime, SessionOptions } from "../runtime/runtime.ts";
import type { SamplerStep } from "../sampling/sampler.ts";
import { createScheduler } from "../schedulers/registry.ts";
import type { Scheduler } from "../schedulers/scheduler.ts";
import { type FloatTensor, floatTensor, sizeOf, type Tensor } from "../tensor.ts";
import { compare, type OutputError, reference } from "./compare.ts";
import { concatenated, countOf, MOST_STEPS, numberOf, readTensors } from "./recorded-call.ts";

type Io = ReadonlyMap<string, Tensor>;
type Call = Readonly<Record<string, unknown>>;

/** A folder beside the case, or beside the folder that the case is in: "../../unet-svd". */
export type Beside = (path: string) => Folder;

/** Paths outside of its folder that a recorded call may name; the cases of the reference share networks this way. */
const besidePath = /^(\.\.\/){1,2}\w[\w.-]*$/;

/** Compares the run of AnimateDiff that is recorded in `call.json` and `io.safetensors`. */
export async function verifyTextToVideo(
  folder: Folder,
  runtime: Runtime,
  options: SessionOptions,
): Promise<OutputError[]> {
  const [call, io] = await recordedCall(folder);
  const pipe = await TextToVideoPipeline.fromFolder(folder, runtime, options);
  try {
    const run = recorder(createScheduler(pipe.schedulerConfig), call, io);
    const guidanceScale = numberOf(call, "guidance_scale");
    const embeddings = (prefix: string) => reference(io, `input.${prefix}prompt_embeds`, "float32");
    const latents = await pipe.sampleLatents({
      ...run.options,
      guidanceScale,
      prompt: embeddings(""),
      negative: guidanceScale > 1 ? embeddings("negative_") : null,
    });
    return run.compared(latents, await pipe.decode(latents));
  } finally {
    await pipe.release();
  }
}

/** Whether a folder records a run of networks in other folders, which its call names. */
export async function namesItsParts(folder: Folder): Promise<boolean> {
  if (!(await folder.has("call.json"))) return false;
  const call = expectObject(await folder.json("call.json"), `${folder.name}/call.json`);
  return typeof call["unet"] === "string" && typeof call["vae"] === "string";
}

/**
 * Compares a run of Stable Video Diffusion: with `beside`, of the networks that the call names, otherwise of those in
 * the folder.
 */
export async function verifyImageToVideo(
  folder: Folder,
  runtime: Runtime,
  options: SessionOptions,
  beside?: Beside,
): Promise<OutputError[]> {
  const [call, io] = await recordedCall(folder);
  const part = (name: "unet" | "vae" | "scheduler") => {
    const { [name]: path = name } = call;
    if (typeof path !== "string") {
      throw new ArgumentError(`${folder.name}/call.json: names ${describe(path)} as its ${name}, not a folder.`);
    }
    if (!path.startsWith("..")) return folder.sub(insidePath(path, `${folder.name}/call.json: ${name}`));
    if (beside && besidePath.test(path)) return beside(path);
    throw new ArgumentError(
      `${folder.name}/call.json: names ${quote(path)} as its ${name}, which leaves the folder; only folders inside are read, ` +
        'and "../NAME" and "../../NAME" where folders lie on a disk.',
    );
  };
  const parts = { unet: part("unet"), vae: part("vae"), scheduler: await readConfig(part("scheduler")) };
  const pipe = await ImageToVideoPipeline.fromParts(folder.name, imageToVideoClass, parts, null, runtime, options);
  try {
    const run = recorder(createScheduler(parts.scheduler), call, io);
    const strength = numberOf(call, "noise_aug_strength");
    const [image, noise] = ["input.image", "input.image_noise"].map((name) => reference(io, name, "float32"));
    const imageLatents = await pipe.codeImage(image!, noise!, strength);
    const latents = await pipe.sampleLatents({
      ...run.options,
      minGuidanceScale: numberOf(call, "min_guidance_scale"),
      maxGuidanceScale: numberOf(call, "max_guidance_scale"),
      fps: numberOf(call, "fps"),
      motionBucketId: numberOf(call, "motion_bucket_id"),
      noiseAugStrength: strength,
      imageEmbeds: reference(io, "input.image_embeddings", "float32"),
      imageLatents,
    });
    const decoded = await pipe.decode(latents, { chunk: countOf(call, "decode_chunk_size", MOST_STEPS) });
    const expected = io.get("output.image_latents");
    return [
      ...(expected ? [compare("output.image_latents", imageLatents.data, expected.data)] : []),
      ...run.compared(latents, decoded),
    ];
  } finally {
    await pipe.release();
  }
}

async function recordedCall(folder: Folder): Promise<[Call, Io]> {
  const call = expectObject(await folder.json("call.json"), `${folder.name}/call.json`);
  return [call, await readTensors(folder, "io.safetensors")];
}

/** The inputs of every run, and the comparison of its outputs. */
function recorder(scheduler: Scheduler, call: Call, io: Io) {
  const states: FloatTensor[] = [];
  const options = {
    scheduler,
    steps: countOf(call, "num_inference_steps", MOST_STEPS),
    noise: reference(io, "input.latents", "float32"),
    onStep: ({ latents }: SamplerStep) => {
      states.push(floatTensor(latents.shape, latents.data.slice()));
    },
  };
  const compared = (latents: FloatTensor, decoded: FloatTensor): OutputError[] => {
    const actual: Record<string, ArrayLike<number>> = {
      "output.timesteps": scheduler.timesteps,
      "output.sigmas": scheduler.sigmas ?? [],
      "output.latents_per_step": concatenated(states),
      "output.latents": latents.data,
      "output.decoded": decoded.data,
      "output.frames": toFrameValues(decoded),
    };
    return Object.entries(actual).flatMap(([name, values]) => {
      const expected = io.get(name);
      return expected ? [compare(name, values, expected.data)] : [];
    });
  };
  return { options, compared };
}

/** clamp(decoded / 2 + 0.5, 0, 1) as [batch, frames, height, width, 3], as diffusers' pipelines return videos. */
function toFrameValues({ shape, data }: FloatTensor): Float32Array {
  const [, channels, frames, height, width] = shape as [number, number, number, number, number];
  const area = height * width;
  const out = new Float32Array(sizeOf(shape));
  for (let i = 0; i < out.length; i++) {
    const channel = i % channels;
    const pixel = Math.floor(i / channels) % area;
    const frame = Math.floor(i / (channels * area)) % frames;
    const video = Math.floor(i / (channels * area * frames));
    const value = data[((video * channels + channel) * frames + frame) * area + pixel]!;
    out[i] = Math.min(1, Math.max(0, value / 2 + 0.5));
  }
  return out;
}
