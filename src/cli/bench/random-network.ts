/** Networks of published sizes with random weights, for benches. */
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NodeFolder } from "../../checkpoints/node.ts";
import { initModel } from "../../init/init-node.ts";
import { presets } from "../../init/presets.ts";
import type { StagedModel } from "../../models/architecture.ts";
import { TorchGenerator } from "../../sampling/noise.ts";
import { floatTensor, int64Tensor, sizeOf, type Tensor } from "../../tensor.ts";
import { showStatus } from "../terminal.ts";

/** The folder is kept between runs, because it takes gigabytes and minutes to write. */
export async function randomNetwork(preset: string, seed: number): Promise<NodeFolder> {
  const folder = join(tmpdir(), "halfstep-bench", `${preset}-seed${seed}`);
  if (!existsSync(join(folder, "config.json"))) {
    showStatus(`making ${folder}`);
    await mkdir(join(folder, ".."), { recursive: true });
    await initModel(folder, presets.get(preset)!, { seed });
  }
  return new NodeFolder(folder);
}

/** Normal values for everything but timesteps, labels and masks. */
export function randomFeeds({ inputs }: StagedModel, seed: number): Record<string, Tensor> {
  const generator = new TorchGenerator(seed);
  return Object.fromEntries(
    Object.entries(inputs).map(([name, { shape, dtype }]) => {
      const sizes = shape as readonly number[];
      if (dtype === "int64") return [name, int64Tensor(sizes, new Array(sizeOf(sizes)).fill(207))];
      if (name === "timestep") return [name, floatTensor(sizes, new Float32Array(sizeOf(sizes)).fill(500))];
      if (name.endsWith("Mask")) return [name, floatTensor(sizes, new Float32Array(sizeOf(sizes)).fill(1))];
      return [name, generator.randn(sizes)];
    }),
  );
}
