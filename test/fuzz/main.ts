/**
 * Changes valid files at random and uses them: `npm run fuzz -- --minutes 5 [--seed N] [--only safetensors,tokenizers]`. Every
 * outcome must be a value or a HalfstepError, within 5 seconds, in no more than 64 MiB beyond the files' size.
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { countBetween, numberBetween } from "../../src/cli/numbers.ts";
import { type Case, caseOf, filesOf } from "./case.ts";
import { Random } from "./random.ts";
import { targets } from "./targets.ts";
import type { Order, Report } from "./worker.ts";

/** Cases that one process runs: what it keeps of them, and what it has taken from the system at most, goes with it. */
const BATCH = 20_000;
const HANG_SECONDS = 5;
/** Of a process that waits for what never comes, or for a machine that has other things to do. */
const WAIT_SECONDS = 60;
/** In the place of a case's number, while a process runs the valid files. */
const NOT_YET = -1;

interface Failure {
  readonly case: Case;
  readonly why: string;
}

const temporary = mkdtempSync(join(tmpdir(), "halfstep-fuzz-"));
process.on("exit", () => rmSync(temporary, { recursive: true, force: true }));
let workers = 0;

/** Runs an order in a process of its own. `index`: at which case it was, where it did not come to its end. */
function run(
  order: Order,
  until = Number.POSITIVE_INFINITY,
): Promise<{ reports: Report[]; index: number; why?: string }> {
  const status = join(temporary, `status-${workers++}`);
  const none = Buffer.alloc(8);
  none.writeDoubleLE(NOT_YET);
  writeFileSync(status, none);
  const child = fork(join(import.meta.dirname, "worker.ts"), [status], {
    execArgv: [...process.execArgv, "--max-old-space-size=512"],
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
  const index = () => {
    const bytes = readFileSync(status);
    return bytes.length >= 8 ? bytes.readDoubleLE() : NOT_YET;
  };
  return new Promise((resolve) => {
    const reports: Report[] = [];
    const end = (why?: string) => {
      clearInterval(watch);
      const last = index();
      child.kill("SIGKILL");
      resolve({ reports, index: last, ...(why === undefined ? {} : { why }) });
    };
    const watch = setInterval(watchOver(child, index, until, end), 250);
    child.on("message", (report: Report) => {
      reports.push(report);
      if (report.kind === "done" || (report.kind === "failure" && order.kind !== "range")) end();
    });
    child.on("exit", (code, signal) => end(`the process ended (${signal ?? code})`));
    child.send(order);
  });
}

/** A case takes too long when its process has computed for 5 seconds, or a minute has gone by. */
function watchOver(child: ChildProcess, index: () => number, until: number, end: (why?: string) => void): () => void {
  let last = { index: -1, cpu: 0, time: Date.now() };
  let begun = false;
  return () => {
    const now = { index: index(), cpu: cpuSeconds(child.pid!), time: Date.now() };
    if (now.time > until) return end();
    begun ||= now.index !== NOT_YET;
    // Until its first case it loads code.
    if (now.index !== last.index || !begun) last = now;
    else if (now.cpu - last.cpu > HANG_SECONDS) end(`took more than ${HANG_SECONDS} s`);
    else if (now.time - last.time > WAIT_SECONDS * 1000) end(`was not done after ${WAIT_SECONDS} s`);
  };
}

/** Computing time of a process, where the system shows it as Linux does. */
function cpuSeconds(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
}

/** Whether a case fails by itself too, in a process that has run nothing else. */
async function again(failing: Case): Promise<string | undefined> {
  const { reports, why } = await run({ kind: "case", case: failing }, Date.now() + WAIT_SECONDS * 1000);
  return why ?? reports.map((report) => (report.kind === "failure" ? report.why : undefined)).find(Boolean);
}

/** The same with as few changes as still fail. */
async function smallest(failure: Failure): Promise<Failure> {
  let least = failure;
  for (let i = 0; i < least.case.changes.length && least.case.changes.length > 1; ) {
    const fewer = { ...least.case, changes: least.case.changes.toSpliced(i, 1) };
    const why = await again(fewer);
    if (why === undefined) i++;
    else least = { case: fewer, why };
  }
  return least;
}

function keep({ case: found, why }: Failure, out: string): string {
  mkdirSync(out, { recursive: true });
  const files = [...filesOf(found, targets.get(found.target)!)].map(([path, bytes]) => [
    path,
    Buffer.from(bytes).toString("base64"),
  ]);
  const name = join(out, `${found.target}-${found.changes[0]}.json`);
  writeFileSync(name, `${JSON.stringify({ ...found, why, files }, null, 1)}\n`);
  return name;
}

interface Options {
  minutes: number;
  seed: number;
  only: string[];
  out: string;
  repeat?: string;
}

async function fuzz({ minutes, seed, only, out, repeat }: Options): Promise<void> {
  if (repeat !== undefined) return repeated(repeat);
  const until = Date.now() + minutes * 60_000;
  console.log(`seed ${seed}, ${only.join(", ")}`);
  const seen = new Set<string>();
  let [done, failures, from] = [0, 0, 0];
  while (Date.now() < until) {
    const { reports, index, why } = await run({ kind: "range", seed, from, count: BATCH, names: only }, until);
    if (why !== undefined && index === NOT_YET) throw new Error(`The valid files fail already: ${why}.`);
    const name = only[index % only.length]!;
    const found: Failure[] = reports.flatMap((report) =>
      report.kind === "failure"
        ? [{ why: report.why, case: report.case ?? caseOf(name, targets.get(name)!, seed, index) }]
        : [],
    );
    if (why !== undefined) found.push({ why, case: caseOf(name, targets.get(name)!, seed, index) });
    const finished = reports.some((report) => report.kind === "done");
    done += finished ? BATCH : Math.max(0, index - from);
    from = finished ? from + BATCH : index + 1;
    for (const failure of found) {
      // The same line of code is one failure, however many cases reach it.
      const key = `${failure.case.target} ${failure.why.split("\n").slice(0, 2).join(" ").replace(/\d+/g, "N")}`;
      if (seen.has(key)) continue;
      seen.add(key);
      const confirmed = await again(failure.case);
      if (confirmed === undefined) continue;
      failures++;
      const least = await smallest({ case: failure.case, why: confirmed });
      const file = keep(least, out);
      console.log(`\nFAILED ${least.case.target}: ${least.why}\nnpm run fuzz -- --repeat ${file}\n`);
    }
    console.log(`${done} cases, ${failures} failures`);
  }
  if (failures > 0) process.exitCode = 1;
}

async function repeated(file: string): Promise<void> {
  const { target, files } = JSON.parse(readFileSync(file, "utf8")) as { target: string; files: [string, string][] };
  const { reports, why } = await run({ kind: "files", target, files }, Date.now() + WAIT_SECONDS * 1000);
  const found = why ?? reports.map((report) => (report.kind === "failure" ? report.why : undefined)).find(Boolean);
  console.log(found === undefined ? "ok" : `FAILED ${target}: ${found}`);
  if (found !== undefined) process.exitCode = 1;
}

const names = [...targets.keys()];

function targetNamed(name: string): string {
  if (targets.has(name)) return name;
  throw new InvalidArgumentError(`There are ${names.join(", ")}.`);
}

await new Command("fuzz")
  .description("use files that are changed at random: every outcome must be a value or a typed error")
  .addOption(new Option("--minutes <n>", "how long").argParser(numberBetween(0, 100_000)).default(1))
  .addOption(
    new Option("--seed <n>", "of the changes")
      .argParser(countBetween(0, 2 ** 32 - 1))
      .default(new Random(Date.now()).next(), "random"),
  )
  .addOption(
    new Option("--only <targets>", `some of ${names.join(", ")}`)
      .argParser((text: string) => text.split(",").map(targetNamed))
      .default(names, "all"),
  )
  .option("--out <folder>", "for the failures", "fuzz-failures")
  .option("--repeat <file>", "a failure once more")
  .action(fuzz)
  .parseAsync();
