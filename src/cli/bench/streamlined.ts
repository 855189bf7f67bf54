import { Command, Option } from "commander";
import { printResult } from "../json.ts";
import { machine, printMachine } from "../machine.ts";
import { countBetween, numberBetween } from "../numbers.ts";
import {
  addOptions,
  type OutputOptions,
  outputOptions,
  revisionOption,
  threadsOption,
  variantOption,
} from "../options.ts";
import { interruptible, print } from "../terminal.ts";
import {
  benchMemory,
  checkBudgets,
  type MemoryBenchOptions,
  measureMode,
  streamlinedGeometries,
} from "./streamlined-geometry.ts";
import { benchModel, type ModelBenchOptions, rehashRowText } from "./streamlined-model.ts";

interface Options extends MemoryBenchOptions, Omit<ModelBenchOptions, "model">, OutputOptions {
  geometry: string;
  model?: string;
  only?: string;
  out?: string;
}

export function benchStreamlinedCommand(): Command {
  const command = new Command("streamlined")
    .description("peak memory and time of video networks by budget; Step Rehash beside fewer steps")
    .addOption(
      new Option("--geometry <name>", "one call with guidance of a network of this size with random weights")
        .choices(streamlinedGeometries)
        .default("animatediff-512"),
    )
    .option("--budgets <list>", 'with --geometry: budgets to keep to, "2GB,6GB"')
    .option(
      "-m, --model <name>",
      "Step Rehash beside fewer steps and noise that is used again, on a text-to-video model",
    )
    .option("--samples <n>", "with --model: videos of each mode", countBetween(2, 100_000), 64)
    .option("--steps <n>", "with --model: solver steps", countBetween(2, 1000), 25)
    .option("--frames <n>", "with --model: of a video", countBetween(1, 1024), 16)
    .option("--guidance <scale>", "with --model: how closely to follow the prompt (its own)", numberBetween(0, 100))
    .option("--schedule <steps...>", "with --model: which steps are full; a row each (animate's)")
    .option("--cut <feature>", "with --model: where rehash steps come back in")
    .option("--seed <n>", "of weights and inputs, or of the first video", countBetween(0, 2 ** 31), 0)
    .addOption(variantOption())
    .addOption(revisionOption())
    .addOption(threadsOption())
    .addOption(new Option("--only <mode>", "one mode, in this process").hideHelp())
    .addOption(new Option("--out <file>", "where that puts what the network gave").hideHelp());
  return addOptions(command, outputOptions("the rows", { force: false })).action(run);
}

async function run({ geometry, model, only, out, ...options }: Options): Promise<void> {
  if (only !== undefined && out !== undefined) {
    await measureMode(geometry, only, out, options);
    return;
  }
  if (options.budgets !== undefined) checkBudgets(options.budgets);
  const where = machine();
  if (!options.json) await printMachine(where, options.seed);
  if (model !== undefined) {
    const message = "not all videos were made, so there are no figures.";
    const rows = await interruptible(message, (signal) => benchModel({ ...options, model }, signal));
    if (options.json) await printResult("bench streamlined", { machine: where, model, seed: options.seed, rows });
    else await print(rows.map(rehashRowText).join("\n"));
    return;
  }
  const rows = await benchMemory(geometry, options);
  if (options.json) await printResult("bench streamlined", { machine: where, geometry, seed: options.seed, rows });
}
