import { CheckpointError } from "../errors.ts";
import { describe, expectObject, type Folder, insidePath, quote } from "./files.ts";

/** One component of a pipeline: its library and its class in diffusers or transformers. */
export interface Component {
  readonly library: string;
  readonly className: string;
}

/** The contents of `model_index.json`: the pipeline's class, its components, and its own options. */
export interface ModelIndex {
  /** Such as "PixArtSigmaPipeline". */
  readonly className: string;
  /** By name, which is also the name of the folder. Components that are `[null, null]` in the file are left out. */
  readonly components: ReadonlyMap<string, Component>;
  /** All other keys: `force_zeros_for_empty_prompt`, `id2label`, ...; prototype null. */
  readonly options: Readonly<Record<string, unknown>>;
}

/** A JSON object from a checkpoint whose contents have not been checked yet. */
export type RawConfig = Readonly<Record<string, unknown>>;

const indexFile = "model_index.json";
/** Names of configuration files: of models, schedulers, tokenizers and image processors. */
const configFiles = ["config.json", "scheduler_config.json", "tokenizer_config.json", "preprocessor_config.json"];

/** Whether a folder holds a pipeline rather than a single component. */
export function isPipeline(folder: Folder): Promise<boolean> {
  return folder.has(indexFile);
}

/** Reads and checks `model_index.json`. Throws CheckpointError if it is missing or malformed. */
export async function readModelIndex(folder: Folder): Promise<ModelIndex> {
  if (!(await isPipeline(folder))) {
    throw new CheckpointError(
      `${folder.name}: has no ${indexFile}, so it is not a pipeline in diffusers' layout; a single component is ` +
        `opened with its own class.${await whatIsThere(folder)}`,
    );
  }
  return parseModelIndex(await folder.json(indexFile), `${folder.name}/${indexFile}`);
}

/** Checks the JSON of a `model_index.json`; `where` is its name in errors. */
export function parseModelIndex(json: unknown, where: string): ModelIndex {
  const { _class_name: className, ...rest } = expectObject(json, where);
  if (typeof className !== "string") {
    throw new CheckpointError(`${where}: _class_name is ${describe(className)}, expected a pipeline's class name.`);
  }
  const components = new Map<string, Component>();
  const options: Record<string, unknown> = Object.create(null);
  for (const [name, value] of Object.entries(rest)) {
    if (name.startsWith("_") || !Array.isArray(value)) {
      options[name] = value;
      continue;
    }
    const [library, componentClass] = value as unknown[];
    if (value.length === 2 && typeof library === "string" && typeof componentClass === "string") {
      if (name.includes("/")) throw new CheckpointError(`${where}: ${quote(name)} is not a component's name.`);
      components.set(insidePath(name, where), { library, className: componentClass });
    } else if (value.length !== 2 || library !== null || componentClass !== null) {
      throw new CheckpointError(
        `${where}: component ${quote(name)} is ${describe(value)}, expected [library, class] or [null, null].`,
      );
    }
  }
  return { className, components, options };
}

/**
 * The folder of a component: in the pipeline's folder, or in that of another pipeline next to it, if `_parts_from` in
 * model_index.json names one (`{"vae": "other"}`). diffusers does not have this key; models of one family share parts with it.
 * Throws CheckpointError if it names anything but a folder next to this one.
 */
export function componentFolder(folder: Folder, { options }: ModelIndex, component: string): Folder {
  const where = `${folder.name}/${indexFile}: _parts_from`;
  const { _parts_from: partsFrom = {} } = options;
  const other = Object.entries(expectObject(partsFrom, where)).find(([name]) => name === component)?.[1];
  if (other === undefined) return folder.sub(component);
  const beside = typeof other === "string" && /^\w[\w.-]*$/.test(other) ? folder.beside(other) : null;
  if (beside) return beside.sub(component);
  throw new CheckpointError(
    `${where} says ${describe(other)} for ${quote(component)}, which is no folder beside this one.`,
  );
}

/** Whether a component's folder has a configuration; tokenizers may lack one. */
export async function hasConfig(component: Folder): Promise<boolean> {
  return (await configFile(component)) !== undefined;
}

async function configFile(component: Folder): Promise<string | undefined> {
  for (const file of configFiles) if (await component.has(file)) return file;
  return undefined;
}

/**
 * The configuration in a component's folder: `config.json`, `scheduler_config.json`, `tokenizer_config.json` or
 * `preprocessor_config.json`, whichever is found first. Throws CheckpointError if there is none.
 */
export async function readConfig(component: Folder): Promise<RawConfig> {
  const file = await configFile(component);
  if (file) return expectObject(await component.json(file), `${component.name}/${file}`);
  throw new CheckpointError(
    `${component.name}: has no configuration; looked for ${configFiles.join(", ")}.${await whatIsThere(component)}`,
  );
}

/** A sentence that describes a folder's contents, for errors; empty if the folder cannot be listed. */
async function whatIsThere(folder: Folder): Promise<string> {
  const names = await folder.list();
  if (!names) return "";
  if (names.includes("snapshots") && names.includes("refs")) {
    return " It is a model of huggingface_hub's cache: give the folder with a commit's name in its folder snapshots.";
  }
  const some = names.slice(0, 5).map(quote).join(", ");
  return names.length === 0
    ? " It is empty."
    : ` It has ${some}${names.length > 5 ? `, and ${names.length - 5} more` : ""}.`;
}

/**
 * A configuration's class: `_class_name` (diffusers) or the first of `architectures` (transformers); undefined if it
 * has neither, as for tokenizers.
 */
export function classNameOf(config: RawConfig): string | undefined {
  const { _class_name: own, architectures } = config;
  const name = own ?? (Array.isArray(architectures) ? architectures[0] : undefined);
  return typeof name === "string" ? name : undefined;
}
