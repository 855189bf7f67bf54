/** Every figure that the documentation quotes: `npm run bench -- engine`, `npm run bench -- --help`. */
import { writeFile } from "node:fs/promises";
import { Command } from "commander";
import { benchIlfCommand } from "../src/cli/bench/ilf.ts";
import { machine, printMachine } from "../src/cli/machine.ts";
import { engineCommand } from "./engine.ts";
import { explorationCommand } from "./exploration.ts";
import { gradientsCommand } from "./gradients.ts";
import { type Figure, holds, printFigure } from "./report.ts";
import { trainerCommand } from "./trainer.ts";
import { workerCommand } from "./worker.ts";

/** Runs a bench: prints each figure as it comes, and writes all of them to `json` if asked. */
export async function report(
  bench: string,
  figures: AsyncIterable<Figure>,
  { seed, json }: { seed: number; json?: string },
): Promise<void> {
  const where = machine();
  printMachine(where, seed);
  const all: (Figure & { holds?: boolean })[] = [];
  for await (const figure of figures) {
    printFigure(figure);
    const met = holds(figure);
    all.push({ ...figure, ...(met === undefined ? {} : { holds: met }) });
  }
  if (json) await writeFile(json, `${JSON.stringify({ bench, machine: where, seed, figures: all }, null, 2)}\n`);
}

await new Command("bench")
  .description("halfstep's figures, printed with machine, versions and seed")
  .addCommand(engineCommand(report))
  .addCommand(explorationCommand(report))
  .addCommand(gradientsCommand())
  .addCommand(trainerCommand(report))
  .addCommand(workerCommand(report))
  .addCommand(benchIlfCommand())
  .parseAsync();
