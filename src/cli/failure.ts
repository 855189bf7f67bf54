/** How a command ends that went wrong: what is said, in one line, and the code. */
import { type Command, CommanderError } from "commander";
import { HalfstepError } from "../errors.ts";
import { hints } from "./aliases.ts";
import { Interrupted, printError } from "./terminal.ts";

/** Says what was wrong and gives the exit code. */
export function fail(error: unknown, program: Command): number {
  if (error instanceof CommanderError) return usageError(error, program);
  const debug = wantsDebug();
  if (debug) printError(error instanceof Error ? (error.stack ?? String(error)) : String(error));
  else if (isExpected(error)) printError(`${error.name}: ${error.message}`);
  else {
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    printError(
      `${text.split("\n")[0]}\nThis is a fault in halfstep. HALFSTEP_DEBUG=1 shows where; please report it with that.`,
    );
  }
  return error instanceof Interrupted ? error.code : 1;
}

/** What a user can act on, and what the system refuses (a full disk, a folder without access); anything else is a defect. */
const isExpected = (error: unknown): error is Error =>
  error instanceof HalfstepError || (error instanceof Error && "syscall" in error);

const wantsDebug = () =>
  process.argv.includes("--debug") || /^(1|true|yes|on)$/i.test(process.env["HALFSTEP_DEBUG"] ?? "");

/** --help and --version end in this way too. */
function usageError({ code, message, exitCode }: CommanderError, program: Command): number {
  if (exitCode === 0) return 0;
  if (code === "commander.help") return 1;
  const lines = [message.replace(/^error: /, "error: "), hintFor(code, message, program)].filter(Boolean);
  printError(`${lines.join("\n")}\n(--help shows what there is)`);
  return exitCode;
}

function hintFor(code: string, message: string, program: Command): string {
  const given = /'([^']*)'/.exec(message)?.[1] ?? "";
  if (code === "commander.unknownOption") {
    const hint = hints.get(given.split("=")[0]!);
    if (hint) return `Instead: ${hint}`;
    if (/^-[^-]*\s/.test(given)) return 'A prompt that begins with - goes after --: halfstep generate -- "-1 degree"';
  }
  const names = program.commands.map((command) => command.name());
  if (code === "commander.unknownCommand" && !/Did you mean/.test(message)) {
    return /\s/.test(given) ? `Did you mean: halfstep generate "${given}"?` : `There are ${names.join(", ")}.`;
  }
  return "";
}
