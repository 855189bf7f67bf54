#!/usr/bin/env node
/** The command in a clone: its sources, run as they are. Where halfstep is installed, dist/cli.js is the command. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));
const args = ["--import", import.meta.resolve("tsx"), main, ...process.argv.slice(2)];
const child = spawn(process.execPath, args, { stdio: "inherit" });
// A terminal's Ctrl-C reaches both; the child says how it ends.
process.on("SIGINT", () => undefined);
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("close", (code) => {
  process.exitCode = code ?? 1;
});
