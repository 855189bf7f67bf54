/** Makes the images of `generate`, with a pipeline for prompts or one for classes behind one interface. */
import { platform } from "#platform";
import type { AccelerationReport } from "../acceleration/acceleration.ts";
import { type RawConfig, readModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { forNetworks } from "../components/loading.ts";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../media/picture.ts";
import { latentFactor } from "../models/autoencoder.ts";
import { ClassToImagePipeline } from "../pipelines/class-to-image.ts";
import type { PlannedPart } from "../pipelines/run-plan.ts";
import type { SamplingOptions } from "../pipelines/settings.ts";
import { TextToImagePipeline, type TextToImageSource } from "../pipelines/text-to-image.ts";
import type { TextToImageOptions } from "../pipelines/text-to-image-options.ts";
import type { GuidanceInterval } from "../sampling/guidance.ts";
import { type LoadingOptions, loadingOf, noticesOf, type SizeOptions, sourceOf } from "./options.ts";
import { downloadBar } from "./terminal.ts";

/** The prompt or class of an image, as it is stored with it. */
export type Subject = { readonly prompt: string } | { readonly class: number; readonly label: string | null };

export interface PainterSettings extends SamplingOptions, TextToImageOptions {
  guidanceScale: number;
  guidanceInterval: GuidanceInterval;
  /** How many images are made together. */
  count: number;
}

export interface Painted extends AccelerationReport {
  readonly images: readonly Picture[];
  readonly seeds: readonly number[];
  readonly warnings: readonly string[];
  readonly planned?: readonly PlannedPart[];
}

export interface Painter {
  readonly subjects: readonly Subject[];
  /** The model's own settings, for options that were not given. */
  readonly steps: number;
  readonly guidanceScale: number;
  readonly guidanceInterval: GuidanceInterval;
  readonly schedulerConfig: RawConfig;
  /** Default side of an image. */
  readonly side: number;
  /** Warnings about a size, before anything is computed. Throws ArgumentError for an impossible size. */
  sizeWarnings(size: SizeOptions & { count: number; image?: Picture }): string[];
  paint(subject: Subject, settings: PainterSettings): Promise<Painted>;
  release(): Promise<void>;
}

const DIT = "DiTPipeline";

/** Opens the model for prompts, or for classes (numbers or names) if there are any. */
export async function openPainter(
  options: LoadingOptions & { class?: readonly string[]; vae?: string; image?: string },
  prompts: readonly string[],
  signal: AbortSignal,
): Promise<Painter> {
  const bar = downloadBar();
  try {
    const folder = await platform.resolveModel(options.model, { ...sourceOf(options), signal, onDownload: bar.show });
    const { className } = await readModelIndex(folder);
    if (options.class && className !== DIT) {
      throw new ArgumentError(
        `${options.model}: its class is ${className}, which draws prompts. --class is for models of ${DIT} ` +
          "(--model facebook/DiT-XL-2-256).",
      );
    }
    if (!options.class && className === DIT) {
      throw new ArgumentError(`${options.model}: it draws classes, not prompts: --class 207, or a class by its name.`);
    }
    const vae =
      options.vae === undefined
        ? undefined
        : await platform.resolveModel(options.vae, { ...noticesOf(), signal, onDownload: bar.show });
    const opening = { ...forNetworks(loadingOf(options)), vae };
    return options.class
      ? await forClasses(folder, opening, options.class)
      : await forPrompts(folder, opening, prompts, options.image);
  } finally {
    bar.stop();
  }
}

async function forPrompts(
  folder: Folder,
  opening: TextToImageSource,
  prompts: readonly string[],
  image: string | undefined,
): Promise<Painter> {
  const pipe = await TextToImagePipeline.fromFolder(folder, platform.runtime, opening);
  const { usual } = pipe.family;
  return {
    subjects: prompts.map((prompt) => ({ prompt })),
    steps: (image === undefined ? undefined : usual.stepsFromImage) ?? usual.steps,
    guidanceScale: pipe.guidanceScale,
    guidanceInterval: pipe.guidanceInterval,
    schedulerConfig: pipe.schedulerConfig,
    side: pipe.side,
    sizeWarnings: (size) => pipe.sizeWarnings(size),
    paint: (subject, settings) => pipe((subject as { prompt: string }).prompt, settings),
    release: () => pipe.release(),
  };
}

async function forClasses(folder: Folder, opening: TextToImageSource, classes: readonly string[]): Promise<Painter> {
  const pipe = await ClassToImagePipeline.fromFolder(folder, platform.runtime, opening);
  const { numClasses, sampleSize } = pipe.transformer.config;
  const subjects = classes.map((name): Subject => {
    const label = /^\d+$/.test(name) ? Number(name) : pipe.classNumber(name);
    if (label < numClasses) return { class: label, label: pipe.labels[label] ?? null };
    throw new ArgumentError(`--class ${name}: this model's classes are numbers from 0 to ${numClasses - 1}.`);
  });
  return {
    subjects,
    steps: 50,
    guidanceScale: 4,
    guidanceInterval: pipe.guidanceInterval,
    schedulerConfig: pipe.schedulerConfig,
    side: sampleSize * latentFactor(pipe.vae.config),
    sizeWarnings: () => [],
    paint: async (subject, { count, ...settings }) => {
      const { class: label } = subject as { class: number };
      const made = await pipe(new Array<number>(count).fill(label), settings);
      return { ...made, warnings: [] };
    },
    release: () => pipe.release(),
  };
}
