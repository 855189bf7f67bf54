/** `npm run bench` lists what there is: the table's entries, and with them every command of halfstep that measures. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Command } from "commander";
import { expect, it } from "vitest";
import { benches } from "../../bench/benches.ts";
import { root } from "../../bench/result.ts";
import { forEach, halfstepProgram } from "../../src/cli/program.ts";

const commands = new Map<string, Command>();
forEach(halfstepProgram(), [], (command, path) => {
  if (command.commands.length === 0) commands.set(path.join(" "), command);
});

const runs = benches.flatMap(({ name, runs }) => (runs ?? []).map((run) => ({ name, run })));
const commandOf = (run: readonly string[]) =>
  [...commands.keys()].find((name) => run.slice(0, name.split(" ").length).join(" ") === name)!;

it("every command that measures is run by a bench", () => {
  const measuring = [...commands.keys()].filter((name) => /^(bench |eval$|explore run$)/.test(name));
  expect(measuring.length).toBeGreaterThan(3);
  expect(measuring.filter((name) => !runs.some(({ run }) => commandOf(run) === name))).toEqual([]);
});

it.each(runs)("$name: its command has the options that it is given: $run", ({ run }) => {
  const command = commands.get(commandOf(run))!;
  const known = command.options.map(({ long }) => long);
  expect(known).toEqual(expect.arrayContaining(run.filter((word) => word.startsWith("--"))));
});

it("without a name, the list has a line for each with its time", async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", "bench/main.ts"], { cwd: root });
  const lines = stdout.split("\n").map((line) => line.trim().split(/\s{2,}/));
  for (const { name, time, summary } of benches) {
    expect(time).toMatch(/^\d+ (s|min|h)$/);
    expect(lines).toContainEqual([name, time, summary]);
  }
});
