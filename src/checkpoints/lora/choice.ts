import { type Check, isObject, listOf, must, number, text } from "../../checks.ts";
import { ArgumentError } from "../../errors.ts";
import type { ByteSource, Folder } from "../files.ts";

/** A LoRA file and its scale. */
export interface LoraChoice {
  /** A safetensors file: a path in Node, a URL in a browser. */
  file: string;
  /** From -100 to 100; 1 unless given, which is how it was trained. */
  scale?: number;
}

const MOST_LORAS = 32;

const choice: Check = (value, name) => {
  must("an object with a file", isObject)(value, name);
  const { file, scale, ...rest } = value as Record<string, unknown>;
  text(file, `${name}.file`);
  if (scale !== undefined) number(-100, 100)(scale, `${name}.scale`);
  const [other] = Object.keys(rest);
  if (other !== undefined)
    throw new ArgumentError(`${name}: there is no "${other.slice(0, 60)}"; a LoRA has file and scale.`);
};

export const lorasCheck: Check = listOf(choice, { most: MOST_LORAS });

/** A pipeline's folder with these LoRAs applied; `open` opens a file. */
export async function withChosenLoras(
  folder: Folder,
  choices: readonly LoraChoice[] = [],
  open: (file: string) => Promise<ByteSource>,
): Promise<Folder> {
  if (choices.length === 0) return folder;
  const [{ LoraFile }, { withLoraFiles }] = await Promise.all([import("./file.ts"), import("./folder.ts")]);
  const loras = [];
  for (const { file, scale = 1 } of choices) loras.push({ lora: await LoraFile.open(await open(file)), scale });
  return withLoraFiles(folder, loras);
}
