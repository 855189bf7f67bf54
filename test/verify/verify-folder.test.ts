import { describe, expect, it } from "vitest";
import { ArgumentError, CheckpointError, ConfigError } from "../../src/errors.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { floatTensor, type Tensor } from "../../src/tensor.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { fixture } from "../support/golden.ts";
import { type Changes, changed } from "../support/models.ts";

const verify = async (name: string, changes: Changes) => verifyFolder(await changed(name, changes), nodeRuntime);

describe("verifying a folder", () => {
  it.each([
    ["t5", "T5EncoderModel", "output.last_hidden_state"],
    ["schedulers/ddim-eta", "DDIMScheduler", "output.timesteps"],
    ["rng", "TorchGenerator", "seed0.draw0"],
  ])("%s: says what it is, and compares every output", async (name, className, output) => {
    const result = await verifyFolder(fixture(name), nodeRuntime);
    expect(result).toMatchObject({ folder: name, class: className, pass: true });
    expect(result.outputs.map((error) => error.name)).toContain(output);
    expect(result).not.toHaveProperty("blocks");
  });

  it("fails above the tolerance, which can be given", async () => {
    const folder = await changed("dit", {
      io: (io) => {
        (io.get("output.sample")!.data as Float32Array)[5]! += 1e-3;
      },
    });
    const result = await verifyFolder(folder, nodeRuntime);
    expect(result.pass).toBe(false);
    expect(result.outputs[0]!.maxAbs).toBeCloseTo(1e-3, 4);
    expect((await verifyFolder(folder, nodeRuntime, { tolerance: 1e-2 })).pass).toBe(true);
  });

  it("finds a weight that is wrong, and where", async () => {
    const folder = await changed("pixart-sigma", {
      weights: (found) => {
        (found.get("transformer_blocks.1.attn2.to_v.bias")!.data as Float32Array)[0]! += 1;
      },
    });
    const { pass, blocks } = await verifyFolder(folder, nodeRuntime, { blocks: true });
    expect(pass).toBe(false);
    const wrong = blocks!.filter(({ relative }) => relative > 1e-4).map(({ name }) => name);
    expect(wrong).toEqual(["block.1", "block.2"]);
  });

  it("does not pass on NaN in an output's reference", async () => {
    const io = (found: Map<string, Tensor>) => {
      (found.get("output.sample")!.data as Float32Array)[0] = Number.NaN;
    };
    expect(await verify("dit", { io })).toMatchObject({ pass: false });
  });
});

describe("a folder that cannot be verified", () => {
  const name = "transformer_blocks.0.ff.net.2.weight";
  it.each<[string, string, Changes, new (message: string) => Error, string]>([
    [
      "NaN in weights",
      "dit",
      {
        weights: (found) => {
          const { data } = found.get(name) as { data: Float32Array };
          data[7] = Number.NaN;
          data[9] = Number.NEGATIVE_INFINITY;
        },
      },
      CheckpointError,
      `diffusion_pytorch_model.safetensors: tensor "${name}" [36, 144] has 2 of 5184 values that are not finite numbers, the first of them NaN at index 7.`,
    ],
    [
      "unknown tensors",
      "dit",
      { weights: (found) => found.set("lora.up", floatTensor([2])) },
      CheckpointError,
      "1 tensor is not known to DiTTransformer2DModel",
    ],
    [
      "a missing tensor",
      "t5",
      { weights: (found) => found.delete("shared.weight") },
      CheckpointError,
      '"shared.weight" [120, 32]',
    ],
    [
      "a class that is not there",
      "dit",
      { config: { _class_name: "UNet1DModel" } },
      ConfigError,
      "UNet1DModel is not supported",
    ],
    [
      "a missing input",
      "dit",
      { io: (io) => io.delete("input.timestep") },
      ArgumentError,
      'DiTTransformer2DModel needs "input.timestep", which the reference lacks.',
    ],
    ["no output", "dit", { io: (io) => io.delete("output.sample") }, ArgumentError, 'no tensor "output.*"'],
    [
      "an output that the model has not",
      "dit",
      { io: (io) => io.set("output.mask", floatTensor([2])) },
      ArgumentError,
      'DiTTransformer2DModel has no output for "output.mask".',
    ],
    [
      "an output of another shape",
      "dit",
      { io: (io) => io.set("output.sample", floatTensor([2, 4])) },
      ArgumentError,
      "the model gives [2,8,16,16], the reference has [2,4]",
    ],
  ])("%s", async (_, fixtureName, changes, type, message) => {
    const error = await verify(fixtureName, changes).catch((thrown: Error) => thrown);
    expect(error).toBeInstanceOf(type);
    expect((error as Error).message).toContain(message);
  });

  it("buffers and duplicates that checkpoints are known to have are no reason", async () => {
    const pixart = (found: Map<string, Tensor>) => found.set("pos_embed.pos_embed", floatTensor([1, 60, 40]));
    expect(await verify("pixart-sigma", { weights: pixart })).toMatchObject({ pass: true });
    const t5 = (found: Map<string, Tensor>) => found.set("encoder.embed_tokens.weight", found.get("shared.weight")!);
    expect(await verify("t5", { weights: t5 })).toMatchObject({ pass: true });
  });

  it("an autoencoder with the attention names of older versions", async () => {
    const older = { to_q: "query", to_k: "key", to_v: "value", "to_out.0": "proj_attn" };
    const weights = (found: Map<string, Tensor>) => {
      for (const [name, tensor] of [...found]) {
        const [, module, now, end] =
          /^(.*mid_block\.attentions\.0\.)(to_q|to_k|to_v|to_out\.0)(\..*)$/.exec(name) ?? [];
        if (!now) continue;
        found.delete(name);
        found.set(`${module}${older[now as keyof typeof older]}${end}`, tensor);
      }
    };
    expect(await verify("vae", { weights })).toMatchObject({ pass: true });
  });
});
