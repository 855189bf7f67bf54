import { Command, Option } from "commander";
import {
  benchMemory,
  checkBudgets,
  type MemoryBenchOptions,
  measureMode,
  streamlinedGeometries,
} from "./bench-streamlined-geometry.ts";
import { machine, printMachine } from "./machine.ts";
import { numberBetween, threadsOption } from "./options.ts";

interface Options extends MemoryBenchOptions {
  geometry: string;
  only?: string;
  out?: string;
}

export function benchStreamlinedCommand(): Command {
  const whole = (least: number, most: number) => numberBetween(least, most, { whole: true });
  return new Command("streamlined")
    .description("peak memory and time of video networks by budget")
    .addOption(
      new Option("--geometry <name>", "one call with guidance of a network of this size with random weights")
        .choices(streamlinedGeometries)
        .default("animatediff-512"),
    )
    .option("--budgets <list>", 'with --geometry: budgets to keep to, "2GB,6GB"')
    .option("--seed <n>", "of weights and inputs", whole(0, 2 ** 31), 0)
    .addOption(threadsOption())
    .addOption(new Option("--only <mode>", "one mode, in this process").hideHelp())
    .addOption(new Option("--out <file>", "where that puts what the network gave").hideHelp())
    .option("--json", "print the rows as JSON")
    .action(run);
}

async function run({ geometry, only, out, ...options }: Options): Promise<void> {
  if (only !== undefined && out !== undefined) {
    await measureMode(geometry, only, out, options);
    return;
  }
  if (options.budgets !== undefined) checkBudgets(options.budgets);
  const where = machine();
  if (!options.json) printMachine(where, options.seed);
  const rows = await benchMemory(geometry, options);
  if (options.json) console.log(JSON.stringify({ machine: where, geometry, seed: options.seed, rows }));
}
