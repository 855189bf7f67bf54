/** The documentation's figures are those of bench/results/. */
import { readdir, readFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { describe, expect, it } from "vitest";
import { benches } from "../../bench/benches.ts";
import { documents, filledDocument } from "../../bench/documents.ts";
import { withoutResults } from "../../bench/markdown.ts";
import { readResult, resultText, root } from "../../bench/result.ts";
import { markdownTable } from "../../bench/table.ts";

const files = (await documents()).map((file) => relative(root, file));

/** What was tried on the way, with the figures of its day. */
const isNotebook = (name: string) => /^docs\/(notebook\/|decisions\.md|training\.md)/.test(name);

describe("documents", () => {
  it.each(files)("%s says what the results say (npm run docs:tables)", async (name) => {
    const text = await readFile(join(root, name), "utf8");
    expect(filledDocument(text)).toBe(text);
  });

  it.each(files)("%s has no figure at the start of a line, where Markdown would not read the rest", async (name) => {
    const text = await readFile(join(root, name), "utf8");
    expect(text).not.toMatch(/^\s*<!-- results: \S+ \S+\.\S+ /m);
  });

  it.each(files.filter((name) => !isNotebook(name)))("%s quotes no speed or quality by hand", async (name) => {
    const text = withoutResults(await readFile(join(root, name), "utf8"));
    const figures = /\b\d+\.\d+x(?![\w.])|\b\d+(\.\d+)? dB\b|\b[\d,.]+ GFLOP\/s/g;
    const hint = "figures come from bench/results (bench/markdown.ts says how), or stand in docs/notebook";
    expect(text.match(figures) ?? [], hint).toEqual([]);
    for (const shown of await figuresShown()) {
      const found = new RegExp(`(?<![\\d.,])${shown.replaceAll(".", "\\.")}(?![\\d%])`).test(text);
      expect(found, `${shown} is in a table of bench/results: ${hint}`).toBe(false);
    }
  });

  it("have every table that a bench can make", async () => {
    const text = (await Promise.all(files.map((name) => readFile(join(root, name), "utf8")))).join("");
    for (const { name, tables } of benches) {
      for (const table of Object.keys(tables)) expect(text).toContain(`<!-- results: ${name} ${table} -->`);
    }
  });
});

/** Cells of all tables with a unit or so many digits that nothing else is likely to be written the same. */
async function figuresShown(): Promise<Set<string>> {
  const shown = new Set<string>();
  for (const { name, tables } of benches) {
    for (const table of Object.values(tables)) {
      const cells = markdownTable(table, readResult(name).rows).split("|");
      for (const cell of cells.map((each) => each.trim())) {
        const unit = /^[\d,.]*\d\.\d+ ?(x|dB|GB|ms|s)$/.test(cell);
        const digits = /^[\d,.]+$/.test(cell) && cell.replaceAll(/\D/g, "").replace(/^0+/, "").length >= 4;
        if (unit || (digits && cell.includes("."))) shown.add(cell);
      }
    }
  }
  return shown;
}

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
