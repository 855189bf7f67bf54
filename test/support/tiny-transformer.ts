/** The transformer of a tiny pipeline by itself, and inputs as a sampler would give it step after step. */
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import type { Geometry, StagedModel } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import type { Feeds } from "../../src/sampling/denoiser.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import type { StepContext } from "../../src/sampling/step-policy.ts";
import { type FloatTensor, floatTensor, int64Tensor } from "../../src/tensor.ts";
import { temporaryFolder } from "./models.ts";
import { type TinyOptions, tinyTokens, writeTinyPipeline } from "./tiny-pipeline.ts";

export const kinds = ["dit", "pixart"] as const;
export type Kind = (typeof kinds)[number];

const SIDE = 8;

export async function tinyTransformer(kind: Kind, options: TinyOptions = {}) {
  const pipeline = await writeTinyPipeline(await temporaryFolder(), kind, { layers: 4, ...options });
  const folder = pipeline.sub("transformer");
  const raw = await readConfig(folder);
  const architecture = architectureOf(raw);
  const config = architecture.parseConfig(raw);
  const model = (geometry: Partial<Geometry> = {}): StagedModel =>
    architecture.model(config, { batch: "batch", height: SIDE, width: SIDE, tokens: tinyTokens, ...geometry });
  return { model, weights: await openWeights(folder) };
}

/** What a sampler feeds at each of `count` steps: a latent that changes a little, a timestep that falls. */
export function trajectory(kind: Kind, count: number, rows = 2): { feeds: Feeds; step: StepContext }[] {
  const generator = new TorchGenerator(3);
  const start = generator.randn([rows, 4, SIDE, SIDE]);
  const encoderHiddenStates = generator.randn([rows, tinyTokens, 12]);
  const mask = Float32Array.from({ length: rows * tinyTokens }, (_, i) => (i % tinyTokens < 4 ? 1 : 0));
  const conditions: Feeds =
    kind === "dit"
      ? { classLabels: int64Tensor([rows], [7, 1000, 3, 12].slice(0, rows)) }
      : { encoderHiddenStates, encoderAttentionMask: floatTensor([rows, tinyTokens], mask) };
  let hiddenStates: FloatTensor = start;
  return Array.from({ length: count }, (_, index) => {
    const timestep = 999 - Math.round((900 * index) / count);
    const noise = generator.randn(start.shape).data;
    hiddenStates = floatTensor(
      start.shape,
      hiddenStates.data.map((value, i) => 0.95 * value + 0.2 * noise[i]!),
    );
    return {
      feeds: { ...conditions, hiddenStates, timestep: floatTensor([rows], new Float32Array(rows).fill(timestep)) },
      step: { index, steps: count, timestep },
    };
  });
}
