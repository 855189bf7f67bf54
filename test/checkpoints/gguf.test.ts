import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readConfig, readModelIndex } from "../../src/checkpoints/diffusers-folder.ts";
import { memorySource } from "../../src/checkpoints/files.ts";
import { readGgufHeader } from "../../src/checkpoints/gguf/header.ts";
import { fileSource } from "../../src/checkpoints/node.ts";
import { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { openWeights, WeightFiles } from "../../src/checkpoints/weights.ts";
import { CheckpointError } from "../../src/errors.ts";
import { toOnnx } from "../../src/graph/onnx.ts";
import { sd3 } from "../../src/models/sd3.ts";
import { loadModel } from "../../src/models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../../src/models/weights.ts";
import { platform } from "../../src/platform/node.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { encodeGguf, quantised } from "../support/gguf.ts";
import { fixture, tensors } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { smallTensors } from "../support/single-files.ts";

async function opened(path: string) {
  const source = await fileSource(path);
  const { entries, metadata } = await readGgufHeader(source);
  return { weights: new WeightFiles(entries, new Map([[source.name, { source }]])), metadata };
}

describe("GGUF files", () => {
  const types = fixture("gguf").nativePath("types.gguf");

  it("of every type that is read hold what the package gguf reads in them", async () => {
    const { weights, metadata } = await opened(types);
    const expected = await tensors(fixture("gguf"), "types.safetensors");
    expect([...weights.entries.keys()].sort()).toEqual([...expected.keys()].sort());
    expect(metadata).toMatchObject({ "general.architecture": "sd1", "general.name": "typés" });
    for (const [name, { shape, data }] of expected) {
      const { shape: found, data: values } = (await weights.read(name)) as FloatTensor;
      expect(found, name).toEqual(shape);
      // The package multiplies in float32 too.
      expect(values, name).toEqual(data);
      const value = checkpointWeights(weights, "the test")(name, shape);
      const session = await nodeRuntime.compile(toOnnx({ out: value }), weightLocations(weights));
      expect(((await session.run({}))["out"] as FloatTensor).data, `${name} in a session`).toEqual(data);
      await session.release();
    }
  });

  it("with other types are refused, with the type's name", async () => {
    await expect(opened(fixture("gguf").nativePath("unread.gguf"))).rejects.toThrow(
      /unread\.gguf: tensor "k" is stored as Q5_0, which is not read; read are F32, F16, BF16, Q8_0 and Q4_0/,
    );
  });

  it("open as checkpoints, within what eight bits give", async () => {
    const path = join(await temporaryFolder(), "model.gguf");
    const whole = smallTensors("sd1");
    await writeFile(path, encodeGguf(whole, quantised));
    const folder = await platform.resolveModel(path);
    expect((await readModelIndex(folder)).className).toBe("StableDiffusionPipeline");
    const { entries } = await openWeights(folder.sub("unet"));
    const name = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight";
    expect(entries.get(name)!.dtype).toBe("Q8_0");
    const original = whole.get("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight")!;
    const { data } = (await (await openWeights(folder.sub("unet"))).read(name)) as FloatTensor;
    const largest = Math.max(...(original.data as Float32Array).map(Math.abs));
    for (const [i, value] of data.entries()) {
      // Half of a 127th of its block's largest, and the scale's own rounding to 11 bits.
      expect(Math.abs(value - Number(original.data[i]))).toBeLessThan(largest * (0.5 / 127 + 2 ** -11) * 1.01);
    }
    // OpenCLIP's joined matrix is cut at whole blocks.
    const joined = join(await temporaryFolder(), "two.gguf");
    await writeFile(joined, encodeGguf(smallTensors("sd2"), quantised));
    const text = await openWeights((await platform.resolveModel(joined)).sub("text_encoder"));
    const key = text.entries.get("text_model.encoder.layers.0.self_attn.k_proj.weight")!;
    expect(key).toMatchObject({ dtype: "Q8_0", shape: [128, 128], length: (128 * 128 * 34) / 32 });
  });

  it("of Stable Diffusion 3 are cut at whole blocks too, and run as what they hold", async () => {
    const path = join(await temporaryFolder(), "sd3.gguf");
    await writeFile(path, encodeGguf(smallTensors("sd3"), quantised));
    const folder = (await platform.resolveModel(path)).sub("transformer");
    const weights = await openWeights(folder);
    expect(weights.entries.get("transformer_blocks.1.attn2.to_k.weight")).toMatchObject({
      dtype: "Q8_0",
      shape: [128, 128],
      length: (128 * 128 * 34) / 32,
    });
    expect(weights.entries.get("norm_out.linear.weight")).toMatchObject({ dtype: "Q8_0", swapped: true });
    const plain = join(await temporaryFolder(), "plain.safetensors");
    const read = new Map<string, Tensor>();
    for (const name of weights.entries.keys()) read.set(name, await weights.read(name));
    await writeSafetensors(plain, read);
    const raw = await readConfig(folder);
    const feeds = {
      hiddenStates: new TorchGenerator(1).randn([1, 16, 8, 8]),
      timestep: floatTensor([1], Float32Array.of(500)),
      encoderHiddenStates: new TorchGenerator(2).randn([1, 5, 48]),
      pooledProjections: new TorchGenerator(3).randn([1, 40]),
    };
    const outputs: Float32Array[] = [];
    for (const files of [weights, WeightFiles.of(await SafetensorsFile.open(await fileSource(plain)))]) {
      const geometry = { batch: 1, height: 8, width: 8, tokens: 5 };
      const session = await loadModel(nodeRuntime, sd3, sd3.parseConfig(raw), files, geometry);
      outputs.push(((await session.run(feeds))["sample"] as FloatTensor).data);
      await session.release();
    }
    expect(compare("sample", outputs[0]!, outputs[1]!).relative).toBeLessThan(1e-5);
  });

  const bytes = new Uint8Array(readFileSync(types));
  const changed = (change: (view: DataView) => void) => {
    const copy = bytes.slice();
    change(new DataView(copy.buffer));
    return readGgufHeader(memorySource("x.gguf", copy));
  };

  it.each<[string, (view: DataView) => void, RegExp]>([
    ["another beginning", (view) => view.setUint8(0, 0), /does not begin with "GGUF"/],
    ["version 1", (view) => view.setUint32(4, 1, true), /is GGUF of version 1; read are 2 and 3/],
    ["big-endian", (view) => view.setUint32(4, 3), /is GGUF of version 50331648/],
    [
      "tensors without end",
      (view) => view.setBigUint64(8, 2n ** 60n, true),
      /the number of tensors is 1152921504606846976, which/,
    ],
    [
      "more tensors than the limit",
      (view) => view.setBigUint64(8, 10n ** 6n, true),
      /1000000 tensors; the limit is 40000/,
    ],
    ["more keys than there are", (view) => view.setBigUint64(16, 50_000n, true), /truncated|type|not UTF-8|limit/],
    [
      "a key longer than the file",
      (view) => view.setBigUint64(24, 60_000n, true),
      /truncated: its \d+ bytes end within its header/,
    ],
  ])("%s is refused", async (_, change, message) => {
    await expect(changed(change)).rejects.toThrow(CheckpointError);
    await expect(changed(change)).rejects.toThrow(message);
  });

  it("cut anywhere are refused", () =>
    fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: bytes.length - 64 }), async (length) => {
        await expect(readGgufHeader(memorySource("x.gguf", bytes.slice(0, length)))).rejects.toThrow(CheckpointError);
      }),
      { numRuns: 100 },
    ));
});
