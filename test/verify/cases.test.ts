/** case.json, and folders of cases. */
import { cp, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { ArgumentError, CheckpointError } from "../../src/errors.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { floatTensor } from "../../src/tensor.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeStableDiffusion } from "../support/stable-diffusion.ts";

const verify = (folder: NodeFolder) => verifyFolder(folder, nodeRuntime, { threads: 1 });

async function withCase(name: string, settings: unknown): Promise<NodeFolder> {
  const path = join(await temporaryFolder(), name.replaceAll("/", "-"));
  await cp(fixture(name).path, path, { recursive: true });
  await writeFile(join(path, "case.json"), JSON.stringify(settings));
  return new NodeFolder(path);
}

describe("what has to be refused", () => {
  it("passes if the message says so, and only then", async () => {
    const folder = await withCase("t5", { refused: "d_model" });
    const config = (await folder.json("config.json")) as object;
    await writeFile(join(folder.path, "config.json"), JSON.stringify({ ...config, d_model: "wide" }));
    const { pass, outputs, checks } = await verify(folder);
    expect({ pass, outputs }).toEqual({ pass: true, outputs: [] });
    expect(checks).toEqual([expect.stringMatching(/^it is refused, as it has to be: .*d_model/)]);
    await writeFile(join(folder.path, "case.json"), JSON.stringify({ refused: "another reason" }));
    await expect(verify(folder)).rejects.toThrow("d_model");
  });

  it("fails if it runs", async () => {
    await expect(verify(await withCase("t5", { refused: "d_model" }))).rejects.toThrow(ArgumentError);
  });

  it.each([[[]], [{ refused: 3 }], [{ model: "" }], [{ modell: "a" }], [{ model: "../a.safetensors" }]])(
    "a case.json with %j is an error",
    async (settings) => {
      await expect(verify(await withCase("t5", settings))).rejects.toThrow(CheckpointError);
    },
  );

  it.each([[{ loras: [{ file: "lora.safetensors", scale: 1e9 }] }], [{ loras: "lora.safetensors" }]])(
    "LoRAs are checked: %j",
    async (settings) => {
      await expect(verify(await withCase("t5", settings))).rejects.toThrow(ArgumentError);
    },
  );
});

describe("a recorded run with a LoRA", () => {
  let folder: NodeFolder;
  beforeAll(async () => {
    folder = await writeStableDiffusion("sd");
    await writeFile(join(folder.path, "calls.json"), '["turbo"]');
    const layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v";
    const matrix = (rows: number, columns: number) =>
      floatTensor(
        [rows, columns],
        Float32Array.from({ length: rows * columns }, (_, i) => Math.cos(i)),
      );
    const tensors = new Map([
      [`${layer}.lora_A.weight`, matrix(2, 10)],
      [`${layer}.lora_B.weight`, matrix(24, 2)],
    ]);
    await writeSafetensors(join(folder.path, "lora.safetensors"), tensors);
  });
  const scaled = async (scale: number) => {
    await writeFile(join(folder.path, "case.json"), JSON.stringify({ loras: [{ file: "lora.safetensors", scale }] }));
    return verify(folder);
  };

  it("is that of the model alone at scale 0, and another one at scale 1", async () => {
    expect((await scaled(0)).pass).toBe(true);
    expect((await scaled(1)).pass).toBe(false);
  });
});

describe("a folder of cases", () => {
  it("is a table with a row a run, and says how many pass", async () => {
    const path = await temporaryFolder();
    await cp(fixture("t5").path, join(path, "b"), { recursive: true });
    await cp(fixture("schedulers/ddim-eta").path, join(path, "a"), { recursive: true });
    await mkdir(join(path, "empty"));
    const { code, stdout } = await halfstepHere("verify", path, "--markdown", "--threads", "1");
    const lines = stdout.trimEnd().split("\n");
    expect(code).toBe(0);
    expect(lines.slice(2)).toEqual([
      expect.stringMatching(/^\| a \| DDIMScheduler \| \d\.\de-\d+ \| .* \| {2}\| pass \|$/),
      expect.stringMatching(/^\| b \| T5EncoderModel \| \d\.\de-\d+ \| last_hidden_state \| {2}\| pass \|$/),
      "",
      expect.stringMatching(/^2 of 2 folders pass; \d+ s\.$/),
    ]);
  });
});
