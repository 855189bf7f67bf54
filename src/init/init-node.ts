/** Models with random weights, in a checkpoint's folder: for measuring, and as the start of a training. */
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { writeSafetensors } from "../checkpoints/safetensors-node.ts";
import type { FloatStorage, LazyTensor } from "../checkpoints/safetensors-writer.ts";
import { clipVocabulary } from "../checkpoints/single-file/clip-vocabulary.ts";
import { inNewFolder, weightFileOf } from "../checkpoints/write-folder-node.ts";
import { TorchGenerator } from "../sampling/noise.ts";
import { sizeOf } from "../tensor.ts";
import type { PipelineGeometry } from "./pipelines.ts";
import { randomWeight, shapesOf } from "./random-weights.ts";

export interface InitOptions {
  /** 0 unless given; the same seed gives the same bytes. */
  seed?: number;
  /** How the weights are stored; "F32" unless given. */
  dtype?: FloatStorage;
  /** Called before each tensor is written. */
  onTensor?: (name: string, written: number, total: number) => void;
  signal?: AbortSignal;
}

/** One network of a new folder. */
interface Network {
  readonly config: RawConfig;
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  readonly parameters: number;
}

/** What is to be written. */
export interface NewModel {
  /** By folder name; "" for a network by itself. */
  readonly networks: ReadonlyMap<string, Network>;
  /** Numbers in all networks. */
  readonly parameters: number;
  /** All else of a pipeline. */
  readonly pipeline?: PipelineGeometry;
}

/** A network by itself. Throws ConfigError for a class or a value that is not supported. */
export const newNetwork = (config: RawConfig): NewModel => newModel(new Map([["", config]]));

/** A whole pipeline. */
export const newPipeline = (pipeline: PipelineGeometry): NewModel => ({ ...newModel(pipeline.networks), pipeline });

function newModel(configs: ReadonlyMap<string, RawConfig>): NewModel {
  const networks = new Map<string, Network>();
  for (const [name, config] of configs) {
    const shapes = shapesOf(config);
    const parameters = [...shapes.values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
    networks.set(name, { config, shapes, parameters });
  }
  return { networks, parameters: [...networks.values()].reduce((sum, { parameters }) => sum + parameters, 0) };
}

/** Bytes of a model's weights as they are stored. */
export const storedBytes = ({ parameters }: NewModel, dtype: FloatStorage = "F32"): number =>
  parameters * (dtype === "F32" ? 4 : 2);

/**
 * Writes a model's folder: each network's `config.json` and random weights, and of a pipeline all that diffusers reads beside.
 * The folder has its name once it is complete. One tensor is in memory at a time. Throws ArgumentError if there is something
 * in the folder already, and the signal's reason when it is aborted.
 */
export async function writeModel(folder: string, model: NewModel, options: InitOptions = {}): Promise<void> {
  await inNewFolder(folder, "a new model", async (to) => {
    const generator = new TorchGenerator(options.seed ?? 0);
    let written = 0;
    const started = (name: string, size: number) => {
      options.signal?.throwIfAborted();
      options.onTensor?.(name, written, model.parameters);
      written += size;
    };
    for (const [name, network] of model.networks) {
      await mkdir(join(to, name), { recursive: true });
      const tensors = tensorsOf(network, generator, (tensor, size) =>
        started(name ? `${name}: ${tensor}` : tensor, size),
      );
      await writeSafetensors(join(to, name, weightFileOf(name)), tensors, { dtype: options.dtype ?? "F32" });
      await writeFile(join(to, name, "config.json"), jsonText(network.config));
    }
    if (model.pipeline) await writeFiles(to, model.pipeline);
  });
}

/** Writes a network's folder. */
export async function initModel(
  folder: string,
  config: RawConfig,
  options: InitOptions = {},
): Promise<{ parameters: number; bytes: number }> {
  const model = newNetwork(config);
  await writeModel(folder, model, options);
  return { parameters: model.parameters, bytes: storedBytes(model, options.dtype) };
}

function tensorsOf(
  { shapes }: Network,
  generator: TorchGenerator,
  onTensor: (name: string, size: number) => void,
): Map<string, LazyTensor> {
  const tensors = new Map<string, LazyTensor>();
  for (const [name, shape] of shapes) {
    const load = () => {
      onTensor(name, sizeOf(shape));
      return randomWeight(name, shape, generator);
    };
    tensors.set(name, { dtype: "float32", shape, load });
  }
  return tensors;
}

async function writeFiles(to: string, { files, clipTokenizers }: PipelineGeometry): Promise<void> {
  const texts = new Map([...files].map(([path, json]): [string, string] => [path, jsonText(json)]));
  const { vocab, merges } = await clipVocabulary();
  for (const folder of clipTokenizers) texts.set(`${folder}/vocab.json`, vocab).set(`${folder}/merges.txt`, merges);
  for (const [path, text] of texts) {
    await mkdir(dirname(join(to, path)), { recursive: true });
    await writeFile(join(to, path), text);
  }
}

const jsonText = (json: RawConfig) => `${JSON.stringify(json, null, 2)}\n`;
