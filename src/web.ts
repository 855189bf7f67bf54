/**
 * halfstep in a browser: what `halfstep` is there, and `halfstep/web` everywhere.
 * @module halfstep/web
 */
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
