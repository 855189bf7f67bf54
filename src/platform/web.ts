import type { Folder } from "../checkpoints/files.ts";
import { withChosenLoras } from "../checkpoints/lora/choice.ts";
import type { Prediction } from "../checkpoints/single-file/configs.ts";
import { checkPrediction, openSingleFile } from "../checkpoints/single-file/folder.ts";
import { CachingFolder, type CachingOptions } from "../checkpoints/web-cache.ts";
import { ArgumentError } from "../errors.ts";
import { configureWebRuntime, currentWebSettings, type WebRuntimeSettings, webRuntime } from "../runtime/web.ts";
import { callScope, Synchronous } from "./call-scope.ts";
import type { Platform, ResolveOptions } from "./platform.ts";

/** "owner/name" */
const hubId = /^\w[\w.-]*\/\w[\w.-]*$/;
const HUB = "https://huggingface.co";

/**
 * "owner/name" is on the Hub, an address that ends in .safetensors or .gguf a checkpoint in one file. Everything else with a slash is an address: whole, from the root of the server ("/models/x")
 * or seen from the page ("./models/x", "models/x/").
 */
async function resolveModel(name: string, { loras, revision = "main", ...more }: ResolveOptions = {}): Promise<Folder> {
  const { signal, onDownload, onNotice, predictionType } = more;
  const options = { signal, onDownload, onNotice };
  const folder = await modelFolder(name, revision, options, predictionType);
  checkPrediction(folder, predictionType);
  return withChosenLoras(folder, loras, async (file) => {
    const address = file.includes("/") ? file : `./${file}`;
    const [, path, last] = /^(.*)\/([^/]*)$/.exec(address)!;
    return new CachingFolder(path!, options).source(last!);
  });
}

async function modelFolder(
  name: string,
  revision: string,
  options: CachingOptions,
  prediction?: Prediction,
): Promise<Folder> {
  if (hubId.test(name)) {
    return new CachingFolder(`${HUB}/${name}/resolve/${encodeURIComponent(revision)}`, options);
  }
  const file = /^(.*)\/([^/?#]+\.(?:safetensors|gguf))$/.exec(name);
  if (file) return openSingleFile(await new CachingFolder(file[1]!, options).source(file[2]!), prediction);
  if (name.includes("/")) return new CachingFolder(name, options);
  throw new ArgumentError(
    `A browser cannot look for a model by the name "${name}" alone. Models that come with the package are in ` +
      `node_modules/halfstep/checkpoints: serve the folder there that is called "${name}" with your page, and give its ` +
      `URL, such as "/models/${name}". There are Hub ids (owner/name) too.`,
  );
}

export const platform: Platform = {
  runtime: webRuntime,
  memory: () => null,
  callScope: () => callScope(new Synchronous()),
  settings: currentWebSettings,
  applySettings: (settings) => configureWebRuntime(settings as WebRuntimeSettings),
  modelAddress: (name) =>
    name.includes("/") && !hubId.test(name) ? new URL(name, globalThis.location?.href).href : name,
  resolveModel,
};
