import { afterEach, expect, it, vi } from "vitest";
import { threadSettings, threadsHere } from "../../src/runtime/web-threads.ts";

afterEach(() => {
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

/** What a page has whose headers allow shared memory. */
function isolatedPage(cores: number): void {
  vi.stubGlobal("crossOriginIsolated", true);
  vi.stubGlobal("navigator", { hardwareConcurrency: cores });
}

it("counts half of the cores, at most four, and one without shared memory", () => {
  expect(threadsHere(3)).toBe(1);
  for (const [cores, threads] of [
    [1, 1],
    [2, 1],
    [3, 2],
    [6, 3],
    [32, 4],
  ] as const) {
    isolatedPage(cores);
    expect(threadsHere(undefined)).toBe(threads);
    expect(threadsHere(6)).toBe(6);
  }
});

it("takes one thread and says so where ONNX Runtime's own file is not there", async () => {
  isolatedPage(8);
  const warn = vi.spyOn(console, "warn").mockReturnValue();
  for (const given of [undefined, { wasm: "/files/x.wasm" }]) {
    expect(await threadSettings("wasm", 4, given)).toEqual({ numThreads: 1, wasmPaths: given });
    expect(warn).toHaveBeenLastCalledWith(
      expect.stringMatching(/one thread.*ort-wasm-simd-threaded\.mjs is not there/),
    );
  }
  expect(warn).toHaveBeenCalledTimes(2);
});

it("leaves places that were given as they are, and asks for nothing on one thread", async () => {
  const warn = vi.spyOn(console, "warn").mockReturnValue();
  expect(await threadSettings("wasm", 4, undefined)).toEqual({ numThreads: 1, wasmPaths: undefined });
  isolatedPage(8);
  for (const given of ["/onnxruntime/", { mjs: "/a.mjs", wasm: "/a.wasm" }]) {
    expect(await threadSettings("webgpu", undefined, given)).toEqual({ numThreads: 4, wasmPaths: given });
  }
  expect(await threadSettings("webgpu", 1, undefined)).toEqual({ numThreads: 1, wasmPaths: undefined });
  expect(warn).not.toHaveBeenCalled();
});
