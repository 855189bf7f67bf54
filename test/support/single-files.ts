/** Small checkpoints in one file: test/fixtures/single-files/make.py has names and shapes, the weights are drawn. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { type EncodeOptions, encodeSafetensors } from "../../src/checkpoints/safetensors-writer.ts";
import type { Tensor } from "../../src/tensor.ts";
import { drawn } from "./drawn.ts";

const folder = join(import.meta.dirname, "../fixtures/single-files");

export const smallFiles = ["sd1", "sd2", "sdxl", "sd3"];

export function readGzip(name: string): unknown {
  return JSON.parse(gunzipSync(readFileSync(join(folder, name))).toString("utf8"));
}

/** With `vocabulary` tokens instead of 100: CLIP's own has 49,408. */
export function smallTensors(name: string, vocabulary = 100): Map<string, Tensor> {
  const shapes = new Map(readGzip(`${name}.json.gz`) as [string, number[]][]);
  for (const [tensor, shape] of shapes) {
    if (tensor.endsWith("token_embedding.weight")) shapes.set(tensor, [vocabulary, ...shape.slice(1)]);
  }
  return drawn(shapes);
}

export async function encoded(
  tensors: ReadonlyMap<string, Tensor>,
  options?: EncodeOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const chunks = [];
  for await (const chunk of encodeSafetensors(tensors, options).chunks()) chunks.push(chunk);
  return new Uint8Array(Buffer.concat(chunks));
}
