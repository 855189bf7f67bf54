import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { describeSingleFile } from "../../src/checkpoints/single-file/describe.ts";
import { ArgumentError, CheckpointError, HubError } from "../../src/errors.ts";
import { platform } from "../../src/platform/node.ts";
import { FakeHub, hubVariables } from "./hub-server.ts";
import { file } from "./support.ts";

let folder: string;
let hub: FakeHub;
const refusal = (name: string, options = {}): Promise<Error> =>
  platform.resolveModel(name, options).then(
    () => expect.fail("it should have been refused"),
    (error: Error) => error,
  );

beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), "halfstep-")));
  hub = new FakeHub();
  await hub.start();
  for (const name of hubVariables) vi.stubEnv(name, "");
  vi.stubEnv("HF_ENDPOINT", hub.endpoint);
  vi.stubEnv("HALFSTEP_CACHE", join(folder, "cache"));
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  await rm(folder, { recursive: true });
});

describe("a model's name", () => {
  it.each([
    "./models/x",
    "../x",
    "/nowhere/x",
    "a/b/c",
    "~/x",
    "models\\x",
    "C:x",
    "x/",
    "x.safetensors",
    "owner/x.ckpt",
  ])("%s is a path, and nobody is asked for it", async (name) => {
    const error = await refusal(name);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(error.message).toContain(
      `There is no folder ${JSON.stringify(name).replace("\\\\", "\\")} (looked in ${process.cwd()})`,
    );
    expect(hub.log).toEqual([]);
  });

  it("that could be both is looked for in both places, and both are named", async () => {
    const error = await refusal("models/my-pixart");
    expect(error).toBeInstanceOf(HubError);
    expect(error.message).toMatch(/HTTP 404 .*no such repository/);
    expect(error.message).toContain(`There is no folder "models/my-pixart" in ${process.cwd()} either.`);
  });

  it("that begins with a folder's is said not to be there before anybody is asked", async () => {
    const notices: string[] = [];
    const onNotice = (notice: string) => {
      notices.push(`${notice} ${hub.log.length} requests so far`);
    };
    hub.log.length = 0;
    await refusal("test/no-such-model", { onNotice });
    const where = process.cwd();
    expect(notices).toEqual([
      `There is no folder "test/no-such-model" in ${where}; looking for a model of that name on the Hub. 0 requests so far`,
    ]);
    await refusal("no-such-folder/model", { onNotice });
    expect(notices.length).toBe(1);
  });

  it("that is a folder's has no revision, and the variant must be there", async () => {
    await mkdir(join(folder, "model/unet"), { recursive: true });
    const index = { _class_name: "P", unet: ["diffusers", "X"] };
    await writeFile(join(folder, "model/model_index.json"), JSON.stringify(index));
    await writeFile(join(folder, "model/unet/diffusion_pytorch_model.bf16.safetensors"), "");
    const path = join(folder, "model");
    expect((await platform.resolveModel(path, { variant: "bf16" })).name).toBe(path);
    expect((await refusal(path, { variant: "fp16" })).message).toMatch(/no weights of variant "fp16"; there is "bf16"/);
    expect((await refusal(path, { revision: "main" })).message).toMatch(/is on this machine and has no revisions/);
    expect((await refusal("fluent-emoji", { revision: "v2" })).message).toMatch(/has no revisions/);
  });
});

describe("a file where a model is expected", () => {
  const written = async (names: readonly string[]) => {
    const header = Object.fromEntries(
      names.map((name, i) => [name, { dtype: "F32", shape: [1], data_offsets: [4 * i, 4 * i + 4] }]),
    );
    const path = join(folder, "model.safetensors");
    await writeFile(path, file(header, 4 * names.length));
    return path;
  };

  it("is said to be what it is, with the way to convert it", async () => {
    const path = await written([
      "first_stage_model.decoder.conv_in.weight",
      "model.diffusion_model.input_blocks.1.1.time_stack.0.ff.net.0.proj.weight",
    ]);
    const error = await refusal(path);
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toBe(
      `${path}: is a Stable Video Diffusion checkpoint in one file. In one file only Stable Diffusion 1, 2, XL and 3 are read. Convert ` +
        `it once in Python: diffusers.StableVideoDiffusionPipeline.from_single_file("${path}").save_pretrained("FOLDER"), then ` +
        "give FOLDER.",
    );
  });

  it("that lacks parts is refused with the names that were looked for", async () => {
    const error = await refusal(await written(["model.diffusion_model.input_blocks.0.0.weight"]));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/lacks an autoencoder \(first_stage_model\.\* or vae\.\*\) and a text encoder/);
  });

  it.each([
    ["model.ckpt", /is a Python pickle.*not read; convert it/],
    ["model.gguf", /not a GGUF file|truncated/],
    ["broken.safetensors", /broken.safetensors: not a safetensors file, or truncated/],
    ["notes.txt", /is a file, and a model is a folder/],
  ])("is refused by its kind: %s", async (name, message) => {
    await writeFile(join(folder, name), "x");
    const error = await refusal(join(folder, name));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(message);
  });

  // Names of tensors in published checkpoints
  it.each([
    ["model.diffusion_model.input_blocks.1.1.time_stack.0.ff.net.0.proj.weight", "a Stable Video Diffusion checkpoint"],
    ["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight", "LoRA weights"],
    ["unet.down_blocks.0.attentions.0.proj_in.lora_A.weight", "LoRA weights"],
  ])("%s tells what it is", (name, kind) => {
    const names = ["model.diffusion_model.input_blocks.0.0.weight", name];
    expect(describeSingleFile("x", names)).toContain(`is ${kind} in one file`);
  });

  it.each([
    ["double_blocks.0.img_attn.qkv.weight", "a FLUX checkpoint"],
    ["blocks.0.adaLN_modulation.1.weight", "a DiT in its authors' layout"],
    ["transformer_blocks.0.attn1.to_q.weight", "the weights of one component"],
    ["anything", "what this file holds is not known"],
  ])("%s alone tells what it is", (name, kind) => expect(describeSingleFile("x", [name])).toContain(kind));
});
