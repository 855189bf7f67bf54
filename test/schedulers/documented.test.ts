import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { pickScheduler } from "../../src/components/solver.ts";
import { createScheduler, schedulerChoices, schedulers } from "../../src/schedulers/registry.ts";
import { fixtures } from "../support/golden.ts";

const docs = (name: string) => readFile(new URL(`../../docs/${name}`, import.meta.url), "utf8");

it("docs/schedulers.md has the table of schedulers, with their classes and what they take", async () => {
  const text = await docs("schedulers.md");
  const rows = text.split("\n").filter((line) => /^\| `[^`]+` \| `\w+` \|/.test(line));
  const ours = schedulers.flatMap((entry) => {
    if (entry.name === null) return [];
    const { className, takes } = pickScheduler({ _class_name: entry.className }, entry.name);
    return [`| \`${entry.name}\` | \`${className}\` | ${takes.join(", ")} | ${entry.summary} |`];
  });
  expect(rows).toEqual(ours);
  for (const { className } of schedulers) expect(text).toContain(`\`${className}\``);
  expect(text).toContain(`${fixtures("schedulers").length} recorded runs`);
});

it.each(schedulers)("the table's class is the one that is made: $className", ({ name, className, process }) => {
  expect(createScheduler({ _class_name: className }).className).toBe(className);
  // A model that was trained with flow matching has a velocity for its output.
  expect(createScheduler({ _class_name: className }).predictionType === "flow").toBe(process === "flow matching");
  if (name !== null) expect(schedulerChoices[name]._class_name).toBe(className);
});
