import { type RawConfig, readModelIndex } from "../checkpoints/diffusers-folder.ts";
import { describe, expectObject, type Folder, insidePath } from "../checkpoints/files.ts";
import { ArgumentError, CheckpointError, ConfigError } from "../errors.ts";
import { ClassToImagePipeline } from "../pipelines/class-to-image.ts";
import { imageToVideoClass } from "../pipelines/image-to-video.ts";
import { TextToImagePipeline } from "../pipelines/text-to-image.ts";
import { textToImageClasses } from "../pipelines/text-to-image-families.ts";
import { textToVideoClasses } from "../pipelines/text-to-video.ts";
import type { Runtime, SessionOptions } from "../runtime/runtime.ts";
import type { SamplerStep } from "../sampling/sampler.ts";
import { createScheduler } from "../schedulers/registry.ts";
import type { Scheduler } from "../schedulers/scheduler.ts";
import { type FloatTensor, floatTensor, sizeOf, type Tensor } from "../tensor.ts";
import { compare, type OutputError, reference } from "./compare.ts";
import { compareFromPrompt } from "./prompt-case.ts";
import { concatenated, countOf, MOST_STEPS, numberOf, readTensors } from "./recorded-call.ts";
import { sampleText } from "./text-to-image-case.ts";
import { verifyImageToVideo, verifyTextToVideo } from "./video-case.ts";

type Io = ReadonlyMap<string, Tensor>;

/** One recorded run of a pipeline: `call.json` and `io.safetensors`, or `call.<name>.json` and `io.<name>.safetensors`. */
interface RecordedCall {
  readonly name: string;
  readonly call: Readonly<Record<string, unknown>>;
  readonly io: Io;
}

/** What a run needs of a pipeline, whichever it is. */
interface Run {
  scheduler: Scheduler;
  steps: number;
  guidanceScale: number;
  onStep: (step: SamplerStep) => void;
}

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
  const moves = className !== "StableDiffusionPipeline" || components.has("motion_adapter");
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
      const prefix = recorded.name ? `${recorded.name}: ` : "";
      for (const error of await verifyCall(pipeline, folder, recorded)) {
        outputs.push({ ...error, name: prefix + error.name });
      }
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

async function verifyCall(pipeline: AnyPipeline, folder: Folder, { call, io }: RecordedCall): Promise<OutputError[]> {
  const states: FloatTensor[] = [];
  const config = await schedulerConfig(folder, call);
  const run: Run = {
    scheduler: createScheduler(config),
    steps: countOf(call, "num_inference_steps", MOST_STEPS),
    guidanceScale: numberOf(call, "guidance_scale"),
    onStep: ({ latents }) => {
      states.push(floatTensor(latents.shape, latents.data.slice()));
    },
  };
  const latents = await sampleWith(pipeline, run, call, io);
  const decoded = await pipeline.decode(latents);
  const actual: Record<string, ArrayLike<number>> = {
    "output.timesteps": run.scheduler.timesteps,
    "output.latents_per_step": concatenated(states),
    "output.latents": latents.data,
    "output.decoded": decoded.data,
    "output.image": toImage(decoded),
  };
  const errors = Object.entries(actual).flatMap(([name, values]) => {
    const expected = io.get(name);
    return expected ? [compare(name, values, expected.data)] : [];
  });
  return pipeline instanceof TextToImagePipeline
    ? [...errors, ...(await compareFromPrompt(pipeline, call, io))]
    : errors;
}

function sampleWith(pipeline: AnyPipeline, run: Run, call: RecordedCall["call"], io: Io): Promise<FloatTensor> {
  if (pipeline instanceof ClassToImagePipeline) {
    const classes = Array.from(reference(io, "input.class_labels", "int64").data, Number);
    return pipeline.sampleLatents({ ...run, noise: reference(io, "input.latents", "float32"), classes });
  }
  return sampleText(pipeline, run, call, io);
}

async function schedulerConfig(folder: Folder, call: RecordedCall["call"]): Promise<RawConfig> {
  const { scheduler: name = "scheduler" } = call;
  if (typeof name !== "string") {
    throw new ArgumentError(`${folder.name}: call.json names the scheduler ${describe(name)}, not a folder.`);
  }
  const part = folder.sub(insidePath(name, `${folder.name}/call.json: scheduler`));
  return expectObject(await part.json("scheduler_config.json"), `${part.name}/scheduler_config.json`);
}

/** Whether a pipeline's folder has a recorded run. */
export async function isRecorded(folder: Folder): Promise<boolean> {
  for (const file of [...callFiles, "s"]) if (await folder.has(`call${file}.json`)) return true;
  return false;
}

const callFiles = ["", ".ddim", ".dpmpp", ".euler", ".pndm", ".ddpm", ".flow"];

/** Most runs of one folder. */
const MOST_CALLS = 1000;

/** Names of runs: those that calls.json lists, or else those of solvers. */
async function infixesOf(folder: Folder): Promise<readonly string[]> {
  if (!(await folder.has("calls.json"))) return callFiles;
  const names = await folder.json("calls.json");
  const fine = Array.isArray(names) && names.every((name) => typeof name === "string" && /^[\w-]{1,100}$/.test(name));
  if (fine && names.length <= MOST_CALLS) return names.map((name) => `.${name}`);
  throw new CheckpointError(
    `${folder.name}/calls.json: must be a list of at most ${MOST_CALLS} names, of letters, digits, _ and -.`,
  );
}

/** `call.json`, and `call.<name>.json` for each name that stands for a solver or that calls.json lists. */
async function recordedCalls(folder: Folder): Promise<RecordedCall[]> {
  const calls: RecordedCall[] = [];
  for (const infix of await infixesOf(folder)) {
    const name = infix.slice(1);
    if (!(await folder.has(`call${infix}.json`))) continue;
    const call = expectObject(await folder.json(`call${infix}.json`), `${folder.name}/call${infix}.json`);
    calls.push({ name, call, io: await readTensors(folder, `io${infix}.safetensors`) });
  }
  if (calls.length > 0) return calls;
  throw new CheckpointError(
    `${folder.name}: has no call.json beside its model_index.json, so there is no recorded run to compare with.`,
  );
}

/** clamp(decoded / 2 + 0.5, 0, 1) with the channels last, as diffusers' pipelines return pictures. */
function toImage({ shape, data }: FloatTensor): Float32Array {
  const [, channels, height, width] = shape as [number, number, number, number];
  const area = height * width;
  const image = new Float32Array(sizeOf(shape));
  for (let i = 0; i < image.length; i++) {
    const channel = i % channels;
    const pixel = Math.floor(i / channels) % area;
    const row = Math.floor(i / (channels * area));
    image[i] = Math.min(1, Math.max(0, data[(row * channels + channel) * area + pixel]! / 2 + 0.5));
  }
  return image;
}
