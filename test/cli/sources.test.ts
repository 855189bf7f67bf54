/** Where a command's model comes from: variants, single files, names that are not there. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { floatTensor } from "../../src/tensor.ts";
import { halfstepHere } from "../support/cli-in-process.ts";

let folder: string;
const bf16 = "diffusion_pytorch_model.bf16.safetensors";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "halfstep-"));
  // What diffusers' save_pretrained(variant="bf16") leaves, with two of a block's tensors
  await writeFile(join(folder, "config.json"), JSON.stringify({ _class_name: "PixArtTransformer2DModel" }));
  const tensors = ["transformer_blocks.0.attn1.to_q.weight", "transformer_blocks.0.attn1.to_k.weight"];
  await writeSafetensors(join(folder, bf16), new Map(tensors.map((name) => [name, floatTensor([4, 8])])), {
    dtype: "BF16",
  });
});
afterAll(() => rm(folder, { recursive: true }));

it("a component whose only weights are of a variant is opened", async () => {
  const { code, stdout } = await halfstepHere("info", folder, "--json");
  expect(code).toBe(0);
  const [component] = JSON.parse(stdout).components;
  expect(component).toMatchObject({ parameters: 64, blocks: 1, dtypes: ["BF16"] });
  expect((await halfstepHere("info", folder, "--variant", "bf16")).code).toBe(0);
});

it("blocks of all lists are counted, and the middle of a UNet", async () => {
  const unet = join(folder, "unet");
  await mkdir(unet);
  await writeFile(join(unet, "config.json"), JSON.stringify({ _class_name: "UNet2DConditionModel" }));
  const names = [
    ...["down_blocks.0.resnets.0", "down_blocks.0.resnets.1", "down_blocks.1.attentions.0.transformer_blocks.0"],
    ...["mid_block.attentions.0.transformer_blocks.0", "mid_block.resnets.1"],
    ...[
      "up_blocks.0.resnets.0",
      "up_blocks.1.resnets.0",
      "up_blocks.2.resnets.0",
      "conv_in",
      "time_embedding.linear_1",
    ],
  ];
  const tensors = new Map(names.map((name) => [`${name}.weight`, floatTensor([2, 2])]));
  await writeSafetensors(join(unet, "diffusion_pytorch_model.safetensors"), tensors);
  const { stdout } = await halfstepHere("info", unet, "--json");
  expect(JSON.parse(stdout).components).toMatchObject([{ blocks: 2 + 1 + 3 }]);
});

it("a variant and a revision that are not there are errors", async () => {
  const { code, stderr } = await halfstepHere("info", folder, "--variant", "fp16");
  expect(code).toBe(1);
  expect(stderr).toContain('has no weights of variant "fp16"; there is "bf16".');
  expect((await halfstepHere("info", folder, "--revision", "main")).stderr).toMatch(
    /is on this machine and has no revisions/,
  );
});

it("a file is named for what it is by every command", async () => {
  const path = join(folder, bf16);
  for (const command of [
    ["info", path],
    ["animate", "fire", "--model", path, "--adapter", "X"],
  ]) {
    const { code, stderr } = await halfstepHere(...command);
    expect(code).toBe(1);
    expect(stderr).toMatch(/is a file, and a model is a folder .* the weights of one component: give the folder/);
  }
});

it.each([
  ["https://huggingface.co/PixArt-alpha/PixArt-XL-2-512x512/tree/main", "Give PixArt-alpha/PixArt-XL-2-512x512."],
  ["https://hf.co/a/b", "Give a/b."],
  ["http://127.0.0.1:8080/model", "set HF_ENDPOINT to its address and give owner/name."],
  ["s3://bucket/model", "Download the model into a folder"],
])("an address (%s) is no model, and what to give instead is said", async (model, instead) => {
  for (const args of [
    ["generate", "a cat", "--model", model],
    ["info", model],
  ]) {
    const { code, stderr } = await halfstepHere(...args);
    expect(code).toBe(1);
    expect(stderr).toContain(
      `"${model}" is an address; a model is a folder in diffusers' layout, or a name on the Hub`,
    );
    expect(stderr).toContain(instead);
  }
});
