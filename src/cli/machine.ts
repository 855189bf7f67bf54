/** The machine and the versions that a figure was measured on. */
import { readFileSync } from "node:fs";
import { arch, cpus, platform, release, totalmem } from "node:os";
import { nodeRuntime } from "../runtime/node.ts";
import { print } from "./terminal.ts";

export interface Machine {
  readonly cpu: string;
  /** The widest vector and matrix instructions that ONNX Runtime could use, such as "AVX-512 VNNI, AMX". */
  readonly instructions: string;
  readonly cores: number;
  readonly memory: string;
  readonly system: string;
  readonly node: string;
  readonly onnxruntime: string;
}

export function machine(): Machine {
  const cores = cpus();
  return {
    cpu: cores[0]?.model.trim() || "unknown",
    instructions: instructionSet(),
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

/** From the CPU flags that the kernel reports, or only from the architecture if it reports none. */
function instructionSet(): string {
  const flags = new Set(cpuFlags());
  const found = [
    ["avx512_vnni", "AVX-512 VNNI"],
    ["avx512f", "AVX-512"],
    ["avx2", "AVX2"],
    ["asimd", "NEON"],
  ].find(([flag]) => flags.has(flag!));
  const vectors = found?.[1] ?? (arch() === "arm64" ? "NEON" : arch());
  return flags.has("amx_int8") ? `${vectors}, AMX` : vectors;
}

function cpuFlags(): readonly string[] {
  try {
    const [, flags = ""] = /^(?:flags|Features)\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8")) ?? [];
    return flags.trim().split(/\s+/);
  } catch {
    return []; // Not Linux.
  }
}

export async function printMachine(
  { cpu, instructions, cores, memory, system, node, onnxruntime }: Machine,
  seed: number,
): Promise<void> {
  await print(`${cpu} (${instructions}), ${cores} cores, ${memory}, ${system}`);
  await print(`node ${node}, onnxruntime ${onnxruntime}, seed ${seed}\n`);
}
