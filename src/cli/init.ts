import { Command, Option } from "commander";
import { ArgumentError } from "../errors.ts";
import { initModel, presets } from "../init/init-node.ts";
import { checkFolder } from "../media/output-node.ts";
import { printResult } from "./json.ts";
import { numberBetween } from "./numbers.ts";
import { about, addOptions, type OutputOptions, outputOptions, shortNumber } from "./options.ts";
import { printUnlessQuiet } from "./terminal.ts";

const storage = { fp32: "F32", fp16: "F16", bf16: "BF16" } as const;

interface Options extends OutputOptions {
  out: string;
  seed: number;
  dtype: keyof typeof storage;
}

export function initCommand(): Command {
  const command = new Command("init")
    .description("write a model's folder with random weights, for measuring or training")
    .argument("<geometry>", `one of ${[...presets.keys()].join(", ")}`)
    .requiredOption("--out <folder>", "where to write it; a new or an empty folder")
    .option("--seed <n>", "seed of the weights", numberBetween(0, Number.MAX_SAFE_INTEGER, { whole: true }), 0)
    .addOption(new Option("--dtype <type>", "how weights are stored").choices(Object.keys(storage)).default("fp32"));
  return addOptions(command, outputOptions("what was written", { force: false })).action(init);
}

async function init(geometry: string, { out, seed, dtype, json }: Options): Promise<void> {
  const config = presets.get(geometry);
  if (!config) {
    throw new ArgumentError(`There is no geometry "${geometry}"; choose one of ${[...presets.keys()].join(", ")}.`);
  }
  await about("--out", () => checkFolder(out));
  const { parameters, bytes } = await initModel(out, config, { seed, dtype: storage[dtype] });
  if (json) {
    await printResult("init", { out, class: config["_class_name"], geometry, seed, dtype, parameters, bytes });
    return;
  }
  await printUnlessQuiet(
    `${out}: ${config["_class_name"]}, ${shortNumber(parameters)} random parameters, ${shortNumber(bytes, "B")} as ${dtype}`,
  );
}
