import { describe, expect, it } from "vitest";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { ConfigError } from "../../src/errors.ts";
import { networksOf } from "../../src/models/registry.ts";
import { transformersKeys } from "../../src/models/transformers-keys.ts";
import { fixture } from "../support/golden.ts";

// What diffusers and transformers have, with their defaults: test/fixtures/configuration-keys.py.
const keys = (await fixture("").json("configuration-keys.json")) as Record<string, Record<string, unknown>>;
const classes = Object.keys(keys).filter((name) => name !== "MotionAdapter");

/**
 * What diffusers' and transformers' results do not depend on, in float32 and without training: whoever adds a key to a class's list of harmless
 * ones has to say so here as well.
 */
const changesNothing: Readonly<Record<string, readonly string[]>> = {
  AutoencoderKL: ["force_upcast", "latents_mean", "latents_std", "sample_size"],
  AutoencoderKLTemporalDecoder: ["force_upcast", "sample_size"],
  AutoencoderTiny: ["force_upcast"],
  DiTTransformer2DModel: ["dropout", "norm_num_groups", "upcast_attention"],
  PixArtTransformer2DModel: ["dropout", "norm_num_groups", "num_embeds_ada_norm", "upcast_attention"],
  UNet2DConditionModel: [
    "addition_embed_type_num_heads",
    "addition_time_embed_dim",
    "dropout",
    "projection_class_embeddings_input_dim",
    "upcast_attention",
  ],
  UNetMotionModel: ["addition_time_embed_dim", "projection_class_embeddings_input_dim"],
  UNetSpatioTemporalConditionModel: [],
  SD3Transformer2DModel: [],
  T5EncoderModel: [
    "classifier_dropout",
    "dropout_rate",
    "eos_token_id",
    "initializer_factor",
    "num_decoder_layers",
    "pad_token_id",
    "scale_decoder_outputs",
    "use_cache",
  ],
  CLIPTextModel: ["attention_dropout", "bos_token_id", "initializer_factor", "initializer_range", "pad_token_id"],
  CLIPTextModelWithProjection: [
    "attention_dropout",
    "bos_token_id",
    "initializer_factor",
    "initializer_range",
    "pad_token_id",
  ],
  CLIPVisionModelWithProjection: ["attention_dropout", "initializer_factor", "initializer_range"],
};

const parse = (config: RawConfig) => {
  for (const architecture of Object.values(networksOf(config))) architecture.parseConfig(config);
};
const named = (name: string) => (/^(T5|CLIP)/.test(name) ? { architectures: [name] } : { _class_name: name });

/** Values of another kind than a setting has; a class must say something to one of them, or list the key as one that changes nothing. */
const strange = ["no such value", [["no such value"]], -1];

describe("every setting of a class", () => {
  it.each(classes)("%s is served with its defaults", (name) => {
    expect(() => parse({ ...keys[name], ...named(name) })).not.toThrow();
  });

  it.each(classes)("%s: is read, refused, or listed as one that changes nothing", (name) => {
    const own = Object.keys(keys[name]!).filter((key) => !key.startsWith("_") && !transformersKeys.includes(key));
    const passes = own.filter((key) =>
      strange.every((value) => {
        try {
          parse({ ...keys[name], ...named(name), [key]: value });
          return true;
        } catch (error) {
          expect(error, key).toBeInstanceOf(ConfigError);
          expect((error as Error).message, key).toContain(`"${key}`);
          return false;
        }
      }),
    );
    expect(passes.sort()).toEqual(changesNothing[name]);
  });

  it.each(classes)(
    "%s: a key that nobody knows is refused with its value, and passes when it is off or a note",
    (name) => {
      const config = { ...keys[name], ...named(name) };
      for (const value of [true, 1, "x", [0.5], { a: 1 }]) {
        expect(() => parse({ ...config, brand_new_key: value })).toThrow(ConfigError);
        expect(() => parse({ ...config, brand_new_key: value })).toThrow(`"brand_new_key" (${JSON.stringify(value)})`);
      }
      for (const value of [null, false]) expect(() => parse({ ...config, brand_new_key: value })).not.toThrow();
      expect(() => parse({ ...config, _brand_new_key: 1 })).not.toThrow();
    },
  );
});
