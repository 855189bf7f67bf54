import { AsyncLocalStorage } from "node:async_hooks";
import { existsSync } from "node:fs";
import { totalmem } from "node:os";
import { dirname } from "node:path";
import type { Folder } from "../checkpoints/files.ts";
import { downloadModel, type HubOptions } from "../checkpoints/hub.ts";
import { checkLocal, localModel } from "../checkpoints/local-model-node.ts";
import { withChosenLoras } from "../checkpoints/lora/choice.ts";
import { fileSource, NodeFolder } from "../checkpoints/node.ts";
import { checkPrediction } from "../checkpoints/single-file/folder.ts";
import { ArgumentError, HubError } from "../errors.ts";
import { nodeRuntime } from "../runtime/node.ts";
import { callScope, type Running } from "./call-scope.ts";
import { embeddedModel } from "./embedded-node.ts";
import type { Platform, ResolveOptions } from "./platform.ts";

async function resolveModel(name: string, options: ResolveOptions = {}): Promise<Folder> {
  const folder = await modelFolder(name, options);
  checkPrediction(folder, options.predictionType);
  return withChosenLoras(folder, options.loras, fileSource);
}

async function modelFolder(name: string, options: ResolveOptions): Promise<Folder> {
  checkNoAddress(name);
  const embedded = embeddedModel(name);
  const local = embedded === undefined ? await localModel(name, options) : new NodeFolder(embedded, name);
  if (local) {
    await checkLocal(local, options);
    return local;
  }
  if (/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(name)) return fromHub(name, options);
  throw new ArgumentError(
    `There is no model "${name}": it is not an embedded model (fluent-emoji), no folder on disk, and no Hub id (owner/name).`,
  );
}

/**
 * Only a browser opens addresses. Here a model is a folder, or comes from the Hub; an address of the Hub's pages
 * contains the name to use.
 */
function checkNoAddress(name: string): void {
  if (!/^[a-z][a-z0-9+.-]+:\/\//i.test(name)) return;
  const id = /^https?:\/\/(?:www\.)?(?:huggingface\.co|hf\.co)\/([\w-][\w.-]*\/[\w-][\w.-]*)/i.exec(name)?.[1];
  const instead =
    id === undefined
      ? "Download the model into a folder and give that. For a mirror of the Hub, set HF_ENDPOINT to its address and give owner/name."
      : `Give ${id}.`;
  throw new ArgumentError(
    `"${name.slice(0, 200)}" is an address; a model is a folder in diffusers' layout, or a name on the Hub (owner/name). ${instead}`,
  );
}

async function fromHub(name: string, options: ResolveOptions): Promise<NodeFolder> {
  // If there is a folder "models", the user may have meant a folder in it.
  if (existsSync(dirname(name))) {
    options.onNotice?.(
      `There is no folder "${name}" in ${process.cwd()}; looking for a model of that name on the Hub.`,
    );
  }
  try {
    return await downloadModel(name, hubOptions(options));
  } catch (error) {
    if (!(error instanceof HubError)) throw error;
    throw new HubError(`${error.message} There is no folder "${name}" in ${process.cwd()} either.`, { cause: error });
  }
}

/** Pipelines hand on all of their options. */
function hubOptions({ revision, variant, signal, onDownload, onNotice }: ResolveOptions): HubOptions {
  return { revision, variant, signal, onProgress: onDownload, onNotice };
}

export const platform: Platform = {
  runtime: nodeRuntime,
  memory: () => Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY),
  callScope: () => callScope(new AsyncLocalStorage<Running>()),
  settings: () => null,
  applySettings: () => undefined,
  modelAddress: (name) => name,
  resolveModel,
};
