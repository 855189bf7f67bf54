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
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { TextToVideoPipeline } from "../../src/pipelines/text-to-video.ts";
import { platform } from "../../src/platform/node.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
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
let weights: Map<string, FloatTensor>;
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
    motion_num_attention_heads: 8,
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
  weights = drawn(modules);
  await writeSafetensors(join(adapter, "diffusion_pytorch_model.safetensors"), weights);
  plain = await frames(file);
});

it("an autoencoder in one file takes the place of the model's own, with the model's scale", async () => {
  const tensors = smallTensors("sd1", VOCABULARY);
  const prefix = "first_stage_model.";
  const alone = [...tensors].filter(([name]) => name.startsWith(prefix));
  const [same, other] = [join(folder, "vae.safetensors"), join(folder, "other-vae.safetensors")];
  await writeFile(same, await encoded(new Map(alone.map(([name, tensor]) => [name.slice(prefix.length), tensor]))));
  // Its last convolution with the other sign: the same image, inverted.
  const inverted = alone.map(([name, tensor]): [string, Tensor] => {
    const last = name.startsWith(`${prefix}decoder.conv_out.`);
    return [
      name,
      last
        ? floatTensor(
            tensor.shape,
            (tensor.data as Float32Array).map((value) => -value),
          )
        : tensor,
    ];
  });
  await writeFile(other, await encoded(new Map(inverted)));
  const decoded = async (vae?: string) => {
    const pipe = await TextToImagePipeline.fromPretrained(file, { vae, threads: 1 });
    const values = await pipe.decode(
      floatTensor(
        [1, 4, 4, 4],
        Float32Array.from({ length: 64 }, (_, i) => Math.sin(i)),
      ),
    );
    await pipe.release();
    return [...values.data];
  };
  const own = await decoded();
  expect(await decoded(same)).toEqual(own);
  expect(await decoded(file)).toEqual(own);
  for (const [i, value] of (await decoded(other)).entries()) expect(value).toBeCloseTo(-own[i]!, 5);
});

/** Pixels of two frames of 16 x 16. */
async function frames(
  model: string,
  options: { loras?: (typeof lora)[]; memory?: number; motionAdapter?: string } = {},
): Promise<Uint8Array> {
  const { memory, motionAdapter = adapter, ...loading } = options;
  const pipe = await TextToVideoPipeline.fromPretrained(model, { motionAdapter, ...loading });
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
    const grouped = await frames(file, { loras: [lora], memory: 220e6 });
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
    expect(largest(one, await frames(path, { memory: 220e6 }))).toBeLessThanOrEqual(1);
  });

  describe("a motion adapter in one file too", () => {
    const write = async (name: string, tensors: ReadonlyMap<string, FloatTensor>) => {
      const path = join(folder, name);
      await writeSafetensors(path, tensors);
      return path;
    };
    /** As AnimateDiff's own files have them, with the table of positions for both attentions. */
    const original = () =>
      new Map(
        [...weights].flatMap(([key, tensor]) => {
          const own = key
            .replace(/(motion_modules\.\d+)\./, "$1.temporal_transformer.")
            .replace(".attn1.", ".attention_blocks.0.")
            .replace(".attn2.", ".attention_blocks.1.")
            .replace(".norm1.", ".norms.0.")
            .replace(".norm2.", ".norms.1.")
            .replace(".norm3.", ".ff_norm.");
          const names = own.endsWith(".pos_embed.pe")
            ? [0, 1].map((i) => own.replace("pos_embed", `attention_blocks.${i}.pos_encoder`))
            : [own];
          return names.map((name) => [name, tensor] as const);
        }),
      );

    it("gives the same bytes, in AnimateDiff's names, in diffusers', and as the folder that convert writes", async () => {
      const own = await write("mm.safetensors", original());
      const out = join(folder, "adapter");
      const { code, stderr } = await halfstepHere("convert", own, "--out", out);
      expect(code, stderr).toBe(0);
      const prefixed = new Map([...original()].map(([name, tensor]) => [`module.${name}`, tensor]));
      const files = [await write("lightning.safetensors", weights), await write("copies.safetensors", prefixed)];
      for (const motionAdapter of [own, ...files, out]) {
        expect(await frames(file, { motionAdapter }), motionAdapter).toEqual(plain);
      }
      const info = await halfstepHere("info", own, "--json");
      expect(JSON.parse(info.stdout)).toMatchObject({ class: "MotionAdapter", components: [{ supported: true }] });
    });

    it("is refused with more than motion modules, with gaps, and by a model of another size", async () => {
      const opened = async (tensors: ReadonlyMap<string, FloatTensor>) =>
        frames(file, { motionAdapter: await write("wrong.safetensors", tensors) });
      const first = weights.get("down_blocks.0.motion_modules.0.norm.weight")!;
      const more = new Map([...weights, ["conv_in.weight", first]]);
      await expect(opened(more)).rejects.toThrow('tensors of other layers too ("conv_in.weight"), as PIA');
      const gap = new Map([...weights].filter(([name]) => !name.startsWith("down_blocks.1.")));
      await expect(opened(gap)).rejects.toThrow("made for another base model");
      const hole = new Map(
        [...weights].map(([name, tensor]) => [name.replace("down_blocks.1.", "down_blocks.2."), tensor]),
      );
      await expect(opened(hole)).rejects.toThrow(
        "its down_blocks.* are numbered 0, 2; expected 0, 1, ... without gaps",
      );
      const table = "down_blocks.0.motion_modules.0.transformer_blocks.0.pos_embed.pe";
      const tableless = new Map([...weights].filter(([name]) => name !== table));
      await expect(opened(tableless)).rejects.toThrow(`it lacks the tensor "${table}"`);
    });
  });
});
