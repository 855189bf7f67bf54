/** Ends a command that failed: one line with the reason, and an exit code. */
import { type Command, CommanderError } from "commander";
import { HalfstepError } from "../errors.ts";
import { nearestName } from "../options/nearest-name.ts";
import { hints } from "./aliases.ts";
import { Interrupted, printError } from "./terminal.ts";

/** Prints what was wrong and returns the exit code; `words` are the words of the command line. */
export function fail(error: unknown, program: Command, words: readonly string[] = process.argv.slice(2)): number {
  if (error instanceof CommanderError) return usageError(error, commandOf(program, words));
  if (wantsDebug()) printError(error instanceof Error ? (error.stack ?? String(error)) : String(error));
  else if (isExpected(error)) printError(`${error.name}: ${error.message}`);
  else {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    printError(
      `${text.split("\n")[0]}\nThis is a fault in halfstep. HALFSTEP_DEBUG=1 shows where; please report it with that.`,
    );
  }
  return error instanceof Interrupted ? 130 : 1;
}

/** Errors that a user can act on, and the system's (a full disk, a folder without access); anything else is a bug. */
const isExpected = (error: unknown): error is Error =>
  error instanceof HalfstepError || (error instanceof Error && "syscall" in error);

const wantsDebug = () =>
  process.argv.includes("--debug") || /^(1|true|yes|on)$/i.test(process.env["HALFSTEP_DEBUG"] ?? "");

/** --help and --version end in this way too. */
function usageError({ code, message, exitCode }: CommanderError, command: Command): number {
  if (exitCode === 0) return 0;
  if (code === "commander.help") return 1;
  const lines = [message, hintFor(code, message, command)].filter((line) => line !== "");
  printError(`${lines.join("\n")}\n(${[...namesOf(command), "--help"].join(" ")} shows what there is)`);
  return exitCode;
}

/** The innermost command named by the words. */
function commandOf(program: Command, words: readonly string[]): Command {
  const next = program.commands.find((command) => command.name() === words[0]);
  return next ? commandOf(next, words.slice(1)) : program;
}

const namesOf = (command: Command): string[] =>
  command.parent ? [...namesOf(command.parent), command.name()] : [command.name()];

function hintFor(code: string, message: string, command: Command): string {
  const given = /'([^']*)'/.exec(message)?.[1] ?? "";
  if (code === "commander.unknownOption") return optionHint(given.split("=")[0]!, message, command);
  if (code !== "commander.unknownCommand" || /Did you mean/.test(message)) return "";
  // The most likely mistake is a prompt without a command.
  if (!command.parent && /\s/.test(given)) return `Did you mean: halfstep generate "${given}"?`;
  return `There are ${command.commands.map((each) => each.name()).join(", ")}.`;
}

function optionHint(given: string, message: string, command: Command): string {
  const hint = hints.get(given);
  if (hint) return `Instead: ${hint}`;
  if (/^-[^-].*\s/.test(given)) return 'A prompt that begins with - goes after --: halfstep generate -- "-1 degree"';
  if (/Did you mean/.test(message)) return "";
  const visible = command
    .createHelp()
    .visibleOptions(command)
    .map(({ long }) => long ?? "");
  const nearest = nearestName(given, visible);
  return nearest ? `(Did you mean ${nearest}?)` : "";
}
