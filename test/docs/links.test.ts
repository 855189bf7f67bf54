/** Every link in the documentation leads somewhere: to a file that is there, and to a heading in it. */
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { expect, it } from "vitest";
import { documents } from "../../bench/documents.ts";
import { root } from "../../bench/result.ts";

const files = [...(await documents()), join(root, "examples/README.md")];

/** The anchors that GitHub gives headings: lower case, without punctuation, hyphens for spaces; a number after the second of a name. */
function anchors(text: string): Set<string> {
  const found = new Map<string, number>();
  const names = new Set<string>();
  for (const [, heading] of withoutCode(text).matchAll(/^#{1,6} (.+)$/gm)) {
    const plain = heading!.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1");
    const name = plain
      .trim()
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-");
    const before = found.get(name) ?? 0;
    found.set(name, before + 1);
    names.add(before === 0 ? name : `${name}-${before}`);
  }
  return names;
}

const withoutCode = (text: string) => text.replaceAll(/^```.*?^```$/gms, "");

it.each(files.map((file) => relative(root, file)))("%s", async (name) => {
  const text = await readFile(join(root, name), "utf8");
  const broken: string[] = [];
  for (const [, target] of withoutCode(text).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^[a-z]+:/.test(target!)) continue;
    const [path, anchor] = target!.split("#") as [string, string | undefined];
    const file = path === "" ? join(root, name) : join(root, dirname(name), path);
    if (!existsSync(file)) broken.push(target!);
    else if (anchor !== undefined && !anchors(await readFile(file, "utf8")).has(anchor)) broken.push(target!);
  }
  expect(broken).toEqual([]);
});

it.each(files.map((file) => relative(root, file)))("%s: its tables are whole", async (name) => {
  const blocks = withoutCode(await readFile(join(root, name), "utf8")).matchAll(/(?:^[ ]*\|.*\|[ ]*\n)+/gm);
  const cells = (line: string) => line.replaceAll(/\\\|/g, "").split("|").length;
  for (const [block] of blocks) {
    const [head, rule, ...rows] = block.trimEnd().split("\n");
    expect(rule, head).toMatch(/^[ ]*\|[ :|-]+\|[ ]*$/);
    for (const row of rows) expect(cells(row), row).toBe(cells(head!));
  }
});

it("documents that are named in the text, and in comments of the sources, are there", async () => {
  const sources = (await readdir(join(root, "src"), { recursive: true })).filter((name) => name.endsWith(".ts"));
  for (const file of [...files, ...sources.map((name) => join(root, "src", name))]) {
    const text = await readFile(file, "utf8");
    for (const [name] of text.matchAll(/(?<![\w/])docs\/[\w/-]+\.(?:md|json|webp|gif)\b/g)) {
      expect(existsSync(join(root, name)), `${name} in ${relative(root, file)}`).toBe(true);
    }
  }
});

it("docs/README.md leads to every document", async () => {
  const index = await readFile(join(root, "docs/README.md"), "utf8");
  const names = files.map((file) => relative(root, file)).filter((name) => name.startsWith("docs/"));
  const missing = names.filter(
    (name) => name !== "docs/README.md" && !index.includes(`](${name.slice("docs/".length)})`),
  );
  expect(missing).toEqual([]);
});

it("what the README shows first is there: one picture, one command, one table", async () => {
  const [first] = (await readFile(join(root, "README.md"), "utf8")).split("\n## ");
  expect(first!.match(/^!\[/gm)).toHaveLength(1);
  expect(first!.match(/^```/gm)).toHaveLength(2);
  expect(first!.match(/^\|---/gm)).toHaveLength(1);
});
