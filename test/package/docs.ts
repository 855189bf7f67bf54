/** The code in the documentation. */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { root } from "./run.ts";

export interface Snippet {
  readonly language: string;
  /** The file that it is, where the documentation says so after the language. */
  readonly file: string | undefined;
  readonly code: string;
}

/** The blocks of code in a document, or below one of its headings. */
export async function snippets(document: string, heading?: string): Promise<Snippet[]> {
  const text = await readFile(join(root, document), "utf8");
  const sections = text.split(/^## /m);
  const section = heading === undefined ? text : sections.find((each) => each.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`${document} has no heading "${heading}"`);
  return [...section.matchAll(/^```(\w+)(?: (\S+))?\n(.*?)^```$/gms)].map(([, language, file, code]) => ({
    language: language!,
    file,
    code: code!,
  }));
}

/** Writes the files below a heading into a new folder of a project, and gives the folder. */
export async function writeApp(project: string, name: string, document: string, heading: string): Promise<string> {
  const folder = join(project, name);
  for (const { file, code } of await snippets(document, heading)) {
    if (file !== undefined) await writeIn(folder, file, code);
  }
  return folder;
}

export async function writeIn(folder: string, file: string, text: string): Promise<void> {
  await mkdir(dirname(join(folder, file)), { recursive: true });
  await writeFile(join(folder, file), text);
}
