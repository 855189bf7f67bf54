/** What `verify` found as a table in Markdown: a row a run. */
import type { OutputError } from "../verify/compare.ts";
import type { Verification } from "../verify/verify-folder.ts";

/** "name: output" for outputs of one of several runs. */
const ofRun = /^([\w-]+): /;

export const tableHead = ["| case | class | largest error / std | of | 8-bit images | |", "|---|---|---|---|---|---|"];

/** Rows of one folder; `path` is what the table calls it. */
export function tableRows(path: string, { class: className, pass, outputs, checks }: Verification): string[] {
  if (checks) return [row([path, className, "", checks.join("; "), "", mark(pass)])];
  const runs = new Map<string, OutputError[]>();
  for (const output of outputs) {
    const run = ofRun.exec(output.name)?.[1] ?? "";
    runs.set(run, [...(runs.get(run) ?? []), output]);
  }
  return [...runs].map(([run, errors]) => {
    const [numbers, images] = [false, true].map((limited) =>
      errors.filter(({ limit }) => (limit !== undefined) === limited),
    );
    const furthest = numbers!.reduce((a, b) => (Number.isNaN(a.relative) || a.relative >= b.relative ? a : b));
    const pixels = images!.map(({ maxAbs }) => `within ${maxAbs} of 255`).join(", ");
    const of = furthest.name.replace(ofRun, "").replace(/^output\./, "");
    return row([run ? `${path}: ${run}` : path, className, furthest.relative.toExponential(1), of, pixels, mark(pass)]);
  });
}

/** A row for a folder that cannot be verified. */
export const failedRow = (path: string, message: string): string => row([path, "", "", message, "", mark(false)]);

const mark = (pass: boolean) => (pass ? "pass" : "FAIL");
const row = (cells: readonly string[]) =>
  `| ${cells.map((cell) => cell.replace(/\s+/g, " ").replaceAll("|", "\\|")).join(" | ")} |`;
