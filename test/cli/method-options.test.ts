/** `--accelerate` and its options are made of a table's entries: of entries that are only here. */
import { Command } from "commander";
import { describe, expect, it } from "vitest";
import type { MethodEntry } from "../../src/acceleration/methods.ts";
import { methodHelp, methodOf, methodOptions } from "../../src/cli/method-options.ts";
import { addOptions } from "../../src/cli/options.ts";
import { ArgumentError } from "../../src/errors.ts";
import { choiceOption, countOption, scheduleOption, thresholdOption } from "../../src/sampling/method.ts";

const entry = (name: string, options: MethodEntry["options"], more: Partial<MethodEntry> = {}): MethodEntry => ({
  ...{ name, summary: `what ${name} does`, source: "", networks: ["unet"], options },
  ...more,
});
const entries = [
  entry("none", {}),
  entry("gate", { gateStep: countOption(1, 99, { help: "the step from which the text is left out", usual: "10" }) }),
  entry("deep", {
    schedule: scheduleOption("3"),
    branch: choiceOption(["near", "far"], { help: "which branch runs", usual: "near" }),
  }),
  entry("easy", { threshold: thresholdOption("0.2"), schedule: scheduleOption("2") }),
  entry("again", { pause: countOption(1, 9, { help: "how long", usual: "1" }) }, { baseline: true }),
];

function told(...args: string[]) {
  const command = addOptions(new Command("draw"), methodOptions(entries, "none")).exitOverride();
  command.configureOutput({ writeErr: () => undefined, outputError: () => undefined });
  return methodOf(command.parse(args, { from: "user" }).opts(), entries);
}

describe("--accelerate of a table", () => {
  it.each<[string[], unknown]>([
    [[], undefined],
    [["--accelerate", "gate"], "gate"],
    [["--accelerate", "gate", "--gate-step", "12"], { method: "gate", gateStep: 12 }],
    [
      ["--accelerate", "deep", "--branch", "far", "--schedule", "2:3"],
      { method: "deep", branch: "far", schedule: { every: 2, warmUp: 3, final: 0 } },
    ],
    [["--accelerate", "easy", "--threshold", "0.5"], { method: "easy", threshold: 0.5 }],
  ])("reads %j", (args, expected) => {
    expect(told(...args)).toEqual(expected);
  });

  it.each<[string[], string]>([
    [["--accelerate", "again"], "Allowed choices are none, gate, deep, easy."],
    [["--pause", "2"], "unknown option '--pause'"],
    [["--accelerate", "deep", "--branch", "middle"], "Allowed choices are near, far."],
    [["--accelerate", "gate", "--gate-step", "1.5"], "--gate-step must be a whole number from 1 to 99, not 1.5."],
    [["--accelerate", "easy", "--schedule", "inner"], "A schedule starts with a full step"],
    [
      ["--gate-step", "3"],
      "--gate-step, --schedule, --branch and --threshold say how steps are done in part; they go with --accelerate gate, " +
        "deep or easy.",
    ],
    [
      ["--accelerate", "easy", "--branch", "far"],
      "--branch is a setting of deep; easy has --threshold and --schedule.",
    ],
  ])("refuses %j", (args, message) => {
    expect(() => told(...args)).toThrow(message);
  });

  it("says what the settings are and whose, and what each method does", () => {
    const [accelerate, ...settings] = methodOptions(entries, "none");
    expect(accelerate!.argChoices).toEqual(["none", "gate", "deep", "easy"]);
    const said = settings.map(({ flags, description }) => `${flags}: ${description}`);
    expect(said[0]).toBe("--gate-step <n>: gate: the step from which the text is left out (10)");
    // No default is shown where the methods have different ones.
    expect(said[1]).toMatch(/^--schedule <steps>: deep, easy: full steps; .*these$/);
    expect(methodHelp(entries)).toContain("  deep  what deep does");
    expect(methodHelp(entries)).not.toContain("again");
    expect(() => told("--gate-step", "3")).toThrow(ArgumentError);
  });
});
