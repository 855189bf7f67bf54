/** Follows a run of a pipeline, and compares it with the recorded one. */
import type { SamplerStep } from "../sampling/sampler.ts";
import type { Scheduler } from "../schedulers/scheduler.ts";
import { type FloatTensor, floatTensor } from "../tensor.ts";
import { compare, type OutputError } from "./compare.ts";
import { concatenated, countOf, type Io, MOST_STEPS, type RecordedCall } from "./recorded-call.ts";

export class RunRecorder {
  readonly scheduler: Scheduler;
  readonly steps: number;
  readonly #io: Io;
  readonly #states: FloatTensor[] = [];

  constructor(scheduler: Scheduler, { call, io }: Pick<RecordedCall, "call" | "io">) {
    this.scheduler = scheduler;
    this.steps = countOf(call, "num_inference_steps", MOST_STEPS);
    this.#io = io;
  }

  /** What the sampling loop is given. */
  get loop() {
    const { scheduler, steps } = this;
    return {
      scheduler,
      steps,
      onStep: ({ latents }: SamplerStep): void => {
        this.#states.push(floatTensor(latents.shape, latents.data.slice()));
      },
    };
  }

  /** `shown`: the result as the reference pipeline gives it, by its tensor's name. Only what was recorded is compared. */
  compared(latents: FloatTensor, decoded: FloatTensor, shown: Readonly<Record<string, Float32Array>>): OutputError[] {
    const actual: Record<string, ArrayLike<number>> = {
      "output.timesteps": this.scheduler.timesteps,
      "output.sigmas": this.scheduler.sigmas ?? [],
      "output.latents_per_step": concatenated(this.#states),
      "output.latents": latents.data,
      "output.decoded": decoded.data,
      ...shown,
    };
    return Object.entries(actual).flatMap(([name, values]) => {
      const expected = this.#io.get(name);
      return expected ? [compare(name, values, expected.data)] : [];
    });
  }
}

/**
 * What was decoded, [batch, channels, height, width] or [batch, channels, frames, height, width], as diffusers' pipelines show it:
 * clamp(decoded / 2 + 0.5, 0, 1) with the channels last, and with a video's frames before height and width.
 */
export function shown({ shape, data }: FloatTensor): Float32Array {
  const [channels, frames] = [shape[1]!, shape.length > 4 ? shape[2]! : 1];
  const area = shape.at(-2)! * shape.at(-1)!;
  const out = new Float32Array(data.length);
  for (let i = 0; i < out.length; i++) {
    const channel = i % channels;
    const pixel = Math.floor(i / channels) % area;
    const frame = Math.floor(i / (channels * area)) % frames;
    const row = Math.floor(i / (channels * area * frames));
    const value = data[((row * channels + channel) * frames + frame) * area + pixel]!;
    out[i] = Math.min(1, Math.max(0, value / 2 + 0.5));
  }
  return out;
}
