#!/usr/bin/env node
import { ToolError } from "../errors.ts";
import { fail } from "./failure.ts";
import { halfstepProgram } from "./program.ts";

const program = halfstepProgram();

/** It is no error if a reader stops reading. A full disk is one, even if nobody waits for the line to be written. */
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  const failure = new ToolError(`The result cannot be written to stdout: ${error.message}.`, { cause: error });
  process.exit(error.code === "EPIPE" ? 0 : fail(failure, program));
});
process.stderr.on("error", () => undefined);
process.on("uncaughtException", (error) => process.exit(fail(error, program)));

try {
  if (process.argv.length <= 2) program.outputHelp();
  else await program.parseAsync();
} catch (error) {
  process.exitCode = fail(error, program);
}
