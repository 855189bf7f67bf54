import { join } from "node:path";
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

interface VerifyCommandOptions {
  tolerance?: number;
  blocks?: boolean;
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
    .argument("<folder...>", "models, schedulers, noise or pipelines with recorded inputs and outputs")
    .option(
      "--tolerance <error>",
      "largest error that passes (1e-4; whole pipelines 1e-3; noise 1e-6)",
      numberBetween(0, 1e6),
    )
    .option("--blocks", "show states in between too, to find where two implementations part")
    .addOption(variantOption())
    .addOption(providerOption())
    .addOption(threadsOption());
  return addOptions(command, outputOptions("one object a folder", { force: false })).action(verify);
}

async function verify(folders: string[], options: VerifyCommandOptions): Promise<void> {
  for (const path of folders) {
    try {
      const result = await verifyOne(path, options);
      if (!result.pass) process.exitCode = 1;
      if (options.json) await printResult("verify", result);
      else await print(reportOf(path, result));
    } catch (error) {
      // Errors that are not about the folder end the command.
      if (!(error instanceof HalfstepError) || error instanceof Interrupted || folders.length === 1) throw error;
      process.exitCode = 1;
      const { name, message } = error;
      if (options.json) await printResult("verify", { folder: path, pass: false, error: { name, message } });
      else await print(`FAIL  ${path}  ${name}: ${message}`);
    }
  }
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
      `ok    ${path}  ${result.class}  (no reference tensors to compare with; what was checked:)`,
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
