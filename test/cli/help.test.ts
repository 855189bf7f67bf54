import { execFile } from "node:child_process";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { completionScript } from "../../src/cli/completion.ts";
import { environment } from "../../src/cli/help.ts";
import { forEach, halfstepProgram } from "../../src/cli/program.ts";
import { root } from "../support/cli.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { temporaryFolder } from "../support/models.ts";

const program = halfstepProgram();
const leaves: [string, Command][] = [];
forEach(program, [], (command, path) => {
  if (command.commands.length === 0) leaves.push([path.join(" "), command]);
});

describe("--help", () => {
  it.each(leaves)("of %s has examples whose options exist", async (name, command) => {
    const { code, stdout, stderr } = await halfstepHere(...name.split(" "), "--help");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const [, examples] = stdout.split("\nExamples:\n");
    expect(examples, `${name} has no examples`).toBeDefined();
    const known = new Set(command.options.flatMap(({ long, short }) => [long, short]));
    for (const [option] of examples!.replaceAll(/#.*/g, "").matchAll(/(?<=\s)--?[a-z][a-z-]*/g)) {
      expect(known, `${name}: ${option}`).toContain(option);
    }
  });

  it("has --quiet wherever something is measured, made or told of", () => {
    for (const [name, command] of leaves) {
      const has = command.options.some(({ short, long }) => short === "-q" && long === "--quiet");
      expect(has, name).toBe(!["help", "completion"].includes(name));
    }
  });

  it("names the environment's variables, and so do the docs", async () => {
    const { stdout } = await halfstepHere("--help");
    const docs = await readFile(join(root, "docs/command-line.md"), "utf8");
    for (const { name } of environment) {
      expect(stdout).toContain(name);
      for (const each of name.split(", ")) expect(docs).toContain(`\`${each}\``);
    }
  });

  it("is what `help` shows too", async () => {
    const asked = await halfstepHere("help", "generate");
    expect(asked).toEqual(await halfstepHere("generate", "--help"));
  });

  it("is within 80 columns, but for examples", async () => {
    const { stdout } = await halfstepHere("generate", "--help");
    const lines = stdout.split("\nExamples:")[0]!.split("\n");
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(80);
  });
});

describe("words that are no command", () => {
  it.each([
    [["generat"], "(Did you mean generate?)"],
    [["a red apple"], 'Did you mean: halfstep generate "a red apple"?'],
    [["nonsense"], "There are generate, animate"],
    [["bench", "nonsense"], "There are ilf, streamlined."],
    [["info"], "missing required argument 'model'"],
    [["info", "a", "b"], "too many arguments"],
    [["completion", "tcsh"], "Allowed choices are bash, zsh, fish."],
  ])("%j: says what there is", async (args, reason) => {
    const { code, stderr } = await halfstepHere(...args);
    expect(code).toBe(1);
    expect(stderr).toContain(reason);
    expect(stderr).not.toContain("    at ");
  });
});

describe("completion", () => {
  it("completes commands, options and values in bash", async () => {
    const file = join(await temporaryFolder(), "test.sh");
    const typed = [
      "halfstep anim",
      "halfstep generate --sch",
      "halfstep animate --scheduler dd",
      "halfstep bench ",
      "halfstep generate --provider ",
    ];
    const calls = typed.map(
      (line) =>
        `try ${line
          .split(" ")
          .map((word) => `'${word}'`)
          .join(" ")}`,
    );
    const attempt = `try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _halfstep; echo "\${COMPREPLY[*]}"; }`;
    await writeFile(file, [completionScript(program, "bash"), attempt, ...calls].join("\n"));
    const { stdout } = await promisify(execFile)("bash", [file]);
    const [command, options, values, commands, providers] = stdout.split("\n").map((line) => line.split(" ").sort());
    expect(command).toEqual(["animate"]);
    expect(options).toEqual(["--schedule", "--scheduler"]);
    expect(values).toEqual(["ddim", "ddpm"]);
    expect(commands).toEqual(["ilf", "streamlined"]);
    expect(providers).toContain("cpu");
  });

  it.each(["bash", "zsh", "fish"] as const)(
    "in %s knows every option that is shown, and none that is hidden",
    (shell) => {
      const script = completionScript(program, shell);
      for (const [name, command] of leaves) {
        for (const { long, hidden } of command.options) {
          if (!long || (shell === "fish" && hidden)) continue;
          const written = shell === "fish" ? `-l ${long.slice(2)} ` : long;
          if (!hidden) expect(script, `${name} ${long}`).toContain(written);
        }
      }
      expect(script).not.toContain(shell === "fish" ? "-l sampler " : "--sampler");
    },
  );
});
