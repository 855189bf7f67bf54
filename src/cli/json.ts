/** The output of --json. docs/json.md describes it, and docs/json.schema.json is its schema. */
import { env } from "onnxruntime-common";
import { version } from "../../package.json";
import { print, writeTo } from "./terminal.ts";

/** The command as it is typed: "generate", "bench ilf". */
export type CommandName = string;

/** The versions that a result was made with, which are needed to reproduce it. */
export const versions = () => ({ halfstep: version, node: process.versions.node, onnxruntime: env.versions.common });

/** The line of JSON for a result. */
export const resultJson = (command: CommandName, result: object): string =>
  JSON.stringify({ command, event: "result", versions: versions(), ...result });

/** Prints one line to stdout, or to stderr if stdout is used for the bytes of an image. */
export function printResult(command: CommandName, result: object, { toStderr = false } = {}): Promise<void> {
  const line = resultJson(command, result);
  return toStderr ? writeTo(process.stderr, `${line}\n`) : print(line);
}

/** Prints a line about the progress of a run. */
export function printProgress(command: CommandName, progress: object): Promise<void> {
  return print(JSON.stringify({ command, event: "progress", ...progress }));
}
