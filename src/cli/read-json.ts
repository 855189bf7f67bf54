import { readFile } from "node:fs/promises";
import { ArgumentError } from "../errors.ts";

/** A JSON file; an error names it. */
export async function readJson(file: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    throw new ArgumentError(`${file} cannot be read: ${(error as Error).message}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ArgumentError(`${file} is not JSON: ${(error as Error).message}`);
  }
}
