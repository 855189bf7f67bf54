/** Where bundlers put ONNX Runtime's files: they know these words, all of them together, and copy the files as they are. */
export interface Files {
  readonly mjs: URL;
  readonly wasm: URL;
}

export const copied = {
  wasm: (): Files => ({
    mjs: new URL("onnxruntime-web/ort-wasm-simd-threaded.mjs", import.meta.url),
    wasm: new URL("onnxruntime-web/ort-wasm-simd-threaded.wasm", import.meta.url),
  }),
  webgpu: (): Files => ({
    mjs: new URL("onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs", import.meta.url),
    wasm: new URL("onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm", import.meta.url),
  }),
};
