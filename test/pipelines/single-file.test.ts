/** Checkpoints in one file through a whole pipeline: AnimateDiff on a small Stable Diffusion 1. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights, WeightFiles } from "../../src/checkpoints/weights.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { unetMotion } from "../../src/models/unet-motion.ts";
import { withMotionAdapter } from "../../src/models/unet-motion-adapter.ts";
import { TextToVideoPipeline } from "../../src/pipelines/text-to-video.ts";
import { platform } from "../../src/platform/node.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { drawn } from "../support/drawn.ts";
import { encodeGguf, quantised } from "../support/gguf.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { encoded, smallTensors } from "../support/single-files.ts";

const VOCABULARY = 49_408;
let folder: string;
let file: string;
let adapter: string;
let plain: Uint8Array;
const lora = { file: fixture("loras").nativePath("kohya.safetensors"), scale: 0.7 };

beforeAll(async () => {
  folder = await temporaryFolder();
  file = join(folder, "model.safetensors");
  await writeFile(file, await encoded(smallTensors("sd1", VOCABULARY)));
  adapter = await temporaryFolder();
  const config = {
    _class_name: "MotionAdapter",
    block_out_channels: [32, 64],
    motion_layers_per_block: 1,
    motion_num_attention_heads: 4,
    motion_norm_num_groups: 32,
    motion_max_seq_length: 8,
    use_motion_mid_block: false,
  };
  await writeFile(join(adapter, "config.json"), JSON.stringify(config));
  const unet = (await platform.resolveModel(file)).sub("unet");
  const base = { config: await readConfig(unet), weights: await openWeights(unet) };
  const some = new WeightFiles(new Map([["x.motion_modules.0", {} as never]]), new Map());
  const merged = unetMotion.parseConfig(withMotionAdapter(base, { config, weights: some }).config);
  const shapes = weightShapes(unetMotion.model(merged, { batch: 1, frames: 2, height: 8, width: 8, tokens: 77 }));
  const modules = new Map([...shapes].filter(([name]) => name.includes("motion_modules")));
  await writeSafetensors(join(adapter, "diffusion_pytorch_model.safetensors"), drawn(modules));
  plain = await frames(file);
});

/** Pixels of two frames of 16 x 16. */
async function frames(model: string, options: { loras?: (typeof lora)[]; memory?: number } = {}): Promise<Uint8Array> {
  const { memory, ...loading } = options;
  const pipe = await TextToVideoPipeline.fromPretrained(model, { motionAdapter: adapter, ...loading });
  const call = { steps: 2, frames: 2, width: 16, height: 16, seed: 5, ...(memory ? { memory } : {}) };
  const { videos } = await pipe("a photo of a cat", call);
  await pipe.release();
  return new Uint8Array(videos[0]!.frames.flatMap(({ data }) => [...data]));
}

const largest = (a: Uint8Array, b: Uint8Array) => Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

describe("AnimateDiff on a checkpoint in one file", () => {
  it("gives the same bytes as the folder that convert writes", async () => {
    const out = join(folder, "converted");
    const { code, stderr } = await halfstepHere("convert", file, "--out", out);
    expect(code, stderr).toBe(0);
    expect(plain.length).toBe(2 * 16 * 16 * 3);
    expect(Math.max(...plain) - Math.min(...plain)).toBeGreaterThan(20);
    expect(await frames(out)).toEqual(plain);
  });

  it("takes a LoRA, as convert puts one in, and in groups within a budget too", async () => {
    const out = join(folder, "with-lora");
    const { code, stderr } = await halfstepHere("convert", file, "--lora", `${lora.file}:0.7`, "--out", out);
    expect(code, stderr).toBe(0);
    const changed = await frames(file, { loras: [lora] });
    expect(largest(changed, plain)).toBeGreaterThan(5);
    expect(largest(changed, await frames(out))).toBeLessThanOrEqual(1);
    const grouped = await frames(file, { loras: [lora], memory: 190e6 });
    expect(largest(changed, grouped)).toBeLessThanOrEqual(1);
  });

  it("reads GGUF, whole and in groups", async () => {
    const path = join(folder, "model.gguf");
    await writeFile(path, encodeGguf(smallTensors("sd1", VOCABULARY), quantised));
    const out = join(folder, "from-gguf");
    const { code, stderr } = await halfstepHere("convert", path, "--out", out);
    expect(code, stderr).toBe(0);
    const one = await frames(path);
    expect(largest(one, await frames(out))).toBeLessThanOrEqual(1);
    expect(largest(one, await frames(path, { memory: 190e6 }))).toBeLessThanOrEqual(1);
  });
});
