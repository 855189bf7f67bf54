/** `distill`: trains a feedback module for a pipeline's denoiser, on the trajectories that the pipeline samples. */
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { mersenne } from "pure-rand/generator/mersenne";
import type { WeightFiles } from "../checkpoints/weights.ts";
import type { Component } from "../components/components.ts";
import { repeatPrompt } from "../components/prompts.ts";
import { pickScheduler } from "../components/solver.ts";
import { ArgumentError } from "../errors.ts";
import { type FeedbackCheckpoint, fingerprint } from "../ilf/checkpoint.ts";
import { type FeedbackConfig, feedbackCuts, flagsOf } from "../ilf/config.ts";
import { IlfDenoiser } from "../ilf/denoiser.ts";
import { type IlfSessions, StepsInParts } from "../ilf/steps.ts";
import { FeedbackTrainer, type LossKind, rowsOf } from "../ilf/training/feedback-trainer.ts";
import { lookAheadTargets, type Path, responsesOf } from "../ilf/training/look-ahead.ts";
import {
  inBothHalves,
  RecordBuffer,
  type RecordedStep,
  RecordingDenoiser,
  type StepRecord,
} from "../ilf/training/records.ts";
import type { Geometry, StagedModel } from "../models/architecture.ts";
import { type Denoiser, DenoiserByRows } from "../sampling/denoiser.ts";
import type { GuidanceInterval } from "../sampling/guidance.ts";
import { TorchGenerator } from "../sampling/noise.ts";
import { scheduled } from "../sampling/step-policy.ts";
import { dynamicShift } from "../schedulers/dynamic-shift.ts";
import type { Scheduler } from "../schedulers/scheduler.ts";
import type { FloatTensor } from "../tensor.ts";
import { warmupCosine } from "../training/adamw.ts";
import type { ClassToImagePipeline } from "./class-to-image.ts";
import type { TextToImagePipeline } from "./text-to-image.ts";

export interface DistillSettings {
  config: Omit<FeedbackConfig, "backbone">;
  /** Updates of the module's weights. */
  steps: number;
  learningRate: number;
  /** Inner steps in a batch of training. */
  batch: number;
  /** Solver steps and guidance of the trajectories: those that will be sampled with. */
  samplingSteps: number;
  guidanceScale: number;
  guidanceInterval: GuidanceInterval;
  loss: LossKind;
  featureLoss: number;
  /** A module that is trained further, of the same `config` but for the schedule; a new one unless given. */
  start?: FeedbackCheckpoint;
  /** Pictures sampled together, and how often each of their inner steps is learned from on average. */
  pictures: number;
  reuse: number;
  /** Most bytes of recorded steps that are kept. */
  memory: number;
  /** The share of the way to a run of twice as many solver steps that targets lead (`lookAheadTargets`); 0 learns from full steps as they are. */
  lookAhead: number;
  seed: number;
}

export interface DistillProgress {
  step: number;
  steps: number;
  loss: number;
  /** Inner steps recorded so far. */
  recorded: number;
}

/** Conditions for some pictures, drawn by a number, and how a trajectory with them is sampled. */
interface Trajectories {
  geometry: Geometry;
  /** Runs from the same noise with the same conditions, which are drawn and embedded once. */
  draw(index: number): Promise<Trajectory>;
  openScheduler(): Scheduler;
  /** Of schedulers whose shift depends on the size of the image. */
  mu?: number;
}

/** Gives the latent after each step; as many steps as will be sampled with unless given. */
type Trajectory = (denoiser: Denoiser, steps?: number) => Promise<Path>;

/**
 * Everything of a training run; `step` is one update. What is random about it follows from its number, but records are
 * not saved: a run that goes on from a checkpoint samples new trajectories first, and is the uninterrupted one to the
 * last bit only where every update has a trajectory of its own.
 */
export class Distiller {
  readonly feedbackTrainer: FeedbackTrainer;
  readonly config: FeedbackConfig;
  readonly #settings: DistillSettings;
  readonly #sessions: IlfSessions;
  readonly #trajectories: Trajectories;
  /** Of the solver, to what it is given; for targets that look ahead. */
  readonly #responses: readonly number[];
  readonly #buffer: RecordBuffer;
  /** Inner steps that may still be learned from before more are sampled. */
  #usesLeft = 0;

  private constructor(
    feedbackTrainer: FeedbackTrainer,
    config: FeedbackConfig,
    settings: DistillSettings,
    sessions: IlfSessions,
    trajectories: Trajectories,
    responses: readonly number[],
  ) {
    this.feedbackTrainer = feedbackTrainer;
    this.config = config;
    this.#settings = settings;
    this.#sessions = sessions;
    this.#trajectories = trajectories;
    this.#responses = responses;
    this.#buffer = new RecordBuffer(settings.memory, feedbackTrainer.reads);
  }

  /**
   * `captions` are what a text-to-image pipeline is asked for; a class-to-image one is asked for its classes. Throws
   * CheckpointError for a `start` of another backbone, ArgumentError for one of another kind than `config` says and for a solver
   * that targets cannot look ahead with.
   */
  static async create(
    pipe: TextToImagePipeline | ClassToImagePipeline,
    captions: readonly string[],
    settings: DistillSettings,
  ): Promise<Distiller> {
    const { batch, guidanceScale, loss, featureLoss, start, lookAhead, samplingSteps } = settings;
    const transformer = distillable(pipe);
    const trajectories = "embed" in pipe ? await fromCaptions(pipe, captions, settings) : fromClasses(pipe, settings);
    const responses = lookAhead > 0 ? responsesOf(trajectories.openScheduler, samplingSteps, trajectories.mu) : [];
    const { geometry } = trajectories;
    const backbone = transformer.model(geometry);
    if (start) await checkStart(start, settings, backbone, transformer.weights);
    const { cuts, ...places } = feedbackCuts(backbone, settings.config);
    const config = { ...settings.config, backbone: await fingerprint(backbone, transformer.weights) };
    const feedbackTrainer = await transformer.withRuntime((runtime, session) =>
      FeedbackTrainer.create(
        runtime,
        transformer.model({ ...geometry, batch: rowsOf(batch, guidanceScale) }),
        transformer.weights,
        {
          config,
          anyBatch: backbone,
          batch,
          guidanceScale,
          loss,
          featureLoss,
          start: start?.weights,
          session,
        },
      ),
    );
    const sessions: IlfSessions = {
      parts: await transformer.inParts(geometry, cuts),
      ...places,
      feedback: (feeds) => feedbackTrainer.predict(feeds),
    };
    return new Distiller(feedbackTrainer, config, settings, sessions, trajectories, responses);
  }

  /** One update; samples new trajectories first when the ones before were learned from often enough. */
  async step(): Promise<DistillProgress> {
    const { steps, batch, guidanceScale, pictures, learningRate, seed } = this.#settings;
    const { trainer } = this.feedbackTrainer;
    const step = trainer.optimizer.steps;
    const random = randomFrom(seed + step);
    if (this.#usesLeft < batch) await this.#collect(step, random);
    const record = this.#buffer.draw(batch, guidanceScale > 1, random);
    const { loss } = await this.feedbackTrainer.step(record, warmupCosine(step, steps, learningRate, 50));
    this.#usesLeft = Math.max(0, this.#usesLeft - batch);
    return { step: step + 1, steps, loss, recorded: this.#buffer.added * pictures };
  }

  /** The sampler's own trajectory: early on the backbone's, later more and more the module's. */
  async #collect(step: number, random: () => number): Promise<void> {
    const { steps, pictures, reuse, lookAhead, guidanceScale } = this.#settings;
    const share = Math.min(1, (4 * step) / steps);
    const policy = scheduled(this.config.schedule);
    const records: RecordedStep[] = [];
    const recorder = () => new RecordingDenoiser(this.#sessions, policy, () => random() < share, records);
    const run = await this.#trajectories.draw(step);
    await run(new DenoiserByRows(recorder));
    const targeted = lookAhead > 0 ? await this.#lookingAhead(run, records) : records;
    const rows = rowsOf(pictures, guidanceScale);
    // Steps before or after guidance have the condition's rows alone.
    this.#buffer.add(targeted.map((record) => (record.target.shape[0]! < rows ? inBothHalves(record) : record)));
    this.#usesLeft += records.length * pictures * reuse;
  }

  async #lookingAhead(run: Trajectory, records: readonly RecordedStep[]): Promise<StepRecord[]> {
    const { samplingSteps, lookAhead } = this.#settings;
    const inFull = () => new IlfDenoiser(new StepsInParts(this.#sessions), () => "full");
    const full = (steps: number) => run(new DenoiserByRows(inFull), steps);
    const [coarse, fine] = [await full(samplingSteps), await full(2 * samplingSteps)];
    return lookAheadTargets(records, { coarse, fine, responses: this.#responses, share: lookAhead });
  }

  release(): Promise<void> {
    return this.feedbackTrainer.release();
  }
}

/**
 * The network that a feedback module is trained for. Throws ArgumentError for a UNet, and for one that was made for inpainting, whose
 * runs need images.
 */
export function distillable(pipe: TextToImagePipeline | ClassToImagePipeline): Component<unknown> {
  if (!("family" in pipe)) return pipe.transformer;
  const { network, denoiser, inChannels, latentChannels } = pipe.family;
  if (network === "transformer" && inChannels === latentChannels) return denoiser;
  const what = network === "transformer" ? "was trained for inpainting" : `draws with a ${network}`;
  throw new ArgumentError(
    `${pipe.name}: this ${pipe.className} ${what}; feedback modules are for transformers that draw from text or a class.`,
  );
}

/** What of a configuration its weights depend on. */
const shapeOf = ({ feedBlock, resumeBlock, module }: Omit<FeedbackConfig, "backbone">) => ({
  ...{ feedBlock, resumeBlock },
  ...flagsOf(module),
});

async function checkStart(
  start: FeedbackCheckpoint,
  { config }: DistillSettings,
  backbone: StagedModel,
  weights: WeightFiles,
): Promise<void> {
  await start.check(backbone, weights);
  const wanted = new Map(Object.entries(shapeOf(config)));
  for (const [key, own] of Object.entries(shapeOf(start.config))) {
    if (wanted.get(key) === own) continue;
    throw new ArgumentError(
      `The module to start from has ${key} ${String(own)}; it cannot be trained with ${String(wanted.get(key))}.`,
    );
  }
}

async function fromCaptions(
  pipe: TextToImagePipeline,
  captions: readonly string[],
  settings: DistillSettings,
): Promise<Trajectories> {
  if (captions.length === 0) throw new ArgumentError("Distillation of a text-to-image model needs captions to sample.");
  const { sampleSize, inChannels, patchSize } = pipe.family;
  const { embeddings: empty } = await pipe.embed([""]);
  const tokens = empty.encoderHiddenStates.shape[1]!;
  const openScheduler = () => pickScheduler(pipe.schedulerConfig);
  return {
    geometry: { batch: "batch", height: sampleSize, width: sampleSize, tokens },
    openScheduler,
    mu: dynamicShift(openScheduler(), (sampleSize / patchSize) ** 2),
    async draw(index) {
      const random = randomFrom(settings.seed + 31 * index);
      const chosen = Array.from({ length: settings.pictures }, () => captions[Math.floor(random() * captions.length)]!);
      const { embeddings } = await pipe.embed(chosen);
      const negative = settings.guidanceScale > 1 ? repeatPrompt(empty, 0, chosen.length) : null;
      return trajectory(index, settings, { inChannels, sampleSize, openScheduler }, (loop) =>
        pipe.sampleLatents({ ...loop, prompt: embeddings, negative }),
      );
    },
  };
}

function fromClasses(pipe: ClassToImagePipeline, settings: DistillSettings): Trajectories {
  const { sampleSize, inChannels, numClasses } = pipe.transformer.config;
  const openScheduler = () => pickScheduler(pipe.schedulerConfig);
  return {
    geometry: { batch: "batch", height: sampleSize, width: sampleSize },
    openScheduler,
    async draw(index) {
      const random = randomFrom(settings.seed + 31 * index);
      const classes = Array.from({ length: settings.pictures }, () => Math.floor(random() * numClasses));
      return trajectory(index, settings, { inChannels, sampleSize, openScheduler }, (loop) =>
        pipe.sampleLatents({ ...loop, classes }),
      );
    },
  };
}

/** Runs of a pipeline's sampler, all from the same noise, with what `sampleLatents` adds to what is the same for all pipelines. */
function trajectory(
  index: number,
  { seed, pictures, guidanceScale, guidanceInterval, samplingSteps }: DistillSettings,
  { inChannels, sampleSize, openScheduler }: { inChannels: number; sampleSize: number; openScheduler: () => Scheduler },
  sampleLatents: (loop: Loop) => Promise<unknown>,
): Trajectory {
  return async (denoiser, steps = samplingSteps) => {
    const path: FloatTensor[] = [];
    await sampleLatents({
      denoiser,
      scheduler: openScheduler(),
      steps,
      onStep: ({ latents }) => void path.push({ ...latents, data: latents.data.slice() }),
      guidanceScale,
      guidanceInterval,
      noise: new TorchGenerator(seed + 2 ** 20 + index).randn([pictures, inChannels, sampleSize, sampleSize]),
    });
    return path;
  };
}

type Loop = Omit<Parameters<ClassToImagePipeline["sampleLatents"]>[0], "classes">;

/** Mersenne Twister, since its first numbers from seeds in a row have nothing to do with each other. */
function randomFrom(seed: number): () => number {
  const generator = mersenne(seed);
  return () => uniformFloat64(generator);
}
