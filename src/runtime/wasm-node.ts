/** onnxruntime-web in Node, for systems that onnxruntime-node has no binary for, and where it could not be installed. */
import { readFile } from "node:fs/promises";
import { ArgumentError, ToolError } from "../errors.ts";
import type { OnnxModel } from "../graph/onnx.ts";
import type { Session, SessionOptions, WeightLocations } from "./runtime.ts";
import { createWebSession } from "./web.ts";

export const INSTALL = "npm install onnxruntime-node --ignore-scripts";

/** WebAssembly has 4 GB for everything, and Node reads files below 2 GiB at once. */
const LARGEST_FILE = 2 ** 31 - 1;

type Build = typeof import("onnxruntime-web");
let loaded: Promise<Build> | undefined;

/** The package's own entry is the build for Node. The first session's `threads` is every session's. */
function load(threads: number | undefined): Promise<Build> {
  loaded ??= import("onnxruntime-web").then((ort) => {
    if (threads !== undefined) ort.env.wasm.numThreads = threads;
    return ort;
  });
  return loaded;
}

/** Weights are read into WebAssembly's memory, where onnxruntime-node maps them from their files. */
export async function compileInWebAssembly(
  model: OnnxModel,
  weights: WeightLocations,
  { profile: _, ...options }: SessionOptions,
): Promise<Session> {
  const contents = [...weights].map(([file, location]) => {
    if (!("path" in location)) throw new ArgumentError(`compile: no path was given for weight file "${file}"`);
    return [file, { bytes: () => contentsOf(location.path) }] as const;
  });
  return createWebSession(await load(options.threads), model, new Map(contents), { ...options, provider: "wasm" });
}

async function contentsOf(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ERR_FS_FILE_TOO_LARGE") throw cause;
    throw new ToolError(
      `${path} is larger than the ${LARGEST_FILE} bytes that WebAssembly can take; it needs onnxruntime-node: ${INSTALL}`,
      { cause },
    );
  }
}
