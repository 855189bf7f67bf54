import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { pickScheduler, type SchedulerChoice, schedulerChoices } from "../../src/components/solver.ts";
import { createScheduler, schedulerNames } from "../../src/schedulers/scheduler.ts";
import { fixtures } from "../support/golden.ts";

it("docs/schedulers.md has every scheduler, with its class and what it takes", async () => {
  const text = await readFile(new URL("../../docs/schedulers.md", import.meta.url), "utf8");
  const rows = [...text.matchAll(/^\| `([^`]+)` \| `(\w+)` \| ([a-z, ]*)\|$/gm)].map(([, name, className, takes]) => [
    name,
    className,
    takes!.trim(),
  ]);
  const ours = Object.keys(schedulerChoices).map((name) => {
    const { className, takes } = pickScheduler({}, name as SchedulerChoice);
    return [name, className, takes.join(", ")];
  });
  expect(rows).toEqual(ours);
  for (const name of schedulerNames) {
    expect(text).toContain(`\`${name}\``);
    expect(createScheduler({ _class_name: name }).className).toBe(name);
  }
  expect(text).toContain(`${fixtures("schedulers").length} recorded runs`);
});
