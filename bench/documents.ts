/** The documents that quote results. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { benches } from "./benches.ts";
import { filled, type Source } from "./markdown.ts";
import { readResult, root } from "./result.ts";

/** README.md, CONTRIBUTING.md and everything in docs/, sorted. docs/api is made from the sources. */
export async function documents(): Promise<string[]> {
  const names = await readdir(join(root, "docs"), { recursive: true });
  const written = names.filter((name) => name.endsWith(".md") && !name.startsWith("api/"));
  return ["README.md", "CONTRIBUTING.md", ...written.map((name) => `docs/${name}`).sort()].map((name) =>
    join(root, name),
  );
}

/** Throws an error for a bench that is not there, or has no result. */
export function sourceOf(name: string): Source {
  const bench = benches.find((each) => each.name === name);
  if (!bench) throw new Error(`There is no bench "${name}"; there are ${benches.map((each) => each.name).join(", ")}.`);
  return { tables: bench.tables, result: readResult(name) };
}

export const filledDocument = (text: string): string => filled(text, sourceOf);
