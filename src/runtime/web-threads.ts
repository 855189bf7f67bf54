/**
 * ONNX Runtime's threads in a browser. A thread starts from the file that ONNX Runtime's own code is in. A bundler may put a page's
 * code into that file, or let that file import it; the thread then runs the page and never starts. So where there are to be threads,
 * ONNX Runtime gets a file that is its alone.
 */
import type { Env } from "onnxruntime-common";
import type { Files } from "./web-files.ts";

type WasmPaths = Env.WebAssemblyFlags["wasmPaths"];
export type WebBuild = "wasm" | "webgpu";

const names: Readonly<Record<WebBuild, string>> = {
  wasm: "ort-wasm-simd-threaded",
  webgpu: "ort-wasm-simd-threaded.asyncify",
};

/** Where they are beside halfstep in a folder node_modules that is served, as Vite's development server does; null elsewhere. */
function installed(build: WebBuild): Files | null {
  const here = import.meta.url;
  if (!here.startsWith(`${globalThis.location?.origin}/`) || !here.includes("/node_modules/")) return null;
  const file = (ending: string) => new URL(`../../onnxruntime-web/dist/${names[build]}.${ending}`, here);
  return { mjs: file("mjs"), wasm: file("wasm") };
}

/** `asked`, or half of the cores and at most four; one where the page has no shared memory. */
export function threadsHere(asked: number | undefined): number {
  if (!globalThis.crossOriginIsolated) return 1;
  return asked ?? Math.min(4, Math.ceil((globalThis.navigator?.hardwareConcurrency ?? 1) / 2));
}

/**
 * How many threads to start and from which files. `given` files count as they are; without them, and without a file of ONNX Runtime's
 * own, it is one thread, and the console says so.
 */
export async function threadSettings(
  build: WebBuild,
  asked: number | undefined,
  given: WasmPaths,
): Promise<{ numThreads: number; wasmPaths: WasmPaths }> {
  const numThreads = threadsHere(asked);
  const hasModule = typeof given === "string" || given?.mjs !== undefined;
  if (numThreads === 1 || hasModule) return { numThreads, wasmPaths: given };
  // A chunk of its own: webpack forgets a file for ONNX Runtime's chunk that the page's own chunk names too.
  const { copied } = await import("./web-files.ts");
  const place = copied[build]();
  for (const files of [installed(build), place]) {
    if (files && (await isRuntime(files.mjs))) return { numThreads, wasmPaths: { ...files, ...given } };
  }
  console.warn(
    `halfstep: ONNX Runtime computes on one thread, since its file ${place.mjs.href} is not there and threads start from it. ` +
      'Copy the files of node_modules/onnxruntime-web/dist there, or to another folder and say configureWebRuntime({ wasmPaths: "/folder/" }).',
  );
  return { numThreads: 1, wasmPaths: given };
}

/** Many servers answer with a page where there is no such file. */
async function isRuntime(url: URL): Promise<boolean> {
  try {
    const module: { default?: unknown } = await import(/* webpackIgnore: true */ /* @vite-ignore */ url.href);
    return typeof module.default === "function";
  } catch {
    return false;
  }
}
