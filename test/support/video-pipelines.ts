/** The folders of test/fixtures/pipelines whose weights are drawn: see test/fixtures/videos.py. */
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import type { Tensor } from "../../src/tensor.ts";
import { drawWeights } from "./drawn.ts";
import { fixture, tensors } from "./golden.ts";
import { temporaryFolder } from "./models.ts";

export type VideoPipelineName = "animatediff" | "svd";

/** Parts with weights, and the file that they are in. */
const parts: Readonly<Record<VideoPipelineName, Readonly<Record<string, string>>>> = {
  animatediff: { unet: "diffusion_pytorch_model", vae: "diffusion_pytorch_model", text_encoder: "model" },
  svd: { unet: "diffusion_pytorch_model", vae: "diffusion_pytorch_model", image_encoder: "model" },
};

/** A copy of the fixture with its weights; `change` may change them. */
export async function writeVideoPipeline(
  name: VideoPipelineName,
  change: (part: string, weights: Map<string, Tensor>) => void = () => {},
): Promise<NodeFolder> {
  const path = await temporaryFolder();
  await cp(fixture(`pipelines/${name}`).path, path, { recursive: true });
  for (const [part, file] of Object.entries(parts[name])) {
    const raw = JSON.parse(await readFile(join(path, part, "config.json"), "utf8")) as RawConfig;
    const weights = drawWeights(raw);
    change(part, weights);
    await writeSafetensors(join(path, part, `${file}.safetensors`), weights);
  }
  if (name === "animatediff") {
    for (const file of ["vocab.json", "merges.txt"]) {
      await writeFile(join(path, "tokenizer", file), await readFile(join(fixture("clip-tokenizer").path, file)));
    }
  }
  return new NodeFolder(path, name);
}

/** The run that diffusers made of it. */
export async function recordedVideo(name: VideoPipelineName) {
  const folder = fixture(`pipelines/${name}`);
  const call = (await folder.json("call.json")) as Record<string, number> & Record<string, string>;
  return { call, io: await tensors(folder) };
}
