import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Command, Option } from "commander";
import { platform } from "#platform";
import { readModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { NodeFolder } from "../checkpoints/node.ts";
import { writeSafetensors } from "../checkpoints/safetensors-node.ts";
import { ArgumentError } from "../errors.ts";
import { FEEDBACK_FILE, FeedbackCheckpoint } from "../ilf/checkpoint.ts";
import { flagsOf, moduleOf, rawFeedbackConfig } from "../ilf/config.ts";
import type { LossKind } from "../ilf/training/feedback-trainer.ts";
import { checkFolder } from "../media/output-node.ts";
import { blocksOf } from "../models/split-model.ts";
import { defined } from "../options/defined.ts";
import { ClassToImagePipeline } from "../pipelines/class-to-image.ts";
import { Distiller, type DistillProgress, type DistillSettings, distillable } from "../pipelines/distill.ts";
import { TextToImagePipeline } from "../pipelines/text-to-image.ts";
import { textToImageClasses } from "../pipelines/text-to-image-families.ts";
import { defaultSchedule, parseSchedule } from "../sampling/step-policy.ts";
import { resumeTraining, saveTraining } from "../training/checkpoint-node.ts";
import { printProgress, printResult } from "./json.ts";
import { countBetween, numberBetween } from "./numbers.ts";
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
} from "./options.ts";
import { readLines } from "./prompts.ts";
import { interruptible, ProgressBar, printUnlessQuiet, showStatus } from "./terminal.ts";

interface Options extends SourceOptions, OutputOptions {
  feedBlock?: number;
  resumeBlock?: number;
  schedule?: string;
  from?: string;
  steps: number;
  out?: string;
  captions?: string;
  learningRate: number;
  batch: number;
  samplingSteps: number;
  guidance?: number;
  featureLoss: number;
  pictures: number;
  reuse: number;
  memory: number;
  loss: LossKind;
  embeddingChange: boolean;
  trend: boolean;
  mixing: boolean;
  ownBlocks: boolean;
  lookAhead: number;
  seed: number;
  minutes: number;
  threads?: number;
  fresh?: boolean;
}

export function distillCommand(): Command {
  const command = new Command("distill")
    .description(
      "train a feedback module (ILF) for DiT, PixArt or Stable Diffusion 3, which makes half of its steps cheap",
    )
    .argument("[model]", "embedded model, folder in diffusers' layout, or Hub id", "fluent-emoji")
    .option("--feed-block <b>", "features are taken after so many blocks (all but two)", countBetween(1, 10_000))
    .option("--resume-block <r>", "and come back in after so many (the same)", countBetween(1, 10_000))
    .option(
      "--schedule <steps>",
      `which steps are full: "2" every second, "2:3:1" and the first 3 and last 1, "fif" these (${defaultSchedule})`,
    )
    .option("--from <folder>", "train this module further: its blocks and what it reads stay, and its schedule")
    .option("--steps <n>", "updates of the module's weights", countBetween(1, 10_000_000), 2000)
    .option("--out <folder>", "where the module goes (the folder ilf in the model's own)")
    .option("--captions <file>", "text file, a prompt a line, that trajectories are sampled for")
    .option("--learning-rate <rate>", "highest rate of AdamW", numberBetween(0, 1), 1e-3)
    .option("--batch <n>", "inner steps in a batch", countBetween(1, 65536), 32)
    .option("--sampling-steps <n>", "solver steps of the trajectories", countBetween(2, 1000), 20)
    .option("--guidance <scale>", "guidance of the trajectories (the pipeline's default)", numberBetween(0, 100))
    .option("--feature-loss <weight>", "weight of the features' error beside the output's", numberBetween(0, 1e6), 0)
    .option(
      "--look-ahead <share>",
      "lead this share of the way to a run of twice as many steps",
      numberBetween(0, 1),
      0,
    )
    .option("--pictures <n>", "pictures sampled together", countBetween(1, 65536), 16)
    .option("--reuse <n>", "how often an inner step is learned from, on average", numberBetween(0.01, 1e6), 4)
    .option("--memory <gigabytes>", "recorded steps that are kept", numberBetween(0.001, 10_000), 1)
    .addOption(
      new Option("--loss <kind>", "of a picture at a step: its mean squared error, or the root of it")
        .choices(["root", "square"])
        .default("root"),
    )
    .option("--no-embedding-change", "leave out the change of the patch embedding")
    .option("--no-trend", "leave out the features' change between the last two full steps")
    .option("--no-mixing", "add up what the module reads instead of mixing it by a learned matrix")
    .option(
      "--no-own-blocks",
      "leave the blocks after the module as they are in the backbone, instead of training copies",
    )
    .option("--minutes <n>", "stop after so long, with a checkpoint to go on from", numberBetween(0, 1e6), 1e6)
    .option("--seed <n>", "of trajectories and batches", countBetween(0, 2 ** 31), 0)
    .option("--fresh", "start anew even if there is a checkpoint")
    .addOption(variantOption())
    .addOption(revisionOption())
    .addOption(threadsOption());
  return addOptions(command, outputOptions("progress and result")).action(run);
}

async function run(name: string, options: Options): Promise<void> {
  await interruptible("the same command goes on from the last checkpoint.", (signal) => train(name, options, signal));
}

async function train(name: string, options: Options, signal: AbortSignal): Promise<void> {
  showStatus(`loading ${name}`);
  const model = await platform.resolveModel(name, { ...sourceOf(options), signal });
  const out = options.out ?? ownFolder(model);
  await checkModulesFolder(out, options.force ?? false);
  const pipe = await openPipeline(model, options);
  const from = options.from === undefined ? null : await openModule(options.from);
  const settings: DistillSettings = {
    ...configOf(options, from, blocksIn(pipe.pipeline)),
    guidanceScale: options.guidance ?? (pipe.kind === "text" ? pipe.pipeline.guidanceScale : 4),
    guidanceInterval: pipe.pipeline.guidanceInterval,
    memory: options.memory * 1e9,
    ...pick(
      options,
      "steps",
      "learningRate",
      "batch",
      "samplingSteps",
      "featureLoss",
      "pictures",
      "reuse",
      "loss",
      "seed",
      "lookAhead",
    ),
  };
  const captions = pipe.kind === "text" ? await readCaptions(name, options.captions) : [];
  const distiller = await Distiller.create(pipe.pipeline, captions, settings);
  const { trainer } = distiller.feedbackTrainer;
  await mkdir(out, { recursive: true });
  const statePath = join(out, "state.safetensors");
  const made = madeWith(settings, options.from, distiller.config.backbone);
  if (!options.fresh) await resume(statePath, made, distiller);
  const save = () => saveTraining(statePath, trainer, { settings: made });

  const bar = new ProgressBar("{bar} {value}/{total} updates, loss {loss}, {eta_formatted} left");
  const log = new Log(options.json ?? false, bar);
  const began = performance.now();
  let saved = began;
  try {
    while (trainer.optimizer.steps < settings.steps && performance.now() - began < options.minutes * 60_000) {
      if (signal.aborted) {
        await save();
        signal.throwIfAborted();
      }
      await log.add(await distiller.step());
      if (performance.now() - saved > 60_000) {
        await save();
        saved = performance.now();
      }
    }
  } finally {
    bar.stop();
  }
  const finished = trainer.optimizer.steps >= settings.steps;
  if (finished) {
    await writeSafetensors(join(out, FEEDBACK_FILE), distiller.feedbackTrainer.weights(), { dtype: "F16" });
    await writeFile(join(out, "config.json"), `${JSON.stringify(rawFeedbackConfig(distiller.config), null, 2)}\n`);
    await rm(statePath, { force: true });
  } else {
    await save();
  }
  const seconds = +((performance.now() - began) / 1000).toFixed(1);
  const updates = trainer.optimizer.steps;
  if (options.json) {
    const { seed } = options;
    await printResult("distill", { model: name, out, finished, updates, loss: log.loss, seed, seconds });
  } else if (finished) {
    await printUnlessQuiet(`${out}: a feedback module after ${updates} updates, loss ${log.loss}, ${seconds} s`);
  } else await printUnlessQuiet(`${out}: ${updates} of ${settings.steps} updates; the same command goes on.`);
  await distiller.release();
  await pipe.pipeline.release();
}

/** Checked first: hours of training must not end in a folder that cannot be written, or replace a module. */
async function checkModulesFolder(out: string, force: boolean): Promise<void> {
  await about("--out", () => checkFolder(out));
  if (force || !existsSync(join(out, FEEDBACK_FILE))) return;
  throw new ArgumentError(
    `${out}: there is a feedback module already. --force replaces it; --out names another folder.`,
  );
}

async function openModule(path: string): Promise<FeedbackCheckpoint> {
  const feedback = await FeedbackCheckpoint.open(new NodeFolder(path));
  if (feedback) return feedback;
  throw new ArgumentError(`--from ${path}: has no config.json, so it is not a feedback module's folder.`);
}

/** The settings recorded in a checkpoint, as version 0.1 wrote them, so that its checkpoints can be resumed too. */
function madeWith(settings: DistillSettings, from: string | undefined, backbone: string): string {
  const { config, start: _, lookAhead: aim, memory: __, steps: ___, ...others } = settings;
  const { feedBlock, resumeBlock, module, schedule } = config;
  const written = { feedBlock, resumeBlock, ...flagsOf(module), schedule };
  return JSON.stringify({ config: written, start: from, ...others, aim, backbone });
}

/** The configuration to train, and what training starts from. */
function configOf(
  options: Options,
  from: FeedbackCheckpoint | null,
  blocks: number,
): Pick<DistillSettings, "config" | "start"> {
  const schedule = options.schedule === undefined ? null : parseSchedule(options.schedule);
  if (from) {
    if (options.feedBlock !== undefined || options.resumeBlock !== undefined) {
      throw new ArgumentError("--feed-block and --resume-block are for a new module; one to train --from has its own.");
    }
    const { embeddingChange, trend, mixing, ownBlocks } = options;
    if (!(embeddingChange && trend && mixing && ownBlocks)) {
      throw new ArgumentError(
        "--no-embedding-change, --no-trend, --no-mixing and --no-own-blocks are for a new module; one to train --from " +
          "has its own.",
      );
    }
    const { backbone: _, ...own } = from.config;
    return { config: { ...own, ...(schedule && { schedule }) }, start: from };
  }
  const feedBlock = options.feedBlock ?? Math.max(1, blocks - 2);
  return {
    config: {
      feedBlock,
      resumeBlock: options.resumeBlock ?? feedBlock,
      module: moduleOf(options),
      schedule: schedule ?? parseSchedule(defaultSchedule),
    },
  };
}

/** For a local model the module is put next to it; for other models the user must say where to put it. */
function ownFolder(model: Folder): string {
  const index = model.nativePath("model_index.json");
  if (index) return join(index, "..", "ilf");
  throw new ArgumentError(`${model.name}: is not a folder on this machine. Say where the module goes with --out.`);
}

async function openPipeline(model: Folder, { threads, variant }: Options) {
  const { className } = await readModelIndex(model);
  // Training runs alongside other work.
  const options = { spin: false, ...defined({ threads, variant }) };
  if (className === "DiTPipeline") {
    const pipeline = await ClassToImagePipeline.fromFolder(model, platform.runtime, options);
    return { kind: "class" as const, pipeline };
  }
  if ((textToImageClasses as readonly string[]).includes(className)) {
    const pipeline = await TextToImagePipeline.fromFolder(model, platform.runtime, options);
    return { kind: "text" as const, pipeline };
  }
  throw new ArgumentError(
    `${model.name}: it is a ${className}; feedback modules are for transformers that draw images: DiT, PixArt and Stable Diffusion 3.`,
  );
}

/** Of the network that the module is for; sizes do not change how many. */
function blocksIn(pipeline: ClassToImagePipeline | TextToImagePipeline): number {
  const { first, end } = blocksOf(distillable(pipeline).model({ batch: 1, tokens: 1 }));
  return end - first;
}

async function readCaptions(model: string, file: string | undefined): Promise<string[]> {
  if (file !== undefined) {
    return readLines("--captions", file);
  }
  if (model === "fluent-emoji") {
    const list = (await (await platform.resolveModel("emoji-align")).json("reference/captions.json")) as unknown;
    return (list as { text: string }[]).map(({ text }) => text);
  }
  throw new ArgumentError(
    "Say what this model is usually asked for: --captions FILE, a text file with a prompt a line.",
  );
}

async function resume(path: string, made: string, { feedbackTrainer }: Distiller): Promise<void> {
  await resumeTraining(path, feedbackTrainer.trainer, ({ settings }) => {
    if (settings === made) return;
    throw new ArgumentError(
      `${path}: is the checkpoint of a run with other settings (${settings}, not ${made}). ` +
        "Give the same settings, another --out, or --fresh to start anew.",
    );
  });
}

/** Writes a line of JSON every hundred updates, or shows a bar. */
class Log {
  readonly #json: boolean;
  readonly #bar: ProgressBar;
  #losses: number[] = [];

  constructor(json: boolean, bar: ProgressBar) {
    this.#json = json;
    this.#bar = bar;
  }

  /** Mean of the last hundred updates. */
  get loss(): number {
    const sum = this.#losses.reduce((a, b) => a + b, 0);
    return +(sum / Math.max(1, this.#losses.length)).toPrecision(4);
  }

  async add({ step, steps, loss, recorded }: DistillProgress): Promise<void> {
    this.#losses = [...this.#losses.slice(-99), loss];
    if (!this.#json) this.#bar.show(step, steps, { loss: this.loss });
    else if (step % 100 === 0) await printProgress("distill", { step, steps, loss: this.loss, recorded });
  }
}

function pick<T, K extends keyof T>(from: T, ...keys: K[]): Pick<T, K> {
  return Object.fromEntries(keys.map((key) => [key, from[key]])) as Pick<T, K>;
}
