/** Families of text-to-image models by the class that model_index.json names. A new one is a file, and its classes here. */
import type { ModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import type { PipelineOptions } from "../components/loading.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { PixArt, pixartClasses } from "./pixart.ts";
import { StableDiffusion, stableDiffusionClasses } from "./stable-diffusion.ts";
import { StableDiffusion3, stableDiffusion3Classes } from "./stable-diffusion-3.ts";
import { StableDiffusionXL, stableDiffusionXLClasses } from "./stable-diffusion-xl.ts";
import type { TextToImageFamily } from "./text-to-image-family.ts";

export const textToImageClasses = [
  ...pixartClasses,
  ...stableDiffusionClasses,
  ...stableDiffusionXLClasses,
  ...stableDiffusion3Classes,
] as const;

type Open = (
  folder: Folder,
  index: ModelIndex,
  runtime: Runtime,
  options: PipelineOptions,
  latentChannels: number,
) => Promise<TextToImageFamily>;

interface Entry {
  readonly open: Open;
  /** diffusers' default. */
  readonly guidanceScale: number;
}

const byClass: ReadonlyMap<string, Entry> = new Map<string, Entry>([
  ...pixartClasses.map((name) => [name, { open: PixArt.open, guidanceScale: 4.5 }] as const),
  ...stableDiffusionClasses.map(
    (name) =>
      [name, { open: StableDiffusion.open, guidanceScale: name.startsWith("LatentConsistency") ? 8.5 : 7.5 }] as const,
  ),
  ...stableDiffusionXLClasses.map(
    (name) =>
      [
        name,
        { open: StableDiffusionXL.open, guidanceScale: name === "StableDiffusionXLInpaintPipeline" ? 7.5 : 5 },
      ] as const,
  ),
  ...stableDiffusion3Classes.map((name) => [name, { open: StableDiffusion3.open, guidanceScale: 7 }] as const),
]);

/** The family of a folder of one of `textToImageClasses`, and the guidance scale that diffusers has for it. */
export async function openFamily(
  folder: Folder,
  index: ModelIndex,
  runtime: Runtime,
  options: PipelineOptions,
  latentChannels: number,
): Promise<{ family: TextToImageFamily; guidanceScale: number }> {
  const { open, guidanceScale } = byClass.get(index.className)!;
  return { family: await open(folder, index, runtime, options, latentChannels), guidanceScale };
}
