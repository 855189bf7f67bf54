/** ONNX Runtime in Node. Weights are mapped from the checkpoint's own files. */
import { readFileSync, realpathSync } from "node:fs";
import { basename, sep } from "node:path";
import { env as common } from "onnxruntime-common";
import { ArgumentError, ToolError } from "../errors.ts";
import type { OnnxModel } from "../graph/onnx.ts";
import { defined } from "../options/defined.ts";
import { commonOptions, OrtSession } from "./ort-session.ts";
import { plainReason, tryProvider, withProvider } from "./provider.ts";
import type { ProviderName, Runtime, SessionOptions, WeightLocations } from "./runtime.ts";
import { disableTelemetry } from "./telemetry-node.ts";
import { compileInWebAssembly, INSTALL } from "./wasm-node.ts";

type Native = typeof import("onnxruntime-node");

let loaded: Promise<Native | undefined> | undefined;
let inWebAssembly = false;

/**
 * ONNX Runtime decides about telemetry once, when it starts, so it is loaded only when it is first used. It is an optional
 * dependency: undefined where it is missing or has no binary for this system.
 */
function load(): Promise<Native | undefined> {
  loaded ??= disableTelemetry()
    .then(() => import("onnxruntime-node"))
    .then((ort) => {
      // ONNX Runtime would print it; it is thrown too, as a readable error.
      ort.env.logLevel = "fatal";
      return ort;
    })
    .catch((cause: Error) => {
      inWebAssembly = true;
      process.emitWarning(
        `onnxruntime-node cannot be loaded (${cause.message.split("\n")[0]}); halfstep computes with WebAssembly, which is ` +
          `slower and has 4 GB of memory. Install it: ${INSTALL}`,
      );
      return undefined;
    });
  return loaded;
}

async function compile(model: OnnxModel, weights: WeightLocations = new Map(), options: SessionOptions = {}) {
  await unchanged(model, weights);
  // A file may also change while it is mapped.
  const session = await compileAnywhere(model, weights, options).catch(async (error) => {
    await unchanged(model, weights);
    throw error;
  });
  try {
    await unchanged(model, weights);
  } catch (error) {
    await session.release();
    throw error;
  }
  return session;
}

async function unchanged(model: OnnxModel, weights: WeightLocations): Promise<void> {
  for (const file of model.weightFiles) {
    const location = weights.get(file);
    if (location && "path" in location) await location.unchanged?.();
  }
}

async function compileAnywhere(model: OnnxModel, weights: WeightLocations, given: SessionOptions) {
  const options = await withProvider(given, nodeRuntime);
  if (options.provider === "wasm") return compileInWebAssembly(model, weights, options);
  const ort = await load();
  if (!ort) {
    if (options.provider === "cpu") return compileInWebAssembly(model, weights, options);
    throw new ToolError(
      `provider "${options.provider}" needs onnxruntime-node, which cannot be loaded here: ${INSTALL}`,
    );
  }
  return compileNatively(ort, model, weights, options);
}

const found = new Map<ProviderName, Promise<string | null>>();

function whyNot(provider: ProviderName): Promise<string | null> {
  if (provider === "cpu" || provider === "wasm") return Promise.resolve(null);
  let reason = found.get(provider);
  if (!reason) {
    reason = findOut(provider);
    found.set(provider, reason);
  }
  return reason;
}

async function findOut(provider: ProviderName): Promise<string | null> {
  const ort = await load();
  if (!ort) return `it needs onnxruntime-node, which cannot be loaded: ${INSTALL}.`;
  const error = await tryProvider((model) => compileNatively(ort, model, new Map(), { provider }));
  if (!error) return null;
  const advice =
    provider === "webgpu"
      ? "WebGPU needs a graphics card and its driver (on Linux that of Vulkan)."
      : "CUDA needs a card of NVIDIA, CUDA 12 with cuDNN 9, and ONNX Runtime's libraries for it, which the install script of " +
        "onnxruntime-node downloads (npm rebuild onnxruntime-node --ignore-scripts=false, on Linux x64).";
  return `${plainReason(error)}. ${advice}`;
}

async function compileNatively(ort: Native, model: OnnxModel, weights: WeightLocations, options: SessionOptions) {
  const folder = weightFolder(model, weights);
  const shared = commonOptions(options);
  const session = await ort.InferenceSession.create(model.bytes, {
    ...shared,
    executionProviders: [options.provider ?? "cpu"],
    extra: {
      session: {
        ...(shared.extra as { session: object }).session,
        ...defined({ model_external_initializers_file_folder_path: folder }),
      },
    },
  });
  return new OrtSession(session, ort.Tensor, { profiled: options.profile !== undefined });
}

/** The one folder that all of a session's weight files lie in or below; ONNX Runtime looks them up there by their path. */
function weightFolder(model: OnnxModel, weights: WeightLocations): string | undefined {
  const folders = new Set<string>();
  for (const file of model.weightFiles) {
    const location = weights.get(file);
    if (!location || !("path" in location))
      throw new ArgumentError(`compile: no path was given for weight file "${file}"`);
    const path = realpathSync(location.path);
    const below = file.split("/").join(sep);
    if (!path.endsWith(sep + below))
      throw new ArgumentError(`compile: weight file "${file}" is called ${basename(path)} on disk`);
    folders.add(path.slice(0, -below.length));
  }
  if (folders.size > 1)
    throw new ArgumentError(`compile: weight files lie in several folders: ${[...folders].join(", ")}`);
  return [...folders][0];
}

/** Largest resident set of this process so far, in bytes: Linux's VmHWM where there is one (it can be reset there). */
function peakMemory(): number {
  try {
    const kilobytes = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
    if (kilobytes) return Number(kilobytes) * 1024;
  } catch {
    // Not Linux: the portable figure below.
  }
  return process.resourceUsage().maxRSS * 1024;
}

/** ONNX Runtime in Node: onnxruntime-node, or onnxruntime-web where that is not installed. */
export const nodeRuntime: Runtime = {
  get name() {
    return inWebAssembly ? "onnxruntime-web" : "onnxruntime-node";
  },
  version: common.versions.common,
  where: "in Node",
  providers: ["cpu", "webgpu", "cuda", "wasm"],
  usual: "cpu",
  whyNot,
  compile,
  peakMemory,
  residentMemory: () => process.memoryUsage.rss(),
};
