/**
 * Training a feedback module by distillation (arXiv 2501.13107): the backbone is frozen, and gradients go back through
 * the module and what runs after it. Learned on the sampler's own trajectories, with their guidance.
 */

import type { WeightFiles } from "../../checkpoints/weights.ts";
import { ArgumentError } from "../../errors.ts";
import { toOnnx } from "../../graph/onnx.ts";
import { add, allAxes, mul, reduceMean, slice, sqrt, sub } from "../../graph/operators.ts";
import { input, staticDim, type Value } from "../../graph/value.ts";
import { meanAll } from "../../graph/vjp.ts";
import { buildModel, describeModel, type Features, type StagedModel, weightShapes } from "../../models/architecture.ts";
import { latentOf, splitModel, streamsInto } from "../../models/split-model.ts";
import { checkpointWeights, parameterWeights, weightLocations } from "../../models/weights.ts";
import type { Runtime, Session, SessionOptions } from "../../runtime/runtime.ts";
import { type FloatTensor, floatTensor, sizeOf, type Tensor } from "../../tensor.ts";
import type { AdamWOptions } from "../../training/adamw.ts";
import { Parameters } from "../../training/parameters.ts";
import { type StepReport, Trainer } from "../../training/trainer.ts";
import { type FeedbackConfig, feedbackCuts } from "../config.ts";
import { copiedWeight, feedbackModel } from "../feedback-module.ts";
import { named, ofStream, predictedOf } from "../stream-names.ts";
import type { StepRecord } from "./records.ts";

/**
 * The mean squared error of an image at a step, or its root. The errors of one run's steps have much in common and add
 * up in the image, so their size counts. A sum of squares is dominated by the first steps, whose errors are the
 * largest.
 */
export type LossKind = "square" | "root";

export interface FeedbackTrainerOptions {
  config: FeedbackConfig;
  /** The backbone with an open batch, for predictions on trajectories. */
  anyBatch: StagedModel;
  /** Pictures in a batch of training. */
  batch: number;
  /** Of the trajectories; 1 or less is none. */
  guidanceScale: number;
  /** What is averaged over pictures, "root" unless given. */
  loss?: LossKind;
  /** Weight of the error of the features beside that of the output; 0 leaves them out. */
  featureLoss?: number;
  /** A module's weights to start from; copies of the backbone's blocks, all else at zero, unless given. */
  start?: WeightFiles;
  optimizer?: AdamWOptions;
  session?: SessionOptions;
}

const PREFIX = "feedback/";

/** The feedback module in training. */
export class FeedbackTrainer {
  readonly trainer: Trainer;
  /** The features that a training step reads from a record. */
  readonly reads: readonly string[];
  readonly #predict: Session;
  readonly #rows: number;

  private constructor(trainer: Trainer, predict: Session, reads: readonly string[], rows: number) {
    this.trainer = trainer;
    this.#predict = predict;
    this.reads = reads;
    this.#rows = rows;
  }

  /**
   * `backbone` has the geometry of the pictures, and as its batch the rows of a training batch (`rowsOf`). Throws
   * ArgumentError for blocks that are not there.
   */
  static async create(
    runtime: Runtime,
    backbone: StagedModel,
    weights: WeightFiles,
    options: FeedbackTrainerOptions,
  ): Promise<FeedbackTrainer> {
    const { config, batch, guidanceScale, loss: kind = "root", featureLoss = 0 } = options;
    const { cuts, resume, after } = feedbackCuts(backbone, config);
    const module = feedbackModel(backbone, config);
    const allParts = splitModel(backbone, cuts);
    const parts = allParts.slice(after);
    const own = parameterWeights(PREFIX);
    const { features: predicted, streams } = predictedOf(buildModel(module, own.source));
    const frozen = checkpointWeights(weights, describeModel(backbone));
    let features: Features = { ...module.inputs, ...streams };
    for (const part of parts) {
      const inputs = Object.fromEntries(
        Object.keys(part.inputs).map((name) => [name, features[name] ?? part.inputs[name]!]),
      );
      features = { ...features, ...inputs, ...buildModel({ ...part, inputs }, frozen) };
    }
    const target = input("target", features["sample"]!.shape);
    const channels = staticDim(backbone.inputs[latentOf(backbone)]!, 1, "distillation");
    const errors = errorsOf(sub(features["sample"]!, target), channels, batch, guidanceScale);
    const output = meanAll(kind === "root" ? sqrt(add(errors, TINY)) : errors);
    const feature = featureLoss > 0 ? featureError(predicted, streamsInto(allParts[resume]!)) : null;
    const loss = feature ? add(output, mul(feature, featureLoss)) : output;

    const shapes = new Map([...weightShapes(module)].map(([name, shape]) => [PREFIX + name, shape]));
    const parameters = new Parameters(shapes);
    await parameters.load(async (name) => {
      const plain = name.slice(PREFIX.length);
      if (options.start) return options.start.read(plain);
      const copied = copiedWeight(backbone, config, plain);
      return copied === null ? floatTensor(shapes.get(name)!) : weights.read(copied);
    });
    const trainer = await Trainer.create(runtime, loss, own.parameters, parameters, {
      beta2: 0.99,
      emaDecay: 0.995,
      ...options.optimizer,
      session: options.session ?? {},
      locations: weightLocations(weights),
    });
    const anyBatch = buildModel(feedbackModel(options.anyBatch, config), parameterWeights(PREFIX).source);
    const predict = await runtime.compile(toOnnx(anyBatch), undefined, options.session);
    const reads = [...new Set([...Object.keys(module.inputs), ...parts.flatMap((part) => Object.keys(part.inputs))])];
    return new FeedbackTrainer(
      trainer,
      predict,
      reads.filter((name) => !Object.hasOwn(streams, name)),
      rowsOf(batch, guidanceScale),
    );
  }

  /** The module's outputs with the weights of now (their average), for trajectories. */
  predict(feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
    const { parameters, optimizer } = this.trainer;
    return this.#predict.run({ ...parameters.tensors(optimizer.ema), ...feeds });
  }

  /** Throws NumericError when the loss is not a number. */
  step({ feeds, target, targetFeatures }: StepRecord, learningRate: number): Promise<StepReport> {
    const rows = target.shape[0]!;
    if (rows !== this.#rows) throw new ArgumentError(`${rows} rows are not a batch of ${this.#rows}`);
    return this.trainer.step({ ...feeds, target, ...named("targetFeatures", targetFeatures) }, learningRate);
  }

  /** The module's weights under their names in a file: the average over training. */
  weights(): Map<string, FloatTensor> {
    const { parameters, optimizer } = this.trainer;
    const tensors = Object.entries(parameters.tensors(optimizer.ema));
    return new Map(tensors.map(([name, tensor]) => [name.slice(PREFIX.length), tensor]));
  }

  async release(): Promise<void> {
    await Promise.all([this.trainer.release(), this.#predict.release()]);
  }
}

/** Rows of the denoiser for so many pictures: with guidance each is there without and with its condition. */
export const rowsOf = (pictures: number, guidanceScale: number): number =>
  guidanceScale > 1 ? 2 * pictures : pictures;

/**
 * For each image [batch]: the mean squared error of its rows, and of their guided combination. The sampler sees the
 * combination, in which errors that both halves share cancel. Only the latent's `channels` count: samplers drop a
 * predicted variance after them.
 */
function errorsOf(allChannels: Value, channels: number, batch: number, guidanceScale: number): Value {
  const error = slice(allChannels, 1, 0, channels);
  const ofRows = meanOfEach(squared(error));
  if (guidanceScale <= 1) return ofRows;
  const halves = (x: Value) => [slice(x, 0, 0, batch), slice(x, 0, batch, 2 * batch)] as const;
  const [without, withCondition] = halves(error);
  const guided = add(without, mul(sub(withCondition, without), guidanceScale));
  const ofPictures = mul(add(...halves(ofRows)), 0.5);
  return add(mul(ofPictures, 0.25), mul(meanOfEach(squared(guided)), 1 / guidanceScale ** 2));
}

/** Mean squared error of what is predicted of these streams, over all of their elements. */
function featureError(predicted: Features, streams: readonly string[]): Value {
  const errors = streams.map((stream) => {
    const value = predicted[stream]!;
    const each = sizeOf(value.shape.slice(1) as number[]);
    return { each, error: meanAll(squared(sub(value, input(ofStream("targetFeatures", stream), value.shape)))) };
  });
  const all = errors.reduce((sum, { each }) => sum + each, 0);
  return errors
    .map(({ each, error }) => (each === all ? error : mul(error, each / all)))
    .reduce((sum, error) => add(sum, error));
}

const squared = (x: Value): Value => mul(x, x);

/** Over all but the first axis. */
const meanOfEach = (x: Value): Value => reduceMean(x, allAxes(x).slice(1), false);

/** Keeps the root's slope finite where an error is zero. */
const TINY = 1e-12;
