/** The tree of commands, with the options that all of them share. */
import { Command, Option } from "commander";
import { version } from "../../package.json";
import { addAliases } from "./aliases.ts";
import { animateCommand } from "./animate.ts";
import { benchIlfCommand } from "./bench/ilf.ts";
import { benchStreamlinedCommand } from "./bench/streamlined.ts";
import { completionCommand } from "./completion.ts";
import { convertCommand } from "./convert.ts";
import { distillCommand } from "./distill.ts";
import { evalCommand } from "./eval.ts";
import { exploreCommand } from "./explore/explore.ts";
import { generateCommand } from "./generate.ts";
import { environmentHelp, examples } from "./help.ts";
import { infoCommand } from "./info.ts";
import { initCommand } from "./init.ts";
import { modelsCommand } from "./models.ts";
import { rehashProfileCommand } from "./rehash-profile.ts";
import { setQuiet } from "./terminal.ts";
import { verifyCommand } from "./verify.ts";

const LAST_GROUP = "Exploration and the shell:";

export function halfstepProgram(): Command {
  const program = new Command("halfstep")
    .description("Diffusion models from the checkpoints you have, at the quality you ask for.")
    .version(version, "-v, --version", "the version")
    .helpOption("-h, --help", "this text; of a command: halfstep COMMAND --help")
    .commandsGroup("Pictures and videos:")
    .addCommand(generateCommand())
    .addCommand(animateCommand())
    .commandsGroup("Models:")
    .addCommand(infoCommand())
    .addCommand(modelsCommand())
    .addCommand(verifyCommand())
    .addCommand(convertCommand())
    .addCommand(initCommand())
    .addCommand(distillCommand())
    .addCommand(rehashProfileCommand())
    .commandsGroup("Measuring:")
    .addCommand(evalCommand())
    .addCommand(
      new Command("bench")
        .description("speed and quality on this machine")
        .addCommand(benchIlfCommand())
        .addCommand(benchStreamlinedCommand()),
    )
    .commandsGroup(LAST_GROUP)
    .addCommand(exploreCommand());
  program.addCommand(completionCommand(program));
  const help = program.createCommand("help").argument("[command]").description("help for a command");
  program.addHelpCommand(help.helpOption(false).helpGroup(LAST_GROUP));
  program.hook("preAction", (_, command) => {
    setQuiet(command.opts()["quiet"] === true);
  });
  forEach(program, [], (command, path) => {
    command.addHelpText("after", () => examples(path) + (command === program ? environmentHelp() : ""));
    // Errors are printed in one place, by main.
    command.exitOverride().configureOutput({ outputError: () => undefined });
    if (command.commands.length > 0) {
      if (command !== program) command.helpCommand(false);
      return;
    }
    addAliases(command);
    command.addOption(new Option("--debug", "errors with the place in the code (or HALFSTEP_DEBUG=1)").hideHelp());
    command.helpOption("-h, --help", "this text");
  });
  return program;
}

/** Every command with its names, "bench ilf". */
export function forEach(
  command: Command,
  path: readonly string[],
  visit: (command: Command, path: readonly string[]) => void,
): void {
  visit(command, path);
  for (const child of command.commands) forEach(child, [...path, child.name()], visit);
}
