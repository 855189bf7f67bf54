/** What a command would lack at its end is said before its work begins. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it, vi } from "vitest";
import { halfstepHere } from "../support/cli-in-process.ts";
import { temporaryFolder } from "../support/models.ts";

let folder: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  vi.doMock("sharp", () => {
    throw new Error("Could not load the sharp module");
  });
});

it.each([
  ["rehash-profile", ["rehash-profile", "fluent-emoji-motion"], "profile", "A plot as PNG"],
  ["explore run", ["explore", "run", "--env", "riverswim", "--episodes", "1"], "runs", "A plot as PNG"],
  ["generate", ["generate", "a cat"], "cat.webp", "Writing WebP"],
  ["animate", ["animate", "a cat"], "cat.gif", "cat.gif"],
  ["bench ilf", ["bench", "ilf", "--json"], "sheet.jpg", "Writing JPEG"],
])("%s that draws what sharp writes, without sharp", async (_, args, name, what) => {
  const out = join(folder, name);
  const { code, stdout, stderr } = await halfstepHere(...args, args[1] === "ilf" ? "--sheet" : "--out", out);
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toContain(what);
  expect(stderr).toMatch(/npm install --include=optional sharp[^\n]*\n$/);
  expect(stderr.trimEnd().split("\n")).toHaveLength(1); // not even "loading ..."
  expect(existsSync(out)).toBe(false);
});
