import { Command } from "commander";
import { cacheDirectory } from "../checkpoints/hub.ts";
import { type CachedModel, folderBytes, listCachedModels, removeCachedModel } from "../checkpoints/hub-models.ts";
import { ArgumentError } from "../errors.ts";
import { embeddedModels } from "../platform/embedded-node.ts";
import { printResult } from "./json.ts";
import { addOptions, outputOptions, shortNumber } from "./options.ts";
import { print } from "./terminal.ts";

export function modelsCommand(): Command {
  return new Command("models")
    .description("the models on this machine: those of the package, and those downloaded from the Hub")
    .addCommand(
      addOptions(
        new Command("list").description("names, sizes and revisions (what `halfstep models` does)"),
        outputOptions("it", { force: false }),
      ).action(list),
      { isDefault: true },
    )
    .addCommand(
      addOptions(
        new Command("remove")
          .description("remove downloaded models, all of their revisions")
          .argument("<name...>", "owner/name"),
        outputOptions("what was removed", { force: false }),
      ).action(remove),
    );
}

async function list({ json }: { json?: boolean }): Promise<void> {
  const embedded = await Promise.all(
    embeddedModels().map(async (model) => ({ ...model, bytes: await folderBytes(model.path) })),
  );
  const cached = await listCachedModels();
  const cache = cacheDirectory();
  if (json) return printResult("models list", { cache, embedded, cached });
  const rows = [
    ...embedded.map(({ name, bytes }) => [name, size(bytes), "comes with the package"]),
    ...cached.map((model) => [model.name, size(model.bytes), describe(model)]),
  ];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const [name, bytes, note] of rows) {
    await print(`${name!.padEnd(widths[0]!)}  ${bytes!.padStart(widths[1]!)}  ${note}`);
  }
  const total = cached.reduce((sum, { bytes }) => sum + bytes, 0);
  const count = cached.length === 1 ? "1 downloaded model" : `${cached.length} downloaded models`;
  await print(`\n${count}, ${size(total)}, in ${cache}`);
}

const size = (bytes: number) => shortNumber(bytes, "B");

function describe({ endpoint, revisions, incompleteBytes }: CachedModel): string {
  const commits = revisions.map(({ commit, names }) => [...names, commit.slice(0, 7)].join(" "));
  const notes = [
    ...(commits.length > 0 ? [commits.join(", ")] : []),
    ...(endpoint === "huggingface.co" ? [] : [endpoint === null ? "cache of version 0.1" : `from ${endpoint}`]),
    ...(incompleteBytes > 0 ? [`${size(incompleteBytes)} of it not whole yet`] : []),
  ];
  return notes.join("; ");
}

async function remove(names: readonly string[], { json }: { json?: boolean }): Promise<void> {
  const embedded = names.find((name) => embeddedModels().some((model) => model.name === name));
  if (embedded !== undefined) throw new ArgumentError(`${embedded} comes with the package and cannot be removed.`);
  const removed: CachedModel[] = [];
  for (const name of new Set(names)) removed.push(...(await removeCachedModel(name)));
  if (json) return printResult("models remove", { removed });
  for (const { name, bytes } of removed) await print(`${name}: removed, ${size(bytes)}`);
}
