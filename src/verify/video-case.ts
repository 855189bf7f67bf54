/** Compares whole runs of video pipelines with the reference. */
import { readConfig } from "../checkpoints/diffusers-folder.ts";
import { describe, expectObject, type Folder, insidePath, quote } from "../checkpoints/files.ts";
import { type LoraChoice, lorasCheck, withChosenLoras } from "../checkpoints/lora/choice.ts";
import { ArgumentError } from "../errors.ts";
import { ImageToVideoPipeline, imageToVideoClass } from "../pipelines/image-to-video.ts";
import { TextToVideoPipeline } from "../pipelines/text-to-video.ts";
import type { Runtime, SessionOptions } from "../runtime/runtime.ts";
import { createScheduler } from "../schedulers/registry.ts";
import { compare, type OutputError, reference } from "./compare.ts";
import {
  type Call,
  countOf,
  drawsOf,
  MOST_STEPS,
  named,
  noiseOf,
  numberOf,
  type RecordedCall,
  readTensors,
  recordedCalls,
  schedulerConfig,
} from "./recorded-call.ts";
import { RunRecorder, shown } from "./run-recorder.ts";
import { embeddingsOf, solverOf, toldOf } from "./text-to-image-case.ts";

/** A folder beside the case, or beside the folder that the case is in: "../../unet-svd". */
export type Beside = (path: string) => Folder;

/** Paths outside of its folder that a recorded call may name; the cases of the reference share networks this way. */
const besidePath = /^(\.\.\/){1,2}\w[\w.-]*$/;

/** Compares the recorded runs of AnimateDiff. */
export async function verifyTextToVideo(
  folder: Folder,
  runtime: Runtime,
  options: SessionOptions,
): Promise<OutputError[]> {
  const outputs: OutputError[] = [];
  for (const recorded of await recordedCalls(folder)) {
    const changed = await withRecordedLoras(folder, recorded.call);
    const pipe = await TextToVideoPipeline.fromFolder(changed, runtime, options);
    try {
      outputs.push(...named(recorded, await verifyCall(pipe, folder, recorded)));
    } finally {
      await pipe.release();
    }
  }
  return outputs;
}

async function verifyCall(pipe: TextToVideoPipeline, folder: Folder, recorded: RecordedCall): Promise<OutputError[]> {
  const { call, io } = recorded;
  // Unless the call names another one, what the pipeline makes of its own.
  const config = call["scheduler"] === undefined ? pipe.schedulerConfig : await schedulerConfig(folder, call);
  const recorder = new RunRecorder(createScheduler(config), recorded);
  const guidanceScale = numberOf(call, "guidance_scale");
  const draw = drawsOf(io);
  const latents = await pipe.sampleLatents({
    ...recorder.loop,
    ...solverOf(recorder, call),
    noise: noiseOf(io, draw),
    drawNoise: draw,
    guidanceScale,
    ...toldOf(call),
    prompt: embeddingsOf(pipe.text, io, ""),
    negative: pipe.guided(guidanceScale) ? embeddingsOf(pipe.text, io, "negative_") : null,
  });
  const decoded = await pipe.decode(latents);
  return recorder.compared(latents, decoded, { "output.frames": shown(decoded) });
}

/** The folder with the LoRAs that a call lists, each a file in the folder and a scale. Throws ArgumentError. */
async function withRecordedLoras(folder: Folder, { loras = [] }: Call): Promise<Folder> {
  const where = `${folder.name}/call.json: loras`;
  const choices = (Array.isArray(loras) ? loras : [loras]).map((entry) => {
    if (!Array.isArray(entry)) throw new ArgumentError(`${where} has ${describe(entry)}, not [file, scale].`);
    return { file: entry[0], scale: entry[1] } as LoraChoice;
  });
  lorasCheck(choices, where);
  return withChosenLoras(folder, choices, (file) => folder.source(insidePath(file, where)));
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
    const recorder = new RunRecorder(createScheduler(parts.scheduler), { call, io });
    const strength = numberOf(call, "noise_aug_strength");
    const [image, noise] = ["input.image", "input.image_noise"].map((name) => reference(io, name, "float32"));
    const imageLatents = await pipe.codeImage(image!, noise!, strength);
    const latents = await pipe.sampleLatents({
      ...recorder.loop,
      noise: reference(io, "input.latents", "float32"),
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
      ...recorder.compared(latents, decoded, { "output.frames": shown(decoded) }),
    ];
  } finally {
    await pipe.release();
  }
}

async function recordedCall(folder: Folder) {
  const call = expectObject(await folder.json("call.json"), `${folder.name}/call.json`);
  return [call, await readTensors(folder, "io.safetensors")] as const;
}
