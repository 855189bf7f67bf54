/** What every bench prints: the machine, the versions, the seed, then its figures against their bars. */
import { readFileSync } from "node:fs";
import { cpus, platform, release, totalmem } from "node:os";
import { nodeRuntime } from "../src/runtime/node.ts";

/** One measured figure. `value` is null where it could not be measured; `detail` says why, or from what it comes. */
export interface Figure {
  readonly name: string;
  readonly value: number | null;
  readonly unit?: string;
  readonly bar?: { readonly atLeast: number } | { readonly atMost: number };
  readonly detail: string;
}

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

/** Whether a figure meets its bar; undefined for one that has none or could not be measured. */
export function holds({ value, bar }: Figure): boolean | undefined {
  if (value === null || !bar) return undefined;
  return "atLeast" in bar ? value >= bar.atLeast : value <= bar.atMost;
}

export function printMachine({ cpu, cores, memory, system, node, onnxruntime }: Machine, seed: number): void {
  console.log(`${cpu}, ${cores} cores, ${memory}, ${system}`);
  console.log(`node ${node}, onnxruntime ${onnxruntime}, seed ${seed}\n`);
}

export function printFigure(figure: Figure): void {
  const { name, value, unit = "", bar, detail } = figure;
  const measured = value === null ? "not measured" : `${value.toFixed(2)}${unit}`;
  const wanted = bar ? ("atLeast" in bar ? `at least ${bar.atLeast}${unit}` : `at most ${bar.atMost}${unit}`) : "";
  const met = holds(figure);
  const verdict = met === undefined ? "" : met ? "holds" : "MISSED";
  console.log(`${name.padEnd(34)} ${measured.padStart(12)}  ${wanted.padEnd(16)} ${verdict}`);
  console.log(`    ${detail.replaceAll("\n", "\n    ")}`);
}
