/** ONNX Runtime in a browser or a worker of one. Weights are copied from the files' bytes into WebAssembly's memory. */
import { env as common, type Env } from "onnxruntime-common";
import { anObject, text, textOr } from "../checks.ts";
import { ArgumentError } from "../errors.ts";
import type { OnnxModel } from "../graph/onnx.ts";
import { type OptionTable, readOptions } from "../options/options.ts";
import { commonOptions, OrtSession } from "./ort-session.ts";
import { workingProvider } from "./provider.ts";
import type { ProviderName, Runtime, SessionOptions, WeightLocations } from "./runtime.ts";
import { threadSettings, type WebBuild } from "./web-threads.ts";

/** Settings of ONNX Runtime in a browser. */
export interface WebRuntimeSettings {
  /**
   * Where ONNX Runtime's own `.wasm` and `.mjs` files are: the URL of a folder, or of each of the two. Bundlers find and
   * copy the `.wasm` file by themselves; this is for pages whose files come from somewhere else.
   */
  wasmPaths?: Env.WebAssemblyFlags["wasmPaths"];
}

const webSettings: OptionTable<WebRuntimeSettings> = { wasmPaths: textOr(text, anObject) };

/** Loaded when first used: the build with WebGPU is twice as large as the one without. */
const builds = {
  wasm: () => import("onnxruntime-web/wasm"),
  webgpu: () => import("onnxruntime-web/webgpu"),
};
type Build = Awaited<ReturnType<(typeof builds)[WebBuild]>>;

const loaded = new Map<WebBuild, Promise<Build>>();
let settings: WebRuntimeSettings = {};

/** Settings of the whole page. Throws ArgumentError once a model has been compiled: they would come too late. */
export function configureWebRuntime(changes: WebRuntimeSettings): void {
  if (loaded.size > 0) {
    throw new ArgumentError("configureWebRuntime: ONNX Runtime is loaded already; call it before a model is used.");
  }
  settings = { ...settings, ...readOptions(changes, webSettings, { of: "configureWebRuntime" }) };
}

export const currentWebSettings = (): WebRuntimeSettings => settings;

/** ONNX Runtime reads `threads` once, so the first session's number is every session's. */
async function load(provider: WebBuild, threads: number | undefined): Promise<Build> {
  const ort = await builds[provider]();
  const { numThreads, wasmPaths } = await threadSettings(provider, threads, settings.wasmPaths);
  if (wasmPaths !== undefined) ort.env.wasm.wasmPaths = wasmPaths;
  ort.env.wasm.numThreads = numThreads;
  return ort;
}

function build(provider: WebBuild, threads: number | undefined): Promise<Build> {
  let promise = loaded.get(provider);
  if (!promise) {
    promise = load(provider, threads);
    loaded.set(provider, promise);
    // A chunk that could not be fetched may be there the next time.
    promise.catch(() => loaded.delete(provider));
  }
  return promise;
}

let last: Promise<unknown> = Promise.resolve();

/**
 * ONNX Runtime keeps the files of the session that it is making in one table for the page, and empties that when any
 * session is done.
 */
function oneAtATime<T>(task: () => Promise<T>): Promise<T> {
  const result = last.then(task);
  last = result.catch(() => undefined);
  return result;
}

async function compile(model: OnnxModel, weights: WeightLocations = new Map(), given: SessionOptions = {}) {
  const { profile: _, ...options } = given;
  const provider = (await workingProvider(webRuntime, options.provider)) as WebBuild;
  return createWebSession(await build(provider, options.threads), model, weights, { ...options, provider });
}

let found: Promise<string | null> | undefined;

/** An adapter is looked for before the build with WebGPU, 27 MB, is loaded. */
async function whyNot(provider: ProviderName): Promise<string | null> {
  if (provider !== "webgpu") return null;
  found ??= findOut();
  return found;
}

async function findOut(): Promise<string | null> {
  const { gpu } = (globalThis.navigator ?? {}) as { gpu?: { requestAdapter(): Promise<object | null> } };
  if (!gpu) {
    return "this browser has no WebGPU, or the page's address is neither https:// nor localhost.";
  }
  const adapter = await gpu.requestAdapter().catch(() => null);
  return adapter ? null : "the browser found no adapter, a graphics card that it trusts (chrome://gpu says why).";
}

/** The part that Node shares (wasm-node.ts), with a build of onnxruntime-web that is loaded and set up. */
export async function createWebSession(
  ort: Pick<Build, "InferenceSession" | "Tensor">,
  model: OnnxModel,
  weights: WeightLocations,
  { provider = "wasm", ...options }: SessionOptions,
): Promise<OrtSession> {
  const externalData = await Promise.all(
    model.weightFiles.map(async (path) => ({ path, data: await contents(path, weights) })),
  );
  const session = await oneAtATime(() =>
    ort.InferenceSession.create(model.bytes, {
      ...commonOptions(options),
      executionProviders: [provider],
      externalData,
    }),
  );
  // Preallocated outputs would be copied into WebAssembly's memory and never back.
  return new OrtSession(session, ort.Tensor, { copyOutputs: true });
}

function contents(file: string, weights: WeightLocations): Promise<Uint8Array> {
  const location = weights.get(file);
  if (location && "bytes" in location) return location.bytes();
  throw new ArgumentError(`compile: the contents of weight file "${file}" were not given; a browser has no paths`);
}

/** ONNX Runtime in a browser: onnxruntime-web. */
export const webRuntime: Runtime = {
  name: "onnxruntime-web",
  version: common.versions.common,
  where: "in a browser",
  providers: ["wasm", "webgpu"],
  usual: "auto",
  whyNot,
  compile,
  peakMemory: () => null,
  residentMemory: () => null,
};
