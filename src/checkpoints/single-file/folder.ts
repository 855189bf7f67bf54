import { CheckpointError } from "../../errors.ts";
import { type ByteSource, Folder, insidePath, memorySource } from "../files.ts";
import { readGgufHeader } from "../gguf/header.ts";
import { quote } from "../json.ts";
import { OpenedFolder } from "../opened-folder.ts";
import { SafetensorsFile } from "../safetensors.ts";
import { WeightFiles } from "../weight-files.ts";
import { type Checkpoint, readCheckpoint } from "./checkpoint.ts";
import { clipVocabulary } from "./clip-vocabulary.ts";
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

/**
 * Opens a single-file checkpoint: GGUF if its first bytes or its name say so, otherwise safetensors; also a motion adapter. Throws
 * CheckpointError if it is malformed or not a complete checkpoint of one family.
 */
export async function openSingleFile(source: ByteSource): Promise<Folder> {
  if (/\.gguf$/i.test(source.name) || (await isGguf(source))) {
    const { entries, metadata } = await readGgufHeader(source);
    const weights = new WeightFiles(entries, new Map([[source.name, { source }]]));
    return new SingleFileFolder(source.name, readCheckpoint(weights, metadata));
  }
  const file = await SafetensorsFile.open(source);
  if (isMotionAdapter(file.entries.keys())) return motionAdapterFolder(WeightFiles.of(file));
  return new SingleFileFolder(source.name, readCheckpoint(WeightFiles.of(file), file.metadata));
}

async function isGguf(source: ByteSource): Promise<boolean> {
  const [g, g2, u, f] = await source.read(0, Math.min(4, source.size));
  return String.fromCharCode(g ?? 0, g2 ?? 0, u ?? 0, f ?? 0) === "GGUF";
}
