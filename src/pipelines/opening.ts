/** How every pipeline is opened: by a model's name, here or in a worker, or from a folder. */

import { platform } from "#platform";
import type { ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { type Check, text } from "../checks.ts";
import {
  forNetworks,
  type InWorker,
  type LoadingOptions,
  type PipelineOptions,
  pipelineOptions,
  readLoadingOptions,
} from "../components/loading.ts";
import { openPipeline } from "../components/pipeline-index.ts";
import { defined } from "../options/defined.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { withProvider, workingProvider } from "../runtime/provider.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { openInWorker } from "../worker/client.ts";

/** A kind of pipeline, as opening it needs to know it. */
export interface PipelineKind<Call extends object> {
  /** The name of its class here, for messages and for workers. */
  readonly name: string;
  /** The options of a call. */
  readonly options: OptionTable<Call>;
  /** Options of `fromPretrained` that name another model, which is found as the pipeline's own is: a motion adapter. */
  readonly otherModels?: readonly string[];
}

/** The folders of the models that `otherModels` name, of those that were given. */
type OtherFolders = Readonly<Record<string, Folder>>;

/**
 * Opens a pipeline by a model's name. Before anything is fetched the options are checked, and whether the provider works; with `worker`
 * all of this happens there. `revision`, `variant`, `loras` and `predictionType` are of `model` alone: another model need not have them.
 */
export async function fromPretrained<Call extends object, Opened>(
  model: string,
  given: LoadingOptions & Partial<InWorker>,
  { name, options, otherModels = [] }: PipelineKind<Call>,
  open: (folder: Folder, options: PipelineOptions, others: OtherFolders) => Promise<Opened>,
): Promise<Opened> {
  const more = Object.fromEntries(otherModels.map((other): [string, Check] => [other, text]));
  const { worker, ...read } = readLoadingOptions(given, name, more);
  const named = Object.entries(read).filter(([option]) => otherModels.includes(option)) as [string, string][];
  const others = new Map(named);
  const loading: LoadingOptions = Object.fromEntries(Object.entries(read).filter(([option]) => !others.has(option)));
  if (worker) {
    const addresses = Object.fromEntries(named.map(([option, other]) => [option, platform.modelAddress(other)]));
    const loras = loading.loras?.map((lora) => ({ ...lora, file: platform.modelAddress(lora.file) }));
    const forWorker = { ...loading, ...addresses, ...defined({ loras }) };
    return openInWorker({ pipeline: name, model, worker, loading: forWorker, options });
  }
  await workingProvider(platform.runtime, loading.provider);
  const folder = await platform.resolveModel(model, loading);
  const { revision: _, variant: __, loras: ___, predictionType: ____, ...forOthers } = loading;
  const folders: [string, Folder][] = [];
  for (const [option, other] of others) folders.push([option, await platform.resolveModel(other, forOthers)]);
  return open(folder, forNetworks(loading), Object.fromEntries(folders));
}

/**
 * What opening a folder begins with: its options are checked (`more` are those that one pipeline has beside the others'), their
 * provider made definite, and model_index.json read, which must be of one of `classes`. Throws ArgumentError, CheckpointError,
 * ConfigError.
 */
export async function openFolder<Options extends PipelineOptions = PipelineOptions>(
  folder: Folder,
  runtime: Runtime,
  given: Options,
  { name, classes, more }: { name: string; classes: readonly string[]; more?: object },
): Promise<{ options: Options; index: ModelIndex }> {
  const table = { ...pipelineOptions, ...more } as unknown as OptionTable<Options>;
  const options = await withProvider(readOptions<Options>(given, table, { of: `${name}.fromFolder` }), runtime);
  return { options, index: await openPipeline(folder, classes) };
}
