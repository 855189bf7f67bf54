/** The denoiser of a text-to-video pipeline's folder. */
import type { ModelIndex, RawConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ConfigError } from "../errors.ts";
import type { Architecture } from "../models/architecture.ts";
import { architectureOf } from "../models/registry.ts";
import { type UNetMotionConfig, unetMotion } from "../models/unet-motion.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { Component, type PipelineOptions } from "./components.ts";

/** `unet/` as a UNetMotionModel. Throws ConfigError for another class. */
export function openMotionUNet(
  folder: Folder,
  _index: ModelIndex,
  runtime: Runtime,
  options: PipelineOptions,
): Promise<Component<UNetMotionConfig>> {
  return Component.open(folder.sub("unet"), motionOnly, runtime, options);
}

function motionOnly(raw: RawConfig): Architecture<UNetMotionConfig> {
  const architecture = architectureOf(raw);
  if (architecture === unetMotion) return unetMotion;
  throw new ConfigError(
    `A text-to-video pipeline needs a ${unetMotion.className}; this one has a ${architecture.className}.`,
  );
}
