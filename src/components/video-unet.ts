/** The denoiser of a text-to-video pipeline's folder. */
import { type ModelIndex, readConfig } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { ConfigError } from "../errors.ts";
import { architectureOf } from "../models/registry.ts";
import { unet2DCondition } from "../models/unet-2d-condition.ts";
import { type UNetMotionConfig, unetMotion } from "../models/unet-motion.ts";
import { openWithMotionAdapter } from "../models/unet-motion-adapter.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { Component } from "./components.ts";
import { expected } from "./expected-class.ts";
import type { PipelineOptions } from "./loading.ts";

/**
 * `unet/` as a UNetMotionModel: as it is, or a UNet2DConditionModel with the motion modules of `adapter`, or else of
 * `motion_adapter/`. Throws ConfigError for other classes, for a UNet without adapter, and for an adapter of another base model.
 */
export async function openMotionUNet(
  folder: Folder,
  { components }: ModelIndex,
  adapter: Folder | undefined,
  runtime: Runtime,
  options: PipelineOptions,
): Promise<Component<UNetMotionConfig>> {
  const unet = folder.sub("unet");
  const architecture = architectureOf(await readConfig(unet));
  if (architecture === unetMotion) {
    // Pipelines that diffusers saves have both, the adapter's modules in the UNet.
    if (!adapter) return Component.open(unet, expected(unetMotion), runtime, options);
    throw new ConfigError(
      `${folder.name}: its UNet has motion modules already; a motion adapter goes with a Stable Diffusion pipeline.`,
    );
  }
  if (architecture !== unet2DCondition) {
    throw new ConfigError(
      `A text-to-video pipeline needs a ${unetMotion.className}, or a ${unet2DCondition.className} and a motion adapter; ` +
        `this one has a ${architecture.className}.`,
    );
  }
  const modules = adapter ?? (components.has("motion_adapter") ? folder.sub("motion_adapter") : undefined);
  if (!modules) {
    throw new ConfigError(
      `${folder.name}: draws single pictures. For videos it needs a motion adapter that was trained on its base model, ` +
        'such as "guoyww/animatediff-motion-adapter-v1-5-2" for Stable Diffusion 1.5 and ' +
        '"guoyww/animatediff-motion-adapter-sdxl-beta" for XL (option motionAdapter, --adapter).',
    );
  }
  const { config, weights } = await openWithMotionAdapter(unet, modules, options.variant);
  return Component.of(unetMotion, config, weights, runtime, options);
}
