import { readModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ConfigError } from "../errors.ts";
import { ClassToImagePipeline } from "../pipelines/class-to-image.ts";
import { imageToVideoClass } from "../pipelines/image-to-video.ts";
import { TextToImagePipeline } from "../pipelines/text-to-image.ts";
import { textToImageClasses } from "../pipelines/text-to-image-families.ts";
import { textToVideoClasses } from "../pipelines/text-to-video.ts";
import type { Runtime, SessionOptions } from "../runtime/runtime.ts";
import { createScheduler } from "../schedulers/registry.ts";
import type { FloatTensor } from "../tensor.ts";
import { type OutputError, reference } from "./compare.ts";
import { compareFromPrompt } from "./prompt-case.ts";
import {
  type Call,
  type Io,
  named,
  numberOf,
  type RecordedCall,
  recordedCalls,
  schedulerConfig,
} from "./recorded-call.ts";
import { RunRecorder, shown } from "./run-recorder.ts";
import { type Run, sampleText } from "./text-to-image-case.ts";
import { verifyImageToVideo, verifyTextToVideo } from "./video-case.ts";

/**
 * Compares whole sampling runs of a pipeline with the reference: the latent of every step, the last one, the decoded image.
 * Starts from the recorded noise and, for text, the recorded embeddings. Throws ConfigError for a pipeline that is not
 * supported, CheckpointError if the folder has no recorded call.
 */
export async function verifyPipeline(
  folder: Folder,
  runtime: Runtime,
  options: SessionOptions = {},
): Promise<{ className: string; outputs: OutputError[] }> {
  const { className, components } = await readModelIndex(folder);
  // Stable Diffusion draws images, and videos with a motion adapter.
  const moves = className.startsWith("AnimateDiff") || components.has("motion_adapter");
  if ((textToVideoClasses as readonly string[]).includes(className) && moves) {
    return { className, outputs: await verifyTextToVideo(folder, runtime, options) };
  }
  if (className === imageToVideoClass) {
    return { className, outputs: await verifyImageToVideo(folder, runtime, options) };
  }
  const calls = await recordedCalls(folder);
  const pipeline = await openAny(className, folder, runtime, options);
  const outputs: OutputError[] = [];
  try {
    for (const recorded of calls) {
      outputs.push(...named(recorded, await verifyCall(pipeline, folder, recorded)));
    }
  } finally {
    await pipeline.release();
  }
  return { className, outputs };
}

async function openAny(className: string, folder: Folder, runtime: Runtime, options: SessionOptions) {
  if ((textToImageClasses as readonly string[]).includes(className)) {
    return TextToImagePipeline.fromFolder(folder, runtime, options);
  }
  if (className === "DiTPipeline") return ClassToImagePipeline.fromFolder(folder, runtime, options);
  throw new ConfigError(
    `${folder.name}: ${className} is not supported; DiTPipeline, ${textToImageClasses.join(", ")}, ` +
      `${textToVideoClasses.join(", ")} and ${imageToVideoClass} are.`,
  );
}

type AnyPipeline = Awaited<ReturnType<typeof openAny>>;

async function verifyCall(pipeline: AnyPipeline, folder: Folder, recorded: RecordedCall): Promise<OutputError[]> {
  const { call, io } = recorded;
  const recorder = new RunRecorder(createScheduler(await schedulerConfig(folder, call)), recorded);
  const run = { ...recorder.loop, guidanceScale: numberOf(call, "guidance_scale") };
  const latents = await sampleWith(pipeline, run, call, io);
  const decoded = await pipeline.decode(latents);
  const errors = recorder.compared(latents, decoded, { "output.image": shown(decoded) });
  return pipeline instanceof TextToImagePipeline
    ? [...errors, ...(await compareFromPrompt(pipeline, call, io))]
    : errors;
}

function sampleWith(pipeline: AnyPipeline, run: Run, call: Call, io: Io): Promise<FloatTensor> {
  if (pipeline instanceof ClassToImagePipeline) {
    const classes = Array.from(reference(io, "input.class_labels", "int64").data, Number);
    return pipeline.sampleLatents({ ...run, noise: reference(io, "input.latents", "float32"), classes });
  }
  return sampleText(pipeline, run, call, io);
}
