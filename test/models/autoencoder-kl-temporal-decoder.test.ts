import { describe, expect, it } from "vitest";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { ArgumentError, ConfigError } from "../../src/errors.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { autoencoderKLTemporalDecoder } from "../../src/models/autoencoder-kl-temporal-decoder.ts";
import { networksOf } from "../../src/models/registry.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { compare } from "../../src/verify/compare.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { fixture, tensors } from "../support/golden.ts";

const { encoder, decoder } = autoencoderKLTemporalDecoder;
const raw = (await fixture("vae-temporal").json("config.json")) as Record<string, unknown>;
const geometry = { batch: 1, frames: 4, height: 8, width: 8 };

describe("AutoencoderKLTemporalDecoder", () => {
  // The weights of a reference case, rounded to halves, and what diffusers 0.42.1 gives with them.
  it("codes and decodes as diffusers does", async () => {
    const { outputs, pass } = await verifyFolder(fixture("vae-temporal"), nodeRuntime, { threads: 1 });
    const names = ["decoded", "logvar", "mean", "moments", "std"].map((name) => `output.${name}`);
    expect(outputs.map(({ name }) => name).sort()).toEqual(names);
    for (const { name, relative } of outputs) expect(relative, name).toBeLessThan(1e-4);
    expect(pass).toBe(true);
  });

  it("gives the same numbers in other groups of stages", async () => {
    const io = await tensors(fixture("vae-temporal"));
    const files = await openWeights(fixture("vae-temporal"));
    const config = decoder.parseConfig(raw);
    const { length } = decoder.model(config, geometry).stages;
    for (const groups of [new Array<number>(length).fill(1), [3, 2, length - 5]]) {
      const session = await loadModel(nodeRuntime, decoder, config, files, geometry, { groups, threads: 1 });
      const { decoded } = await session.run({ latent: io.get("input.latent")! });
      await session.release();
      expect(compare("decoded", decoded!.data, io.get("output.decoded")!.data).relative).toBeLessThan(1e-4);
    }
  });

  it("is one of the classes that are known", () => {
    expect(networksOf({ _class_name: "AutoencoderKLTemporalDecoder" })).toBe(autoencoderKLTemporalDecoder);
  });

  it("has attention in the middle only where diffusers comes to run it", () => {
    const parts = (layers: number) => {
      const model = decoder.model(decoder.parseConfig({ ...raw, layers_per_block: layers }), geometry);
      const names = [...weightShapes(model).keys()].filter((name) => name.includes("mid_block"));
      return [...new Set(names.map((name) => name.split(".").slice(2, 4).join(".")))];
    };
    expect(parts(1)).toEqual(["resnets.0"]);
    expect(parts(2)).toEqual(["resnets.0", "attentions.0", "resnets.1"]);
    expect(parts(3)).toEqual(parts(2));
  });

  it("needs to know how many frames there are, and channels that 32 groups divide", () => {
    const config = decoder.parseConfig(raw);
    for (const unknown of [{ batch: 1 }, { batch: "batch", frames: 4 }]) {
      expect(() => decoder.model(config, { ...unknown, height: 8, width: 8 })).toThrow(ArgumentError);
    }
    expect(() => encoder.parseConfig({ ...raw, block_out_channels: [32, 48] })).toThrow(ConfigError);
    expect(() => encoder.parseConfig({ ...raw, block_out_channels: [32, 48] })).toThrow(
      "AutoencoderKLTemporalDecoder: 48 channels cannot be normalised in 32 groups.",
    );
  });
});
