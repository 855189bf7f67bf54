import { mkdir, readFile, rename, rm, stat, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { MemoryFolder } from "../../src/checkpoints/files.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { ArgumentError, CheckpointError, ShapeError } from "../../src/errors.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { weightLocations } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { floatTensor, int64Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { tensors } from "../support/golden.ts";
import { changed, modelCase, temporaryFolder } from "../support/models.ts";

/** Loads a fixture's model with the weights of a folder. */
async function load(name: string, folder: NodeFolder, groups?: number[]) {
  const { architecture, config, geometry, feeds } = await modelCase(name);
  const files = await openWeights(folder);
  const options = groups ? { groups } : {};
  return { feeds, model: await loadModel(nodeRuntime, architecture, config, files, geometry, options) };
}

async function failure(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => expect.fail("did not throw"),
    (error: Error) => error,
  );
}

describe("weights that do not fit", () => {
  it("lists every tensor that is missing or of another shape, with what decides it", async () => {
    const folder = await changed("dit", {
      weights: (found) => {
        found.delete("pos_embed.proj.bias");
        found.delete("transformer_blocks.2.attn1.to_q.weight");
        found.set("proj_out_2.weight", floatTensor([16, 36]));
      },
    });
    const error = await failure(load("dit", folder));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toBe(
      'diffusion_pytorch_model.safetensors: tensor "proj_out_2.weight" has shape [16, 36],\n' +
        "but DiTTransformer2DModel with in_channels 4, out_channels 8, patch_size 2, num_layers 4, num_attention_heads 3 " +
        "and attention_head_dim 12, num_embeds_ada_norm 10 needs [32, 36].\n" +
        "2 tensors are missing that DiTTransformer2DModel with in_channels 4, out_channels 8, patch_size 2, " +
        "num_layers 4, num_attention_heads 3 and attention_head_dim 12, num_embeds_ada_norm 10 needs: " +
        '"pos_embed.proj.bias" [36], "transformer_blocks.2.attn1.to_q.weight" [36, 36].',
    );
  });

  it("refuses integers where numbers are needed", async () => {
    const weights = (found: Map<string, unknown>) =>
      found.set("pos_embed.proj.bias", int64Tensor([36], new Array(36).fill(1)));
    const error = await failure(load("dit", await changed("dit", { weights })));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toContain('tensor "pos_embed.proj.bias" is stored as I64');
  });

  it("does not mind tensors that it does not need", async () => {
    const weights = (found: Map<string, unknown>) => found.set("something.else", floatTensor([3]));
    const { model } = await load("dit", await changed("dit", { weights }));
    await model.release();
  });
});

describe("weights that change between opening and compiling", () => {
  const file = "model.safetensors";
  it.each<[string, RegExp, (path: string) => Promise<void>]>([
    ["are written again", /has changed since it was opened/, async (path) => writeFile(path, await readFile(path))],
    ["are cut off", /has changed since it was opened/, (path) => truncate(path, 1000)],
    [
      "are replaced by another file",
      /has changed since it was opened/,
      async (path) => {
        await writeFile(`${path}.new`, await readFile(path));
        const { atime, mtime } = await stat(path);
        await utimes(`${path}.new`, atime, mtime);
        await rename(`${path}.new`, path);
      },
    ],
    ["are removed", /there is no file at/, (path) => rm(path)],
  ])("%s", async (_, message, change) => {
    const folder = await changed("t5", {});
    const { architecture, config, geometry } = await modelCase("t5");
    const files = await openWeights(folder);
    await change(join(folder.path, file));
    const error = await failure(loadModel(nodeRuntime, architecture, config, files, geometry));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(message);
    expect(error.message).toContain(file);
  });
});

describe("where weights are", () => {
  async function outputOf(name: string, folder: NodeFolder, groups?: number[]) {
    const { model, feeds } = await load(name, folder, groups);
    const [output] = model.model.outputs as [string];
    const result = (await model.run(feeds))[output]!;
    await model.release();
    const expected = [...(await modelCase(name)).io].find(([key]) => key.startsWith("output."))![1];
    return compare(output, result.data, expected.data).relative;
  }

  it("a cache of links to files that are called by their hash, as the Hub's is", async () => {
    const path = await temporaryFolder();
    await changed("t5", {}).then(({ path: from }) => rename(from, join(path, "copy")));
    await Promise.all([mkdir(join(path, "blobs")), mkdir(join(path, "snapshot"))]);
    await rename(join(path, "copy", "model.safetensors"), join(path, "blobs", "0123abcd"));
    await symlink("../blobs/0123abcd", join(path, "snapshot", "model.safetensors"));
    const folder = new NodeFolder(join(path, "snapshot"));
    expect([...weightLocations(await openWeights(folder)).keys()]).toEqual(["0123abcd"]);
    expect(await outputOf("t5", folder)).toBeLessThan(1e-4);
  });

  it("a component's folder inside a pipeline's, and several shards", async () => {
    const path = await temporaryFolder();
    const { folder } = await modelCase("dit");
    const all = [...(await tensors(folder, "diffusion_pytorch_model.safetensors"))];
    const shards = [all.filter((_, i) => i % 2 === 0), all.filter((_, i) => i % 2 === 1)];
    const file = (i: number) => `diffusion_pytorch_model-0000${i + 1}-of-00002.safetensors`;
    await mkdir(join(path, "transformer"));
    for (const [i, shard] of shards.entries()) {
      await writeSafetensors(join(path, "transformer", file(i)), new Map(shard));
    }
    const weightMap = Object.fromEntries(shards.flatMap((shard, i) => shard.map(([name]) => [name, file(i)])));
    const index = join(path, "transformer", "diffusion_pytorch_model.safetensors.index.json");
    await writeFile(index, JSON.stringify({ weight_map: weightMap }));
    const component = new NodeFolder(path).sub("transformer") as NodeFolder;
    expect(await outputOf("dit", component, [2, 4])).toBeLessThan(1e-4);
  });

  it("elsewhere than on disk: files are called by their path, and read when they are needed", async () => {
    const { folder } = await modelCase("t5");
    const source = await folder.source("model.safetensors");
    const bytes = await source.read(0, source.size);
    const files = await openWeights(
      new MemoryFolder("memory", new Map([["text_encoder/model.safetensors", bytes]])).sub("text_encoder"),
    );
    const [[name, location]] = [...weightLocations(files)] as [[string, { bytes: () => Promise<Uint8Array> }]];
    expect(name).toBe("text_encoder/model.safetensors");
    expect(await location.bytes()).toEqual(bytes);
  });

  it.each(["F16", "BF16"] as const)("weights stored as %s", async (dtype) => {
    // Half precision of the weights: 11 and 8 bits, errors of that size in the output.
    const limit = { F16: 1e-2, BF16: 1e-1 }[dtype];
    for (const name of ["t5", "dit"]) expect(await outputOf(name, await changed(name, { dtype }))).toBeLessThan(limit);
  });

  it("T5's token embedding under its other name, alone or beside the usual one", async () => {
    const other = "encoder.embed_tokens.weight";
    for (const keep of [true, false]) {
      const folder = await changed("t5", {
        weights: (found) => {
          found.set(other, found.get("shared.weight")!);
          if (!keep) found.delete("shared.weight");
        },
      });
      expect(await outputOf("t5", folder)).toBeLessThan(1e-4);
    }
  });
});

describe("running a model", () => {
  it("writes into tensors that the caller owns, whatever the grouping", async () => {
    for (const groups of [[6], [1, 3, 2]]) {
      const { model, feeds } = await load("dit", (await modelCase("dit")).folder, groups);
      const sample = floatTensor([2, 8, 16, 16]);
      const result = await model.run(feeds, { sample });
      expect(result["sample"]).toBe(sample);
      const expected = (await model.run(feeds))["sample"]!;
      expect(sample.data).toEqual(expected.data);
      await model.release();
    }
  });

  it("says which input is missing or does not fit", async () => {
    const { architecture, config, geometry, feeds, folder } = await modelCase("dit");
    const files = await openWeights(folder);
    const model = await loadModel(nodeRuntime, architecture, config, files, { ...geometry, batch: "batch" });
    const { timestep: _, ...others } = feeds;
    const missing = await failure(model.run(others));
    expect(missing).toBeInstanceOf(ArgumentError);
    expect(missing.message).toBe(
      'DiTTransformer2DModel: no tensor was given for input "timestep"; it takes hiddenStates, timestep, classLabels.',
    );
    const shape = await failure(model.run({ ...feeds, timestep: floatTensor([3]) }));
    expect(shape).toBeInstanceOf(ShapeError);
    expect(shape.message).toBe(
      'DiTTransformer2DModel: input "timestep" is float32 [3], but it was compiled for float32 [batch = 2].',
    );
    const type = await failure(model.run({ ...feeds, classLabels: floatTensor([2]) }));
    expect(type).toBeInstanceOf(ShapeError);
    expect(type.message).toContain("is float32 [2], but it was compiled for int64 [batch = 2]");
    expect((await failure(model.run({ ...feeds, hiddenStates: floatTensor([2, 4, 16, 18]) }))).message).toContain(
      "float32 [2, 4, 16, 18]",
    );
    await model.release();
  });

  it.each([[[5]], [[3, 4]], [[6, 0]], [[2.5, 3.5]], [[]], [[7, -1]]])(
    "refuses groups of %j stages out of 6",
    async (groups) => {
      const error = await failure(load("dit", (await modelCase("dit")).folder, groups));
      expect(error).toBeInstanceOf(ArgumentError);
      expect(error.message).toContain("DiTTransformer2DModel has 6 stages");
    },
  );

  it("needs sizes that the model can have", async () => {
    const { architecture, config } = await modelCase("pixart-alpha");
    expect(() => architecture.model(config, { batch: 1 })).toThrow(ArgumentError);
    expect(() => architecture.model(config, { batch: 1, tokens: 8, height: 15, width: 16 })).toThrow(
      "A latent's side of 15 is not a multiple of patch_size 2.",
    );
  });
});
