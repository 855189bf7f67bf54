/** Options of opening a pipeline, and which of them are for its networks. */
import { flag, isObject, must, text } from "../checks.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { type ResolveOptions, resolveOptions } from "../platform/platform.ts";
import { type SessionOptions, sessionOptions } from "../runtime/runtime.ts";
import type { WorkerChoice } from "../worker/choice.ts";

/** How the networks of a pipeline are opened and compiled. */
export interface PipelineOptions extends SessionOptions {
  /** Read each network's weights part by part in every run instead of keeping them; a large text encoder is anyway. */
  stream?: boolean;
  /** Which files of a checkpoint with several precisions: "fp16", ... */
  variant?: string;
}

export const pipelineOptions: OptionTable<PipelineOptions> = { ...sessionOptions, stream: flag, variant: text };

/** Options of `fromPretrained`. */
export type LoadingOptions = PipelineOptions & ResolveOptions;
export const loadingOptions: OptionTable<LoadingOptions> = { ...pipelineOptions, ...resolveOptions };

/** Option of `fromPretrained` for a pipeline in a worker. */
export interface InWorker {
  /**
   * Run the pipeline in a worker (Node: a worker thread), so that this thread stays free: true for one of halfstep's own, or a
   * worker that imports "halfstep/worker".
   */
  worker: WorkerChoice;
}

/** Options of `fromPretrained`, checked; `more` are those that one pipeline has beside the others'. */
export function readLoadingOptions<Options extends LoadingOptions = LoadingOptions>(
  given: unknown,
  pipeline: string,
  more = {} as OptionTable<Omit<Options, keyof LoadingOptions>>,
): Options & { worker?: WorkerChoice } {
  const worker = must("true or a Worker", (value) => typeof value === "boolean" || isObject(value));
  const table = { ...loadingOptions, ...more, worker } as unknown as OptionTable<Options & { worker?: WorkerChoice }>;
  const options = readOptions(given, table, { of: `${pipeline}.fromPretrained` });
  if ((options.worker as unknown) === false) delete options.worker;
  return options;
}

/** The options that are for the networks, once the model's folder is found. */
export function forNetworks<O extends LoadingOptions>(options: O): Omit<O, Exclude<keyof ResolveOptions, "variant">> {
  const isFor = (name: string) => name === "variant" || !Object.hasOwn(resolveOptions, name);
  return Object.fromEntries(Object.entries(options).filter(([name]) => isFor(name))) as O;
}
