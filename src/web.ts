/** halfstep in a browser. */
export * from "./portable.ts";
export { configureWebRuntime, type WebRuntimeSettings, webRuntime } from "./runtime/web.ts";
