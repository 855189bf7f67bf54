/**
 * Compares videos with Step Rehash with others that take the same time: fewer steps, and reusing the noise prediction
 * of the last full step.
 */
import { platform } from "#platform";
import type { VideoAccelerate } from "../../acceleration/video-options.ts";
import type { Picture } from "../../media/picture.ts";
import { captionsFor } from "../../metrics/evaluate.ts";
import { frechetDistanceOf } from "../../metrics/frechet.ts";
import { Judge } from "../../metrics/judge.ts";
import { finitePsnr, ssim } from "../../metrics/similarity.ts";
import { type TextToVideo, TextToVideoPipeline } from "../../pipelines/text-to-video.ts";
import { openAll, releaseAll } from "../../runtime/open-all.ts";
import { parseSchedule } from "../../sampling/step-policy.ts";
import { type FloatTensor, floatTensor } from "../../tensor.ts";
import { tellEstimate } from "../estimate.ts";
import { type SourceOptions, sourceOf } from "../options.ts";
import { ProgressBar } from "../terminal.ts";
import { median } from "./averages.ts";
import { takeTurns } from "./turns.ts";

export interface ModelBenchOptions extends SourceOptions {
  model: string;
  samples: number;
  steps: number;
  frames: number;
  guidance?: number;
  /** Schedules of Step Rehash, one row each. The modes that it is compared with take the time of the first. */
  schedule?: readonly string[];
  cut?: string;
  seed: number;
  threads?: number;
  json?: boolean;
}

interface Mode {
  readonly name: string;
  readonly steps: number;
  readonly accelerate: VideoAccelerate;
}

export interface RehashRow {
  mode: string;
  fullSteps: number;
  secondsPerVideo: number;
  speedup: number;
  /** Against all steps in full, means over all frames; at most 60 dB. */
  psnr: number;
  ssim: number;
  /** Fréchet distances from all steps in full: of the judge's features of frames, and of their change to the next frame. */
  fdFrames: number;
  fdMotion: number;
}

/** One row per mode; all steps in full come first. */
export async function benchModel(options: ModelBenchOptions, signal: AbortSignal): Promise<RehashRow[]> {
  const { model, samples, steps, threads } = options;
  const session = threads ? { threads } : {};
  const judge = await Judge.open(await platform.resolveModel("emoji-align"), platform.runtime, session);
  const reference = await judge.reference();
  const prompts = captionsFor(reference, samples).map((caption) => reference.captions[caption]!.text);
  // Without one the pipeline's own.
  const schedules = options.schedule?.map((text) => ({ schedule: parseSchedule(text) })) ?? [{}];
  const cut = options.cut ? { cut: options.cut } : {};
  const full: Mode = { name: `${steps} full steps`, steps, accelerate: "none" };
  const rehashes = schedules.map((schedule, i): Mode => {
    const name = i === 0 ? "Step Rehash" : `Step Rehash ${options.schedule![i]!}`;
    return { name, steps, accelerate: { method: "rehash", ...schedule, ...cut } };
  });
  const rehash = rehashes[0]!;
  const reuse: Mode = { name: "noise again", steps, accelerate: { method: "reuse", ...schedules[0]! } };
  // A pipeline keeps what it compiled for one way of running.
  const open = () => TextToVideoPipeline.fromPretrained(model, { ...session, ...sourceOf(options) });
  const opened = (await openAll(["full", "rehash", "reuse"], open)) as [TextToVideo, TextToVideo, TextToVideo];
  try {
    const made = (pipe: TextToVideo, mode: Mode, sample: number) =>
      timed(pipe, mode, prompts[sample]!, options, sample);
    const one = { ...full, steps: 1 };
    // The first video of a pipeline compiles it.
    for (const [i, mode] of [full, rehash, reuse].entries()) await made(opened[i]!, mode, 0);
    const turn = (pipe: TextToVideo, mode: Mode) => async () => (await made(pipe, mode, 0)).seconds;
    const sides = { first: turn(opened[0], full), inPart: turn(opened[1], rehash), rest: turn(opened[0], one) };
    const turns = await takeTurns(sides, { rounds: 5, warmUps: 0, pause: 0 });
    const [first, inPart, rest] = [median(turns.first), median(turns.inPart), median(turns.rest)];
    const count = Math.max(1, Math.min(steps, 1 + Math.round(((inPart - rest) * (steps - 1)) / (first - rest))));
    const fewer: Mode = { name: `${count} full steps`, steps: count, accelerate: "none" };
    const contestants = [
      { mode: full, pipe: opened[0] },
      ...rehashes.map((mode) => ({ mode, pipe: opened[1] })),
      { mode: fewer, pipe: opened[0] },
      { mode: reuse, pipe: opened[2] },
    ];
    // Rehash and reuse take about the time of the one that was measured, and so does the mode with fewer steps.
    const seconds = samples * (first + (contestants.length - 1) * inPart);
    tellEstimate(seconds, `${samples} videos in each of ${contestants.length} modes`);
    const videos = contestants.map(() => [] as Awaited<ReturnType<typeof made>>[]);
    const bar = new ProgressBar("{bar} {value}/{total} prompts, {eta_formatted} left");
    for (let sample = 0; sample < samples; sample++) {
      bar.show(sample, samples);
      // The modes take turns, and another one starts each time, so that a noisy machine affects all of them equally.
      for (let turn = 0; turn < contestants.length; turn++) {
        signal.throwIfAborted();
        const i = (sample + turn) % contestants.length;
        videos[i]!.push(await made(contestants[i]!.pipe, contestants[i]!.mode, sample));
      }
    }
    bar.stop();
    const features: Features[] = [];
    for (const list of videos)
      features.push(
        await featuresOf(
          judge,
          list.map(({ frames }) => frames),
        ),
      );
    return contestants.map(({ mode }, i) => rowOf(mode.name, videos[i]!, videos[0]!, features[i]!, features[0]!));
  } finally {
    await releaseAll([judge, ...opened]);
  }
}

interface Made {
  readonly frames: readonly Picture[];
  readonly seconds: number;
  readonly fullSteps: number;
}

async function timed(
  pipe: TextToVideo,
  { steps, accelerate }: Mode,
  prompt: string,
  { frames, guidance: guidanceScale = pipe.guidanceScale, seed }: ModelBenchOptions,
  sample: number,
): Promise<Made> {
  const start = performance.now();
  const { videos, fullSteps } = await pipe(prompt, { steps, frames, guidanceScale, accelerate, seed: seed + sample });
  return { frames: videos[0]!.frames, fullSteps, seconds: (performance.now() - start) / 1000 };
}

/** Features of every frame, and their change from the frame before. */
async function featuresOf(judge: Judge, videos: readonly (readonly Picture[])[]) {
  const { features } = await judge.judgePictures(videos.flat());
  const count = videos[0]!.length;
  const [rows, width] = features.shape as [number, number];
  const motion = floatTensor([(rows / count) * (count - 1), width]);
  for (let row = 0, to = 0; row < rows; row++) {
    if (row % count === 0) continue;
    for (let i = 0; i < width; i++) {
      motion.data[to++] = features.data[row * width + i]! - features.data[(row - 1) * width + i]!;
    }
  }
  return { frames: features, motion };
}

type Features = Readonly<Record<"frames" | "motion", FloatTensor>>;

function rowOf(
  mode: string,
  made: readonly Made[],
  full: readonly Made[],
  own: Features,
  reference: Features,
): RehashRow {
  const pairs = made.flatMap(({ frames }, i) => frames.map((frame, k) => [frame, full[i]!.frames[k]!] as const));
  const seconds = median(made.map((video) => video.seconds));
  return {
    mode,
    fullSteps: mean(made.map(({ fullSteps }) => fullSteps)),
    secondsPerVideo: seconds,
    // For each prompt by itself: all modes have their turn within seconds, while a machine may be slow for minutes.
    speedup: median(full.map((video, i) => video.seconds / made[i]!.seconds)),
    psnr: mean(pairs.map(([a, b]) => finitePsnr(a, b))),
    ssim: mean(pairs.map(([a, b]) => ssim(a, b))),
    fdFrames: frechetDistanceOf(own.frames, reference.frames),
    // One frame does not move.
    fdMotion: own.motion.data.length > 0 ? frechetDistanceOf(own.motion, reference.motion) : 0,
  };
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

export const rehashRowText = (row: RehashRow) =>
  `${row.mode.padEnd(14)} ${row.fullSteps} full steps, ${row.secondsPerVideo.toFixed(2)} s a video ` +
  `(${row.speedup.toFixed(2)}x), PSNR ${row.psnr.toFixed(2)}, SSIM ${row.ssim.toFixed(4)}, ` +
  `Fréchet distance of frames ${row.fdFrames.toFixed(4)}, of motion ${row.fdMotion.toFixed(4)}`;
