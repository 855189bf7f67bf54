/** One training step: a graph of loss and gradients, run by ONNX Runtime, and an update in place. */
import { NumericError } from "../errors.ts";
import { gradients } from "../graph/gradient.ts";
import { toOnnx } from "../graph/onnx.ts";
import type { Value } from "../graph/value.ts";
import type { Runtime, Session, SessionOptions, WeightLocations } from "../runtime/runtime.ts";
import type { FloatTensor, Tensor } from "../tensor.ts";
import { AdamW, type AdamWOptions } from "./adamw.ts";
import type { Parameters } from "./parameters.ts";

export interface TrainerOptions extends AdamWOptions {
  session?: SessionOptions;
  /** Where the files are that frozen weights refer to. */
  locations?: WeightLocations;
  /** Scalars that are reported beside the loss. */
  metrics?: Readonly<Record<string, Value>>;
}

export interface StepReport {
  loss: number;
  /** Norm of the gradients before clipping. */
  norm: number;
  metrics: Record<string, number>;
}

const GRADIENT = "gradient:";

export class Trainer {
  readonly optimizer: AdamW;
  readonly parameters: Parameters;
  readonly #session: Session;
  readonly #weights: Record<string, FloatTensor>;
  readonly #gradients: Float32Array;
  readonly #into: Record<string, FloatTensor>;

  private constructor(session: Session, parameters: Parameters, options: AdamWOptions) {
    this.#session = session;
    this.parameters = parameters;
    this.optimizer = new AdamW(parameters.values, options);
    this.#weights = parameters.tensors();
    this.#gradients = new Float32Array(parameters.size);
    this.#into = parameters.tensors(this.#gradients, GRADIENT);
  }

  /**
   * `loss` is a scalar of a graph whose inputs are the batch and `weights`, the values that stand for `parameters` by
   * name. What is frozen is simply not among them: nothing is worked out for it on the way back.
   */
  static async create(
    runtime: Runtime,
    loss: Value,
    weights: ReadonlyMap<string, Value>,
    parameters: Parameters,
    options: TrainerOptions = {},
  ): Promise<Trainer> {
    const names = [...parameters.slots.keys()];
    const derivatives = gradients(
      loss,
      names.map((name) => weights.get(name)!),
    );
    const outputs: Record<string, Value> = { loss };
    for (const [name, value] of Object.entries(options.metrics ?? {})) outputs[`metric:${name}`] = value;
    names.forEach((name, i) => {
      outputs[GRADIENT + name] = derivatives[i]!;
    });
    const session = await runtime.compile(toOnnx(outputs), options.locations, options.session);
    return new Trainer(session, parameters, options);
  }

  /** One update on a batch. Throws NumericError when the loss or the gradients are not numbers; nothing was changed then. */
  async step(batch: Readonly<Record<string, Tensor>>, learningRate: number): Promise<StepReport> {
    const outputs = await this.#session.run({ ...this.#weights, ...batch }, this.#into);
    const loss = Number(outputs["loss"]!.data[0]);
    const norm = Number.isFinite(loss)
      ? this.optimizer.step(this.parameters.values, this.#gradients, learningRate)
      : Number.NaN;
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      throw new NumericError(
        `training step ${this.optimizer.steps}: loss ${loss}, gradient norm ${norm}. Lower the learning rate.`,
      );
    }
    const metrics: Record<string, number> = {};
    for (const [name, tensor] of Object.entries(outputs)) {
      if (name.startsWith("metric:")) metrics[name.slice(7)] = Number(tensor.data[0]);
    }
    return { loss, norm, metrics };
  }

  release(): Promise<void> {
    return this.#session.release();
  }
}
