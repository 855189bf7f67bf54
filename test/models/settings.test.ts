import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { drawWeights } from "../support/drawn.ts";
import { fixture, fixtures, tensors } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";

/** A folder with the fixture's configuration and reference, and the weights that both sides draw. */
async function withWeights(name: string): Promise<NodeFolder> {
  const raw = (await fixture(`models-0.42/${name}`).json("config.json")) as RawConfig;
  const path = await temporaryFolder();
  await writeFile(join(path, "config.json"), JSON.stringify(raw));
  await writeSafetensors(join(path, "io.safetensors"), await tensors(fixture(`models-0.42/${name}`)));
  await writeSafetensors(join(path, "model.safetensors"), drawWeights(raw));
  return new NodeFolder(path, name);
}

// Reference vectors of diffusers 0.42.1 and transformers 5.24.0, in float64: test/fixtures/models-0.42.py.
describe("settings that a class has and most checkpoints leave alone", () => {
  it.each(fixtures("models-0.42"))("%s", async (name) => {
    const { outputs, pass } = await verifyFolder(await withWeights(name), nodeRuntime);
    for (const { name, relative } of outputs) expect(relative, name).toBeLessThan(1e-4);
    expect(pass).toBe(true);
  });

  // diffusers: ValueError "class_labels should be provided when num_class_embeds > 0".
  it("a UNet with classes is not run without one", async () => {
    const folder = await withWeights("unet-classes");
    const recorded = await tensors(folder);
    recorded.delete("input.class_labels");
    await writeSafetensors(join(folder.path, "io.safetensors"), recorded);
    await expect(verifyFolder(folder, nodeRuntime)).rejects.toThrow('needs "input.class_labels"');
  });
});
