/** The components of a pipeline: its networks, and what its folder says about them. */

import { type ModelIndex, type RawConfig, readConfig, readModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { openWeights, type WeightFiles } from "../checkpoints/weights.ts";
import { flag, isObject, must, text } from "../checks.ts";
import { ArgumentError, ConfigError } from "../errors.ts";
import { type Architecture, describeModel, type Geometry, type StagedModel } from "../models/architecture.ts";
import { checkCounts } from "../models/counts.ts";
import { splitModel } from "../models/split-model.ts";
import { loadModel, namedWeights, type StagedOptions, StagedSession } from "../models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../models/weights.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { type ResolveOptions, resolveOptions } from "../platform/platform.ts";
import { openAll } from "../runtime/open-all.ts";
import { type Runtime, type SessionOptions, sessionOptions } from "../runtime/runtime.ts";
import { checkGuidanceInterval, EVERY_STEP, type GuidanceInterval } from "../sampling/guidance.ts";
import type { WorkerChoice } from "../worker/choice.ts";
import type { Expected } from "./expected-class.ts";
import { checkIndex } from "./index-keys.ts";
import { SessionCache } from "./session-cache.ts";

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

/**
 * Most bytes of weights that may be in memory twice, so that a step is one call of the runtime. A call takes a few
 * tenths of a millisecond, which is noticeable only in small networks.
 */
export const MOST_TWICE = 64 * 2 ** 20;

/** A network of a pipeline: its configuration and the headers of its weights are read; sessions are compiled when they are asked for. */
export class Component<Config> {
  readonly config: Config;
  readonly weights: WeightFiles;
  readonly #architecture: Architecture<Config>;
  readonly #runtime: Runtime;
  readonly #options: StagedOptions;
  readonly #sessions = new SessionCache<StagedSession>();

  private constructor(
    architecture: Architecture<Config>,
    config: Config,
    weights: WeightFiles,
    runtime: Runtime,
    options: StagedOptions,
  ) {
    checkCounts(architecture.counts?.(config) ?? [], namedWeights(architecture, weights));
    this.#architecture = architecture;
    this.config = config;
    this.weights = weights;
    this.#runtime = runtime;
    this.#options = options;
  }

  /** Weights of more than `streamAbove` bytes are read part by part in every run instead of being kept. */
  static async open<Config>(
    folder: Folder,
    expected: Expected<Config>,
    runtime: Runtime,
    { variant, ...options }: PipelineOptions,
    { streamAbove = Number.POSITIVE_INFINITY } = {},
  ): Promise<Component<Config>> {
    const raw = await readConfig(folder);
    const architecture = expected(raw, folder.name);
    const config = architecture.parseConfig(raw);
    const weights = await openWeights(folder, variant);
    const stream = options.stream ?? weights.bytes > streamAbove;
    return new Component(architecture, config, weights, runtime, { ...options, stream });
  }

  /** From a configuration and weights that need not be in one folder. Throws ConfigError. */
  static of<Config>(
    architecture: Architecture<Config>,
    raw: RawConfig,
    weights: WeightFiles,
    runtime: Runtime,
    { variant: _, ...options }: PipelineOptions,
  ): Component<Config> {
    return new Component(architecture, architecture.parseConfig(raw), weights, runtime, options);
  }

  /** Whether weights are read part by part in every run. */
  get streams(): boolean {
    return this.#options.stream ?? false;
  }

  /** Whether it runs on the CPU. */
  get onProcessor(): boolean {
    return ["cpu", "wasm", undefined].includes(this.#options.provider);
  }

  /** The input of a denoiser that is the noisy latent. Throws ArgumentError for a network that is given no picture. */
  get latent(): string {
    const { picture, className } = this.#architecture;
    if (picture !== undefined) return picture;
    throw new ArgumentError(`${className} is no denoiser: none of its inputs is a noisy latent.`);
  }

  /** The network as a list of stages, of these sizes. */
  model(geometry: Geometry): StagedModel {
    return this.#architecture.model(this.config, geometry);
  }

  /** Compiled for these sizes. Where the component has the same options, its own count. */
  async session(geometry: Geometry, options: SessionOptions = {}): Promise<StagedSession> {
    return (await this.inParts(geometry, [], options))[0]!;
  }

  /**
   * Compiled in parts that begin at the stages `cuts` (`splitModel`); kept until other sizes or cuts are asked for.
   */
  inParts(
    geometry: Geometry,
    cuts: readonly number[],
    options: SessionOptions = {},
  ): Promise<readonly StagedSession[]> {
    return this.#sessions.get(JSON.stringify([geometry, cuts, options]), async () => {
      const { weights } = this;
      if (cuts.length > 0) return this.#compile(splitModel(this.model(geometry), cuts), this.#named(), options);
      const settings = this.#settings(options);
      return [await loadModel(this.#runtime, this.#architecture, this.config, weights, geometry, settings)];
    });
  }

  /** Compiles models made of this network and of parts whose weights are `more`. They are cached in place of the network's own sessions. */
  assembled(
    key: string,
    assemble: () => Promise<{ models: readonly StagedModel[]; more?: WeightFiles }>,
    options: SessionOptions = {},
  ): Promise<readonly StagedSession[]> {
    return this.#sessions.get(key, async () => {
      const { models, more } = await assemble();
      const own = this.#named();
      return this.#compile(models, more ? own.joined(more, "more") : own, options);
    });
  }

  /** Its runtime and session options, for what runs beside this network. */
  withRuntime<T>(use: (runtime: Runtime, options: SessionOptions) => Promise<T>): Promise<T> {
    const { groups: _, stream: __, ...options } = this.#options;
    return use(this.#runtime, options);
  }

  #compile(
    models: readonly StagedModel[],
    weights: WeightFiles,
    options: SessionOptions = {},
  ): Promise<StagedSession[]> {
    return openAll(models, (model) => {
      const source = checkpointWeights(weights, describeModel(model));
      return StagedSession.compile(this.#runtime, model, source, weightLocations(weights), this.#settings(options));
    });
  }

  #named(): WeightFiles {
    return namedWeights(this.#architecture, this.weights);
  }

  /** A pipeline's networks run one after the other; threads that still spin would slow down the next one. */
  #settings(options: SessionOptions): StagedOptions {
    return { takesTurns: true, ...options, ...this.#options };
  }

  release(): Promise<void> {
    return this.#sessions.release();
  }
}

/** Reads `model_index.json` and checks that the folder is one of these pipelines. */
export async function openPipeline(folder: Folder, supported: readonly string[]): Promise<ModelIndex> {
  const index = await readModelIndex(folder);
  if (!supported.includes(index.className)) {
    throw new ConfigError(`${folder.name}: ${otherPipeline(index.className, supported)}`);
  }
  checkIndex(folder, index);
  return index;
}

/** Diffusers' classes by what opens them here. */
const openedBy = new Map([
  ["PixArtAlphaPipeline", "TextToImagePipeline, or halfstep generate"],
  ["PixArtSigmaPipeline", "TextToImagePipeline, or halfstep generate"],
  ["DiTPipeline", "ClassToImagePipeline, or halfstep generate --class"],
  ["AnimateDiffPipeline", "TextToVideoPipeline, or halfstep animate"],
  ["StableDiffusionPipeline", "TextToVideoPipeline with a motion adapter, or halfstep animate --adapter"],
  ["StableVideoDiffusionPipeline", "ImageToVideoPipeline, or halfstep animate --image"],
]);

/** The message for a pipeline whose class is not one of `supported`. */
function otherPipeline(className: string, supported: readonly string[]): string {
  const article = /^[AEIOU]/i.test(className) ? "an" : "a";
  const opener = openedBy.get(className);
  return (
    `it is ${article} ${className.slice(0, 100)}, and this call is for ${supported.join(" or ")}. ` +
    (opener === undefined ? "Nothing here opens that class." : `It is opened by ${opener}.`)
  );
}

/** The default guidance scale: `_guidance_scale` of model_index.json, or `usual`. */
export function ownGuidance(folder: Folder, { options }: ModelIndex, usual: number): number {
  const { _guidance_scale: own = usual } = options;
  if (typeof own === "number") return own;
  throw new ConfigError(`${folder.name}/model_index.json: "_guidance_scale" is not a number.`);
}

/** The default for the most tokens of a prompt: `_max_sequence_length` of model_index.json, or `usual`. */
export function ownSequenceLength(folder: Folder, { options }: ModelIndex, usual: number): number {
  const { _max_sequence_length: own = usual } = options;
  if (Number.isInteger(own) && (own as number) >= 2 && (own as number) <= 4096) return own as number;
  throw new ConfigError(
    `${folder.name}/model_index.json: "_max_sequence_length" is not a whole number from 2 to 4096.`,
  );
}

/** A flag of model_index.json under one of halfstep's own keys. */
export function ownFlag(folder: Folder, { options }: ModelIndex, name: string, usual: boolean): boolean {
  const own = options[name] ?? usual;
  if (typeof own === "boolean") return own;
  throw new ConfigError(`${folder.name}/model_index.json: "${name}" is not true or false.`);
}

/** The default guidance interval: `_guidance_interval` of model_index.json, or all steps. */
export function ownGuidanceInterval(folder: Folder, { options }: ModelIndex): GuidanceInterval {
  const { _guidance_interval: own = EVERY_STEP } = options;
  const at = `${folder.name}/model_index.json: "_guidance_interval"`;
  if (!Array.isArray(own) || !own.every((share) => typeof share === "number")) {
    throw new ConfigError(`${at} is not a list of two numbers.`);
  }
  try {
    checkGuidanceInterval(own as unknown as GuidanceInterval);
  } catch (cause) {
    throw new ConfigError(`${at}: ${(cause as Error).message}`, { cause });
  }
  return own as unknown as GuidanceInterval;
}
