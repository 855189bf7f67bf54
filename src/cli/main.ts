#!/usr/bin/env node
import { Command } from "commander";
import { version } from "../../package.json";
import { HalfstepError } from "../errors.ts";
import { animateCommand } from "./animate.ts";
import { benchIlfCommand } from "./bench-ilf.ts";
import { benchStreamlinedCommand } from "./bench-streamlined.ts";
import { distillCommand } from "./distill.ts";
import { evalCommand } from "./eval.ts";
import { exploreCommand } from "./explore.ts";
import { generateCommand } from "./generate.ts";
import { infoCommand } from "./info.ts";
import { initCommand } from "./init.ts";
import { rehashProfileCommand } from "./rehash-profile.ts";
import { Interrupted } from "./terminal.ts";
import { verifyCommand } from "./verify.ts";

const program = new Command("halfstep")
  .description("Diffusion models from the checkpoints you have, at the quality you ask for.")
  .version(version)
  .addCommand(generateCommand())
  .addCommand(animateCommand())
  .addCommand(verifyCommand())
  .addCommand(evalCommand())
  .addCommand(distillCommand())
  .addCommand(infoCommand())
  .addCommand(initCommand())
  .addCommand(exploreCommand())
  .addCommand(rehashProfileCommand())
  .addCommand(
    new Command("bench")
      .description("measure speed and quality on this machine")
      .addCommand(benchIlfCommand())
      .addCommand(benchStreamlinedCommand()),
  )
  .showHelpAfterError("(--help shows what there is)");

try {
  await program.parseAsync();
} catch (error) {
  // What a user can act on is one line, as is what the system refuses (a full disk, a folder without access); anything
  // else is a defect, and its stack says where.
  const expected = error instanceof HalfstepError || (error instanceof Error && "syscall" in error);
  console.error(expected ? `${error.name}: ${error.message}` : error);
  process.exitCode = error instanceof Interrupted ? 130 : 1;
}
