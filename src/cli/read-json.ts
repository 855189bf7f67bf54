import { readFile } from "node:fs/promises";
import { checkJson } from "../checkpoints/json.ts";
import { ArgumentError, HalfstepError } from "../errors.ts";

/** Our tables and Gymnasium's are never nested this deeply; the memory is ten times that of the largest environment. */
const limits = { depth: 32, keys: 10_000_000, memory: 2 ** 31 };

/** Runs `work` on a file's content; its errors about the content name the file. */
export async function ofFile<T>(file: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ArgumentError) || error.message.startsWith(file)) throw error;
    throw new ArgumentError(`${file}: ${error.message}`);
  }
}

/** A JSON file; an error names it. What this project wrote itself (`own`) may be as large as it is. */
export async function readJson(file: string, { own = false } = {}): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    throw new ArgumentError(`${file} cannot be read: ${(error as Error).message}`);
  }
  try {
    checkJson(text, file, own ? { ...limits, memory: Infinity } : limits);
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof HalfstepError) throw new ArgumentError(error.message);
    // The message quotes the text, including line breaks.
    throw new ArgumentError(`${file} is not JSON: ${(error as Error).message.replace(/\s+/g, " ")}`);
  }
}
