import { dirname } from "node:path";
import { Command, Option } from "commander";
import { platform } from "#platform";
import { version } from "../../package.json";
import { methodsFor } from "../acceleration/methods.ts";
import type { VideoAccelerate } from "../acceleration/video-options.ts";
import { readModelIndex } from "../checkpoints/diffusers-folder.ts";
import { forNetworks } from "../components/loading.ts";
import { ArgumentError } from "../errors.ts";
import type { Animation } from "../media/animation.ts";
import { readPicture } from "../media/picture-node.ts";
import { defined } from "../options/defined.ts";
import { ImageToVideoPipeline, imageToVideoClass } from "../pipelines/image-to-video.ts";
import { TextToVideoPipeline } from "../pipelines/text-to-video.ts";
import { Bars } from "./animate-progress.ts";
import { printResult } from "./json.ts";
import { hasSteadyAllocator } from "./memory.ts";
import { methodHelp, methodOf, methodOptions } from "./method-options.ts";
import { countBetween, numberBetween } from "./numbers.ts";
import {
  addOptions,
  deviceOptions,
  type LoadingOptions,
  loadingOf,
  type Memory,
  memoryOption,
  modelOption,
  type OutputOptions,
  outputOptions,
  type SamplerOptions,
  type SizeOptions,
  samplerOf,
  samplerOptions,
  sizeOptions,
  solverSettings,
} from "./options.ts";
import { interruptible, note, printUnlessQuiet, showStatus } from "./terminal.ts";
import { VideoFile } from "./video-file.ts";

/** Methods for networks that make videos. */
const methods = methodsFor("video-unet");

/** In addition there are `--accelerate` and its options, which `methodOf` reads. */
interface AnimateOptions extends LoadingOptions, SamplerOptions, SizeOptions, OutputOptions {
  out: string;
  adapter?: string;
  image?: string;
  negative: string;
  frames?: number;
  fps?: number;
  motion?: number;
  noise?: number;
  memory?: Memory;
  accelerate?: string;
}

export function animateCommand(): Command {
  const command = new Command("animate")
    .description("a video from text, or from a picture")
    .argument("[prompt]", "what it shows (AnimateDiff)")
    .optionsGroup("What:")
    .option("--image <file>", "the picture that it begins at, instead of a prompt (Stable Video Diffusion)")
    .addOption(new Option("--negative <prompt>", "what it should not show").default("", "nothing"))
    .option("--frames <n>", "how many (16; of a picture what the model was trained with)", countBetween(1, 1024))
    .option("--fps <n>", "frames a second (8; of a picture 7, and the model is told)", numberBetween(0.01, 1000))
    .option("--motion <bucket>", "of a picture: how much is to move (127)", countBetween(0, 1023))
    .option("--noise <strength>", "of a picture: how far the video may go from it (0.02)", numberBetween(0, 10))
    .optionsGroup("Model:")
    .addOption(modelOption("fluent-emoji-motion"))
    .option("--adapter <name>", "motion adapter that makes a Stable Diffusion model one of videos: folder or Hub id");
  addOptions(command, deviceOptions()).optionsGroup("Sampling:");
  const guidance = "how closely to follow the prompt (the model's own, or 7.5), or the picture at the end (3)";
  addOptions(command, [...samplerOptions(25, guidance), ...sizeOptions()])
    .optionsGroup("Speed and memory:")
    .addOption(memoryOption());
  addOptions(command, methodOptions(methods, "none"))
    .optionsGroup("Output:")
    .option(
      "-o, --out <name>",
      ".gif, .webp or .mp4, or a folder (frames/) for PNG files; out-2.gif where there is an out.gif; - is a GIF on stdout",
      "out.gif",
    );
  command.addHelpText("after", methodHelp(methods));
  return addOptions(command, outputOptions("what was made")).action(animate);
}

async function animate(prompt: string | undefined, options: AnimateOptions): Promise<void> {
  if ((prompt === undefined) === (options.image === undefined)) {
    throw new ArgumentError("animate needs a prompt, or --image with a picture to begin at, and not both.");
  }
  if (options.image !== undefined && (options.negative !== "" || options.adapter !== undefined)) {
    throw new ArgumentError("--negative and --adapter go with a prompt; a video that begins at a picture has neither.");
  }
  if (options.image === undefined && (options.motion !== undefined || options.noise !== undefined)) {
    throw new ArgumentError("--motion and --noise go with --image; a video from a prompt has neither.");
  }
  // Checked before a model is opened.
  methodOf(options, methods);
  if (options.memory && !(await hasSteadyAllocator())) return;
  // Opened first, so that hours of work do not end in a file that cannot be written.
  const destination = await VideoFile.open(options.out, options.force ?? false, options.fps);
  await interruptible("nothing was written.", (signal) => run(prompt, options, destination, signal));
}

/** The result of either pipeline, and the settings that it was made with. */
interface Made {
  video: Animation;
  seed: number;
  warnings: readonly string[];
  settings: Readonly<Record<string, unknown>>;
}

async function run(
  prompt: string | undefined,
  options: AnimateOptions,
  destination: VideoFile,
  signal: AbortSignal,
): Promise<void> {
  const started = performance.now();
  const bars = new Bars(started);
  showStatus(`loading ${options.model}`);
  try {
    const { video, seed, warnings, settings } =
      prompt === undefined ? await fromPicture(options, bars, signal) : await fromText(prompt, options, bars, signal);
    bars.stop();
    for (const warning of warnings) note(`Note: ${warning}`);
    const text = {
      Software: `halfstep ${version}`,
      ...defined({ prompt }),
      seed: String(seed),
      settings: JSON.stringify(settings),
    };
    const files = await destination.write(video, text, signal);
    const seconds = +((performance.now() - started) / 1000).toFixed(3);
    const { length } = video.frames;
    const { width, height } = video.frames[0]!;
    if (options.json) {
      const subject = prompt === undefined ? { image: options.image } : { prompt };
      const result = { ...subject, ...settings, width, height, seed, files, warnings, seconds };
      await printResult("animate", { ...result, toFirstStep: bars.toFirstStep }, { toStderr: destination.toStdout });
    } else {
      const where = files.length > 1 ? `${length} frames in ${dirname(files[0]!)}` : (files[0] ?? "stdout");
      const line = `${where} (${length} frames, seed ${seed}, ${seconds.toFixed(1)} s)`;
      await (destination.toStdout ? note(line) : printUnlessQuiet(line));
    }
  } finally {
    bars.stop();
  }
}

async function fromText(prompt: string, options: AnimateOptions, bars: Bars, signal: AbortSignal): Promise<Made> {
  const { model, frames = 16, fps = 8, negative: negativePrompt } = options;
  const pipe = await TextToVideoPipeline.fromPretrained(model, {
    ...loading(options, bars, signal),
    motionAdapter: options.adapter,
  });
  try {
    const { guidance: guidanceScale = pipe.guidanceScale } = options;
    const { videos, seeds, warnings, fullSteps, rehashSteps } = await pipe(prompt, {
      ...common(options, bars, signal),
      frames,
      fps,
      guidanceScale,
      negativePrompt,
    });
    const settings = {
      model,
      ...solverSettings(options, pipe.schedulerConfig),
      frames,
      fps,
      guidanceScale,
      negativePrompt,
      ...chosen(options, fullSteps, rehashSteps),
    };
    return { video: videos[0]!, seed: seeds[0]!, warnings, settings };
  } finally {
    await pipe.release();
  }
}

async function fromPicture(options: AnimateOptions, bars: Bars, signal: AbortSignal): Promise<Made> {
  const { model, fps = 7, guidance: maxGuidanceScale = 3, motion = 127, noise = 0.02 } = options;
  const picture = await readPicture(options.image!);
  const pipe = await openForPictures(options, bars, signal);
  try {
    const { videos, seeds, warnings, fullSteps, rehashSteps } = await pipe(picture, {
      ...common(options, bars, signal),
      fps,
      minGuidanceScale: Math.min(1, maxGuidanceScale),
      maxGuidanceScale,
      motionBucketId: motion,
      noiseAugStrength: noise,
      frames: options.frames,
    });
    const video: Animation = videos[0]!;
    const settings = {
      ...{
        model,
        ...solverSettings(options, pipe.schedulerConfig),
        frames: video.frames.length,
        fps,
        maxGuidanceScale,
        motion,
        noise,
      },
      ...chosen(options, fullSteps, rehashSteps),
    };
    return { video, seed: seeds[0]!, warnings, settings };
  } finally {
    await pipe.release();
  }
}

async function openForPictures(options: AnimateOptions, bars: Bars, signal: AbortSignal) {
  const opening = loading(options, bars, signal);
  const folder = await platform.resolveModel(options.model, opening);
  const { className } = await readModelIndex(folder);
  if (className === imageToVideoClass) {
    return ImageToVideoPipeline.fromFolder(folder, platform.runtime, forNetworks(opening));
  }
  throw new ArgumentError(
    `${options.model}: its class is ${className}, which begins at a prompt. --image is for models of ` +
      `${imageToVideoClass} (--model stabilityai/stable-video-diffusion-img2vid).`,
  );
}

/** The options for memory and steps, as settings that are stored with the video. */
function chosen({ memory, accelerate }: AnimateOptions, fullSteps: number, rehashSteps: number) {
  return {
    ...defined({ memory: memory?.text }),
    ...(accelerate !== undefined && accelerate !== "none" && { accelerate, fullSteps, rehashSteps }),
  };
}

function loading(options: AnimateOptions, bars: Bars, signal: AbortSignal) {
  return { ...loadingOf(options), signal, onDownload: bars.onDownload };
}

/** Options that both pipelines share. */
function common(options: AnimateOptions, bars: Bars, signal: AbortSignal) {
  const { width, height, memory } = options;
  const accelerate = methodOf(options, methods) as VideoAccelerate | undefined;
  return {
    ...samplerOf(options),
    ...{ width, height, memory: memory?.bytes, accelerate },
    onGroup: bars.onGroup,
    signal,
    onStep: bars.onStep,
    onDecode: bars.onDecode,
  };
}
