/** What a case is of where it is not simply the folder that it lies in: a file there, LoRAs, or what has to be refused. */
import { describe, expectObject, type Folder, ForwardingFolder, insidePath } from "../checkpoints/files.ts";
import { type LoraChoice, lorasCheck, withChosenLoras } from "../checkpoints/lora/choice.ts";
import { openSingleFile } from "../checkpoints/single-file/folder.ts";
import { ArgumentError, CheckpointError, HalfstepError } from "../errors.ts";

/** The contents of case.json. */
export interface CaseSettings {
  /** A checkpoint in one file, whose pipeline the recorded runs are of. */
  readonly model?: string;
  readonly loras?: readonly LoraChoice[];
  /** A part of the message with which opening or running it has to fail. */
  readonly refused?: string;
}

const caseFile = "case.json";

/** Nothing in a folder without case.json. Throws CheckpointError and ArgumentError for one that says something else. */
export async function readCase(folder: Folder): Promise<CaseSettings> {
  if (!(await folder.has(caseFile))) return {};
  const where = `${folder.name}/${caseFile}`;
  const { model, loras, refused, ...rest } = expectObject(await folder.json(caseFile), where);
  for (const [name, value] of Object.entries({ model, refused })) {
    if (value === undefined || (typeof value === "string" && value !== "")) continue;
    throw new CheckpointError(`${where}: "${name}" is ${describe(value)}, not a text.`);
  }
  if (loras !== undefined) lorasCheck(loras, `${where}: loras`);
  const [other] = Object.keys(rest);
  if (other !== undefined) {
    throw new CheckpointError(`${where}: there is no "${other.slice(0, 60)}"; a case has model, loras and refused.`);
  }
  return { model, loras, refused } as CaseSettings;
}

/** The folder with the model that these settings say, and the recorded runs. Throws CheckpointError. */
export async function folderOfCase(folder: Folder, { model, loras = [] }: CaseSettings): Promise<Folder> {
  const open = (file: string) => folder.source(insidePath(file, `${folder.name}/${caseFile}`));
  const base = model === undefined ? folder : await openSingleFile(await open(model));
  const changed = await withChosenLoras(base, loras, open);
  return model === undefined ? changed : new RecordedFolder(changed, folder);
}

/** The files of recorded runs, and the folders of their schedulers. */
const recorded = /^(calls\.json|call\.([\w-]+\.)?json|io\.([\w-]+\.)?safetensors|scheduler_[\w-]+(\/.*)?)$/;

/** A model with recorded runs that lie in another folder. */
class RecordedFolder extends ForwardingFolder {
  readonly #runs: Folder;
  override readonly name: string;

  constructor(model: Folder, runs: Folder) {
    super(model);
    this.#runs = runs;
    this.name = runs.name;
  }

  override has(path: string): Promise<boolean> {
    return this.#of(path).has(path);
  }

  override source(path: string, most?: number) {
    return this.#of(path).source(path, most);
  }

  override nativePath(path: string): string | undefined {
    return this.#of(path).nativePath(path);
  }

  override sub(path: string): Folder {
    return path === "" ? this : this.#of(path).sub(path);
  }

  #of(path: string): Folder {
    return recorded.test(path) ? this.#runs : this.folder;
  }
}

/** What of a case has to fail. Throws ArgumentError if it does not, and what it fails with if that says something else. */
export async function refusal(folder: Folder, refused: string, run: () => Promise<unknown>): Promise<string> {
  const message = await run().then(
    () => undefined,
    (error: unknown) => {
      if (error instanceof HalfstepError && error.message.includes(refused)) return error.message;
      throw error;
    },
  );
  if (message !== undefined) return `it is refused, as it has to be: ${message}`;
  throw new ArgumentError(`${folder.name}: was not refused; ${caseFile} says that it has to be, with "${refused}".`);
}
