import { Command, Option } from "commander";
import { platform } from "#platform";
import { version } from "../../package.json";
import { ArgumentError } from "../errors.ts";
import type { Animation } from "../pipelines/animation.ts";
import { checkDestination, writeAnimation } from "../pipelines/animation-node.ts";
import { ImageToVideoPipeline } from "../pipelines/image-to-video.ts";
import { readPicture } from "../pipelines/picture-node.ts";
import { guidanceStepsChoices, type VideoAccelerate, videoAccelerations } from "../pipelines/streamlined.ts";
import { TextToVideoPipeline } from "../pipelines/text-to-video.ts";
import type { SamplerStep } from "../sampling/sampler.ts";
import { parseSchedule, type StepContext } from "../sampling/step-policy.ts";
import { describeBytes, parseBytes } from "../streamlined/bytes.ts";
import type { GroupProgress } from "../streamlined/session.ts";
import { hasSteadyAllocator } from "./memory.ts";
import { countBetween, numberBetween } from "./numbers.ts";
import {
  addOptions,
  defined,
  deviceOptions,
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

interface AnimateOptions extends LoadingOptions, SamplerOptions, SizeOptions {
  out: string;
  adapter?: string;
  image?: string;
  negative: string;
  frames?: number;
  fps?: number;
  motion?: number;
  noise?: number;
  memory?: string;
  accelerate: (typeof videoAccelerations)[number];
  schedule?: string;
  cut?: string;
  guidanceSteps?: (typeof guidanceStepsChoices)[number];
  json?: boolean;
}

export function animateCommand(): Command {
  const command = new Command("animate")
    .description("a moving picture from text, or from a picture")
    .argument("[prompt]", "what it shows (AnimateDiff)")
    .option("-o, --out <name>", "file to write, .gif, .webp or .mp4, or a folder (frames/) for PNG files", "out.gif")
    .addOption(modelOption("fluent-emoji-motion"))
    .option("--adapter <name>", "motion adapter that makes a Stable Diffusion model one of videos: folder or Hub id")
    .option("--image <file>", "the picture that it begins at, instead of a prompt (Stable Video Diffusion)")
    .option("--negative <prompt>", "what it should not show", "")
    .option("--frames <n>", "how many (16; of a picture what the model was trained with)", countBetween(1, 1024))
    .option("--fps <n>", "frames a second (8; of a picture 7, and the model is told)", numberBetween(0.1, 50));
  const guidance = "how closely to follow the prompt (the model's own, or 7.5), or the picture at the end (3)";
  addOptions(command, samplerOptions(25, guidance))
    .option("--motion <bucket>", "of a picture: how much is to move (127)", countBetween(0, 1023))
    .option("--noise <strength>", "of a picture: how far the video may go from it (0.02)", numberBetween(0, 10));
  addOptions(command, sizeOptions())
    .option("--memory <amount>", 'what it may take in all: "6GB", "800MB" (as much as it likes)')
    .addOption(
      new Option("--accelerate <method>", "do steps in part: Step Rehash")
        .choices([...videoAccelerations])
        .default("none"),
    )
    .option(
      "--schedule <steps>",
      'with rehash: full steps; "2" every second, "3:7" every third and the first 7, "frrf" these (3:7 for 25 steps)',
    )
    .option("--cut <feature>", "with rehash: where such a step comes back in (rehash-profile proposes one)")
    .addOption(
      new Option(
        "--guidance-steps <which>",
        "with rehash: work out both halves of guidance at full steps only, or at all (full; the others then cost half)",
      ).choices([...guidanceStepsChoices]),
    );
  return addOptions(command, deviceOptions()).option("--json", "print what was made as JSON").action(animate);
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
  const { schedule, cut, guidanceSteps } = options;
  if ([schedule, cut, guidanceSteps].some((value) => value !== undefined) && options.accelerate !== "rehash") {
    throw new ArgumentError(
      "--schedule, --cut and --guidance-steps say how steps are done in part; they go with --accelerate rehash.",
    );
  }
  if (options.memory !== undefined) {
    parseBytes(options.memory);
    if (!(await hasSteadyAllocator())) return;
  }
  // Before hours are spent on what cannot be written.
  await checkDestination(options.out);
  await interruptible("nothing was written.", (signal) => run(prompt, options, signal));
}

/** What either pipeline made, and what it was asked for. */
interface Made {
  video: Animation;
  seed: number;
  warnings: readonly string[];
  settings: Readonly<Record<string, unknown>>;
}

async function run(prompt: string | undefined, options: AnimateOptions, signal: AbortSignal): Promise<void> {
  const started = performance.now();
  const bars = new Bars(started);
  try {
    const make =
      prompt === undefined ? fromPicture : (...rest: [AnimateOptions, Bars, AbortSignal]) => fromText(prompt, ...rest);
    const { video, seed, warnings, settings } = await make(options, bars, signal);
    bars.stop();
    for (const warning of warnings) console.error(`Note: ${warning}`);
    const text = {
      Software: `halfstep ${version}`,
      ...(prompt === undefined ? {} : { prompt }),
      seed: String(seed),
      settings: JSON.stringify(settings),
    };
    const files = await writeAnimation(options.out, video, { text, signal });
    const seconds = +((performance.now() - started) / 1000).toFixed(3);
    if (options.json) {
      const subject = prompt === undefined ? { image: options.image } : { prompt };
      console.log(
        JSON.stringify({ ...subject, ...settings, seed, files, warnings, seconds, toFirstStep: bars.toFirstStep }),
      );
    } else {
      const where = files.length > 1 ? `${files.length} frames in ${options.out}` : files[0];
      console.log(`${where} (${video.frames.length} frames, seed ${seed}, ${seconds.toFixed(1)} s)`);
    }
  } finally {
    bars.stop();
  }
}

async function fromText(prompt: string, options: AnimateOptions, bars: Bars, signal: AbortSignal): Promise<Made> {
  const { model, frames = 16, fps = 8, negative: negativePrompt } = options;
  const pipe = await TextToVideoPipeline.fromPretrained(model, {
    ...loading(options, bars, signal),
    ...(options.adapter ? { motionAdapter: options.adapter } : {}),
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
      ...solverSettings(options),
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
  const pipe = await ImageToVideoPipeline.fromPretrained(model, loading(options, bars, signal));
  try {
    const { videos, seeds, fullSteps, rehashSteps } = await pipe(picture, {
      ...common(options, bars, signal),
      fps,
      minGuidanceScale: Math.min(1, maxGuidanceScale),
      maxGuidanceScale,
      motionBucketId: motion,
      noiseAugStrength: noise,
      ...(options.frames ? { frames: options.frames } : {}),
    });
    const [video] = videos as [Animation];
    const settings = {
      ...{ model, ...solverSettings(options), frames: video.frames.length, fps, maxGuidanceScale, motion, noise },
      ...chosen(options, fullSteps, rehashSteps),
    };
    return { video, seed: seeds[0]!, warnings: [], settings };
  } finally {
    await pipe.release();
  }
}

/** What was asked of memory and steps, as settings that are kept with the video. */
function chosen({ memory, accelerate }: AnimateOptions, fullSteps: number, rehashSteps: number) {
  return {
    ...(memory === undefined ? {} : { memory }),
    ...(accelerate === "none" ? {} : { accelerate, fullSteps, rehashSteps }),
  };
}

function loading(options: AnimateOptions, bars: Bars, signal: AbortSignal) {
  return { ...loadingOf(options), signal, onDownload: bars.onDownload };
}

/** What both pipelines are asked in the same words. */
function common(options: AnimateOptions, bars: Bars, signal: AbortSignal) {
  const { width, height, memory, accelerate: method } = options;
  const { schedule, cut, guidanceSteps } = options;
  const accelerate: VideoAccelerate =
    method === "rehash"
      ? {
          method,
          ...(schedule ? { schedule: parseSchedule(schedule) } : {}),
          ...(cut ? { cut } : {}),
          ...(guidanceSteps ? { guidanceSteps } : {}),
        }
      : method;
  return {
    ...samplerOf(options),
    ...defined({ width, height, memory }),
    accelerate,
    onGroup: bars.onGroup,
    signal,
    onStep: bars.onStep,
    onDecode: bars.onDecode,
  };
}

/** One bar after the other: what is downloaded, the steps, the frames that are decoded. */
class Bars {
  readonly #started: number;
  readonly #download = new ProgressBar("downloading {bar} {percentage} %, {eta_formatted} left");
  readonly #steps = new ProgressBar("{bar} {value}/{total} steps, {eta_formatted} left{now}");
  readonly #frames = new ProgressBar("{bar} {value}/{total} frames, {eta_formatted} left");
  /** Seconds from the start of the command to the end of the first step. */
  toFirstStep: number | null = null;

  constructor(started: number) {
    this.#started = started;
  }

  readonly onDownload = ({ loaded, total }: { loaded: number; total: number }): void => {
    // What is there already is told of too, at once.
    if (loaded < total) this.#download.show(loaded, total);
  };

  readonly onStep = ({ index, steps }: SamplerStep): void => {
    this.#download.stop();
    this.toFirstStep ??= +((performance.now() - this.#started) / 1000).toFixed(3);
    this.#steps.show(index + 1, steps, { now: "" });
  };

  /** Steps that are done by a plan take long enough to say where they are. */
  readonly onGroup = ({ index, steps, group, groupIndex, groups }: GroupProgress & StepContext): void => {
    this.#download.stop();
    const memory = describeBytes(platform.runtime.residentMemory() ?? 0);
    const place = `group ${groupIndex + 1} of ${groups} (${group.split(" to ")[0]})`;
    this.#steps.show(index, steps, { now: `, ${place}, ${memory} in use` });
  };

  readonly onDecode = ({ done, total }: { done: number; total: number }): void => {
    this.#steps.stop();
    this.#frames.show(done, total);
  };

  stop(): void {
    for (const bar of [this.#download, this.#steps, this.#frames]) bar.stop();
  }
}
