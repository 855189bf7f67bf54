/** Prompts from the command line, from a file, or from a pipe. */
import { open } from "node:fs/promises";
import { ArgumentError } from "../errors.ts";
import { note } from "./terminal.ts";

const MOST_PROMPTS = 10_000;
const MOST_BYTES = 16 * 2 ** 20;

/** The arguments, and the lines of `file` ("-" is stdin). Throws ArgumentError if there are none, or too many. */
export async function readPrompts(given: readonly string[], file: string | undefined): Promise<string[]> {
  const prompts = [...given, ...(file === undefined ? [] : await readLines("--prompts", file))];
  if (prompts.length === 0) throw new ArgumentError('There is no prompt: halfstep generate "a red apple".');
  if (prompts.length > MOST_PROMPTS) {
    throw new ArgumentError(`There are ${prompts.length} prompts; at most ${MOST_PROMPTS} are taken at a time.`);
  }
  if (given.length > 1 && given.every((prompt) => !/\s/.test(prompt.trim()))) {
    note(
      `Note: these are ${given.length} prompts of one word. One prompt of several words needs quotes: "${given.join(" ")}".`,
    );
  }
  return prompts;
}

/** Lines of a text file, or of stdin, that are not empty. Throws ArgumentError with the option's name. */
export async function readLines(option: string, file: string): Promise<string[]> {
  const name = file === "-" ? "stdin" : file;
  const bytes = file === "-" ? await readStdin(option) : await readFileLimited(option, file);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new ArgumentError(`${option} ${name}: it is not text in UTF-8.`);
  }
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const filled = lines.filter((line) => line !== "");
  if (filled.length > 0) return filled;
  throw new ArgumentError(`${option} ${name}: has no lines with text.`);
}

async function readFileLimited(option: string, path: string): Promise<Uint8Array> {
  try {
    const file = await open(path);
    try {
      // A pipe or a device has no size, so count the bytes that are read.
      const stats = await file.stat();
      if (stats.isDirectory()) throw new ArgumentError(`${option} ${path}: it is a folder.`);
      return await joined(option, path, file.createReadStream({ autoClose: false }));
    } finally {
      await file.close();
    }
  } catch (cause) {
    if (cause instanceof ArgumentError) throw cause;
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const reason = missing ? "there is no such file" : `it cannot be read (${(cause as Error).message})`;
    throw new ArgumentError(`${option} ${path}: ${reason}.`, { cause });
  }
}

async function readStdin(option: string): Promise<Uint8Array> {
  if (process.stdin.isTTY) note("Prompts, one a line; Ctrl-D ends them.");
  return joined(option, "stdin", process.stdin);
}

async function joined(option: string, name: string, stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of stream) {
    bytes += part.length;
    if (bytes > MOST_BYTES) throw new ArgumentError(`${option} ${name}: it has more than ${MOST_BYTES} bytes.`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}
