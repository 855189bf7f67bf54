import { Command, Option } from "commander";
import { methodsFor } from "../acceleration/methods.ts";
import type { VideoAccelerate } from "../acceleration/video-options.ts";
import { ArgumentError } from "../errors.ts";
import type { AnimateOptions } from "./animate-options.ts";
import { Bars } from "./animate-progress.ts";
import { AnimateReport } from "./animate-report.ts";
import { openAnimator } from "./animator.ts";
import { flagOf, promptWeightsOption, xlOptions } from "./generate-options.ts";
import { hasSteadyAllocator } from "./memory.ts";
import { methodHelp, methodOf, methodOptions } from "./method-options.ts";
import { countBetween, numberBetween } from "./numbers.ts";
import {
  addOptions,
  clipSkipOption,
  deviceOptions,
  guidanceRescaleOption,
  memoryOption,
  modelOption,
  outputOptions,
  promptsOption,
  samplerOptions,
  sizeOptions,
} from "./options.ts";
import { promptOptions } from "./prompt-options.ts";
import { readPrompts } from "./prompts.ts";
import { interruptible, showStatus } from "./terminal.ts";
import { VideoFiles } from "./video-files.ts";

/** Methods for networks that make videos. */
const methods = methodsFor("video-unet");

export function animateCommand(): Command {
  const command = new Command("animate")
    .description("a video from text, or from a picture")
    .argument("[prompts...]", "what it shows (AnimateDiff); of each prompt a video")
    .optionsGroup("What:")
    .addOption(promptsOption())
    .option("--image <file>", "the picture that it begins at, instead of a prompt (Stable Video Diffusion)")
    .addOption(new Option("--negative <prompt>", "what it should not show").default("", "nothing"))
    .option("--count <n>", "videos of each prompt, with seeds one after the other", countBetween(1, 256), 1)
    .option("--frames <n>", "how many (16; of a picture what the model was trained with)", countBetween(1, 1024))
    .option("--fps <n>", "frames a second (8; of a picture 7, and the model is told)", numberBetween(0.01, 1000))
    .option("--motion <bucket>", "of a picture: how much is to move (127)", countBetween(0, 1023))
    .option("--noise <strength>", "of a picture: how far the video may go from it (0.02)", numberBetween(0, 10))
    .optionsGroup("Model:")
    .addOption(modelOption("fluent-emoji-motion"))
    .option(
      "--adapter <name>",
      "motion adapter that makes a Stable Diffusion model one of videos: folder, .safetensors file or Hub id",
    );
  addOptions(command, deviceOptions()).optionsGroup("Sampling:");
  const guidance = "how closely to follow the prompt (the model's own, or 7.5; XL 5), or the picture at the end (3)";
  addOptions(command, samplerOptions(25, guidance));
  addOptions(command, [
    guidanceRescaleOption(),
    clipSkipOption(),
    promptWeightsOption(),
    ...sizeOptions(),
  ]).optionsGroup("Stable Diffusion XL:");
  addOptions(command, xlOptions("video")).optionsGroup("Speed and memory:").addOption(memoryOption());
  addOptions(command, methodOptions(methods, "none"))
    .optionsGroup("Output:")
    .option(
      "-o, --out <name>",
      ".gif, .webp or .mp4, or a folder (frames/) for PNG files; out-2.gif where there is an out.gif; of several out-1.gif, ...; - is a GIF on stdout",
      "out.gif",
    );
  command.addHelpText("after", methodHelp(methods));
  return addOptions(command, outputOptions("what was made")).action(animate);
}

async function animate(given: string[], options: AnimateOptions): Promise<void> {
  const prompts = await promptsOf(given, options);
  // Checked before a model is opened.
  const accelerate = methodOf(options, methods) as VideoAccelerate | undefined;
  if (options.memory && !(await hasSteadyAllocator())) return;
  // Opened first, so that hours of work do not end in a file that cannot be written.
  const files = await VideoFiles.open(options.out, options.count * Math.max(1, prompts.length), options);
  await interruptible(
    () => files.kept,
    (signal) => run({ prompts, options, accelerate, files, signal }),
  );
}

/** The prompts; none if the videos begin at a picture. */
async function promptsOf(given: readonly string[], options: AnimateOptions): Promise<readonly string[]> {
  const { image, prompts, motion, noise } = options;
  if ((given.length > 0 || prompts !== undefined) === (image !== undefined)) {
    throw new ArgumentError("animate needs a prompt, or --image with a picture to begin at, and not both.");
  }
  if (image === undefined) {
    if (motion === undefined && noise === undefined) return readPrompts(given, prompts);
    throw new ArgumentError("--motion and --noise go with --image; a video from a prompt has neither.");
  }
  const other =
    options.negative !== ""
      ? "negative"
      : (["adapter", ...promptOptions] as const).find((name) => options[name] !== undefined);
  if (other === undefined) return [];
  throw new ArgumentError(`${flagOf(other)} goes with a prompt; a video that begins at a picture does not have it.`);
}

interface Job {
  prompts: readonly string[];
  options: AnimateOptions;
  accelerate: VideoAccelerate | undefined;
  files: VideoFiles;
  signal: AbortSignal;
}

async function run({ prompts, options, accelerate, files, signal }: Job): Promise<void> {
  const started = performance.now();
  const bars = new Bars(started, files.count);
  const report = new AnimateReport(files, { json: options.json, started });
  showStatus(`loading ${options.model}`);
  try {
    const animator = await openAnimator(prompts, options, { accelerate, bars, signal });
    try {
      const first = options.seed ?? Math.floor(Math.random() * 2 ** 32);
      for (const subject of animator.subjects) {
        for (let i = 0; i < options.count; i++) {
          bars.begin();
          const made = await animator.make(subject, first + i);
          bars.stop();
          await report.add(made, signal);
        }
      }
    } finally {
      await animator.release();
    }
    await report.finish(bars.toFirstStep);
  } finally {
    bars.stop();
  }
}
