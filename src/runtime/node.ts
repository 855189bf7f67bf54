/** ONNX Runtime in Node. Weights are mapped from the checkpoint's own files. */
import { readFileSync, realpathSync } from "node:fs";
import { basename, sep } from "node:path";
import { env as common } from "onnxruntime-common";
import { ArgumentError } from "../errors.ts";
import type { OnnxModel } from "../graph/onnx.ts";
import { commonOptions, OrtSession } from "./ort-session.ts";
import type { Runtime, SessionOptions, WeightLocations } from "./runtime.ts";
import { disableTelemetry } from "./telemetry-node.ts";

let loaded: Promise<typeof import("onnxruntime-node")> | undefined;

/** ONNX Runtime decides about telemetry once, when it starts: so it is loaded when first used and not before. */
function load(): Promise<typeof import("onnxruntime-node")> {
  loaded ??= disableTelemetry().then(() => import("onnxruntime-node"));
  return loaded;
}

async function compile(model: OnnxModel, weights: WeightLocations = new Map(), options: SessionOptions = {}) {
  const folder = weightFolder(model, weights);
  const shared = commonOptions(options);
  const ort = await load();
  const session = await ort.InferenceSession.create(model.bytes, {
    ...shared,
    executionProviders: [options.provider ?? "cpu"],
    extra: {
      session: {
        ...(shared.extra as { session: object }).session,
        ...(folder ? { model_external_initializers_file_folder_path: folder } : {}),
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

export const nodeRuntime: Runtime = {
  name: "onnxruntime-node",
  version: common.versions.common,
  compile,
  peakMemory,
  residentMemory: () => process.memoryUsage.rss(),
};
