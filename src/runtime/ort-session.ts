/** What onnxruntime-node and onnxruntime-web share: our tensors in, our tensors out. */
import type { InferenceSession, Tensor as OrtTensor, TensorConstructor } from "onnxruntime-common";
import { ArgumentError } from "../errors.ts";
import type { DType, Tensor } from "../tensor.ts";
import type { Session, SessionOptions } from "./runtime.ts";

/** Options both bindings take. Weights stay in their files: see docs/decisions.md on prepacking. */
export function commonOptions({ threads, prepack = true, profile }: SessionOptions): InferenceSession.SessionOptions {
  return {
    ...(threads ? { intraOpNumThreads: threads } : {}),
    interOpNumThreads: 1,
    executionMode: "sequential",
    logSeverityLevel: 3,
    ...(profile ? { enableProfiling: true, profileFilePrefix: profile } : {}),
    extra: { session: { disable_prepacking: prepack ? "0" : "1" } },
  };
}

export class OrtSession implements Session {
  readonly #session: InferenceSession;
  readonly #Tensor: TensorConstructor;

  constructor(session: InferenceSession, Tensor: TensorConstructor) {
    this.#session = session;
    this.#Tensor = Tensor;
  }

  get inputNames() {
    return this.#session.inputNames;
  }

  get outputNames() {
    return this.#session.outputNames;
  }

  async run(feeds: Readonly<Record<string, Tensor>>, into: Readonly<Record<string, Tensor>> = {}) {
    const inputs: Record<string, OrtTensor> = {};
    for (const name of this.inputNames) {
      const feed = feeds[name];
      if (!feed) throw new ArgumentError(`run: no tensor was given for input "${name}"`);
      inputs[name] = this.#wrap(feed);
    }
    const fetches: Record<string, OrtTensor | null> = {};
    for (const name of this.outputNames) fetches[name] = into[name] ? this.#wrap(into[name]) : null;
    const results = await this.#session.run(inputs, fetches);
    const outputs: Record<string, Tensor> = {};
    for (const name of this.outputNames) outputs[name] = into[name] ?? unwrap(results[name]!);
    return outputs;
  }

  #wrap({ dtype, data, shape }: Tensor): OrtTensor {
    return new this.#Tensor(dtype, data, shape);
  }

  async release() {
    // Writes the trace, if one was asked for.
    this.#session.endProfiling();
    await this.#session.release();
  }
}

function unwrap(tensor: OrtTensor): Tensor {
  return { dtype: tensor.type as DType, shape: tensor.dims, data: tensor.data as Tensor["data"] };
}
