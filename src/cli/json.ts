/** What --json prints: docs/json.md says what is in it, docs/json.schema.json says it to programs. */
import { env } from "onnxruntime-common";
import { version } from "../../package.json";
import { print, writeTo } from "./terminal.ts";

/** The command as it is typed: "generate", "bench ilf". */
export type CommandName = string;

/** Versions of what made a result, without which it cannot be made again. */
export const versions = () => ({ halfstep: version, node: process.versions.node, onnxruntime: env.versions.common });

/** The line of JSON for a result. */
export const resultJson = (command: CommandName, result: object): string =>
  JSON.stringify({ command, event: "result", versions: versions(), ...result });

/** One line on stdout, or on stderr where stdout is for the bytes of a picture. */
export function printResult(command: CommandName, result: object, { toStderr = false } = {}): Promise<void> {
  const line = resultJson(command, result);
  return toStderr ? writeTo(process.stderr, `${line}\n`) : print(line);
}

/** A line about a run that goes on. */
export function printProgress(command: CommandName, progress: object): Promise<void> {
  return print(JSON.stringify({ command, event: "progress", ...progress }));
}
