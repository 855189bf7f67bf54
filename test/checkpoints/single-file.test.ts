import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { classNameOf, readConfig, readModelIndex } from "../../src/checkpoints/diffusers-folder.ts";
import { memorySource } from "../../src/checkpoints/files.ts";
import { fileSource, NodeFolder } from "../../src/checkpoints/node.ts";
import type { TensorEntry } from "../../src/checkpoints/safetensors.ts";
import { readCheckpoint } from "../../src/checkpoints/single-file/checkpoint.ts";
import { checkPrediction, openSingleFile } from "../../src/checkpoints/single-file/folder.ts";
import { openWeights, type WeightEntry, WeightFiles } from "../../src/checkpoints/weights.ts";
import { PromptTokenizer } from "../../src/components/prompts.ts";
import { ArgumentError, CheckpointError } from "../../src/errors.ts";
import type { Geometry } from "../../src/models/architecture.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { networksOf } from "../../src/models/registry.ts";
import { loadModel, namedWeights } from "../../src/models/staged-session.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { createScheduler } from "../../src/schedulers/registry.ts";
import { type FloatTensor, sizeOf, type Tensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { fixture, tensors } from "../support/golden.ts";
import { temporaryFolder } from "../support/models.ts";
import { encoded, readGzip, smallFiles, smallTensors } from "../support/single-files.ts";

interface Family {
  readonly tensors: readonly [name: string, shape: number[]][];
  readonly used: readonly [original: string, component: string, name: string, how: string][];
}

const published = readGzip("names.json.gz") as Readonly<Record<string, Family>>;

/** A file's header, without data: where each tensor would lie. */
function header(tensors: readonly (readonly [string, readonly number[]])[]): WeightFiles {
  let offset = 0;
  const entries = tensors.map(([name, shape]): [string, TensorEntry] => {
    const length = 2 * sizeOf(shape);
    offset += length;
    return [name, { name, dtype: "F16", shape, offset: offset - length, length, file: "file.safetensors" }];
  });
  return new WeightFiles(new Map(entries), new Map([["file.safetensors", undefined as never]]));
}

describe("checkpoints in one file, at published geometries", () => {
  it.each(Object.keys(published))("%s: every tensor goes where diffusers' conversion puts it", (name) => {
    const { tensors, used } = published[name]!;
    const file = header(tensors);
    const { components } = readCheckpoint(file, {});
    const expected = new Map<string, Map<string, string>>();
    for (const [original, component, to, how] of used) {
      if (!expected.has(component)) expected.set(component, new Map());
      expected.get(component)!.set(to, `${original} ${how}`.trim());
    }
    for (const [component, names] of expected) {
      const { entries } = components.get(component)!.weights;
      const found = [...entries].map(([to, entry]) => [to, described(entry, file.entries.get(entry.name)!)] as const);
      expect(Object.fromEntries(found), component).toEqual(Object.fromEntries(names));
    }
    expect([...components.keys()].sort()).toEqual([...expected.keys()].sort());
  });

  it.each([...Object.keys(published), "sd3"])("%s: configurations make networks of just these tensors", (name) => {
    const tensors = published[name]?.tensors ?? (readGzip(`${name}.json.gz`) as [string, number[]][]);
    const { components } = readCheckpoint(header(tensors), {});
    for (const { config, weights } of components.values()) {
      const shapes = new Map<string, readonly number[]>();
      for (const architecture of Object.values(networksOf(config))) {
        const geometry: Geometry = { batch: 1, height: 8, width: 8, tokens: 77 };
        const model = architecture.model(architecture.parseConfig(config), geometry);
        for (const [tensor, shape] of weightShapes(model)) shapes.set(tensor, shape);
      }
      const found = [...weights.entries].map(([tensor, { shape }]) => [tensor, shape] as const);
      expect(Object.fromEntries(found), classNameOf(config)).toEqual(Object.fromEntries(shapes));
    }
  });
});

/** What was done to a tensor, in the words of make.py. */
function described(entry: WeightEntry, original: WeightEntry): string {
  const rows = original.shape[0] === entry.shape[0] || entry.transposed ? "" : `rows ${rowOf(entry, original)}`;
  const matrix = entry.shape.length < original.shape.length ? "matrix" : "";
  return [entry.name, entry.transposed ? "transposed" : "", rows, matrix].filter(Boolean).join(" ");
}

function rowOf(entry: WeightEntry, original: WeightEntry): number {
  return (entry.offset - original.offset) / (original.length / original.shape[0]!);
}

const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

describe("small checkpoints in one file, against diffusers after its own conversion", () => {
  it.each(smallFiles)("%s", async (name) => {
    const path = join(await temporaryFolder(), "model.safetensors");
    await writeFile(path, await encoded(smallTensors(name)));
    const folder = await openSingleFile(await fileSource(path));
    const io = await tensors(fixture("single-files"), `${name}.io.safetensors`);
    const { components } = await readModelIndex(folder);
    let compared = 0;
    for (const [key, expected] of io) {
      const [component, kind, output] = key.split(".") as [string, string, string];
      if (kind !== "output") continue;
      const raw = await readConfig(folder.sub(component));
      expect(components.get(component)!.className).toBe(classNameOf(raw));
      const found = await run(raw, await openWeights(folder.sub(component)), inputsOf(io, component), output);
      expect(compare(key, found, expected.data as Float32Array).relative, key).toBeLessThan(2e-5);
      compared++;
    }
    expect(compared).toBeGreaterThanOrEqual(name === "sdxl" ? 6 : name === "sd3" ? 7 : 4);
  });
});

function inputsOf(io: ReadonlyMap<string, Tensor>, component: string): Record<string, Tensor> {
  const prefix = `${component}.input.`;
  return Object.fromEntries(
    [...io].flatMap(([key, tensor]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), tensor]] : [])),
  );
}

/** Runs the network that has the output. */
async function run(
  raw: Readonly<Record<string, unknown>>,
  weights: WeightFiles,
  given: Readonly<Record<string, Tensor>>,
  output: string,
): Promise<Float32Array> {
  const networks = networksOf(raw);
  const feeds: Record<string, Tensor> = {};
  const set = (name: string, tensor: Tensor) => {
    feeds[name] = tensor;
  };
  let architecture = Object.values(networks)[0]!;
  let feature = camel(output);
  let geometry: Geometry;
  if (output === "decoded" || output === "moments") {
    architecture = networks[output === "decoded" ? "decoder" : "encoder"]!;
    const input = given[output === "decoded" ? "latent" : "picture"]!;
    geometry = { batch: 1, height: input.shape[2]!, width: input.shape[3]! };
    const model = architecture.model(architecture.parseConfig(raw), geometry);
    set(Object.keys(model.inputs)[0]!, input);
    feature = model.outputs[0]!;
  } else if (given["pooled_projections"]) {
    geometry = { batch: 2, height: 8, width: 8, tokens: 5 };
    for (const [name, tensor] of Object.entries(given)) set(camel(name), tensor);
  } else if (given["ids"]) {
    geometry = { batch: 2, tokens: 7 };
    set("inputIds", given["ids"]);
  } else {
    geometry = { batch: 2, height: 8, width: 8, tokens: 5 };
    set("sample", given["sample"]!);
    if (given["time_ids"]) {
      set("textEmbeds", given["text_embeds"]!);
      set("timeIds", given["time_ids"]);
    }
    set("encoderHiddenStates", given["encoder_hidden_states"]!);
    if (raw["addition_embed_type"]) {
      set("textEmbeds", given["text_embeds"]!);
      set("timeIds", given["time_ids"]!);
    }
    set("timestep", {
      dtype: "float32",
      shape: [2],
      data: Float32Array.from(given["timestep"]!.data as BigInt64Array, Number),
    });
  }
  const session = await loadModel(nodeRuntime, architecture, architecture.parseConfig(raw), weights, geometry);
  try {
    const result = (await session.run(feeds))[feature] as FloatTensor;
    // JavaScript's reading of the same tensors is the graph's.
    const model = architecture.model(architecture.parseConfig(raw), geometry);
    const named = namedWeights(architecture, weights);
    for (const [tensor, shape] of weightShapes(model)) expect((await named.read(tensor)).shape).toEqual(shape);
    return result.data;
  } finally {
    await session.release();
  }
}

describe("what a file in one part is opened with", () => {
  it.each([
    ["sd1", "StableDiffusionPipeline", "PNDMScheduler", "epsilon"],
    ["sd2", "StableDiffusionPipeline", "DDIMScheduler", "v_prediction"],
    ["sdxl", "StableDiffusionXLPipeline", "EulerDiscreteScheduler", "epsilon"],
    ["sd3", "StableDiffusion3Pipeline", "FlowMatchEulerDiscreteScheduler", undefined],
  ])("%s is a %s", async (name, pipeline, scheduler, prediction) => {
    const folder = await openSingleFile(memorySource("file.safetensors", await encoded(smallTensors(name))));
    expect((await readModelIndex(folder)).className).toBe(pipeline);
    const config = await readConfig(folder.sub("scheduler"));
    expect(config).toMatchObject({ _class_name: scheduler, ...(prediction && { prediction_type: prediction }) });
    expect(() => createScheduler(config)).not.toThrow();
  });

  it.each([
    [{ "modelspec.predict_key": "epsilon" }, "epsilon", 64],
    [{ "modelspec.architecture": "stable-diffusion-v2-512" }, "epsilon", 64],
    [{ "modelspec.architecture": "stable-diffusion-v2-768-v" }, "v_prediction", 96],
    [{}, "v_prediction", 96],
  ])("Stable Diffusion 2 with metadata %j predicts %s", (metadata, prediction, size) => {
    const { texts, components } = readCheckpoint(header(published["sd2"]!.tensors), metadata as Record<string, string>);
    expect(texts.get("scheduler/scheduler_config.json")!["prediction_type"]).toBe(prediction);
    expect(components.get("unet")!.config["sample_size"]).toBe(size);
  });

  it.each(["", "first_stage_model.", "vae."])("an autoencoder alone, with names that begin with %j", async (prefix) => {
    const whole = smallTensors("sd1");
    const own = "first_stage_model.";
    const alone = new Map<string, Tensor>([["loss.logvar", whole.values().next().value!]]);
    for (const [name, tensor] of whole) if (name.startsWith(own)) alone.set(prefix + name.slice(own.length), tensor);
    const folder = await openSingleFile(memorySource("vae.safetensors", await encoded(alone)));
    const [found, expected] = [
      await openWeights(folder),
      readCheckpoint(header([...whole].map(([name, { shape }]) => [name, shape])), {}).components.get("vae")!,
    ];
    expect([...found.entries.keys()].sort()).toEqual([...expected.weights.entries.keys()].sort());
    const { sample_size: _, force_upcast: __, scaling_factor: ___, ...known } = expected.config;
    const convolutions = { use_quant_conv: true, use_post_quant_conv: true };
    expect(await readConfig(folder)).toEqual({ ...known, ...convolutions });
    expect(await folder.has("model_index.json")).toBe(false);
  });

  it.each([
    [875_000, {}, undefined, "epsilon"],
    [875_001, {}, undefined, "v_prediction"],
    [875_000, { "modelspec.predict_key": "v" }, undefined, "v_prediction"],
    [875_000, {}, "v_prediction", "v_prediction"],
    [null, {}, "epsilon", "epsilon"],
    [null, { "modelspec.predict_key": "v" }, "epsilon", "epsilon"],
  ] as const)(
    "Stable Diffusion 2 trained for %s steps, with metadata %j and option %s, predicts %s",
    async (steps, metadata, given, expected) => {
      const tensors = smallTensors("sd2");
      if (steps !== null) {
        tensors.set("global_step", { dtype: "int64", shape: [], data: BigInt64Array.from([BigInt(steps)]) });
      }
      const bytes = await encoded(tensors, { metadata: metadata as Record<string, string> });
      const folder = await openSingleFile(memorySource("file.safetensors", bytes), given);
      expect(await readConfig(folder.sub("scheduler"))).toMatchObject({ prediction_type: expected });
    },
  );

  it("a model that says itself what it predicts is not told", async () => {
    const folder = new NodeFolder(fixture("pipelines/sd").path);
    expect(() => checkPrediction(folder, "epsilon")).toThrow(ArgumentError);
    expect(() => checkPrediction(folder, undefined)).not.toThrow();
  });

  it("tells inpainting by its nine channels", () => {
    const { texts } = readCheckpoint(header(published["sd1-inpainting"]!.tensors), {});
    expect(texts.get("model_index.json")!["_class_name"]).toBe("StableDiffusionInpaintPipeline");
  });

  it("has CLIP's vocabulary: transformers' ids, padded as the family's encoders want it", async () => {
    const expected = JSON.parse(
      readFileSync(new URL("../fixtures/single-files/tokens.json", import.meta.url), "utf8"),
    ) as Record<string, number[]>;
    const folder = await openSingleFile(memorySource("file.safetensors", await encoded(smallTensors("sdxl"))));
    for (const [tokenizer, pad] of [
      ["tokenizer", 49407],
      ["tokenizer_2", 0],
    ] as const) {
      const opened = await PromptTokenizer.open(folder.sub(tokenizer));
      for (const [prompt, ids] of Object.entries(expected)) {
        const padded = [...ids, ...new Array<number>(77 - ids.length).fill(pad)];
        expect(opened.encode(prompt, 77).ids, `${tokenizer}: ${prompt}`).toEqual(padded);
      }
    }
  });
});

describe("files that are no whole checkpoint", () => {
  const sd1 = published["sd1"]!.tensors;
  const sd3 = readGzip("sd3.json.gz") as [string, number[]][];
  const without = (prefix: string) => sd1.filter(([name]) => !name.startsWith(prefix));
  const cases: [string, readonly (readonly [string, readonly number[]])[], RegExp][] = [
    [
      "nothing known",
      [["a.weight", [2, 2]]],
      /lacks a UNet \(model\.diffusion_model\.input_blocks\.\*\) and an autoenc/,
    ],
    ["no autoencoder", without("first_stage_model."), /lacks an autoencoder \(first_stage_model\.\* or vae\.\*\)/],
    ["no text encoder", without("cond_stage_model."), /lacks a text encoder \(cond_stage_model\.transformer\.\*, cond/],
    ["no UNet", without("model."), /lacks a UNet/],
    [
      "the first encoder of SDXL alone",
      published["sdxl"]!.tensors.filter(([name]) => !name.startsWith("conditioner.embedders.1.")),
      /lacks a text encoder \(conditioner\.embedders\.1\.model\.\*\)/,
    ],
    [
      "two families",
      [...sd1, ["conditioner.embedders.1.model.ln_final.bias", [8]]],
      /of Stable Diffusion 1 and of Stable D/,
    ],
    [
      "encoders of another family",
      [
        ...published["sd2"]!.tensors.filter(([name]) => !name.startsWith("cond_")),
        ...sd1.filter(([name]) => name.startsWith("cond_")),
      ],
      /reads texts of width 1024, but its text encoders write 768/,
    ],
    ["a refiner", [...sd1, ["conditioner.embedders.0.model.ln_final.bias", [8]]], /refiner/],
    ["Playground", [...sd1, ["edm_mean", [4]]], /Playground/],
    [
      "Stable Diffusion 3 without encoders",
      sd3.filter(([name]) => !name.startsWith("text_encoders.")),
      /lacks a text encoder \(text_encoders\.clip_l\.transformer\.\*\) and a text encoder \(text_encoders\.clip_g/,
    ],
    [
      "Stable Diffusion 3 with queries of its own size",
      sd3.map(([name, shape]) => [name, name.endsWith("0.x_block.attn.qkv.weight") ? [385, 128] : shape]),
      /has 385 rows; it has to be made of 3 equal parts/,
    ],
    [
      "Stable Diffusion 3's transformer alone, as GGUF files have it",
      [["joint_blocks.0.x_block.attn.qkv.weight", [384, 128]]],
      /lacks a transformer \(model\.diffusion_model\.joint_blocks\.\*\) and an autoencoder/,
    ],
    [
      "a UNet of eight channels",
      sd1.map(([name, shape]) => [name, name.endsWith("input_blocks.0.0.weight") ? [320, 8, 3, 3] : shape]),
      /takes 8 channels/,
    ],
  ];
  it.each(cases)("%s", (_, tensors, message) => {
    expect(() => readCheckpoint(header(tensors), {})).toThrow(CheckpointError);
    expect(() => readCheckpoint(header(tensors), {})).toThrow(message);
  });
});
