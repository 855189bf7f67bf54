/** The sampling loop: from noise to a clean latent, one solver step at a time. */
import { ArgumentError, NumericError } from "../errors.ts";
import type { CustomSchedule, Scheduler } from "../schedulers/scheduler.ts";
import type { FloatTensor } from "../tensor.ts";
import type { StepContext } from "./step-policy.ts";

/** A finished step; a solver may take more steps than were asked for (PNDM). */
export interface SamplerStep extends StepContext {
  /** The latent after this step. Read it only, and only until the next step. */
  readonly latents: FloatTensor;
}

/** What `sample` needs. */
export interface SampleOptions {
  scheduler: Scheduler;
  steps: number;
  /** Instead of that number. */
  schedule?: CustomSchedule;
  /** For schedulers whose shift depends on the size of the image (`dynamicShift`). */
  mu?: number;
  /** Standard normal noise, [batch, channels, height, width]. */
  noise: FloatTensor;
  /** The guided prediction for a latent that the scheduler has scaled. */
  denoise(latents: FloatTensor, step: StepContext): Promise<FloatTensor>;
  /** Fresh noise for solvers that add some at every step. */
  drawNoise?: () => FloatTensor;
  /** How much noise DDIM and TCD add. */
  eta?: number;
  /** Where to begin instead of at the first timestep with the noise alone. */
  start?: SampleStart;
  /** Before which of the planned timesteps to end, counted from 0; after the last unless given. */
  end?: number;
  /** Changes the latent after each step: of inpainting. `next` is the timestep that follows, undefined after the last. */
  adjust?: (latents: FloatTensor, next: number | undefined) => FloatTensor;
  /** Told after each step; the next step waits for what it returns. */
  onStep?: (step: SamplerStep) => unknown;
  signal?: AbortSignal;
}

/** A later beginning. */
export interface SampleStart {
  /** The first timestep that is done, counted from 0. */
  readonly index: number;
  /** A latent with as much noise as that timestep has. */
  readonly latents: FloatTensor;
}

/**
 * Runs a scheduler from noise to the end. Throws NumericError at the first step whose result is not a number, and the
 * signal's reason when it is aborted.
 */
export async function sample(options: SampleOptions): Promise<FloatTensor> {
  const { scheduler, steps, schedule, mu, noise, denoise, drawNoise, eta, start, end, adjust } = options;
  const { onStep, signal } = options;
  if (!Number.isInteger(steps) || steps < 1)
    throw new ArgumentError(`steps must be a whole number of at least 1, not ${steps}.`);
  scheduler.setTimesteps(schedule ?? steps, mu);
  const timesteps = scheduler.timesteps.slice(start?.index ?? 0, end);
  let latents = start?.latents ?? scaled(noise, scheduler.initNoiseSigma);
  for (const [index, timestep] of timesteps.entries()) {
    signal?.throwIfAborted();
    const step = { index, steps: timesteps.length, timestep };
    const prediction = await denoise(scheduler.scaleModelInput(latents, timestep), step);
    signal?.throwIfAborted();
    latents = scheduler.step(prediction, timestep, latents, { noise: drawNoise, eta }).prevSample;
    if (adjust) latents = adjust(latents, timesteps[index + 1]);
    checkFinite(latents, `step ${index + 1} of ${timesteps.length} (timestep ${timestep})`);
    await onStep?.({ ...step, latents });
  }
  signal?.throwIfAborted();
  return latents;
}

function scaled({ shape, data }: FloatTensor, factor: number): FloatTensor {
  return { dtype: "float32", shape, data: factor === 1 ? data : data.map((value) => value * factor) };
}

/** Throws NumericError if any value is NaN or infinite: broken weights show here first. */
export function checkFinite({ data }: FloatTensor, where: string): void {
  // A loop: it sees every value of every step, and takes a tenth of the time of `findIndex`.
  let at = 0;
  while (at < data.length && Number.isFinite(data[at]!)) at++;
  if (at === data.length) return;
  throw new NumericError(
    `${where}: value ${at} is ${data[at]}. The checkpoint's weights are damaged (\`checkFiniteWeights\` names the ` +
      "tensor), or a size or guidance scale is far outside what the model was made for.",
  );
}
