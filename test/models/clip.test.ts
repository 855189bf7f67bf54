import { describe, expect, it } from "vitest";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { ArgumentError, ConfigError } from "../../src/errors.ts";
import { type StagedModel, weightShapes } from "../../src/models/architecture.ts";
import { clip } from "../../src/models/clip.ts";
import { clipText, clipTextWithProjection } from "../../src/models/clip-text.ts";
import { clipVisionWithProjection } from "../../src/models/clip-vision.ts";
import { architectureOf, networksOf } from "../../src/models/registry.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { sizeOf, type Tensor } from "../../src/tensor.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { fixture } from "../support/golden.ts";
import { changed } from "../support/models.ts";

const parameters = (...models: StagedModel[]) =>
  [...new Map(models.flatMap((model) => [...weightShapes(model)])).values()].reduce(
    (sum, shape) => sum + sizeOf(shape as number[]),
    0,
  );

describe("a whole CLIP", () => {
  it("gives both towers' projections as transformers does", async () => {
    const { outputs, pass, class: name } = await verifyFolder(fixture("clip"), nodeRuntime);
    expect(name).toBe("CLIPModel");
    expect(outputs.map((output) => output.name).sort()).toEqual(["output.image_embeds", "output.text_embeds"]);
    for (const { name, relative } of outputs) expect(relative, name).toBeLessThan(1e-4);
    expect(pass).toBe(true);
  });

  it("has its towers' configurations in one, twice in old files", () => {
    const raw: RawConfig = {
      projection_dim: 768,
      text_config: { hidden_size: 512, num_attention_heads: 8, projection_dim: 512 },
      text_config_dict: { hidden_size: 768, num_attention_heads: 12, intermediate_size: 3072 },
      vision_config: { patch_size: 14 },
      vision_config_dict: null,
    };
    expect(clip.text.parseConfig(raw)).toMatchObject({ width: 768, heads: 12, inner: 3072, projectionWidth: 768 });
    expect(clip.image.parseConfig(raw)).toMatchObject({ width: 768, patchSize: 14, projectionWidth: 768 });
    expect(() => clip.text.parseConfig({ text_config: [1] })).toThrow('CLIPModel: config "text_config" is [1]');
  });
});

describe("sizes of published models", () => {
  it("OpenAI's ViT-B/32: 151,277,313 parameters, one of them the temperature", () => {
    const [text, image] = [clip.text, clip.image] as const;
    const count = parameters(
      text.model(text.parseConfig({}), { batch: 1, tokens: 77 }),
      image.model(image.parseConfig({}), { batch: 1 }),
    );
    expect(count + 1).toBe(151_277_313);
  });

  it("Stable Diffusion 1.5's text encoder: 123,060,480 parameters", () => {
    const raw = { hidden_size: 768, intermediate_size: 3072, num_attention_heads: 12, eos_token_id: 2 };
    expect(parameters(clipText.model(clipText.parseConfig(raw), { batch: 1, tokens: 77 }))).toBe(123_060_480);
  });
});

describe("the class of a configuration", () => {
  it.each<[RawConfig, string]>([
    [{ architectures: ["CLIPTextModel"] }, "CLIPTextModel"],
    [{ model_type: "clip_text_model" }, "CLIPTextModel"],
    [{ architectures: ["CLIPTextModelWithProjection"], model_type: "clip_text_model" }, "CLIPTextModelWithProjection"],
    [{ architectures: ["CLIPVisionModelWithProjection"] }, "CLIPVisionModelWithProjection"],
  ])("%j is %s", (config, name) => expect(architectureOf(config).className).toBe(name));

  it("has two networks for the whole of it", () => {
    expect(Object.keys(networksOf({ architectures: ["CLIPModel"] }))).toEqual(["text", "image"]);
    expect(networksOf({ model_type: "clip" })).toBe(networksOf({ architectures: ["CLIPModel"] }));
  });
});

describe("checkpoints", () => {
  it("of transformers 5, which leave the tower's name out", async () => {
    const weights = (found: Map<string, Tensor>) => {
      for (const [name, tensor] of [...found]) {
        found.delete(name);
        found.set(name.replace("text_model.", ""), tensor);
      }
    };
    expect(await verifyFolder(await changed("clip-text", { weights }), nodeRuntime)).toMatchObject({ pass: true });
  });

  it("with positions and the other tower beside what is needed", async () => {
    const weights = (found: Map<string, Tensor>) => {
      const positions = { dtype: "float32", shape: [1, 2], data: Float32Array.of(0, 1) } as const;
      for (const name of ["text_model.embeddings.position_ids", "vision_model.class_embedding", "logit_scale"]) {
        found.set(name, positions);
      }
    };
    expect(await verifyFolder(await changed("clip-text", { weights }), nodeRuntime)).toMatchObject({ pass: true });
  });
});

describe("what is refused", () => {
  it("a text longer than there are positions", () => {
    const config = clipText.parseConfig({});
    expect(() => clipText.model(config, { batch: 1, tokens: 78 })).toThrow(ArgumentError);
    expect(() => clipText.model(config, { batch: 1, tokens: 78 })).toThrow("78 tokens are more than the 77");
    expect(() => clipText.model(config, { batch: 1 })).toThrow("how many tokens");
  });

  it.each<[{ className: string; parseConfig(raw: RawConfig): unknown }, RawConfig, string]>([
    [clipText, { hidden_act: "mish" }, 'CLIPTextModel: config "hidden_act" is "mish"; supported is one of "gelu"'],
    [
      clipTextWithProjection,
      { num_attention_heads: 7 },
      'CLIPTextModelWithProjection: config "hidden_size" 512 is not 7 equal heads.',
    ],
    [
      clipText,
      { vocab_size: 2 ** 25 },
      'config "vocab_size" is 33554432; supported is a whole number of at least 1 (and at most 16777216)',
    ],
    [clipVisionWithProjection, { patch_size: 256 }, 'config "patch_size" 256 is larger than image_size 224.'],
  ])("$0.className with %j", (architecture, raw, message) => {
    expect(() => architecture.parseConfig(raw)).toThrow(ConfigError);
    expect(() => architecture.parseConfig(raw)).toThrow(message);
  });
});
