/** Stable Diffusion's pipelines against whole runs of diffusers: test/fixtures/stable-diffusion.py. */
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import type { RawImage } from "../../src/media/raw-image.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import type { TextToImageOptions } from "../../src/pipelines/text-to-image-options.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { Tensor } from "../../src/tensor.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { temporaryFolder } from "../support/models.ts";
import {
  drawnMask,
  drawnPicture,
  type RecordedCall,
  recordedCalls,
  type StableDiffusionCase,
  stableDiffusionCases,
  writeStableDiffusion,
} from "../support/stable-diffusion.ts";

const threads = 1;
const folders = {} as Record<StableDiffusionCase, NodeFolder>;
beforeAll(async () => {
  for (const name of stableDiffusionCases) folders[name] = await writeStableDiffusion(name);
});

const open = (folder: NodeFolder) => TextToImagePipeline.fromFolder(folder, nodeRuntime, { threads });

/** Largest difference from [1, height, width, 3] in [0, 1], in steps of 8-bit pixels. */
function furthest({ width, height, data }: RawImage, expected: Tensor): number {
  expect([height, width]).toEqual(expected.shape.slice(1, 3));
  return data.reduce((most, pixel, i) => Math.max(most, Math.abs(pixel - 255 * Number(expected.data[i]))), 0);
}

const optionsOf = ({ prompt: _, picture, mask, scheduler: __, ...call }: RecordedCall): TextToImageOptions => ({
  ...(call as TextToImageOptions),
  ...(picture && { image: drawnPicture(...picture) }),
  ...(mask && { mask: drawnMask(...mask) }),
});

describe.each(stableDiffusionCases)("%s, against diffusers' runs", (name) => {
  it("every step, from recorded embeddings and noise", async () => {
    const { outputs } = await verifyFolder(folders[name], nodeRuntime, { threads });
    const calls = await recordedCalls(name);
    expect(outputs).toHaveLength(5 * calls.length);
    for (const { name: output, relative } of outputs) expect(relative, output).toBeLessThan(1e-3);
  });

  it("pictures from a prompt and a seed", async () => {
    for (const { run, call, io } of await recordedCalls(name)) {
      const folder = await withScheduler(folders[name], call.scheduler);
      const pipe = await open(folder);
      const { images, seeds } = await pipe(call.prompt, optionsOf(call));
      expect(seeds).toEqual([call.seed]);
      expect(furthest(images[0]!, io.get("output.image")!), run).toBeLessThan(1);
      await pipe.release();
    }
  });
});

/** The folder with another of its schedulers as its own. */
async function withScheduler(folder: NodeFolder, scheduler = "scheduler"): Promise<NodeFolder> {
  if (scheduler === "scheduler") return folder;
  const path = await temporaryFolder();
  await cp(folder.path, path, { recursive: true });
  await cp(join(path, scheduler), join(path, "scheduler"), { recursive: true });
  return new NodeFolder(path, folder.name);
}
