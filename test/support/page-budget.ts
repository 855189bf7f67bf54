/**
 * Most kilobytes of JavaScript after compression that a page fetches, about a seventh above what it is: whoever makes it more says
 * so here. The worker has ONNX Runtime's own JavaScript in it, for WebAssembly and for WebGPU.
 */
export const pageBudget = { page: 200, worker: 270 } as const;
