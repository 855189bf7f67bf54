/** A whole PixArt of 256 pixels, from a prompt to a picture of any size, against diffusers' pictures: test/fixtures/pixart-sizes.py. */
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { type TextToImage, TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { drawWeights } from "../support/drawn.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";

interface Picture {
  width: number;
  height: number;
  drawn: [width: number, height: number];
  /** Every 997th, in [0, 255]. */
  values: number[];
}

const expected = (await fixture("pipelines/pixart-256").json("expected.json")) as Picture[];
const files = { text_encoder: "model", transformer: "diffusion_pytorch_model", vae: "diffusion_pytorch_model" };

let pipe: TextToImage;
beforeAll(async () => {
  const path = await temporaryFolder();
  await cp(fixture("pipelines/pixart-256").path, path, { recursive: true });
  for (const [part, file] of Object.entries(files)) {
    const raw = JSON.parse(await readFile(join(path, part, "config.json"), "utf8")) as RawConfig;
    await writeSafetensors(join(path, part, `${file}.safetensors`), drawWeights(raw));
  }
  pipe = await TextToImagePipeline.fromFolder(new NodeFolder(path), nodeRuntime, { threads: 1 });
});

describe("a PixArt with trained sizes", () => {
  it.each(expected)("draws $width x $height pixels at $drawn", async ({ width, height, drawn, values }) => {
    const latent: number[] = [];
    const { images } = await pipe("a red apple", {
      ...{ width, height, steps: 2, seed: 1, maxSequenceLength: 8 },
      onStep: ({ latents }) => {
        latent.splice(0, 2, latents.shape[3]!, latents.shape[2]!);
      },
    });
    expect(images[0]).toMatchObject({ width, height });
    expect(latent.map((side) => 8 * side)).toEqual(drawn);
    const errors = values.map((value, i) => Math.abs(images[0]!.data[997 * i]! - value));
    // Eight bits: half a level.
    expect(Math.max(...errors)).toBeLessThan(0.55);
  });
});

// pixart-256 has one above; the script runs DiT with one too.
describe.each(["dit", "pixart-sigma"])("an autoencoder's shift_factor", (name) => {
  it(`is not looked at by the pipeline of ${name}, as in diffusers`, async () => {
    const path = await temporaryFolder();
    await cp(fixture(`pipelines/${name}`).path, path, { recursive: true });
    const config = join(path, "vae/config.json");
    await writeFile(config, JSON.stringify({ ...JSON.parse(await readFile(config, "utf8")), shift_factor: 0.5 }));
    const { pass, outputs } = await verifyFolder(new NodeFolder(path), nodeRuntime, { threads: 1 });
    expect(pass).toBe(true);
    expect(outputs.some((output) => output.name.endsWith("output.image"))).toBe(true);
  });
});
