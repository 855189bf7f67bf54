/** The folders of test/fixtures/pipelines that test/fixtures/stable-diffusion.py makes, with the weights that it draws. */
import { existsSync } from "node:fs";
import { cp, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import type { Picture } from "../../src/media/picture.ts";
import type { Tensor } from "../../src/tensor.ts";
import { drawWeights } from "./drawn.ts";
import { fixture, tensors } from "./golden.ts";
import { temporaryFolder } from "./models.ts";

export const stableDiffusionCases = [
  "sd",
  "sd-inpaint",
  "sd-lcm",
  "sd-tiny",
  "sdxl",
  "sdxl-refiner",
  "sd3",
  "sd3-no-t5",
] as const;
export type StableDiffusionCase = (typeof stableDiffusionCases)[number];

const files = {
  unet: "diffusion_pytorch_model",
  transformer: "diffusion_pytorch_model",
  vae: "diffusion_pytorch_model",
  text_encoder: "model",
  text_encoder_2: "model",
  text_encoder_3: "model",
};

/** CLIP's tokenizers, and T5's. */
const tokenizers = {
  tokenizer: ["clip-tokenizer", "vocab.json", "merges.txt"],
  tokenizer_2: ["clip-tokenizer", "vocab.json", "merges.txt"],
  tokenizer_3: ["pipelines/pixart-256/tokenizer", "tokenizer.json"],
} as const;

/** A copy of the fixture with its weights and tokenizers. */
export async function writeStableDiffusion(name: StableDiffusionCase): Promise<NodeFolder> {
  const path = await temporaryFolder();
  await cp(fixture(`pipelines/${name}`).path, path, { recursive: true });
  for (const [part, file] of Object.entries(files)) {
    if (!existsSync(join(path, part))) continue;
    const raw = JSON.parse(await readFile(join(path, part, "config.json"), "utf8")) as RawConfig;
    await writeSafetensors(join(path, part, `${file}.safetensors`), drawWeights(raw));
  }
  for (const [part, [from, ...names]] of Object.entries(tokenizers)) {
    if (!existsSync(join(path, part))) continue;
    for (const file of names) await cp(join(fixture(from).path, file), join(path, part, file));
  }
  return new NodeFolder(path, name);
}

/** What diffusers was called with; `picture` and `mask` are sizes. */
export interface RecordedCall {
  prompt: string;
  negative_prompt?: string;
  prompt_2?: string;
  negative_prompt_2?: string;
  prompt_3?: string;
  negative_prompt_3?: string;
  max_sequence_length?: number;
  guidance_scale: number;
  guidance_rescale?: number;
  num_inference_steps: number;
  height?: number;
  width?: number;
  strength?: number;
  clip_skip?: number;
  seed: number;
  scheduler?: string;
  picture?: [number, number];
  mask?: [number, number];
  original_size?: [number, number];
  crops_coords_top_left?: [number, number];
  target_size?: [number, number];
  negative_original_size?: [number, number];
  negative_crops_coords_top_left?: [number, number];
  negative_target_size?: [number, number];
  aesthetic_score?: number;
  negative_aesthetic_score?: number;
  denoising_start?: number;
  denoising_end?: number;
  /** Another run of the script, whose latents are the image; they are in `input.image`. */
  latents_of?: string;
}

/** The runs that diffusers made of it, by name. */
export async function recordedCalls(name: StableDiffusionCase) {
  const folder = fixture(`pipelines/${name}`);
  const names = (await folder.json("calls.json")) as string[];
  const calls = names.map(async (run) => ({
    run,
    call: (await folder.json(`call.${run}.json`)) as RecordedCall,
    io: (await tensors(folder, `io.${run}.safetensors`)) as Map<string, Tensor>,
  }));
  return Promise.all(calls);
}

/** The picture that test/fixtures/stable-diffusion.py draws. */
export const drawnPicture = (width: number, height: number): Picture => ({
  width,
  height,
  data: Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * i * 7 + i * 31) % 256),
});

/** Its mask: white on the right, with a soft edge, and grey in the rows at the top. */
export function drawnMask(width: number, height: number): Picture {
  const grey = (x: number, y: number) =>
    y > 4 ? Math.min(255, Math.max(0, (x - Math.floor(width / 2)) * 40 + 100)) : 90;
  const data = Uint8Array.from({ length: 3 * width * height }, (_, i) => {
    const pixel = Math.floor(i / 3);
    return grey(pixel % width, Math.floor(pixel / width));
  });
  return { width, height, data };
}
