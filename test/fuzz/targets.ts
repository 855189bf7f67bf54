/** What is fuzzed: each target's valid files, and how they are used. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Folder, MemoryFolder, memorySource, parseJson } from "../../src/checkpoints/files.ts";
import { SafetensorsFile } from "../../src/checkpoints/safetensors.ts";
import type { TensorEntry } from "../../src/checkpoints/safetensors-header.ts";
import { openWeights, WeightFiles } from "../../src/checkpoints/weights.ts";
import { isObject } from "../../src/checks.ts";
import { numberBetween } from "../../src/cli/numbers.ts";
import { PromptTokenizer } from "../../src/components/prompts.ts";
import { HalfstepError } from "../../src/errors.ts";
import { restoredParts } from "../../src/exploration/learners/learner.ts";
import { StepMix } from "../../src/exploration/learners/stepmix.ts";
import { readEpisodes } from "../../src/exploration/learners/vi-lcb.ts";
import { environment } from "../../src/exploration/mdp/environments/named.ts";
import { optimalPlan } from "../../src/exploration/mdp/planning.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { checkCounts } from "../../src/models/counts.ts";
import { networksOf } from "../../src/models/registry.ts";
import { readOptions } from "../../src/options/options.ts";
import { ClassToImagePipeline, classToImageOptions } from "../../src/pipelines/class-to-image.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { textToImageOptions } from "../../src/pipelines/text-to-image-options.ts";
import { textToVideoOptions } from "../../src/pipelines/text-to-video.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { createScheduler } from "../../src/schedulers/registry.ts";
import { floatTensor } from "../../src/tensor.ts";
import { captionText } from "../../src/tokenizers/captions/caption-text.ts";
import { cleanCaption } from "../../src/tokenizers/captions/clean-caption.ts";
import { verifyFolder } from "../../src/verify/verify-folder.ts";
import { sizeOfFiles, type Target } from "./case.ts";
import { gguf, loras, motionAdapters, singleFiles } from "./format-targets.ts";
import type { Files } from "./mutate.ts";

const fixtures = join(import.meta.dirname, "../fixtures");
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** Files below a folder of test/fixtures that are not larger than this; large weights would only slow it down. */
function folderOf(path: string, accepts = /\.(json|safetensors|txt|model)$/): Files {
  const names = readdirSync(join(fixtures, path), { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile() && accepts.test(entry.name));
  const base = join(fixtures, path);
  return new Map(
    files.map(({ parentPath, name }) => {
      const file = join(parentPath, name);
      return [file.slice(base.length + 1).replaceAll("\\", "/"), readFileSync(file)];
    }),
  );
}

const oneFile = (path: string, name = "file.json"): Files => new Map([[name, readFileSync(join(fixtures, path))]]);
const json = (value: unknown, name = "file.json"): Files => new Map([[name, encoder.encode(JSON.stringify(value))]]);
const folder = (files: Files): Folder => new MemoryFolder("folder", files);

/** JSON as commands read it. */
function read(files: Files, name = "file.json"): unknown {
  let text: string;
  try {
    text = decoder.decode(files.get(name));
  } catch {
    return undefined;
  }
  return parseJson(text, name);
}

/** A safetensors file with such tensors. */
function tensors(
  shapes: Readonly<Record<string, readonly [dtype: string, bytes: number, shape: readonly number[]]>>,
): Uint8Array {
  let offset = 0;
  const header = Object.fromEntries(
    Object.entries(shapes).map(([name, [dtype, size, shape]]) => {
      const length = size * shape.reduce((product, side) => product * side, 1);
      offset += length;
      return [name, { dtype, shape, data_offsets: [offset - length, offset] }];
    }),
  );
  const text = encoder.encode(JSON.stringify({ __metadata__: { format: "pt" }, ...header }));
  const bytes = new Uint8Array(8 + text.length + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

const someTensors = tensors({
  a: ["F32", 4, [2, 3]],
  b: ["BF16", 2, [4]],
  c: ["I64", 8, [1]],
  d: ["BOOL", 1, [5]],
  e: ["F64", 8, []],
});
const sharded: Files = new Map([
  ["model-1.safetensors", someTensors],
  ["model-2.safetensors", tensors({ f: ["F16", 2, [3]] })],
  [
    "model.safetensors.index.json",
    encoder.encode(
      JSON.stringify({
        metadata: { total_size: 84 },
        weight_map: { a: "model-1.safetensors", f: "model-2.safetensors" },
      }),
    ),
  ],
]);

const safetensors: Target = {
  seeds: [new Map([["model.safetensors", someTensors]]), sharded],
  async run(files) {
    const weights = await openWeights(folder(files));
    for (const name of weights.entries.keys()) await weights.read(name);
    for (const [name, bytes] of files)
      if (name.endsWith(".safetensors")) await SafetensorsFile.open(memorySource(name, bytes));
  },
};

/** A network's configuration with the headers of the weights that it has when nothing is changed. */
interface Configured {
  readonly files: Files;
  readonly weights: WeightFiles;
}

function configured(path: string): Configured {
  const files = oneFile(path);
  const raw = read(files) as Record<string, unknown>;
  const entries = new Map<string, TensorEntry>();
  for (const architecture of Object.values(networksOf(raw))) {
    const model = architecture.model(architecture.parseConfig(raw), sizes);
    for (const [name, shape] of weightShapes(model))
      entries.set(name, { dtype: "F32", shape, file: "model", offset: 0, length: 0 } as unknown as TensorEntry);
  }
  return { files, weights: new WeightFiles(entries, new Map()) };
}

const sizes = { batch: 1, height: 16, width: 16, tokens: 8, frames: 2 };

const networks = [
  ...[
    "dit/config.json",
    "dit/config.transformer_2d.json",
    "pixart-alpha/config.json",
    "pixart-sigma/config.json",
    "t5/config.json",
  ],
  ...[
    "vae/config.json",
    "vae-temporal/config.json",
    "clip/config.json",
    "clip-text/config.json",
    "clip-vision/config.json",
  ],
  ...["unet-2d/config.json", "unet-2d-linear/config.json", "unet-motion/config.json", "unet-svd/config.json"],
  ...["unet-xl", "unet-ssd", "unet-xl-lcm", "motion-xl", "sd3-5-medium", "vae-tiny", "clip-projection-states"].map(
    (name) => `models-0.42/${name}/config.json`,
  ),
].map(configured);

const configs: Target = {
  seeds: networks.map(({ files }) => files),
  run(files) {
    const raw = read(files);
    if (!isObject(raw)) return;
    for (const architecture of Object.values(networksOf(raw))) {
      const config = architecture.parseConfig(raw);
      // As Component.open does it: against the weights, before anything is built. Any of them may be the one beside it.
      for (const { weights } of networks) {
        try {
          checkCounts(architecture.counts?.(config) ?? [], weights);
        } catch (error) {
          if (error instanceof HalfstepError) continue;
          throw error;
        }
        weightShapes(architecture.model(config, sizes));
        break;
      }
    }
  },
};

const schedulerNames = [
  "ddim-eta",
  "ddpm",
  "dpmpp",
  "euler",
  "flow",
  "pndm",
  "heun",
  "kdpm2",
  "lcm",
  "lms",
  "tcd",
  "unipc",
];
const schedulerFolders = readdirSync(join(fixtures, "schedulers")).filter((name) =>
  schedulerNames.some((start) => name.startsWith(start)),
);

const schedulers: Target = {
  seeds: schedulerFolders.map((name) => oneFile(`schedulers/${name}/scheduler_config.json`)),
  run(files) {
    const raw = read(files);
    if (!isObject(raw)) return;
    const scheduler = createScheduler(raw);
    scheduler.setTimesteps(5, raw["use_dynamic_shifting"] ? 0.5 : undefined);
    let sample = floatTensor([1, 2], Float32Array.of(0.5, -1));
    const noise = () => floatTensor([1, 2], Float32Array.of(0.1, 0.2));
    for (const timestep of scheduler.timesteps) {
      scheduler.scaleModelInput(sample, timestep);
      sample = scheduler.step(sample, timestep, sample, { noise }).prevSample;
    }
  },
};

const wordPiece = {
  added_tokens: [{ id: 0, content: "<pad>", special: true }],
  normalizer: {
    type: "Sequence",
    normalizers: [
      { type: "Replace", pattern: { Regex: "\\s+" }, content: " " },
      { type: "BertNormalizer", lowercase: true },
    ],
  },
  pre_tokenizer: { type: "BertPreTokenizer" },
  post_processor: {
    type: "TemplateProcessing",
    single: [{ Sequence: { id: "A", type_id: 0 } }, { SpecialToken: { id: "<pad>", type_id: 0 } }],
  },
  decoder: { type: "WordPiece", prefix: "##", cleanup: true },
  model: {
    type: "WordPiece",
    unk_token: "<unk>",
    continuing_subword_prefix: "##",
    vocab: { "<pad>": 0, "<unk>": 1, cat: 2, "##s": 3 },
  },
};
const unigram = {
  added_tokens: [{ id: 1, content: "</s>", special: true }],
  normalizer: { type: "Precompiled", precompiled_charsmap: "" },
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [{ type: "WhitespaceSplit" }, { type: "Metaspace", replacement: "\u2581" }],
  },
  post_processor: null,
  decoder: { type: "Metaspace", replacement: "\u2581" },
  model: {
    type: "Unigram",
    unk_id: 0,
    vocab: [
      ["<unk>", 0],
      ["</s>", 0],
      ["\u2581", -2],
      ["cat", -3],
      ["a", -4],
      ["\u2581a", -3.5],
    ],
  },
};
const clip = folderOf("clip-tokenizer", /^(vocab|tokenizer_config)\.json$|^merges\.txt$/);

const tokenizers: Target = {
  seeds: [
    json(wordPiece, "tokenizer.json"),
    new Map([
      ...json(unigram, "tokenizer.json"),
      ...json({ model_max_length: 77, pad_token: { content: "</s>" } }, "tokenizer_config.json"),
    ]),
    oneFile("clip-tokenizer/tokenizer.json", "tokenizer.json"),
    clip,
    oneFile("sentencepiece/plain.model", "spiece.model"),
  ],
  async run(files) {
    const tokenizer = await PromptTokenizer.open(folder(files));
    // The long ones cost the most time, and find what one in eight finds as well.
    const some = sizeOfFiles(files) % 8 === 0 ? texts : texts.slice(0, 1);
    for (const text of some) tokenizer.encode(text, 12);
  },
};
const texts = [
  "a cat, cats",
  "\u03a3\ufeff \u732b\ud83d\ude3a e\u0301\u0344 <pad></s>",
  "a".repeat(3000),
  " a".repeat(3000),
];

const exploration = (name: string) =>
  readdirSync(join(fixtures, "exploration", name)).map((file) => `exploration/${name}/${file}`);

const states: Target = {
  seeds: exploration("states").map((path) => oneFile(path)),
  run(files) {
    const raw = read(files);
    if (!isObject(raw)) return;
    const { problem, options } = restoredParts({ rewardSums: [], batch: 1, ...raw } as never);
    const learner = new StepMix(problem, options);
    if (raw["own"] !== undefined) learner.bounds.restore(raw["own"] as never);
    learner.decision();
  },
};

const environments: Target = {
  seeds: [
    ...exploration("environments")
      .filter((path) => /env-(ok|sparse5|gym\w*)\.json$/.test(path))
      .map((path) => oneFile(path)),
    ...exploration("gymnasium").map((path) => oneFile(path)),
    ...[
      "random:states=3,actions=2,horizon=3",
      "riverswim:states=4",
      "chain:slip=0.1",
      "gridworld:horizon=4",
      "streaming:levels=3",
    ].map((name) => json(name)),
  ],
  run(files) {
    const raw = read(files);
    optimalPlan(environment(raw as never));
  },
};

const smallMdp = () => environment({ ...(read(oneFile("exploration/environments/env-ok.json")) as object) } as never);

const episodes: Target = {
  seeds: exploration("environments")
    .filter((path) => /ep-(ok|num|trunc)\.jsonl$/.test(path))
    .map((path) => oneFile(path, "file.jsonl")),
  run: (files) => readEpisodes(decoderOf(files.get("file.jsonl")!), smallMdp()),
};

/** As Node reads a file as text. */
const decoderOf = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Prompts as text: cleaned as PixArt's pipelines do, and shown in messages. */
const prompts: Target = {
  seeds: [
    "a cat <b>on</b> a www.example.com/x_y-z mat #1234 12:30 &amp;amp; 10x10 abc123def.",
    "%e4%b8%ad+a--b__c 'quoted' @me",
  ].map((text) => new Map([["prompt.txt", encoder.encode(text)]])),
  run(files) {
    const text = decoderOf(files.get("prompt.txt")!);
    for (const prompt of text.length % 16 === 0 ? [text, text.repeat(200)] : [text]) {
      if (typeof cleanCaption(prompt) !== "string") throw new Error("no text");
      captionText(prompt);
    }
  },
};

const cases: Target = {
  seeds: [
    ...schedulerFolders.map((name) => folderOf(`schedulers/${name}`)),
    folderOf("rng"),
    // Their networks lie elsewhere, so that what is read is the call.
    folderOf("pipelines/dit", /^(call.*|model_index|scheduler_config)\.json$/),
    folderOf("pipelines/svd", /^(call|model_index|scheduler_config|config)\.json$/),
    // A file and LoRAs instead of the folder; what is there is neither.
    new Map([
      ...json({ model: "model.safetensors", loras: [{ file: "lora.safetensors", scale: 0.8 }] }, "case.json"),
      ["model.safetensors", someTensors],
      ["lora.safetensors", someTensors],
    ]),
    new Map([...json({ refused: "model" }, "case.json"), ...folderOf("schedulers/ddim-eta")]),
  ],
  run: (files) => verifyFolder(folder(files), nodeRuntime, { threads: 1 }),
};

const pipelines: Target = {
  seeds: [
    folderOf("pipelines/dit", /^(model_index|scheduler_config|config)\.json$/),
    folderOf("pipelines/pixart-sigma", /^(model_index|scheduler_config|config)\.json$/),
    folderOf("pipelines/sd3", /^(model_index|scheduler_config|config|tokenizer_config)\.json$/),
  ],
  async run(files) {
    // Weights as the fixtures have them, whatever the configurations say.
    for (const [name, weights] of [
      ["dit", ditWeights],
      ["pixart-sigma", pixartWeights],
    ] as const) {
      const all = folder(new Map([...weights, ...files]));
      if (name === "dit") await ClassToImagePipeline.fromFolder(all, nodeRuntime).then((pipe) => pipe.release(), typed);
      else await TextToImagePipeline.fromFolder(all, nodeRuntime).then((pipe) => pipe.release(), typed);
    }
  },
};
const ditWeights = folderOf("pipelines/dit", /^\w+pytorch_model.*\.safetensors$/);
const pixartWeights = folderOf("pipelines/pixart-sigma", /^\w+pytorch_model.*\.safetensors$/);

function typed(error: unknown): void {
  if (!(error instanceof HalfstepError)) throw error;
}

const someOptions = {
  steps: 20,
  guidanceScale: 4.5,
  seed: 7,
  width: 512,
  height: 512,
  count: 1,
  negativePrompt: "",
  eta: 0,
  scheduler: "ddim",
  timesteps: [999, 500, 1],
};

const options: Target = {
  seeds: [
    json(someOptions),
    json({ num_inference_steps: 20, guidance_scale: 4, generator: 1 }),
    json(["0.5", "12", "1e3", "-1"]),
  ],
  run(files) {
    const raw = read(files);
    for (const table of [textToImageOptions, classToImageOptions, textToVideoOptions]) {
      try {
        readOptions(raw, table as never, { of: "fuzz" });
      } catch (error) {
        typed(error);
      }
    }
    const number = numberBetween(0, 100);
    for (const text of Array.isArray(raw) ? raw : []) {
      if (typeof text !== "string") continue;
      try {
        const value = number(text);
        if (!(value >= 0 && value <= 100)) throw new Error(`${JSON.stringify(text)} was read as ${value}`);
      } catch (error) {
        if ((error as { code?: unknown }).code !== "commander.invalidArgument") throw error;
      }
    }
  },
};

export const targets: ReadonlyMap<string, Target> = new Map(
  Object.entries({
    safetensors,
    configs,
    schedulers,
    tokenizers,
    states,
    environments,
    cases,
    pipelines,
    options,
    episodes,
    prompts,
    singleFiles,
    motionAdapters,
    loras,
    gguf,
  }),
);
