/**
 * What the video model takes over from the image model, and never trains: autoencoder, text encoder, tokenizer. A run keeps
 * copies of its own, so that a later version of the image model cannot come between two of its stages.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { cp, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ModelIndex } from "../src/checkpoints/diffusers-folder.ts";
import { fileSource, NodeFolder } from "../src/checkpoints/node.ts";
import { SafetensorsFile } from "../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { openPromptEncoder } from "../src/components/prompt-encoder.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import type { FloatTensor } from "../src/tensor.ts";
import type { EmojiData } from "./data.ts";
import { encodeAll, type Latents } from "./latents.ts";
import type { Pictures } from "./sampling.ts";

export const sharedParts = {
  vae: ["diffusers", "AutoencoderKL"],
  text_encoder: ["transformers", "T5EncoderModel"],
  tokenizer: ["transformers", "PreTrainedTokenizerFast"],
} as const;

/** Copies the parts that `to` does not have yet. */
export async function takeShared(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const part of Object.keys(sharedParts)) {
    if (!existsSync(join(to, part))) await cp(join(from, part), join(to, part), { recursive: true });
  }
}

export interface Texts {
  /** Of each prompt, padding included. */
  tokens: number;
  width: number;
  /** What a UNet attends to, [tokens, width] in a row. */
  of(caption: string): Float32Array;
}

/** All captions as the text encoder, which is frozen, has them: worked out once, just as the pipeline does it. */
export async function encodeTexts(folder: string, captions: Iterable<string>): Promise<Texts> {
  const className = "AnimateDiffPipeline";
  const components: ModelIndex["components"] = new Map(
    Object.entries(sharedParts).map(([part, [library, className]]) => [part, { library, className }]),
  );
  const index: ModelIndex = { className, components, options: {} };
  const encoder = (await openPromptEncoder(new NodeFolder(folder), index, nodeRuntime, { spin: false }))!;
  const list = [...new Set(captions)];
  const rows = new Map<string, Float32Array>();
  let width = 0;
  const batch = 128;
  for (let start = 0; start < list.length; start += batch) {
    const some = list.slice(start, start + batch);
    const { data, shape } = (await encoder.embed(some)).embeddings;
    width = shape[2]!;
    const each = data.length / some.length;
    for (const [i, caption] of some.entries()) rows.set(caption, data.subarray(i * each, (i + 1) * each));
  }
  await encoder.release();
  const of = (caption: string): Float32Array => {
    const row = rows.get(caption);
    if (!row) throw new Error(`no text was worked out for "${caption}"`);
    return row;
  };
  return { tokens: encoder.tokens, width, of };
}

export const allCaptions = (...sources: readonly EmojiData[]): string[] => [
  "",
  ...sources.flatMap(({ entries }) => entries.flatMap(({ captions }) => captions.map(({ text }) => text))),
];

/** Pictures with their latents, which are kept in `cache` for the next time with the same pictures and autoencoder. */
export async function encoded(folder: string, data: EmojiData, cache: string): Promise<Pictures> {
  const vae = join(folder, "vae");
  const hash = createHash("sha256").update(data.images);
  const key = hash.update(await readFile(join(vae, "diffusion_pytorch_model.safetensors"))).digest("hex");
  if (existsSync(cache)) {
    const file = await SafetensorsFile.open(await fileSource(cache));
    if (file.metadata["key"] === key) {
      const read = async (name: string) => (await file.read(name)) as FloatTensor;
      return { data, latents: { mean: await read("mean"), flippedMean: await read("flippedMean") } };
    }
  }
  const { mean, flippedMean }: Latents = await encodeAll(vae, data);
  await writeSafetensors(cache, new Map(Object.entries({ mean, flippedMean })), { metadata: { key } });
  return { data, latents: { mean, flippedMean } };
}
