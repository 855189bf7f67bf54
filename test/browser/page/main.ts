/** What the browser test calls: makes a picture and gives back its numbers. */
import { type FloatTensor, type Provider, TextToImagePipeline, webRuntime } from "../../../src/web.ts";

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
  }
}
window.make = make;
