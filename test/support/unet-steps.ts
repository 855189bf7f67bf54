/** Steps of a tiny Stable Diffusion UNet, as a sampler would feed it, and the network stage by stage. */
import type { Component } from "../../src/components/components.ts";
import type { Geometry } from "../../src/models/architecture.ts";
import type { StagedSession } from "../../src/models/staged-session.ts";
import { type Feeds, runParts } from "../../src/sampling/denoiser.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import type { StepContext } from "../../src/sampling/step-policy.ts";
import { type FloatTensor, floatOf, floatTensor, type Tensor } from "../../src/tensor.ts";

export const unetGeometry = { batch: "batch", height: 8, width: 6, tokens: 5 } as const satisfies Geometry;

/** A latent that changes a little from step to step, a timestep that falls, and conditions that stay. */
export function unetTrajectory(unet: Component<unknown>, count: number, rows = 2, seed = 3) {
  const { inputs, latent } = unet.model(unetGeometry);
  const generator = new TorchGenerator(seed);
  const shapeOf = (name: string) => inputs[name]!.shape.map((dim) => (typeof dim === "string" ? rows : dim));
  const conditions: Record<string, Tensor> = {};
  for (const name of Object.keys(inputs)) {
    if (name !== latent && name !== "timestep") conditions[name] = generator.randn(shapeOf(name));
  }
  let sample = generator.randn(shapeOf(latent!));
  return Array.from({ length: count }, (_, index): { feeds: Feeds; step: StepContext } => {
    const noise = generator.randn(sample.shape).data;
    sample = floatTensor(
      sample.shape,
      sample.data.map((value, i) => 0.95 * value + 0.2 * noise[i]!),
    );
    const timestep = 999 - Math.round((900 * index) / count);
    const timesteps = floatTensor([rows], new Float32Array(rows).fill(timestep));
    return {
      feeds: { ...conditions, [latent!]: sample, timestep: timesteps },
      step: { index, steps: count, timestep },
    };
  });
}

/** A network of which each stage is a session of its own. */
export class StageByStage {
  readonly #parts: readonly StagedSession[];

  private constructor(parts: readonly StagedSession[]) {
    this.#parts = parts;
  }

  static async open(unet: Component<unknown>): Promise<StageByStage> {
    const { stages } = unet.model(unetGeometry);
    return new StageByStage(await unet.inParts(unetGeometry, [...stages.keys()].slice(1)));
  }

  /** All features of a full step. */
  features(feeds: Feeds): Promise<Record<string, Tensor>> {
    return runParts(this.#parts, feeds);
  }

  /** The output where only the stages of these names run, on features of another step. */
  async sample(features: Feeds, feeds: Feeds, runs: (stage: string) => boolean): Promise<FloatTensor> {
    const some = this.#parts.filter(({ model }) => runs(model.stages[0]!.name));
    return floatOf(await runParts(some, { ...features, ...feeds }), "sample");
  }
}
