import { existsSync } from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import { dirname, extname } from "node:path";
import { Command, Option } from "commander";
import { version } from "../../package.json";
import { ArgumentError } from "../errors.ts";
import { type Accelerate, type AccelerationMethod, accelerations } from "../pipelines/acceleration.ts";
import { contactSheet, encodePng, type Picture } from "../pipelines/picture.ts";
import { type TextToImage, TextToImagePipeline } from "../pipelines/text-to-image.ts";
import type { GuidanceInterval } from "../sampling/guidance.ts";
import { parseSchedule } from "../sampling/step-policy.ts";
import { countBetween, numberBetween } from "./numbers.ts";
import {
  addOptions,
  defined,
  deviceOptions,
  guidanceIntervalOption,
  type LoadingOptions,
  loadingOf,
  modelOption,
  type SamplerOptions,
  type SizeOptions,
  samplerOf,
  samplerOptions,
  sizeOptions,
  solverSettings,
} from "./options.ts";
import { interruptible, ProgressBar } from "./terminal.ts";

interface GenerateOptions extends LoadingOptions, SamplerOptions, SizeOptions {
  out: string;
  negative: string;
  guidanceInterval?: GuidanceInterval;
  count: number;
  accelerate?: AccelerationMethod;
  schedule?: string;
  threshold?: number;
  json?: boolean;
}

export function generateCommand(): Command {
  const command = new Command("generate")
    .description("a picture from text")
    .argument("<prompt>", "what the picture shows")
    .option("-o, --out <file>", "PNG file to write", "out.png")
    .addOption(modelOption("fluent-emoji"))
    .option("--negative <prompt>", "what the picture should not show", "")
    .option(
      "--count <n>",
      "pictures, with seeds one after the other, and a contact sheet of them",
      countBetween(1, 256),
      1,
    );
  addOptions(
    command,
    samplerOptions(20, "how closely to follow the prompt; at most 1 is without guidance (the model's own)"),
  )
    .addOption(guidanceIntervalOption())
    .addOption(
      new Option("--accelerate <method>", "do steps in part (ilf where the model has a feedback module)").choices(
        accelerations,
      ),
    )
    .option(
      "--schedule <steps>",
      'ilf, cache, taylorseer: full steps; "2" every second, "2:3:1" and 3 first and 1 last',
    )
    .option("--threshold <change>", "ilf, first-block, easycache: change that is let pass", numberBetween(0, 1e6));
  return addOptions(command, [...sizeOptions(), ...deviceOptions()])
    .option("--json", "print what was made as JSON")
    .action(generate);
}

async function generate(prompt: string, options: GenerateOptions): Promise<void> {
  if (extname(options.out).toLowerCase() !== ".png") {
    throw new ArgumentError(`--out ${options.out}: pictures are written as PNG, so its name must end in .png.`);
  }
  const folder = dirname(options.out);
  if (!existsSync(folder)) throw new ArgumentError(`--out ${options.out}: there is no folder ${folder}.`);
  await interruptible("nothing was written.", (signal) => run(prompt, options, signal));
}

async function run(prompt: string, options: GenerateOptions, signal: AbortSignal): Promise<void> {
  const started = performance.now();
  const { model, count, width, height, negative } = options;
  const pipe = await load(options, signal);
  const { guidance: guidanceScale = pipe.guidanceScale, guidanceInterval = pipe.guidanceInterval } = options;
  const bar = new ProgressBar("{bar} {value}/{total} steps, {eta_formatted} left");
  try {
    let firstStep = started;
    const { images, seeds, warnings, accelerate, fullSteps, innerSteps } = await pipe(prompt, {
      ...samplerOf(options),
      ...defined({ width, height }),
      guidanceScale,
      guidanceInterval,
      count,
      negativePrompt: negative,
      ...accelerationOf(options),
      signal,
      onStep: ({ index, steps: total }) => {
        if (index === 0) firstStep = performance.now();
        bar.show(index + 1, total);
      },
    });
    bar.stop();
    for (const warning of warnings) console.error(`Note: ${warning}`);
    const settings = {
      ...{ model, ...solverSettings(options), guidanceScale, guidanceInterval, negativePrompt: negative },
      ...{ accelerate, fullSteps, innerSteps },
    };
    const files = await save(images, seeds, options.out, prompt, settings);
    const seconds = (performance.now() - started) / 1000;
    if (options.json) {
      const toFirstStep = +((firstStep - started) / 1000).toFixed(3);
      console.log(
        JSON.stringify({ prompt, ...settings, seeds, files, warnings, seconds: +seconds.toFixed(3), toFirstStep }),
      );
    } else {
      console.log(
        `${files.join(", ")} (seed ${seeds[0]}${count > 1 ? ` to ${seeds.at(-1)}` : ""}, ${seconds.toFixed(1)} s)`,
      );
    }
  } finally {
    bar.stop();
    await pipe.release();
  }
}

function accelerationOf({ accelerate, schedule, threshold }: GenerateOptions): { accelerate?: Accelerate } {
  if (schedule === undefined && threshold === undefined) return accelerate ? { accelerate } : {};
  if (!accelerate) {
    throw new ArgumentError("--schedule and --threshold are settings of a method: say which with --accelerate.");
  }
  return {
    accelerate: {
      method: accelerate,
      ...(schedule === undefined ? {} : { schedule: parseSchedule(schedule) }),
      ...defined({ threshold }),
    },
  };
}

async function load(options: GenerateOptions, signal: AbortSignal): Promise<TextToImage> {
  const bar = new ProgressBar("downloading {bar} {percentage} %, {eta_formatted} left");
  try {
    return await TextToImagePipeline.fromPretrained(options.model, {
      ...loadingOf(options),
      signal,
      // What is there already is told of too, at once.
      onDownload: ({ loaded, total }) => {
        if (loaded < total) bar.show(loaded, total);
      },
    });
  } finally {
    bar.stop();
  }
}

/** One picture under the name that was given; of several the contact sheet, and each under the name with a number. */
async function save(
  images: readonly Picture[],
  seeds: readonly number[],
  out: string,
  prompt: string,
  settings: Readonly<Record<string, unknown>>,
): Promise<string[]> {
  const text = (seed: string) => ({
    Software: `halfstep ${version}`,
    prompt,
    seed,
    settings: JSON.stringify(settings),
  });
  if (images.length === 1) {
    await writeWhole(out, encodePng(images[0]!, text(String(seeds[0]))));
    return [out];
  }
  const stem = out.slice(0, -extname(out).length);
  const files: string[] = [];
  for (const [i, image] of images.entries()) {
    const file = `${stem}-${String(i + 1).padStart(String(images.length).length, "0")}.png`;
    await writeWhole(file, encodePng(image, text(String(seeds[i]))));
    files.push(file);
  }
  await writeWhole(out, encodePng(contactSheet(images), text(seeds.join(" "))));
  return [out, ...files];
}

/** Never a half-written file under the name that was asked for. */
async function writeWhole(file: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, bytes);
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
