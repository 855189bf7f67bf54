import { ArgumentError, CheckpointError } from "../../errors.ts";
import { sizeOf } from "../../tensor.ts";
import { type ByteSource, Folder, insidePath, memorySource } from "../files.ts";
import { readGgufHeader } from "../gguf/header.ts";
import { quote } from "../json.ts";
import { OpenedFolder } from "../opened-folder.ts";
import { SafetensorsFile } from "../safetensors.ts";
import { WeightFiles } from "../weight-files.ts";
import { type Checkpoint, isAutoencoder, readAutoencoder, readCheckpoint } from "./checkpoint.ts";
import { clipVocabulary } from "./clip-vocabulary.ts";
import type { Json, Prediction } from "./configs.ts";
import { isOriginalLayout } from "./families.ts";
import { isMotionAdapter, motionAdapterFolder } from "./motion-adapter.ts";

/** A single-file checkpoint as the folder to which diffusers would convert it. Nothing is written; weights are used in place. */
export class SingleFileFolder extends Folder {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  /** Contents of all files except weights; null for those of CLIP's vocabulary. */
  readonly #files: ReadonlyMap<string, string | null>;

  constructor(name: string, checkpoint: Checkpoint) {
    super();
    this.name = name;
    this.checkpoint = checkpoint;
    const text = (json: unknown) => `${JSON.stringify(json, null, 2)}\n`;
    this.#files = new Map<string, string | null>([
      ...[...checkpoint.texts].map(([path, json]): [string, string] => [path, text(json)]),
      ...[...checkpoint.components].map(([component, { config }]): [string, string] => [
        `${component}/config.json`,
        text(config),
      ]),
      ...checkpoint.tokenizers.flatMap((folder): [string, null][] => [
        [`${folder}/merges.txt`, null],
        [`${folder}/vocab.json`, null],
      ]),
    ]);
  }

  /** Paths of all files except weights. */
  get paths(): string[] {
    return [...this.#files.keys()];
  }

  override async has(path: string): Promise<boolean> {
    return this.#files.has(insidePath(path, this.name));
  }

  override async list(path = ""): Promise<string[]> {
    const prefix = path === "" ? "" : `${insidePath(path, this.name)}/`;
    const inside = this.paths.filter((file) => file.startsWith(prefix));
    return [...new Set(inside.map((file) => file.slice(prefix.length).split("/")[0]!))];
  }

  override async source(path: string): Promise<ByteSource> {
    const file = this.#files.get(insidePath(path, this.name));
    if (file === undefined) throw new CheckpointError(`${this.name}: has no ${quote(path)}.`);
    const text = file ?? (await clipVocabulary())[path.endsWith("vocab.json") ? "vocab" : "merges"];
    return memorySource(`${this.name}: ${path}`, new TextEncoder().encode(text));
  }

  override sub(path: string): Folder {
    const component = this.checkpoint.components.get(path);
    return component ? new OpenedFolder(super.sub(path), async () => component.weights) : super.sub(path);
  }
}

/** An autoencoder in one file as a component's folder. */
class ConfigFolder extends Folder {
  readonly name: string;
  readonly #config: Uint8Array;

  constructor(name: string, config: Json) {
    super();
    this.name = name;
    this.#config = new TextEncoder().encode(JSON.stringify(config));
  }

  override async has(path: string): Promise<boolean> {
    return insidePath(path, this.name) === CONFIG;
  }

  override async list(path = ""): Promise<string[]> {
    return path === "" ? [CONFIG] : [];
  }

  override async source(path: string): Promise<ByteSource> {
    if (await this.has(path)) return memorySource(`${this.name}: ${CONFIG}`, this.#config);
    throw new CheckpointError(`${this.name}: has no ${quote(path)}; it is an autoencoder alone.`);
  }
}

const CONFIG = "config.json";

/**
 * Opens a single-file checkpoint: GGUF if its first bytes or its name say so, otherwise safetensors. `prediction` is what the
 * network predicts, which counts before what the file says. An autoencoder or a motion adapter alone is opened as a component's folder. Throws
 * CheckpointError if it is malformed or not a complete checkpoint of one family.
 */
export async function openSingleFile(source: ByteSource, prediction?: Prediction): Promise<Folder> {
  const { weights, metadata } = await contentsOf(source);
  const names = [...weights.entries.keys()];
  if (isMotionAdapter(names)) return motionAdapterFolder(weights);
  if (!isOriginalLayout(names) && isAutoencoder(names)) {
    const { config, weights: own } = readAutoencoder(weights);
    return new OpenedFolder(new ConfigFolder(source.name, config), async () => own);
  }
  const known = { prediction, steps: await trainingSteps(weights) };
  return new SingleFileFolder(source.name, readCheckpoint(weights, metadata, known));
}

async function contentsOf(source: ByteSource) {
  if (/\.gguf$/i.test(source.name) || (await isGguf(source))) {
    const { entries, metadata } = await readGgufHeader(source);
    return { weights: new WeightFiles(entries, new Map([[source.name, { source }]])), metadata };
  }
  const file = await SafetensorsFile.open(source);
  return { weights: WeightFiles.of(file), metadata: file.metadata };
}

/** How many steps the model was trained for, if the file has kept the number. */
async function trainingSteps(weights: WeightFiles): Promise<number | undefined> {
  const entry = weights.entries.get("global_step");
  if (!entry || sizeOf(entry.shape) !== 1) return undefined;
  return Number((await weights.read("global_step")).data[0]);
}

/** Throws ArgumentError for a model that says itself what its network predicts: any but a single file. */
export function checkPrediction(folder: Folder, prediction: Prediction | undefined): void {
  if (prediction === undefined || folder instanceof SingleFileFolder) return;
  throw new ArgumentError(
    `${folder.name}: predictionType is for a model in one file; a folder says it in scheduler/scheduler_config.json (prediction_type).`,
  );
}

async function isGguf(source: ByteSource): Promise<boolean> {
  const [g, g2, u, f] = await source.read(0, Math.min(4, source.size));
  return String.fromCharCode(g ?? 0, g2 ?? 0, u ?? 0, f ?? 0) === "GGUF";
}
