/** The machine and the versions that a figure was measured on. */
import { readFileSync } from "node:fs";
import { cpus, platform, release, totalmem } from "node:os";
import { nodeRuntime } from "../runtime/node.ts";
import { print } from "./terminal.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory: string;
  readonly system: string;
  readonly node: string;
  readonly onnxruntime: string;
}

export function machine(): Machine {
  const cores = cpus();
  return {
    cpu: cores[0]?.model ?? "unknown",
    cores: cores.length,
    memory: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    system: distribution() ?? `${platform()} ${release()}`,
    node: process.version,
    onnxruntime: nodeRuntime.version,
  };
}

function distribution(): string | undefined {
  try {
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
  } catch {
    return undefined; // Not Linux.
  }
}

export async function printMachine(
  { cpu, cores, memory, system, node, onnxruntime }: Machine,
  seed: number,
): Promise<void> {
  await print(`${cpu}, ${cores} cores, ${memory}, ${system}`);
  await print(`node ${node}, onnxruntime ${onnxruntime}, seed ${seed}\n`);
}
