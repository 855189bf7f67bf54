import { Command, Option } from "commander";
import { classNameOf, readConfig, readModelIndex } from "../checkpoints/diffusers-folder.ts";
import type { Folder } from "../checkpoints/files.ts";
import { OpenedFolder } from "../checkpoints/opened-folder.ts";
import { writeFolder } from "../checkpoints/write-folder-node.ts";
import { ArgumentError } from "../errors.ts";
import { checkFolder, isFreeFolder } from "../media/output-node.ts";
import { defined } from "../options/defined.ts";
import { platform } from "../platform/node.ts";
import { printResult } from "./json.ts";
import {
  about,
  addOptions,
  type OutputOptions,
  outputOptions,
  type SourceOptions,
  shortNumber,
  sourceOf,
  sourceOptions,
} from "./options.ts";
import { interruptible, printUnlessQuiet, showStatus } from "./terminal.ts";

const storage = { fp32: "F32", fp16: "F16", bf16: "BF16" } as const;

interface Options extends OutputOptions, SourceOptions {
  out: string;
  dtype?: keyof typeof storage;
}

export function convertCommand(): Command {
  const command = new Command("convert")
    .description(
      "write a model as a folder in diffusers' layout: from one file, with LoRAs merged, in another precision",
    )
    .argument(
      "<model>",
      "file of Stable Diffusion 1, 2 or XL (.safetensors, .gguf) or of a motion adapter, folder or Hub id",
    )
    .requiredOption("--out <folder>", "where to write it; a new or an empty folder")
    .addOption(new Option("--dtype <type>", "how weights are stored (as they are)").choices(Object.keys(storage)));
  addOptions(command, sourceOptions());
  return addOptions(command, outputOptions("what was written", { force: false })).action(convert);
}

async function convert(model: string, { out, dtype, json, ...source }: Options): Promise<void> {
  await about("--out", async () => {
    await checkFolder(out);
    if (!(await isFreeFolder(out))) {
      throw new ArgumentError(`${out}: it is not empty; a converted model needs a folder of its own.`);
    }
  });
  await interruptible("nothing was written.", async (signal) => {
    showStatus(`reading ${model}`);
    const folder = await platform.resolveModel(model, { ...sourceOf(source), signal });
    const className = await classOf(folder);
    const { bytes } = await writeFolder(out, folder, {
      ...defined({ dtype: dtype && storage[dtype], variant: source.variant }),
      signal,
      onFile: (path) => showStatus(`writing ${path}`),
    });
    if (json) await printResult("convert", { model, out, class: className, dtype: dtype ?? null, bytes });
    else await printUnlessQuiet(`${out}: ${className}, ${shortNumber(bytes, "B")}`);
  });
}

/** A motion adapter is a component alone. */
async function classOf(folder: Folder): Promise<string> {
  const config = folder instanceof OpenedFolder ? await readConfig(folder) : null;
  return (config && classNameOf(config)) ?? (await readModelIndex(folder)).className;
}
