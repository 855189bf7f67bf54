/** halfstep in a browser. */

export type { DownloadProgress } from "./checkpoints/hub.ts";
export {
  type CachedFile,
  CachingFolder,
  type CachingOptions,
  cachedFiles,
  clearCachedFiles,
} from "./checkpoints/web-cache.ts";
export * from "./portable.ts";
export { configureWebRuntime, type WebRuntimeSettings, webRuntime } from "./runtime/web.ts";
