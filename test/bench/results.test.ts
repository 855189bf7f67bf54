/** The documentation's figures are those of bench/results/. */
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { describe, expect, it } from "vitest";
import { benches } from "../../bench/benches.ts";
import { documents, filledDocument } from "../../bench/documents.ts";
import { readResult, resultText, root } from "../../bench/result.ts";
import { markdownTable } from "../../bench/table.ts";

const files = (await documents()).map((file) => relative(root, file));

describe("documents", () => {
  it.each(files)("%s says what the results say (npm run docs:tables)", async (name) => {
    const text = await readFile(join(root, name), "utf8");
    expect(filledDocument(text)).toBe(text);
  });

  it.each(files)("%s has no figure at the start of a line, where Markdown would not read the rest", async (name) => {
    const text = await readFile(join(root, name), "utf8");
    expect(text).not.toMatch(/^\s*<!-- results: \S+ \S+\.\S+ /m);
  });
});

describe("bench/results", () => {
  it("has a file for every bench, and no other", async () => {
    const names = (await readdir(join(root, "bench/results"))).sort();
    expect(names).toEqual(benches.map(({ name }) => `${name}.json`).sort());
  });

  it.each(benches.map(({ name }) => name))(
    "%s.json says when, where and by which command it was measured",
    async (name) => {
      const result = readResult(name);
      expect(result.bench).toBe(name);
      expect(result.date).toMatch(/^2\d{3}-\d\d-\d\d$/);
      expect(Date.parse(result.date)).not.toBeNaN();
      expect(Object.keys(result.machine).sort()).toEqual(["cores", "cpu", "instructions", "memory", "system"]);
      expect(Object.keys(result.versions)).toEqual(expect.arrayContaining(["halfstep", "node", "onnxruntime"]));
      expect(result.seed).toBeTypeOf("number");
      expect(result.commands.length).toBeGreaterThan(0);
      for (const command of result.commands) expect(command).toMatch(/^(halfstep|npm run bench --) \S/);
      const ids = result.rows.map(({ id }) => id);
      expect(new Set(ids).size).toBe(ids.length);
      for (const id of ids) expect(id).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
      expect(await readFile(join(root, `bench/results/${name}.json`), "utf8")).toBe(resultText(result));
    },
  );

  it.each(
    benches.flatMap(({ name, tables }) =>
      Object.entries(tables).map(([table, columns]) => [name, table, columns] as const),
    ),
  )("%s: its table %s can be made", (name, _, table) => {
    const lines = markdownTable(table, readResult(name).rows).split("\n");
    expect(lines.length).toBeGreaterThan(2);
    for (const line of lines) expect(line.split("|")).toHaveLength(table.columns.length + 2);
  });
});
