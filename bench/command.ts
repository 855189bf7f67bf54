/** Benches that are commands of halfstep: run as a user runs them, with --json. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { Bench, Context } from "./bench.ts";
import { type Json, type Row, root } from "./result.ts";

/** What `--json` prints: docs/json.md. */
export type Printed = { readonly [key: string]: Json };

export interface CommandBench extends Omit<Bench, "run" | "options"> {
  /** Arguments of halfstep, of each run; `--seed` and what the user adds come after them. */
  readonly runs: readonly (readonly string[])[];
  /** The rows of one run; `run` is its place in `runs`. */
  rows(printed: Printed, run: number): Row[];
}

/** Options after `--` go to every command. */
export function commandBench({ runs, rows, ...bench }: CommandBench): Bench {
  return {
    ...bench,
    runs,
    options: (command) => command.argument("[options...]", "after --: options of the commands that it runs"),
    async *run({ seed, args }, context) {
      for (const [i, run] of runs.entries())
        yield* rows(await halfstep([...run, ...seedOf(run, seed), ...args], context), i);
    },
  };
}

/** `explore run` counts its seeds from 0, and has no seed of its own. */
const seedOf = (run: readonly string[], seed: number) =>
  run[0] === "explore" || run.includes("--seed") ? [] : ["--seed", String(seed)];

async function halfstep(args: readonly string[], context: Context): Promise<Printed> {
  context.ran(["halfstep", ...args].join(" "));
  const main = join(root, "src", "cli", "main.ts");
  const child = spawn(process.execPath, ["--import", "tsx", main, ...args, "--json"], {
    cwd: root,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  if (code !== 0) throw new Error(`halfstep ${args.join(" ")} ended with ${code}.`);
  return JSON.parse(text.trimEnd().split("\n").at(-1)!) as Printed;
}

/** The list of objects under a key. */
export const list = (printed: Printed, key: string): readonly Printed[] =>
  printed[key] as unknown as readonly Printed[];

/** Some of an object's keys. */
export function pick(printed: Printed, ...keys: readonly string[]): Printed {
  return Object.fromEntries(keys.map((key) => [key, printed[key] ?? null]));
}
