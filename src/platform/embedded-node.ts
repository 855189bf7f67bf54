/** Models that come with the package, in its folder `checkpoints`. */
import { existsSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of an embedded model, or undefined if there is none of that name. */
export function embeddedModel(name: string): string | undefined {
  if (!/^[\w.-]+$/.test(name)) return undefined;
  for (const place of places()) if (existsSync(join(place, name, "model_index.json"))) return join(place, name);
  return undefined;
}

/** All that come with the package, by name. */
export function embeddedModels(): { name: string; path: string }[] {
  const folder = embeddedModel("fluent-emoji");
  const names = folder === undefined ? [] : readdirSync(dirname(folder)).sort();
  return names.flatMap((name) => {
    const path = embeddedModel(name);
    return path === undefined ? [] : [{ name, path }];
  });
}

/**
 * Beside this file, which is in dist/ or in src/platform/; and where npm puts the package, seen from a program that halfstep
 * has been bundled into. Paths and not `new URL(path, import.meta.url)`: bundlers take that for a file to copy.
 */
function* places(): Generator<string> {
  const here = folderOfThisFile();
  if (here) yield* ["../checkpoints", "../../checkpoints"].map((path) => join(here, path));
  const program = process.argv[1];
  for (const start of [here, program && dirname(program), process.cwd()]) {
    if (start) for (const folder of upwards(start)) yield join(folder, "node_modules", "halfstep", "checkpoints");
  }
}

/** Undefined in a bundle of CommonJS, which knows no `import.meta.url`. */
function folderOfThisFile(): string | undefined {
  const { url } = import.meta;
  return url?.startsWith("file:") ? dirname(fileURLToPath(url)) : undefined;
}

function* upwards(folder: string): Generator<string> {
  yield folder;
  const parent = dirname(folder);
  if (parent !== folder) yield* upwards(parent);
}
