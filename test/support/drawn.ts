/** Weights that fixtures do not store: `draw` of test/fixtures/unets.py, videos.py and models-0.42.py. */
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { networksOf } from "../../src/models/registry.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type FloatTensor, sizeOf } from "../../src/tensor.ts";

export function drawn(shapes: ReadonlyMap<string, readonly number[]>): Map<string, FloatTensor> {
  const generator = new TorchGenerator(0);
  return new Map(
    [...shapes]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, shape]) => {
        const tensor = generator.rand(shape);
        const { scale, around } = spread(name, shape);
        const { data } = tensor;
        for (let i = 0; i < data.length; i++) data[i] = Math.fround((data[i]! - 0.5) * scale) + around;
        return [name, tensor];
      }),
  );
}

function spread(name: string, shape: readonly number[]): { scale: number; around: number } {
  if (name.endsWith(".pe")) return { scale: 2, around: 0 };
  if (shape.length > 1) return { scale: Math.fround(Math.sqrt(12 / sizeOf(shape.slice(1)))), around: 0 };
  if (name.endsWith("mix_factor")) return { scale: 4, around: 0 };
  return { scale: 0.5, around: /\.(weight|running_var)$/.test(name) ? 1 : 0 };
}

/** The weights of all networks of a configuration. */
export function drawWeights(raw: RawConfig): Map<string, FloatTensor> {
  // Sizes change no weight's shape.
  const geometry = { batch: 1, frames: 3, height: 8, width: 8, tokens: 5 };
  const shapes = Object.values(networksOf(raw)).flatMap((architecture) => [
    ...weightShapes(architecture.model(architecture.parseConfig(raw), geometry)),
  ]);
  return drawn(new Map(shapes));
}
