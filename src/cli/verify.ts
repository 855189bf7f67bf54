import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { Command } from "commander";
import { checkLocal } from "../checkpoints/local-model-node.ts";
import { NodeFolder } from "../checkpoints/node.ts";
import { HalfstepError } from "../errors.ts";
import { nodeRuntime } from "../runtime/node.ts";
import type { Provider } from "../runtime/runtime.ts";
import { type Verification, verifyFolder } from "../verify/verify-folder.ts";
import { printResult } from "./json.ts";
import { numberBetween } from "./numbers.ts";
import { addOptions, outputOptions, providerOption, threadsOption, variantOption } from "./options.ts";
import { Interrupted, print } from "./terminal.ts";
import { failedRow, tableHead, tableRows } from "./verify-table.ts";

interface VerifyCommandOptions {
  tolerance?: number;
  blocks?: boolean;
  markdown?: boolean;
  variant?: string;
  provider: Provider;
  threads?: number;
  json?: boolean;
}

export function verifyCommand(): Command {
  const command = new Command("verify")
    .description(
      "compare a checkpoint folder with the reference tensors in its io.safetensors, or check what can be checked without",
    )
    .argument(
      "<folder...>",
      "models, schedulers, noise or pipelines with recorded inputs and outputs, or a folder of such",
    )
    .option(
      "--tolerance <error>",
      "largest error that passes (1e-4; whole pipelines 1e-3; noise 1e-6)",
      numberBetween(0, 1e6),
    )
    .option("--blocks", "show states in between too, to find where two implementations part")
    .option("--markdown", "print a table in Markdown, a row for each recorded run")
    .addOption(variantOption())
    .addOption(providerOption())
    .addOption(threadsOption());
  return addOptions(command, outputOptions("one object a folder", { force: false })).action(verify);
}

async function verify(given: string[], options: VerifyCommandOptions): Promise<void> {
  const folders = (await Promise.all(given.map(casesIn))).flat();
  const started = performance.now();
  const name = (path: string) => (given.length === 1 ? basename(path) : path);
  let passed = 0;
  if (options.markdown) await print(tableHead.join("\n"));
  for (const path of folders) {
    try {
      const result = await verifyOne(path, options);
      if (result.pass) passed++;
      else process.exitCode = 1;
      if (options.json) await printResult("verify", result);
      else await print(options.markdown ? tableRows(name(path), result).join("\n") : reportOf(path, result));
    } catch (error) {
      // Errors that are not about the folder end the command.
      if (!(error instanceof HalfstepError) || error instanceof Interrupted || folders.length === 1) throw error;
      process.exitCode = 1;
      const { name: kind, message } = error;
      if (options.json) await printResult("verify", { folder: path, pass: false, error: { name: kind, message } });
      else await print(options.markdown ? failedRow(name(path), message) : `FAIL  ${path}  ${kind}: ${message}`);
    }
  }
  if (folders.length === 1 || options.json) return;
  const seconds = Math.round((performance.now() - started) / 1000);
  await print(`${options.markdown ? "\n" : ""}${passed} of ${folders.length} folders pass; ${seconds} s.`);
}

/** What makes a folder something to verify. */
const signs = ["model_index.json", "config.json", "scheduler_config.json", "case.json", "call.json", "calls.json"];

/** The folder itself, or those in it if it holds nothing to verify but they do. */
async function casesIn(path: string): Promise<string[]> {
  const isCase = async (folder: string) => {
    const names = await readdir(folder).catch(() => []);
    return names.some((name) => signs.includes(name) || name === "io.safetensors");
  };
  if (await isCase(path)) return [path];
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  const inside = entries.filter((entry) => entry.isDirectory()).map((entry) => join(path, entry.name));
  const cases: string[] = [];
  for (const folder of inside.sort()) if (await isCase(folder)) cases.push(folder);
  return cases.length > 0 ? cases : [path];
}

async function verifyOne(path: string, options: VerifyCommandOptions): Promise<Verification> {
  const { tolerance, blocks, threads, provider, variant } = options;
  const folder = new NodeFolder(path);
  await checkLocal(folder, { variant });
  return verifyFolder(folder, nodeRuntime, {
    provider,
    beside: (other) => new NodeFolder(join(path, other)),
    ...{ tolerance, blocks, variant, threads },
  });
}

function reportOf(path: string, result: Verification): string {
  if (result.checks) {
    return [
      `ok    ${path}  ${result.class}  (no reference tensors were compared with; what was checked:)`,
      ...result.checks,
    ].join("\n      ");
  }
  const lines = [...result.outputs, ...(result.blocks ?? [])];
  const width = Math.max(...lines.map(({ name }) => name.length));
  return [
    `${result.pass ? "pass" : "FAIL"}  ${path}  ${result.class}`,
    ...lines.map(
      ({ name, maxAbs, relative }) =>
        `      ${name.padEnd(width)}  largest error ${maxAbs.toExponential(2)}  relative ${relative.toExponential(2)}`,
    ),
  ].join("\n");
}
