import { Command, InvalidArgumentError, Option } from "commander";
import { type Accelerate, pictureKinds } from "../acceleration/acceleration.ts";
import { methodsFor } from "../acceleration/methods.ts";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { readPicture } from "../media/picture-node.ts";
import { defined } from "../options/defined.ts";
import { addTextOptions, addXlOptions, type GenerateOptions, ofPrompt, promptFlag } from "./generate-options.ts";
import { GenerateReport } from "./generate-report.ts";
import { hasSteadyAllocator } from "./memory.ts";
import { methodHelp, methodOf, methodOptions } from "./method-options.ts";
import { countBetween, numberBetween } from "./numbers.ts";
import {
  addOptions,
  clipSkipOption,
  deviceOptions,
  guidanceIntervalOption,
  guidanceRescaleOption,
  memoryOption,
  modelOption,
  outputOptions,
  promptsOption,
  samplerOf,
  samplerOptions,
  sizeOptions,
  solverSettings,
  vaeOption,
} from "./options.ts";
import { openPainter, type Painter } from "./painter.ts";
import { PictureFiles } from "./picture-files.ts";
import { readPrompts } from "./prompts.ts";
import { interruptible, ProgressBar, showStatus } from "./terminal.ts";

/** Methods for networks that make images. */
const methods = methodsFor(...pictureKinds);

export function generateCommand(): Command {
  const command = new Command("generate")
    .description("pictures from text, or of a class (DiT)")
    .argument("[prompts...]", "what the picture shows; of each prompt a picture")
    .optionsGroup("What:")
    .addOption(promptsOption())
    .option(
      "--class <names...>",
      'of a DiT model: classes by number, or by name where it has names ("tabby cat"), instead of prompts',
    )
    .addOption(new Option("--negative <prompt>", "what the picture should not show").default("", "nothing"))
    .option("--image <file>", "an image to begin at, instead of at noise")
    .option(
      "--strength <share>",
      "how much of the image may change, up to 1 (0.8; XL 0.3; with a mask all)",
      strengthOf,
    )
    .option("--mask <file>", "where the image may change: white; of the image's size")
    .option("--count <n>", "pictures of each prompt, with seeds one after the other", countBetween(1, 256), 1)
    .option("--no-clean-caption", "leave addresses, markup and brackets in the prompt")
    .optionsGroup("Model:")
    .addOption(modelOption("fluent-emoji"))
    .addOption(vaeOption());
  addOptions(command, deviceOptions()).optionsGroup("Sampling:");
  const guidance = "how closely to follow the prompt; at most 1 is without guidance (the model's own)";
  addOptions(command, samplerOptions("the model's own: 20, 50 or 4", guidance))
    .addOption(guidanceIntervalOption())
    .addOption(guidanceRescaleOption())
    .addOption(clipSkipOption());
  addOptions(addTextOptions(command), sizeOptions()).option(
    "--no-resolution-binning",
    "draw at the size asked for, not at the nearest trained size that is then fitted to it",
  );
  addXlOptions(command).optionsGroup("Speed:");
  addOptions(command, methodOptions(methods, "ilf where the model has a feedback module"))
    .addOption(memoryOption())
    .optionsGroup("Output:")
    .option(
      "-o, --out <file>",
      ".png, .jpg or .webp; out-2.png where there is an out.png; of several out-1.png, ...; - is stdout",
      "out.png",
    )
    .option("--no-sheet", "no contact sheet of several pictures (out-sheet.png)");
  command.addHelpText("after", methodHelp(methods));
  return addOptions(command, outputOptions("what was made")).action(generate);
}

async function generate(given: string[], options: GenerateOptions): Promise<void> {
  const prompts = await promptsOf(given, options);
  const accelerate = methodOf(options, methods) as Accelerate | undefined;
  if (options.memory && !(await hasSteadyAllocator())) return;
  const files = await PictureFiles.open(options.out, options.count * (options.class ?? prompts).length, options);
  await interruptible(
    () => files.kept,
    (signal) => run({ prompts, options, files, signal, accelerate }),
  );
}

/** The prompts; none if classes are given. */
async function promptsOf(given: readonly string[], options: GenerateOptions): Promise<readonly string[]> {
  if (!options.class) return readPrompts(given, options.prompts);
  if (given.length > 0 || options.prompts !== undefined) {
    throw new ArgumentError("Pictures are of prompts or of classes (--class), not of both.");
  }
  if (options.negative !== "") throw new ArgumentError("--negative goes with a prompt; classes have none.");
  const flag = promptFlag(options);
  if (flag) throw new ArgumentError(`${flag} goes with a prompt; models of classes do not have it.`);
  if (options.width !== undefined || options.height !== undefined) {
    throw new ArgumentError("--width and --height go with a prompt; a model of classes has one size.");
  }
  return [];
}

interface Job {
  prompts: readonly string[];
  options: GenerateOptions;
  files: PictureFiles;
  accelerate?: Accelerate;
  signal: AbortSignal;
}

async function run({ prompts, options, files, accelerate, signal }: Job): Promise<void> {
  const pictures = await readPictures(options);
  showStatus(`loading ${options.model}`);
  const report = new GenerateReport(options, files);
  const painter = await openPainter(options, prompts, signal);
  const bar = new ProgressBar("{bar} {value}/{total} steps, {eta_formatted} left");
  const { guidance: guidanceScale = painter.guidanceScale, guidanceInterval = painter.guidanceInterval } = options;
  const { width, height } = options;
  const solver = solverSettings(options, painter.schedulerConfig, painter.steps);
  report.settings = { ...solver, guidanceScale, guidanceInterval };
  try {
    const parts = partsOf(painter, { ...sidesOf(pictures.image), ...options });
    // Warn before an image that may take hours.
    const most = Math.max(...parts.map(({ count }) => count));
    report.warn(painter.sizeWarnings({ ...defined({ width, height, image: pictures.image }), count: most }));
    for (const [i, { subject, seed, count }] of parts.entries()) {
      const painted = await painter.paint(subject, {
        ...samplerOf({ ...options, steps: options.steps ?? painter.steps, seed }),
        ...defined({ accelerate, width, height }),
        // Stable Diffusion XL uses zeros if no negative prompt is given.
        ...("prompt" in subject && { ...ofPrompt(options), negativePrompt: options.negative || undefined }),
        ...defined({ ...pictures, memory: options.memory?.bytes }),
        ...{ guidanceScale, guidanceInterval, count, signal },
        onStep: ({ index, steps }) => {
          report.stepped();
          bar.show(i * steps + index + 1, parts.length * steps);
        },
      });
      bar.pause();
      await report.add(subject, painted);
    }
    bar.stop();
    await report.finish();
  } finally {
    bar.stop();
    await painter.release();
  }
}

/** The image to start from, and its mask. */
async function readPictures({ image, mask }: GenerateOptions): Promise<{ image?: Picture; mask?: Picture }> {
  if (image === undefined && mask !== undefined) {
    throw new ArgumentError("--mask goes with --image: it says where that image may change.");
  }
  return {
    ...(image !== undefined && { image: await readPicture(image) }),
    ...(mask !== undefined && { mask: await readPicture(mask) }),
  };
}

const sidesOf = (image?: Picture) => (image ? { width: image.width, height: image.height } : {});

/** Above 0, as in the library. */
function strengthOf(text: string): number {
  const strength = numberBetween(0, 1)(text);
  if (strength > 0) return strength;
  throw new InvalidArgumentError("It must be a number above 0 and at most 1.");
}

/** The most pixels in one batch: more would not be faster, but take more memory. */
const PIXELS_TOGETHER = 2 ** 20;
const MOST_TOGETHER = 16;

/** Batches of images of one prompt or class; each image has the seed that it would have alone. */
function partsOf({ subjects, side }: Painter, { count, width = side, height = side, seed }: GenerateOptions) {
  const together = Math.min(MOST_TOGETHER, Math.max(1, Math.floor(PIXELS_TOGETHER / (width * height))));
  const first = seed ?? Math.floor(Math.random() * 2 ** 32);
  return subjects.flatMap((subject) =>
    Array.from({ length: Math.ceil(count / together) }, (_, part) => ({
      subject,
      seed: first + part * together,
      count: Math.min(together, count - part * together),
    })),
  );
}
