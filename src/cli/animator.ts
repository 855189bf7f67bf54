/** Makes the videos of `animate`, with a pipeline for prompts or one for a picture behind one interface. */
import { platform } from "#platform";
import { readModelIndex } from "../checkpoints/diffusers-folder.ts";
import { forNetworks } from "../components/loading.ts";
import { ArgumentError } from "../errors.ts";
import type { Animation } from "../media/animation.ts";
import { readPicture } from "../media/picture-node.ts";
import { defined } from "../options/defined.ts";
import { ImageToVideoPipeline, imageToVideoClass } from "../pipelines/image-to-video.ts";
import { TextToVideoPipeline } from "../pipelines/text-to-video.ts";
import { type AnimateOptions, callOf, chosenOf, ofPrompt, openingOf, type Run } from "./animate-options.ts";
import type { MadeVideo } from "./animate-report.ts";
import { solverSettings } from "./options.ts";

export interface Animator {
  readonly subjects: readonly MadeVideo["subject"][];
  make(subject: MadeVideo["subject"], seed: number): Promise<MadeVideo>;
  release(): Promise<void>;
}

/** Without prompts the videos begin at --image. */
export const openAnimator = (prompts: readonly string[], options: AnimateOptions, run: Run): Promise<Animator> =>
  prompts.length > 0 ? forPrompts(prompts, options, run) : forPicture(options, run);

async function forPrompts(prompts: readonly string[], options: AnimateOptions, run: Run): Promise<Animator> {
  const { model, adapter, lora, frames = 16, fps = 8, negative } = options;
  const pipe = await TextToVideoPipeline.fromPretrained(model, {
    ...openingOf(options, run),
    motionAdapter: adapter,
  });
  const { guidance: guidanceScale = pipe.guidanceScale } = options;
  const own = { frames, fps, guidanceScale, ...ofPrompt(options) };
  return {
    subjects: prompts.map((prompt) => ({ prompt })),
    async make(subject, seed) {
      const { prompt } = subject as { prompt: string };
      // Stable Diffusion XL uses zeros if no negative prompt is given.
      const negativePrompt = negative || undefined;
      const made = await pipe(prompt, { ...callOf(options, run, seed), ...own, negativePrompt });
      const settings = {
        model,
        ...defined({ adapter, loras: lora }),
        ...solverSettings(options, pipe.schedulerConfig),
        ...own,
        negativePrompt: negative,
        ...chosenOf(options, made),
      };
      return { subject, video: made.videos[0]!, seed, warnings: made.warnings, settings };
    },
    release: () => pipe.release(),
  };
}

async function forPicture(options: AnimateOptions, run: Run): Promise<Animator> {
  const { model, fps = 7, guidance: maxGuidanceScale = 3, motion = 127, noise = 0.02 } = options;
  const image = options.image!;
  const picture = await readPicture(image);
  const pipe = await openForPictures(options, run);
  return {
    subjects: [{ image }],
    async make(subject, seed) {
      const made = await pipe(picture, {
        ...callOf(options, run, seed),
        fps,
        minGuidanceScale: Math.min(1, maxGuidanceScale),
        maxGuidanceScale,
        motionBucketId: motion,
        noiseAugStrength: noise,
        frames: options.frames,
      });
      const video: Animation = made.videos[0]!;
      const settings = {
        model,
        ...solverSettings(options, pipe.schedulerConfig),
        ...{ frames: video.frames.length, fps, maxGuidanceScale, motion, noise },
        ...chosenOf(options, made),
      };
      return { subject, video, seed, warnings: made.warnings, settings };
    },
    release: () => pipe.release(),
  };
}

async function openForPictures(options: AnimateOptions, run: Run) {
  const opening = openingOf(options, run);
  const folder = await platform.resolveModel(options.model, opening);
  const { className } = await readModelIndex(folder);
  if (className === imageToVideoClass) {
    return ImageToVideoPipeline.fromFolder(folder, platform.runtime, forNetworks(opening));
  }
  throw new ArgumentError(
    `${options.model}: its class is ${className}, which begins at a prompt. --image is for models of ` +
      `${imageToVideoClass} (--model stabilityai/stable-video-diffusion-img2vid).`,
  );
}
