import { Command, Option } from "commander";
import { platform } from "#platform";
import { ArgumentError } from "../../errors.ts";
import { checkFile, writeWhole } from "../../media/output-node.ts";
import { contactSheet } from "../../media/picture.ts";
import { checkEncoder, encodePicture, pictureFormat } from "../../media/picture-node.ts";
import { captionsFor } from "../../metrics/evaluate.ts";
import { Judge } from "../../metrics/judge.ts";
import { type TextToImage, TextToImagePipeline } from "../../pipelines/text-to-image.ts";
import { releaseAll } from "../../runtime/open-all.ts";
import { isList, parseSchedule, type Schedule } from "../../sampling/step-policy.ts";
import { tellEstimate } from "../estimate.ts";
import { printResult } from "../json.ts";
import { machine, printMachine } from "../machine.ts";
import { countBetween, numberBetween } from "../numbers.ts";
import {
  about,
  addOptions,
  type OutputOptions,
  outputOptions,
  revisionOption,
  type SourceOptions,
  sourceOf,
  threadsOption,
  variantOption,
} from "../options.ts";
import { interruptible, note, ProgressBar, print } from "../terminal.ts";
import { benchGeometry, benchTraining, geometries } from "./ilf-geometry.ts";
import { IN_A_ROW, MODES, type Mode, modesAtEqualTime, PROMPTS } from "./ilf-modes.ts";
import { type Measured, type Row, score } from "./ilf-scores.ts";
import { timed } from "./turns.ts";

interface Options extends SourceOptions, OutputOptions {
  model: string;
  samples: number;
  steps: number;
  guidance?: number;
  seed: number;
  schedule?: string;
  also?: string[];
  geometry?: string;
  train?: boolean;
  rounds: number;
  threads?: number;
  sheet?: string;
}

export function benchIlfCommand(): Command {
  const command = new Command("ilf")
    .description("Inner Loop Feedback beside fewer steps and training-free caches, at equal time")
    .option("-m, --model <name>", "model with a feedback module", "fluent-emoji")
    .option("--samples <n>", "pictures of each mode", countBetween(2, 100_000), 512)
    .option("--steps <n>", "solver steps", countBetween(2, 1000), 20)
    .option("--guidance <scale>", "how closely to follow the prompt (the model's own)", numberBetween(0, 100))
    .option("--schedule <steps>", "ILF's full steps (its own)")
    .option("--also <schedules...>", "ILF with these schedules too")
    .option("--seed <n>", "of the first picture", countBetween(0, 2 ** 31), 0)
    .addOption(
      new Option("--geometry <name>", "time alone, of a network of this size with random weights").choices(geometries),
    )
    .option("--train", "with --geometry: one update of a feedback module instead")
    .option("--rounds <n>", "with --geometry: how often each kind of step is timed", countBetween(1, 1000), 5)
    .option("--sheet <file>", "picture of the first 8 prompts in all modes: .png, .jpg or .webp")
    .addOption(variantOption())
    .addOption(revisionOption())
    .addOption(threadsOption());
  return addOptions(command, outputOptions("the rows")).action(run);
}

async function run(options: Options): Promise<void> {
  await checkSheet(options.sheet);
  if (!options.json) await printMachine(machine(), options.seed);
  if (options.geometry) {
    await (options.train ? benchTraining : benchGeometry)(options.geometry, options);
    return;
  }
  await interruptible("not all pictures were made, so there are no figures.", (signal) => compare(options, signal));
}

async function checkSheet(file: string | undefined): Promise<void> {
  if (file === undefined) return;
  await about("--sheet", async () => {
    const format = pictureFormat(file);
    await checkFile(file);
    await checkEncoder(format);
  });
}

async function compare(options: Options, signal: AbortSignal): Promise<void> {
  const { samples, seed, steps, threads } = options;
  const session = threads ? { threads } : {};
  // Estimate before minutes are spent on finding the thresholds of the other methods.
  const also = (options.also ?? []).map((text) => scheduleFor(text, steps));
  const open = () => TextToImagePipeline.fromPretrained(options.model, { ...session, ...sourceOf(options) });
  const judge = await Judge.open(await platform.resolveModel("emoji-align"), platform.runtime, session);
  const reference = await judge.reference();
  const prompts = captionsFor(reference, samples).map((caption) => reference.captions[caption]!.text);
  const ilf = {
    method: "ilf" as const,
    schedule: options.schedule === undefined ? undefined : scheduleFor(options.schedule, steps),
  };
  const first = await open();
  const guidanceScale = options.guidance ?? first.guidanceScale;
  await estimate(first, prompts, { steps, guidanceScale, signal }, also.length);
  await first.release();
  const setting = new ProgressBar("{bar} setting rivals to the time of ILF, {value} of {total}");
  const modes = await modesAtEqualTime(open, prompts, { steps, guidanceScale, ilf, signal }, (done, total) => {
    setting.show(done, total);
  }).finally(() => setting.stop());

  for (const [i, schedule] of also.entries()) {
    modes.push({ name: `ILF ${options.also![i]!}`, steps, acceleration: { method: "ilf", schedule } });
  }

  let made = 0;
  const bar = new ProgressBar("{bar} {value}/{total} images, {eta_formatted} left");
  const pipes = await Promise.all(modes.map(open));
  const measured = modes.map((mode): Measured => ({ mode, pictures: [], seconds: [], fullSteps: 0 }));
  try {
    for (let from = 0; from < samples; from += IN_A_ROW) {
      // The modes take turns, and another one starts each time, so that a noisy machine affects all of them equally.
      for (let turn = 0; turn < modes.length; turn++) {
        const i = (from / IN_A_ROW + turn) % modes.length;
        const draw = (sample: number) =>
          pipes[i]!(prompts[sample]!, settingsOf(modes[i]!, guidanceScale, seed + sample));
        const row = measured[i]!;
        // Not counted: it compiles the pipeline, or fetches its weights back into the processor's caches.
        await draw(from);
        for (let sample = from; sample < Math.min(from + IN_A_ROW, samples); sample++) {
          signal.throwIfAborted();
          bar.show(made++, modes.length * samples);
          const start = performance.now();
          const result = await draw(sample);
          row.seconds.push((performance.now() - start) / 1000);
          row.pictures.push(result.images[0]!);
          row.fullSteps += result.fullSteps / samples;
        }
      }
    }
  } finally {
    bar.stop();
    await releaseAll(pipes);
  }
  const rows = await score(measured, judge, samples);
  await judge.release();
  if (options.sheet) await writeSheet(options.sheet, measured, options.force ?? false);
  if (options.json) await printResult("bench ilf", reportOf(options, rows));
  else await print(table(rows));
}

/** The output of --json. */
export const reportOf = (
  { model, steps, seed, samples }: Pick<Options, "model" | "steps" | "seed" | "samples">,
  rows: readonly Row[],
) => ({ model, machine: machine(), steps, seed, samples, rows });

/**
 * How many images it takes to set the other methods, per prompt: thresholds are found by bisection, one to four times. It
 * is about 75 if the machine is quiet and times agree at once, and twice as many if it is busy; this is in between.
 */
const PICTURES_TO_SET = 105;
/** Approximate time of a mode's images relative to full steps: most modes take ILF's time, one has 50 steps. */
const SHARE_OF_FULL = 0.75;

/** Estimates how long everything will take, from two images. */
async function estimate(
  pipe: TextToImage,
  prompts: readonly string[],
  settings: { steps: number; guidanceScale: number; signal: AbortSignal },
  also: number,
): Promise<void> {
  const draw = () => timed(() => pipe(prompts[0]!, { ...settings, seed: 0, accelerate: "none" }));
  // The first image compiles.
  await draw();
  const seconds = (SHARE_OF_FULL * (await draw())) / 1000;
  const modes = MODES + also;
  const turns = Math.ceil(prompts.length / IN_A_ROW);
  const pictures = PICTURES_TO_SET * Math.min(PROMPTS, prompts.length) + modes * (prompts.length + turns);
  tellEstimate(seconds * pictures, `${prompts.length} pictures in each of ${modes} modes, once the rivals are set`);
}

function scheduleFor(text: string, steps: number): Schedule {
  const schedule = parseSchedule(text);
  if (!isList(schedule) || schedule.length === steps) return schedule;
  throw new ArgumentError(`"${text}" is a schedule for ${schedule.length} steps; there are ${steps} (--steps).`);
}

const settingsOf = ({ steps, acceleration }: Mode, guidanceScale: number, seed: number) => ({
  steps,
  guidanceScale,
  seed,
  accelerate: acceleration,
});

/** The first 8 prompts, one row per mode. */
async function writeSheet(file: string, measured: readonly Measured[], overwrite: boolean): Promise<void> {
  const rows = measured.flatMap(({ pictures }) => pictures.slice(0, 8));
  const name = await writeWhole(file, await encodePicture(contactSheet(rows, 8), pictureFormat(file)), { overwrite });
  note(`${name}: the first 8 prompts in all modes`);
}

/** Columns of the table, and how many digits they have. */
const scores = [
  ["fdData", 4],
  ["fdReference", 5],
  ["psnr", 2],
  ["ssim", 4],
  ["alignment", 4],
] as const;

function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.mode,
    row.fullSteps.toFixed(1),
    row.secondsPerImage.toFixed(3),
    `${row.speedup.toFixed(2)}x`,
    ...scores.map(([name, digits]) => {
      const [low, high] = row.intervals[name].map((value) => value.toFixed(digits));
      return `${row[name].toFixed(digits)} (${low}-${high})`;
    }),
  ]);
  const lines = [
    ["mode", "full steps", "s/picture", "speed-up", "fdData", "fdReference", "PSNR", "SSIM", "alignment"],
    ...cells,
  ];
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) => line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  "))
    .join("\n");
}
