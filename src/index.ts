/**
 * halfstep in Node.
 * @module halfstep
 */
export { cacheDirectory, type DownloadProgress, downloadModel, type HubOptions } from "./checkpoints/hub.ts";
export { type EnvironmentVariable, environmentVariables } from "./checkpoints/hub-environment.ts";
export {
  type CachedModel,
  type CachedRevision,
  listCachedModels,
  removeCachedModel,
} from "./checkpoints/hub-models.ts";
export { fileSource, NodeFolder } from "./checkpoints/node.ts";
export { writeSafetensors } from "./checkpoints/safetensors-node.ts";
export { type WriteAnimationOptions, writeAnimation } from "./media/animation-node.ts";
export { readPicture } from "./media/picture-node.ts";
export { embeddedModels } from "./platform/embedded-node.ts";
export * from "./portable.ts";
export { nodeRuntime } from "./runtime/node.ts";
