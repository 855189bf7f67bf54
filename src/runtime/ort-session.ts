/** What onnxruntime-node and onnxruntime-web share: our tensors in, our tensors out. */
import type { InferenceSession, Tensor as OrtTensor, TensorConstructor } from "onnxruntime-common";
import { ArgumentError, ShapeError } from "../errors.ts";
import { defined } from "../options/defined.ts";
import type { DType, Tensor } from "../tensor.ts";
import type { Session, SessionOptions } from "./runtime.ts";

/** Options both bindings take. Weights stay in their files: see docs/decisions.md on prepacking. */
export function commonOptions({
  threads,
  prepack = true,
  spin = true,
  takesTurns = false,
  arena = !takesTurns,
  reorder = true,
  block = true,
  profile,
}: SessionOptions): InferenceSession.SessionOptions {
  return {
    ...defined({ intraOpNumThreads: threads }),
    interOpNumThreads: 1,
    executionMode: "sequential",
    enableCpuMemArena: arena,
    enableMemPattern: block,
    graphOptimizationLevel: reorder ? "all" : "extended",
    logSeverityLevel: 3,
    ...(profile !== undefined && { enableProfiling: true, profileFilePrefix: profile }),
    extra: {
      session: {
        disable_prepacking: prepack ? "0" : "1",
        intra_op: { allow_spinning: spin ? "1" : "0" },
        force_spinning_stop: takesTurns ? "1" : "0",
      },
    },
  };
}

export interface OrtSessionSettings {
  /** Whether outputs are copied to where they are wanted, because the binding cannot write them there. */
  copyOutputs?: boolean;
  /** Whether a trace was asked for, which is written when the session is released. */
  profiled?: boolean;
}

export class OrtSession implements Session {
  readonly #session: InferenceSession;
  readonly #Tensor: TensorConstructor;
  readonly #settings: OrtSessionSettings;

  constructor(session: InferenceSession, Tensor: TensorConstructor, settings: OrtSessionSettings = {}) {
    this.#session = session;
    this.#Tensor = Tensor;
    this.#settings = settings;
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
    const { copyOutputs = false } = this.#settings;
    const fetches: Record<string, OrtTensor | null> = {};
    for (const name of this.outputNames) fetches[name] = into[name] && !copyOutputs ? this.#wrap(into[name]) : null;
    const results = await this.#session.run(inputs, fetches);
    const outputs: Record<string, Tensor> = {};
    for (const name of this.outputNames) {
      if (into[name] && copyOutputs) copy(name, unwrap(results[name]!), into[name]);
      outputs[name] = into[name] ?? unwrap(results[name]!);
    }
    return outputs;
  }

  #wrap({ dtype, data, shape }: Tensor): OrtTensor {
    return new this.#Tensor(dtype, data, shape);
  }

  async release() {
    if (this.#settings.profiled) this.#session.endProfiling();
    await this.#session.release();
  }
}

function unwrap(tensor: OrtTensor): Tensor {
  return { dtype: tensor.type as DType, shape: tensor.dims, data: tensor.data as Tensor["data"] };
}

function copy(name: string, from: Tensor, to: Tensor): void {
  if (from.dtype !== to.dtype || from.shape.join() !== to.shape.join()) {
    throw new ShapeError(
      `run: output "${name}" is ${from.dtype} [${from.shape.join(", ")}], the tensor for it is ` +
        `${to.dtype} [${to.shape.join(", ")}]`,
    );
  }
  // Equal types, which the compiler does not see.
  (to.data as Float32Array).set(from.data as Float32Array);
}
