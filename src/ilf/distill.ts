/**
 * Training a feedback module by distillation (arXiv 2501.13107): the backbone is frozen, and gradients go back through
 * its last blocks only, which run after the module. Learned on the sampler's own trajectories, with their guidance.
 */

import type { WeightFiles } from "../checkpoints/weights.ts";
import { ArgumentError } from "../errors.ts";
import { toOnnx } from "../graph/onnx.ts";
import { add, concat, mul, reshape, slice, sub } from "../graph/operators.ts";
import { input, staticDim, type Value } from "../graph/value.ts";
import { meanAll } from "../graph/vjp.ts";
import { buildModel, describeModel, type Features, type StagedModel, weightShapes } from "../models/architecture.ts";
import { segmentModel } from "../models/segments.ts";
import { checkpointWeights, parameterWeights, weightLocations } from "../models/weights.ts";
import type { Runtime, Session, SessionOptions } from "../runtime/runtime.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../tensor.ts";
import type { AdamWOptions } from "../training/adamw.ts";
import { Parameters } from "../training/parameters.ts";
import { type StepReport, Trainer } from "../training/trainer.ts";
import { type FeedbackConfig, feedbackCuts } from "./config.ts";
import { copiedWeight, feedbackModel } from "./feedback.ts";
import type { StepRecord } from "./records.ts";
import { type Predicted, predictedOf } from "./steps.ts";

export interface DistillOptions {
  config: FeedbackConfig;
  /** The backbone with an open batch, for predictions on trajectories. */
  anyBatch: StagedModel;
  /** Pictures in a batch of training. */
  batch: number;
  /** Of the trajectories; 1 or less is none. */
  guidanceScale: number;
  /** Weight of the error of the features beside that of the output; 0 leaves them out. */
  featureLoss?: number;
  /** A module's weights to start from; a copy of the backbone's block, its scales at zero, unless given. */
  start?: WeightFiles;
  optimizer?: AdamWOptions;
  session?: SessionOptions;
}

const PREFIX = "feedback/";

/** The feedback module in training. */
export class Distillation {
  readonly trainer: Trainer;
  /** The features that a training step reads from a record. */
  readonly reads: readonly string[];
  readonly #predict: Session;
  readonly #rows: number;
  readonly #batch: number;

  private constructor(trainer: Trainer, predict: Session, reads: readonly string[], batch: number, rows: number) {
    this.trainer = trainer;
    this.#predict = predict;
    this.reads = reads;
    this.#batch = batch;
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
    options: DistillOptions,
  ): Promise<Distillation> {
    const { config, batch, guidanceScale, featureLoss = 0 } = options;
    const { cuts, after } = feedbackCuts(backbone, config);
    const module = feedbackModel(backbone, config);
    const parts = segmentModel(backbone, cuts).slice(after);
    const own = parameterWeights(PREFIX);
    const { hiddenStates, features: predicted = hiddenStates! } = buildModel(module, own.source);
    const frozen = checkpointWeights(weights, describeModel(backbone));
    let features: Features = { ...module.inputs, hiddenStates: hiddenStates! };
    for (const part of parts) {
      const inputs = Object.fromEntries(
        Object.keys(part.inputs).map((name) => [name, features[name] ?? part.inputs[name]!]),
      );
      features = { ...features, ...inputs, ...buildModel({ ...part, inputs }, frozen) };
    }
    const target = input("target", features["sample"]!.shape);
    const channels = staticDim(backbone.inputs["hiddenStates"]!, 1, "distillation");
    const ofPictures = input("weights", [batch]);
    const output = errorOf(sub(features["sample"]!, target), channels, ofPictures, guidanceScale);
    const targetFeatures = input("targetFeatures", predicted.shape);
    const feature =
      featureLoss > 0 ? meanSquare(sub(predicted, targetFeatures), rowWeights(ofPictures, guidanceScale)) : null;
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
    return new Distillation(
      trainer,
      predict,
      reads.filter((name) => name !== "hiddenStates"),
      batch,
      rowsOf(batch, guidanceScale),
    );
  }

  /** The module's outputs with the weights of now (their average), for trajectories. */
  async predict(feeds: Readonly<Record<string, Tensor>>): Promise<Predicted> {
    const { parameters, optimizer } = this.trainer;
    return predictedOf(await this.#predict.run({ ...parameters.tensors(optimizer.ema), ...feeds }));
  }

  /** Throws NumericError when the loss is not a number. */
  step({ feeds, target, targetFeatures, weights }: StepRecord, learningRate: number): Promise<StepReport> {
    const rows = target.shape[0]!;
    if (rows !== this.#rows) throw new ArgumentError(`${rows} rows are not a batch of ${this.#rows}`);
    const even = floatTensor([this.#batch], new Float32Array(this.#batch).fill(1));
    return this.trainer.step({ ...feeds, target, targetFeatures, weights: weights ?? even }, learningRate);
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
 * Mean squared error of the rows, and of their guided combination, which is what the sampler sees and where errors that
 * the two halves share cancel. Only of the latent's `channels`: samplers drop a variance that comes after them. `weights`
 * are the pictures'.
 */
function errorOf(allChannels: Value, channels: number, weights: Value, guidanceScale: number): Value {
  const batch = staticDim(weights, 0, "distillation");
  const error = slice(allChannels, 1, 0, channels);
  const ofRows = meanSquare(error, rowWeights(weights, guidanceScale));
  if (guidanceScale <= 1) return ofRows;
  const [without, withCondition] = [slice(error, 0, 0, batch), slice(error, 0, batch, 2 * batch)];
  const guided = add(without, mul(sub(withCondition, without), guidanceScale));
  return add(mul(ofRows, 0.25), mul(meanSquare(guided, weights), 1 / guidanceScale ** 2));
}

/** Both rows of a picture count as it does. */
const rowWeights = (weights: Value, guidanceScale: number): Value =>
  guidanceScale > 1 ? concat([weights, weights], 0) : weights;

/** Over rows with a weight each. */
const meanSquare = (x: Value, weights: Value): Value =>
  meanAll(mul(mul(x, x), reshape(weights, [-1, ...x.shape.slice(1).map(() => 1)])));
