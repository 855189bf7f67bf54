/** Every gradient rule against central finite differences: `npm run bench -- gradients`. */
import { writeFile } from "node:fs/promises";
import { Command } from "commander";
import { machine, printMachine } from "../src/cli/machine.ts";
import { gradientTable } from "../test/support/gradient-error.ts";

export function gradientsCommand(): Command {
  return new Command("gradients")
    .description("each operator's gradient against finite differences")
    .option("--json <file>", "write the table to a file too")
    .action(async ({ json }: { json?: string }) => {
      const where = machine();
      printMachine(where, 1);
      const rows = await gradientTable();
      console.log("operator             cases  largest error  in the case");
      for (const { operator, cases, error, worst } of rows) {
        console.log(
          `${operator.padEnd(20)} ${String(cases).padStart(5)}  ${error.toExponential(1).padStart(13)}  ${worst}`,
        );
      }
      if (json)
        await writeFile(json, `${JSON.stringify({ bench: "gradients", machine: where, seed: 1, rows }, null, 2)}\n`);
    });
}
