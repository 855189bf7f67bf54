import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { openWeights } from "../../src/checkpoints/weights.ts";
import { platform } from "../../src/platform/node.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { temporaryFolder } from "../support/models.ts";
import { encoded, smallTensors } from "../support/single-files.ts";

let folder: string;
let file: string;

beforeAll(async () => {
  folder = await temporaryFolder();
  file = join(folder, "model.safetensors");
  // As on the Hub: halves, but for what a merging tool left in full precision.
  const dtype = (name: string) => (name.startsWith("first_stage_model.") ? "F32" : "F16");
  await writeFile(file, await encoded(smallTensors("sd2"), { dtype }));
});

describe("halfstep convert", () => {
  it("writes the folder that the file opens as, each weight as it was", async () => {
    const out = join(folder, "out");
    const { code, stderr } = await halfstepHere("convert", file, "--out", out);
    expect(code, stderr).toBe(0);
    const [opened, written] = [await platform.resolveModel(file), new NodeFolder(out)];
    for (const path of [
      "model_index.json",
      "scheduler/scheduler_config.json",
      "tokenizer/vocab.json",
      "unet/config.json",
    ]) {
      expect(await written.text(path), path).toBe(await opened.text(path));
    }
    for (const component of ["unet", "vae", "text_encoder"]) {
      const [from, to] = [await openWeights(opened.sub(component)), await openWeights(written.sub(component))];
      expect([...to.entries.keys()].sort()).toEqual([...from.entries.keys()].sort());
      for (const [name, { dtype, shape }] of from.entries) {
        expect(to.entries.get(name), name).toMatchObject({ dtype, shape });
        expect((await to.read(name)).data, name).toEqual((await from.read(name)).data);
      }
    }
    // transformers' and diffusers' names for the files
    expect(await readdir(join(out, "text_encoder"))).toEqual(["config.json", "model.safetensors"]);
    expect(await readdir(join(out, "unet"))).toEqual(["config.json", "diffusion_pytorch_model.safetensors"]);
    expect((await readdir(folder)).sort()).toEqual(["model.safetensors", "out"]);
  });

  it("--dtype stores all weights so", async () => {
    const out = join(folder, "halves");
    await halfstepHere("convert", file, "--out", out, "--dtype", "fp16");
    const [vae, own] = [new NodeFolder(out), await platform.resolveModel(file)].map((model) =>
      openWeights(model.sub("vae")),
    );
    const name = "decoder.conv_in.weight";
    expect((await vae!).entries.get(name)!.dtype).toBe("F16");
    const [half, full] = [
      (await (await vae!).read(name)) as FloatTensor,
      (await (await own!).read(name)) as FloatTensor,
    ];
    const off = half.data.map((value, i) => Math.abs(value - full.data[i]!) / Math.abs(full.data[i]!));
    expect(Math.max(...off)).toBeLessThan(2 ** -11 * 1.001);
  });

  it("writes over nothing, and leaves nothing of what it cannot finish", async () => {
    const out = join(folder, "mine");
    await halfstepHere("convert", file, "--out", out);
    const before = await readFile(join(out, "model_index.json"));
    const { code, stderr } = await halfstepHere("convert", file, "--out", out);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/mine: it is not empty; a converted model needs a folder of its own/);
    expect(await readFile(join(out, "model_index.json"))).toEqual(before);

    const broken = join(folder, "broken.safetensors");
    await writeFile(broken, (await readFile(file)).subarray(0, 100_000));
    expect((await halfstepHere("convert", broken, "--out", join(folder, "none"))).code).not.toBe(0);
    expect((await readdir(folder)).filter((name) => name.includes("none"))).toEqual([]);
  });
});
