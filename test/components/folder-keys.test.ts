import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../../src/errors.ts";
import { ClassToImagePipeline } from "../../src/pipelines/class-to-image.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { temporaryFolder } from "../support/models.ts";
import { tinyTokens, writeTinyPipeline } from "../support/tiny-pipeline.ts";

/** A tiny pipeline whose JSON files were changed. */
async function changed(kind: "pixart" | "dit", changes: Readonly<Record<string, Readonly<Record<string, unknown>>>>) {
  const path = await temporaryFolder();
  const folder = await writeTinyPipeline(path, kind);
  for (const [file, change] of Object.entries(changes)) {
    const json = JSON.parse(await readFile(join(path, file), "utf8")) as object;
    await writeFile(join(path, file), JSON.stringify({ ...json, ...change }));
  }
  const Pipeline = kind === "dit" ? ClassToImagePipeline : TextToImagePipeline;
  return Pipeline.fromFolder(folder, nodeRuntime);
}

describe("a component of another class", () => {
  it.each([
    ["pixart", "vae", "AutoencoderKLTemporalDecoder", "AutoencoderKL or AutoencoderTiny"],
    ["pixart", "vae", "AsymmetricAutoencoderKL", "AutoencoderKL or AutoencoderTiny"],
    ["pixart", "vae", "__proto__", "AutoencoderKL or AutoencoderTiny"],
    ["pixart", "transformer", "DiTTransformer2DModel", "PixArtTransformer2DModel"],
    ["pixart", "text_encoder", "CLIPTextModel", "T5EncoderModel"],
    ["dit", "vae", "AsymmetricAutoencoderKL", "AutoencoderKL or AutoencoderTiny"],
    ["dit", "transformer", "PixArtTransformer2DModel", "DiTTransformer2DModel"],
  ] as const)("of a %s pipeline: %s of class %s", async (kind, component, className, wanted) => {
    const names = { _class_name: className, architectures: [className], model_type: undefined };
    const opened = changed(kind, { [`${component}/config.json`]: names });
    await expect(opened).rejects.toThrow(ConfigError);
    await expect(opened).rejects.toThrow(`${component}: is of class ${className}; here it has to be ${wanted}.`);
  });

  it("is not one that names none", async () => {
    await (await changed("pixart", { "vae/config.json": { _class_name: undefined } })).release();
  });
});

describe("keys of model_index.json", () => {
  it.each([
    [{ controlnet: ["diffusers", "ControlNetModel"] }, 'has a component "controlnet" (ControlNetModel)'],
    [{ force_zeros_for_empty_prompt: true }, 'has "force_zeros_for_empty_prompt"'],
    [{ _max_sequence_length: 1 }, '"_max_sequence_length" is not a whole number from 2 to 4096'],
    [{ _max_sequence_length: 1e9 }, '"_max_sequence_length" is not'],
    [{ _clean_caption: "yes" }, '"_clean_caption" is not true or false'],
  ])("%j is refused", async (change, message) => {
    const opened = changed("pixart", { "model_index.json": change });
    await expect(opened).rejects.toThrow(ConfigError);
    await expect(opened).rejects.toThrow(message);
  });

  it("notes and what is off pass", async () => {
    const notes = {
      _note: "mine",
      _diffusers_version: "0.42.1",
      force_zeros_for_empty_prompt: false,
      controlnet: [null, null],
    };
    await (await changed("pixart", { "model_index.json": notes })).release();
  });

  it.each([
    [{ _max_sequence_length: undefined }, 300],
    [{ _max_sequence_length: undefined, _class_name: "PixArtAlphaPipeline" }, 120],
    [{}, tinyTokens],
  ])("%j: prompts have diffusers' number of tokens, or the model's own", async (change, tokens) => {
    const pipe = (await changed("pixart", { "model_index.json": change })) as TextToImagePipeline;
    const { embeddings } = await pipe.embed(["a red cat"]);
    expect(embeddings.encoderHiddenStates.shape[1]).toBe(tokens);
    await pipe.release();
  });

  it("prompts are cleaned unless the model or the call says otherwise", async () => {
    const states = async (pipe: TextToImagePipeline, prompt: string, options = {}) =>
      (await pipe.embed([prompt], options)).embeddings.encoderHiddenStates.data;
    const pipe = (await changed("pixart", {})) as TextToImagePipeline;
    const plain = await states(pipe, "a red cat");
    expect(await states(pipe, "a red (cat)")).toEqual(plain);
    expect(await states(pipe, "a red (cat)", { cleanCaption: false })).not.toEqual(plain);
    await pipe.release();
    const own = (await changed("pixart", { "model_index.json": { _clean_caption: false } })) as TextToImagePipeline;
    expect(await states(own, "a red (cat)", { cleanCaption: true })).toEqual(await states(own, "a red cat"));
    expect(await states(own, "a red (cat)")).not.toEqual(await states(own, "a red cat"));
    await own.release();
  });
});
