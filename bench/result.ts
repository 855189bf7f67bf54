/**
 * The results that the documentation quotes: `bench/results/NAME.json`, one file a bench. `npm run docs:tables` makes the tables
 * and the figures of README.md and docs/ from them.
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Machine } from "../src/cli/machine.ts";

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** One line of a result. `id` is what the documentation calls it by: lower case, digits and hyphens. */
export interface Row {
  readonly id: string;
  readonly [key: string]: Json;
}

export interface Result {
  readonly bench: string;
  /** What has to be run to get these rows again. */
  readonly commands: readonly string[];
  /** Of the run: YYYY-MM-DD. */
  readonly date: string;
  readonly machine: Omit<Machine, "node" | "onnxruntime">;
  /** Of halfstep, Node, ONNX Runtime, and of what it was compared with. */
  readonly versions: Readonly<Record<string, string>>;
  readonly seed: number;
  /** What a reader should know about this run. */
  readonly note?: string;
  readonly rows: readonly Row[];
}

export const root = fileURLToPath(new URL("..", import.meta.url));
export const resultFile = (bench: string): string => join(root, "bench", "results", `${bench}.json`);

/** Throws an error that says how to make the file if it is not there. */
export function readResult(bench: string): Result {
  const file = resultFile(bench);
  if (!existsSync(file)) throw new Error(`${file} is not there: npm run bench -- ${bench} --record writes it.`);
  return JSON.parse(readFileSync(file, "utf8")) as Result;
}

export async function writeResult(result: Result): Promise<string> {
  const file = resultFile(result.bench);
  await mkdir(join(root, "bench", "results"), { recursive: true });
  await writeFile(file, resultText(result));
  return file;
}

/** A row a line, so that a diff shows which of them changed. */
export function resultText({ rows, ...rest }: Result): string {
  const head = JSON.stringify(rest, null, 2).slice(0, -2);
  return `${head},\n  "rows": [\n${rows.map((row) => `    ${JSON.stringify(row)}`).join(",\n")}\n  ]\n}\n`;
}

/** "TaylorSeer, order 1" -> "taylorseer-order-1" */
export const idOf = (...names: readonly string[]): string =>
  names
    .join(" ")
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");
