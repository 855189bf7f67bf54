import { CheckpointError } from "../../errors.ts";
import { isPipeline, readModelIndex } from "../diffusers-folder.ts";
import { type Folder, ForwardingFolder } from "../files.ts";
import { OpenedFolder } from "../opened-folder.ts";
import { openWeights } from "../weights.ts";
import type { LoraTarget } from "./keys.ts";
import { type ScaledLora, withLoras } from "./merge.ts";

/** The name that LoRA files use for a component's network. */
const targetOf = (component: string): LoraTarget =>
  component === "unet" || component === "transformer" ? "denoiser" : (component as LoraTarget);

/**
 * A pipeline's folder with LoRAs applied to its networks. Nothing is written, and nothing is computed before a session is
 * created. Throws CheckpointError for a folder that is not a pipeline, and for LoRAs of networks that it does not have.
 */
export async function withLoraFiles(folder: Folder, loras: readonly ScaledLora[]): Promise<Folder> {
  if (loras.length === 0) return folder;
  if (!(await isPipeline(folder))) {
    throw new CheckpointError(
      `${folder.name}: is a component alone; LoRAs go with a pipeline, which has a model_index.json.`,
    );
  }
  const components = [...(await readModelIndex(folder)).components.keys()];
  const targets = new Map(components.map((name) => [name, targetOf(name)]));
  for (const { lora } of loras) {
    for (const target of lora.layers.keys()) {
      if ([...targets.values()].includes(target)) continue;
      throw new CheckpointError(
        `${lora.name}: has layers of a ${target.replaceAll("_", " ")}, which ${folder.name} does not have (${components.join(", ")}): it ` +
          "was made for another base model.",
      );
    }
  }
  const changed = [...targets].filter(([, target]) => loras.some(({ lora }) => lora.layers.has(target)));
  return new LoraFolder(folder, new Map(changed), loras);
}

/** The same as another folder, except for the weights of some components. */
class LoraFolder extends ForwardingFolder {
  readonly #components: ReadonlyMap<string, LoraTarget>;
  readonly #loras: readonly ScaledLora[];

  constructor(folder: Folder, components: ReadonlyMap<string, LoraTarget>, loras: readonly ScaledLora[]) {
    super(folder);
    this.#components = components;
    this.#loras = loras;
  }

  override beside(name: string): Folder | null {
    return this.folder.beside(name);
  }

  override sub(path: string): Folder {
    const target = this.#components.get(path);
    const folder = path === "" ? this : this.folder.sub(path);
    if (!target) return folder;
    const own = (variant?: string) => openWeights(folder, variant);
    return new OpenedFolder(folder, own, (weights) => withLoras(weights, target, this.#loras));
  }
}
