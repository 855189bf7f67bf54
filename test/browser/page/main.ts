/** What the browser test calls: makes a picture and gives back its numbers. */

import { ArgumentError, type FloatTensor, type Provider, TextToImagePipeline, webRuntime } from "../../../src/web.ts";
import * as visit from "./visit.ts";

export interface Asked {
  model: string;
  prompt: string;
  provider?: Provider;
  threads?: number;
  /** Sizes in pixels of the pictures to make one after the other with the same pipeline; null is the model's own. */
  sizes: readonly (number | null)[];
  settings: { seed: number; steps: number; guidanceScale: number };
}

export interface Made {
  runtime: string;
  /** Whether WebAssembly may use threads. */
  isolated: boolean;
  pictures: { latents: number[]; decoded: number[]; pixels: number[]; seconds: number }[];
}

/** Milliseconds between two timers of the page, at most. */
function watchLoop(): () => number {
  let [last, longest] = [performance.now(), 0];
  const timer = setInterval(() => {
    const now = performance.now();
    [last, longest] = [now, Math.max(longest, now - last)];
  }, 5);
  return () => {
    clearInterval(timer);
    return longest;
  };
}

export interface MadeInWorker {
  pixels: number[];
  /** Name of the error that a wrong call throws. */
  error: string;
  steps: number;
  longestPause: number;
  width: number;
}

/** The same in a worker: the picture drawn on a canvas, and what a wrong call throws. */
async function makeInWorker({ model, prompt, provider = "wasm", settings }: Asked): Promise<MadeInWorker> {
  const pipe = await TextToImagePipeline.fromPretrained(model, { provider, worker: true });
  let steps = 0;
  const stop = watchLoop();
  const { images } = await pipe(prompt, { ...settings, onStep: () => void steps++ });
  const longestPause = stop();
  const wrong: unknown = await pipe(prompt, { ...settings, width: 17 }).catch((error: unknown) => error);
  const error = wrong instanceof ArgumentError ? wrong.name : String(wrong);
  const canvas = images[0]!.toCanvas(document.createElement("canvas"));
  const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
  await pipe.release();
  return { pixels: [...data].filter((_, i) => i % 4 < 3), error, steps, longestPause, width: canvas.width };
}

async function make({ model, prompt, provider = "wasm", threads, sizes, settings }: Asked): Promise<Made> {
  const pipe = await TextToImagePipeline.fromPretrained(model, { provider, ...(threads ? { threads } : {}) });
  const pictures: Made["pictures"] = [];
  for (const size of sizes) {
    let latents: FloatTensor | undefined;
    const started = performance.now();
    const { images } = await pipe(prompt, {
      ...settings,
      ...(size === null ? {} : { width: size, height: size }),
      onStep: (step) => {
        latents = step.latents;
      },
    });
    const seconds = (performance.now() - started) / 1000;
    const decoded = await pipe.decode(latents!);
    pictures.push({
      latents: [...latents!.data],
      decoded: [...decoded.data],
      pixels: [...images[0]!.data],
      seconds,
    });
  }
  await pipe.release();
  return { runtime: `${webRuntime.name} ${webRuntime.version}`, isolated: crossOriginIsolated, pictures };
}

declare global {
  interface Window {
    make: typeof make;
    makeInWorker: typeof makeInWorker;
  }
}
// A module that is used as an object: the bundler then lets ONNX Runtime's file import this page, which its threads must not start from.
Object.assign(window, visit);
window.make = make;
window.makeInWorker = makeInWorker;
