import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { HalfstepError, ShapeError } from "../../src/errors.ts";
import { layerNorm } from "../../src/graph/operators.ts";
import { input } from "../../src/graph/value.ts";
import { positionTable } from "../../src/models/temporal-layers.ts";
import { ClassToImagePipeline } from "../../src/pipelines/class-to-image.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { fixture } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

/** Hours and gigabytes, if anything were built for them. */
const absurd = [1e6, 1e9, 2 ** 31, Number.MAX_SAFE_INTEGER, 1e300];
const folders = ["dit", "pixart-alpha", "t5", "clip-text", "vae", "vae-temporal", "clip-vision"];

describe("counts that the weights do not bear out", () => {
  it.each(folders)("of %s are typed errors at once", async (name) => {
    const folder = fixture(name);
    const config = (await folder.json("config.json")) as RawConfig;
    const numbers = Object.keys(config).filter((key) => typeof config[key] === "number" && !key.startsWith("_"));
    const lists = Object.keys(config).filter(
      (key) => Array.isArray(config[key]) && typeof (config[key] as unknown[])[0] === "number",
    );
    const start = performance.now();
    const memory = process.memoryUsage().rss;
    const changes = [
      ...numbers.flatMap((key) => absurd.map((value) => ({ [key]: value }))),
      ...lists.flatMap((key) => absurd.map((value) => ({ [key]: (config[key] as number[]).map(() => value) }))),
      ...lists.map((key) => ({ [key]: new Array(1000).fill(8) })),
    ];
    for (const change of changes) {
      const failed = await verifyFolder(folder, nodeRuntime, { config: { ...config, ...change } }).catch(
        (error) => error,
      );
      if (failed instanceof Error) expect(failed, JSON.stringify(change).slice(0, 80)).toBeInstanceOf(HalfstepError);
    }
    // A few milliseconds each, a few MB in all; one that is built takes minutes.
    expect((performance.now() - start) / changes.length).toBeLessThan(3000);
    expect(process.memoryUsage().rss - memory).toBeLessThan(1e9);
  });

  it.each([
    ["transformer", { num_layers: 4000 }, '"num_layers" says 4000 for "transformer_blocks", but the weights have'],
    ["transformer", { num_attention_heads: 8192, cross_attention_dim: 65536 }, '"num_attention_heads" says'],
    ["text_encoder", { num_layers: 4000 }, '"num_layers" says 4000 for "encoder.block"'],
    ["text_encoder", { vocab_size: 2 ** 20 }, '"vocab_size" says 1048576, but tensor "shared.weight" has shape'],
    ["vae", { layers_per_block: 4000 }, '"layers_per_block" says 4001 for "decoder.up_blocks.0.resnets"'],
  ] as const)("of a pipeline's %s with %j are named when it is opened", async (component, change, message) => {
    const path = await temporaryFolder();
    const folder = await writeTinyPipeline(path, "pixart");
    const file = join(path, component, "config.json");
    await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, "utf8")), ...change }));
    await expect(TextToImagePipeline.fromFolder(folder, nodeRuntime)).rejects.toThrow(message);
  });

  it("a model's own size that takes hours is refused when it is opened", async () => {
    const path = await temporaryFolder();
    const folder = await writeTinyPipeline(path, "dit");
    const file = join(path, "transformer", "config.json");
    await writeFile(file, JSON.stringify({ ...JSON.parse(await readFile(file, "utf8")), sample_size: 4096 }));
    const opened = ClassToImagePipeline.fromFolder(folder, nodeRuntime);
    await expect(opened).rejects.toThrow('config "sample_size" is 4096; supported is a whole number from 1 to 512.');
  });
});

describe("tables that would be too long for an array", () => {
  it("are shape errors", () => {
    expect(() => layerNorm(input("x", [1, 2 ** 33]), null, null, 1e-5)).toThrow(ShapeError);
    expect(() => positionTable(2 ** 20, 2 ** 20)).toThrow(ShapeError);
  });
});
