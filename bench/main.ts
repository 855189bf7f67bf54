/** `npm run bench` lists what can be measured; `npm run bench -- NAME` measures it, and with --record keeps the result. */
import { Command } from "commander";
import { versions } from "../src/cli/json.ts";
import { machine, printMachine } from "../src/cli/machine.ts";
import { numberBetween } from "../src/cli/numbers.ts";
import type { Bench, CommonOptions, Context } from "./bench.ts";
import { benches } from "./benches.ts";
import { isFigure, printFigure } from "./report.ts";
import { type Row, writeResult } from "./result.ts";
import { markdownTable } from "./table.ts";

interface Options extends CommonOptions {
  record?: boolean;
  note?: string;
}

function commandOf(bench: Bench): Command {
  const command = new Command(bench.name).description(`${bench.summary}; takes about ${bench.time}`);
  bench.options?.(command);
  return command
    .option("--seed <n>", "of weights, inputs, or the first image", numberBetween(0, 2 ** 31, { whole: true }), 0)
    .option("--record", `keep the result in bench/results/${bench.name}.json, which the documentation quotes`)
    .option("--note <text>", "with --record: what a reader should know about this run")
    .action(() => measure(bench, { ...command.opts<Options>(), args: command.args }));
}

async function measure(bench: Bench, options: Options): Promise<void> {
  const { node: _node, onnxruntime: _onnxruntime, ...where } = machine();
  const peers: Record<string, string> = {};
  const commands: string[] = [];
  const rows: Row[] = [];
  await printMachine(machine(), options.seed);
  const context: Context = {
    peer(name, version) {
      peers[name] = version;
    },
    ran(command) {
      commands.push(command);
    },
  };
  for await (const row of bench.run(options, context)) {
    rows.push(row);
    if (isFigure(row)) printFigure(row);
  }
  const [table] = Object.values(bench.tables);
  if (table && !rows.every(isFigure)) console.log(markdownTable(table, rows));
  if (!options.record) return;
  const file = await writeResult({
    bench: bench.name,
    commands:
      commands.length > 0 ? commands : [["npm run bench --", ...process.argv.slice(2).filter(isOfTheBench)].join(" ")],
    date: new Date().toISOString().slice(0, 10),
    machine: where,
    versions: { ...versions(), ...peers },
    seed: options.seed,
    ...(options.note === undefined ? {} : { note: options.note }),
    rows,
  });
  console.log(`\n${file}: npm run docs:tables puts it into the documentation.`);
}

/** --record and its note are about the file. */
const isOfTheBench = (word: string, i: number, words: readonly string[]) =>
  word !== "--record" && word !== "--note" && words[i - 1] !== "--note";

function listOf(all: readonly Bench[]): string {
  const width = (key: "name" | "time") => Math.max(...all.map((bench) => bench[key].length));
  const line = ({ name, time, summary }: Pick<Bench, "name" | "time" | "summary">) =>
    `  ${name.padEnd(width("name"))}  ${time.padStart(Math.max(4, width("time")))}  ${summary}`;
  return [
    "npm run bench -- NAME [options]     --help shows the options; --record keeps the result in bench/results/",
    "",
    line({ name: "name", time: "time", summary: "what is measured (times are about those of two cores)" }),
    ...all.map(line),
  ].join("\n");
}

const program = new Command("bench").description("halfstep's figures, with machine, versions and seed");
for (const bench of benches) program.addCommand(commandOf(bench));
if (process.argv.length > 2) await program.parseAsync();
else console.log(listOf(benches));
