/**
 * Runs cases in a process of its own, because some of what is looked for ends a process or never ends. Which case it is at
 * is written to a file, since a process that hangs sends no messages.
 */
import { openSync, writeSync } from "node:fs";
import { HalfstepError } from "../../src/errors.ts";
import { type Case, caseOf, filesOf, sizeOfFiles } from "./case.ts";
import type { Files } from "./mutate.ts";
import { targets } from "./targets.ts";

export type Order =
  | {
      readonly kind: "range";
      readonly seed: number;
      readonly from: number;
      readonly count: number;
      readonly names: readonly string[];
    }
  | { readonly kind: "case"; readonly case: Case }
  | { readonly kind: "files"; readonly target: string; readonly files: readonly (readonly [string, string])[] };

export type Report =
  | { readonly kind: "failure"; readonly case?: Case; readonly why: string }
  | { readonly kind: "done"; readonly cases: number };

/** Beyond the files' own size. */
const maxMemory = 64 * 2 ** 20;

const status = openSync(process.argv[2]!, "w");
const at = Buffer.alloc(8);

// Warnings of libraries are no failures, and would be the most of the output.
for (const method of ["log", "warn", "error", "info"] as const) console[method] = () => undefined;

const peak = () => process.resourceUsage().maxRSS * 1024;
const maxMiB = (bytes: number) => `${Math.round(bytes / 2 ** 20)} MiB`;

/** What is wrong with it, or undefined. */
async function failureOf(target: string, files: Files): Promise<string | undefined> {
  const before = peak();
  try {
    await targets.get(target)!.run(files);
  } catch (error) {
    if (!(error instanceof HalfstepError))
      return error instanceof Error ? (error.stack ?? String(error)) : `threw ${String(error)}`;
  }
  const taken = peak() - before;
  return taken > maxMemory + sizeOfFiles(files)
    ? `took ${maxMiB(taken)} of memory for ${sizeOfFiles(files)} bytes`
    : undefined;
}

/** The valid files first: what loading code and filling caches takes is nobody's fault. */
async function warmUp(names: readonly string[]): Promise<void> {
  for (const name of names) for (const files of targets.get(name)!.seeds) await failureOf(name, files);
}

async function obey(order: Order): Promise<Report> {
  if (order.kind === "files") {
    await warmUp([order.target]);
    mark(0);
    const why = await failureOf(
      order.target,
      new Map(order.files.map(([path, text]) => [path, Buffer.from(text, "base64")])),
    );
    return why === undefined ? { kind: "done", cases: 1 } : { kind: "failure", why };
  }
  if (order.kind === "case") {
    const { target: name } = order.case;
    await warmUp([name]);
    mark(0);
    const why = await failureOf(name, filesOf(order.case, targets.get(name)!));
    return why === undefined ? { kind: "done", cases: 1 } : { kind: "failure", case: order.case, why };
  }
  const { names, seed, from, count } = order;
  await warmUp(names);
  for (let index = from; index < from + count; index++) {
    mark(index);
    const name = names[index % names.length]!;
    const target = targets.get(name)!;
    const found = caseOf(name, target, seed, index);
    const why = await failureOf(name, filesOf(found, target));
    if (why !== undefined) process.send!({ kind: "failure", case: found, why } satisfies Report);
  }
  return { kind: "done", cases: count };
}

function mark(index: number): void {
  at.writeDoubleLE(index);
  writeSync(status, at, 0, 8, 0);
}

process.on("message", (order: Order) => {
  void obey(order).then((report) => process.send!(report));
});
// Something that nobody waits for has failed: the parent sees the process end, and at which case.
process.on("unhandledRejection", (error) => {
  process.send!({ kind: "failure", why: `rejected, and nobody waited for it: ${String(error)}` } satisfies Report);
});
