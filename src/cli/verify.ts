import { join } from "node:path";
import { Command } from "commander";
import { checkLocal } from "../checkpoints/local-model-node.ts";
import { NodeFolder } from "../checkpoints/node.ts";
import { nodeRuntime } from "../runtime/node.ts";
import type { Provider } from "../runtime/runtime.ts";
import { verifyFolder } from "../verify/verify-folder.ts";
import { numberBetween } from "./numbers.ts";
import { providerOption, threadsOption, variantOption } from "./options.ts";

interface VerifyCommandOptions {
  tolerance?: number;
  blocks?: boolean;
  variant?: string;
  provider: Provider;
  threads?: number;
  json?: boolean;
}

export function verifyCommand(): Command {
  return new Command("verify")
    .description("compare a checkpoint folder with the reference tensors in its io.safetensors")
    .argument("<folder...>", "models, schedulers, noise or pipelines with recorded inputs and outputs")
    .option(
      "--tolerance <error>",
      "largest error that passes (1e-4; whole pipelines 1e-3; noise 1e-6)",
      numberBetween(0, 1e6),
    )
    .option("--blocks", "show states in between too, to find where two implementations part")
    .addOption(variantOption())
    .addOption(providerOption())
    .addOption(threadsOption())
    .option("--json", "print one JSON object a folder")
    .action(verify);
}

async function verify(folders: string[], options: VerifyCommandOptions): Promise<void> {
  for (const path of folders) {
    const { tolerance, blocks, threads, provider, variant } = options;
    const folder = new NodeFolder(path);
    await checkLocal(folder, { variant });
    const result = await verifyFolder(folder, nodeRuntime, {
      provider,
      beside: (other) => new NodeFolder(join(path, other)),
      ...(tolerance === undefined ? {} : { tolerance }),
      ...(blocks ? { blocks } : {}),
      ...(variant === undefined ? {} : { variant }),
      ...(threads ? { threads } : {}),
    });
    if (!result.pass) process.exitCode = 1;
    if (options.json) {
      console.log(JSON.stringify(result));
      continue;
    }
    console.log(`${result.pass ? "pass" : "FAIL"}  ${path}  ${result.class}`);
    const lines = [...result.outputs, ...(result.blocks ?? [])];
    const width = Math.max(...lines.map(({ name }) => name.length));
    for (const { name, maxAbs, relative } of lines) {
      console.log(
        `      ${name.padEnd(width)}  largest error ${maxAbs.toExponential(2)}  relative ${relative.toExponential(2)}`,
      );
    }
  }
}
