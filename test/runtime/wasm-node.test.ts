/** WebAssembly in Node, which stands in where onnxruntime-node cannot be had, gives what onnxruntime-node gives. */
import { expect, it } from "vitest";
import { type Provider, TextToImagePipeline } from "../../src/index.ts";
import { compare } from "../../src/verify/compare.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

it("draws the same pictures", async () => {
  const model = await temporaryFolder();
  await writeTinyPipeline(model, "pixart");
  const draw = async (provider: Provider) => {
    const pipe = await TextToImagePipeline.fromPretrained(model, { provider, threads: 1 });
    const { images } = await pipe("a red cat", { steps: 4, seed: 7 });
    await pipe.release();
    return images[0]!.data;
  };
  const native = await draw("cpu");
  expect(new Set(native).size).toBeGreaterThan(10);
  expect(compare("pixels", await draw("wasm"), native).maxAbs).toBeLessThanOrEqual(1);
});
