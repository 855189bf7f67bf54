/** One interface over ONNX Runtime in Node and in the browser. Tensors belong to the caller, on both ways. */
import { flag, oneOf, text, whole } from "../checks.ts";
import type { OnnxModel } from "../graph/onnx.ts";
import type { OptionTable } from "../options/options.ts";
import type { Tensor } from "../tensor.ts";

/** Where networks can be computed; which of them work depends on the machine. */
export const providers = ["auto", "cpu", "cuda", "webgpu", "wasm"] as const;
/** "auto" is WebGPU if it works, and otherwise the CPU. */
export type Provider = (typeof providers)[number];
/** A provider that is a certain one. */
export type ProviderName = Exclude<Provider, "auto">;

/** How a graph is compiled and run. */
export interface SessionOptions {
  /** Where to compute; "cpu" in Node and "auto" in a browser unless given. */
  provider?: Provider;
  /**
   * CPU threads; all cores unless given. In a browser half of them and at most 4, and one on a page that is not
   * cross-origin isolated; there the first session's number is that of all.
   */
  threads?: number;
  /**
   * Keep a packed copy of each weight matrix (faster products; the default), or multiply from the mapped file as it is
   * (less memory while several sessions are alive).
   */
  prepack?: boolean;
  /**
   * Let threads wait for work in a loop (the default), which saves microseconds an operator if nothing else runs on the
   * machine; or let them sleep, with which a training step took half the time beside other work on the same cores.
   */
  spin?: boolean;
  /**
   * One of several sessions that run in turn, as the groups of a model do: after each run it gives back the memory of its results
   * (but see `arena`) and stops its threads at once, so that both are free for the next session. Off unless given. See
   * docs/notebook/engine.md.
   */
  takesTurns?: boolean;
  /**
   * Keep the memory of a run's values for the next run: on unless it takes turns. Sessions that alternate quickly are faster with it,
   * because memory that is given back and taken again has to be cleared each time.
   */
  arena?: boolean;
  /**
   * Reorder the weights of convolutions when the session is made (the default), which makes runs a few percent faster where pictures
   * are large, or use them where they are mapped: the session is then made in a twentieth of the time, which pays off for a single run.
   */
  reorder?: boolean;
  /**
   * Put the values of a run into one block that the run before laid out (the default), or allocate each on its own: then a run takes no
   * more memory than the values that are alive, which a memory planner can count on.
   */
  block?: boolean;
  /** Writes ONNX Runtime's trace of every operator to this file (Node). */
  profile?: string;
}

export const sessionOptions: OptionTable<SessionOptions> = {
  provider: oneOf(providers),
  threads: whole(1, 1024),
  prepack: flag,
  spin: flag,
  takesTurns: flag,
  arena: flag,
  reorder: flag,
  block: flag,
  profile: text,
};

/** The files that a model's weights lie in, under the names that the graph uses. */
export type WeightLocations = ReadonlyMap<string, WeightLocation>;
/** A path on disk (Node maps it) or the contents of the file (browser). */
export type WeightLocation =
  | WeightPath
  | {
      /** Reads the whole file. */
      readonly bytes: () => Promise<Uint8Array>;
    };

/** A file of weights on disk. */
export interface WeightPath {
  readonly path: string;
  /** Throws if the file has changed since its offsets were read. */
  readonly unchanged?: () => Promise<void>;
}

/** A compiled graph. */
export interface Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /**
   * Runs the graph. An output that has a tensor in `into` is written there, also when that is a view of a larger
   * buffer; the others are allocated. NaN and infinity are not checked for.
   */
  run(
    feeds: Readonly<Record<string, Tensor>>,
    into?: Readonly<Record<string, Tensor>>,
  ): Promise<Record<string, Tensor>>;
  /** Frees memory and threads. */
  release(): Promise<void>;
}

/** What compiles graphs: `nodeRuntime` or `webRuntime`. */
export interface Runtime {
  readonly name: string;
  readonly version: string;
  /** The place, for messages: "in a browser". */
  readonly where: string;
  /** The providers that it has; the first is the CPU, which always works. */
  readonly providers: readonly [ProviderName, ...ProviderName[]];
  /** Unless a caller says otherwise. */
  readonly usual: Provider;
  /** Why one of `providers` does not work on this machine, and what to do about it; null if it works. */
  whyNot(provider: ProviderName): Promise<string | null>;
  /** Compiles a graph whose weights lie in files, or in memory. */
  compile(model: OnnxModel, weights?: WeightLocations, options?: SessionOptions): Promise<Session>;
  /** Largest resident memory of this process so far, in bytes; null where it cannot be known. */
  peakMemory(): number | null;
  /** Resident memory of this process now, in bytes; null where it cannot be known. */
  residentMemory(): number | null;
}
