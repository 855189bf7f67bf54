import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { readConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { initModel, newPipeline, writeModel } from "../../src/init/init-node.ts";
import { pipelineGeometry } from "../../src/init/pipelines.ts";
import { presets } from "../../src/init/presets.ts";
import { T5_TOKENS, t5Tokenizer } from "../../src/init/t5-tokenizer.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { architectureOf } from "../../src/models/registry.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { floatTensor, int64Tensor, sizeOf } from "../../src/tensor.ts";
import { tokenizerFromJson } from "../../src/tokenizers/tokenizer-json.ts";

const scratch = await mkdtemp(join(tmpdir(), "halfstep-init-"));
afterAll(() => rm(scratch, { recursive: true }));

const parameters = (name: string) => {
  const architecture = architectureOf(presets.get(name)!);
  const model = architecture.model(architecture.parseConfig(presets.get(name)!), { batch: 1, tokens: 1 });
  return [...weightShapes(model).values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
};

/** Small enough for a test; every preset is made the same way. */
const tiny = { ...presets.get("dit-s-2")!, num_layers: 6, attention_head_dim: 8, num_embeds_ada_norm: 10 };

describe("whole pipelines", () => {
  /** Numbers of diffusers' and transformers' classes with the published configurations. */
  const vae = 83_653_863;
  const clipL = 123_060_480;
  const bigG = 694_659_840;
  it.each([
    ["sd-1.5", { unet: 859_520_964, vae, text_encoder: clipL }],
    ["sd-turbo", { unet: 865_910_724, vae, text_encoder: 340_387_840 }],
    ["sdxl", { unet: 2_567_463_684, vae, text_encoder: clipL, text_encoder_2: bigG }],
    [
      "sd3.5-medium",
      {
        transformer: 2_469_663_936,
        vae: 83_819_683,
        text_encoder: clipL + 768 * 768,
        text_encoder_2: bigG,
        text_encoder_3: 4_762_310_656,
      },
    ],
  ])("%s has the published networks", (name, counts) => {
    const { networks } = newPipeline(pipelineGeometry(name, { withT5: name.startsWith("sd3") })!);
    expect(Object.fromEntries([...networks].map(([folder, { parameters }]) => [folder, parameters]))).toEqual(counts);
  });

  it("are the same weights with T5 and without", async () => {
    const bytes = async (withT5: boolean) => {
      const folder = join(scratch, `t5-${withT5}`);
      await writeModel(folder, newPipeline(pipelineGeometry("sd3.5-medium", { tiny: true, withT5 })!), { seed: 5 });
      return Promise.all(
        ["transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"].map((name) =>
          readFile(join(folder, name)),
        ),
      );
    };
    const [with5, without] = [await bytes(true), await bytes(false)];
    expect(with5.map((file, i) => file.equals(without[i]!))).toEqual([true, true]);
  });

  it("leave nothing when they are interrupted", async () => {
    const abort = new AbortController();
    const model = newPipeline(pipelineGeometry("sd-1.5", { tiny: true })!);
    const onTensor = (_: string, written: number) => {
      if (written > 0) abort.abort(new Error("enough"));
    };
    const made = writeModel(join(scratch, "interrupted"), model, { onTensor, signal: abort.signal });
    await expect(made).rejects.toThrow("enough");
    expect((await readdir(scratch)).filter((name) => name.includes("interrupted"))).toEqual([]);
  });

  it("have a tokenizer of T5's kind whose every token the text encoder knows", async () => {
    const json = new Map(t5Tokenizer("t"));
    const tokenizer = tokenizerFromJson(json.get("t/tokenizer.json")!, json.get("t/tokenizer_config.json")!, "t");
    const tokens = (text: string) => tokenizer.encode(text).ids.map((id) => tokenizer.id_to_token(id));
    // SentencePiece: a sign for each space, the likeliest pieces, and the end of text.
    expect(tokens("a cats, Sir")).toEqual(["\u2581", "a", "\u2581", "ca", "ts", ",", "\u2581", "S", "ir", "</s>"]);
    expect(tokens("\u00e9")).toEqual(["\u2581", "<unk>", "</s>"]);
    expect(tokenizer.encode("zz~").ids.every((id) => id < T5_TOKENS)).toBe(true);
  });
});

describe("initModel", () => {
  // The published counts: 675 M and 33 M for DiT with one embedding of timestep and class; diffusers has one a block.
  it("has the published geometries", () => {
    const perBlock = (width: number) => 256 * width + width + width * width + width + 1001 * width;
    expect(parameters("dit-xl-2") - 27 * perBlock(1152)).toBeGreaterThan(674e6);
    expect(parameters("dit-xl-2") - 27 * perBlock(1152)).toBeLessThan(676e6);
    expect(parameters("dit-s-2") - 11 * perBlock(384)).toBeLessThan(33.5e6);
    expect(parameters("pixart-xl-2")).toBeGreaterThan(600e6);
    expect(parameters("pixart-xl-2")).toBeLessThan(620e6);
  });

  // What diffusers 0.42 has in the class with the published configuration; of Stable Diffusion 3.5 the table of positions too.
  it.each([
    ["sd-1.5", 859_520_964],
    ["sd-turbo", 865_910_724],
    ["sdxl", 2_567_463_684],
    ["sd3.5-medium", 2_469_663_936],
  ])("%s has %i parameters", (name, count) => {
    expect(parameters(name)).toBe(count);
  });

  it.each(["F32", "F16", "BF16"] as const)(
    "writes a folder in %s that loads, and whose activations stay sane",
    async (dtype) => {
      const folder = join(scratch, dtype);
      const made = await initModel(folder, tiny, { seed: 3, dtype });
      const files = new NodeFolder(folder);
      const architecture = architectureOf(await readConfig(files));
      const config = architecture.parseConfig(await readConfig(files));
      const weights = await openWeights(files);
      expect([weights.parameters, weights.bytes]).toEqual([made.parameters, made.bytes]);
      const model = await loadModel(nodeRuntime, architecture, config, weights, { batch: 2, height: 8, width: 8 });
      const { sample } = await model.run({
        hiddenStates: new TorchGenerator(0).randn([2, 4, 8, 8]),
        timestep: floatTensor([2], Float32Array.of(999, 1)),
        classLabels: int64Tensor([2], [1, 10]),
      });
      await model.release();
      const data = sample!.data as Float32Array;
      const deviation = Math.sqrt(data.reduce((sum, x) => sum + x * x, 0) / data.length);
      expect(deviation).toBeGreaterThan(0.1);
      expect(deviation).toBeLessThan(10);
    },
  );

  it("gives the same bytes for the same seed, others for another", async () => {
    const bytes = async (name: string, seed: number) => {
      await initModel(join(scratch, name), tiny, { seed });
      return readFile(join(scratch, name, "diffusion_pytorch_model.safetensors"));
    };
    const [a, b, c] = [await bytes("a", 1), await bytes("b", 1), await bytes("c", 2)];
    expect(a.equals(b)).toBe(true);
    expect(a.equals(c)).toBe(false);
  });

  it("leaves a folder alone that has something in it", async () => {
    await expect(initModel(join(scratch, "a"), tiny)).rejects.toThrow(/is not empty/);
  });
});
