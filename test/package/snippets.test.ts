/** Every example in TypeScript compiles against the packed halfstep, and those that need no model of the user's run. */
import { readdir } from "node:fs/promises";
import { join, relative } from "node:path";
import { expect, inject, it } from "vitest";
import { documents } from "../../bench/documents.ts";
import { snippets, writeIn } from "./docs.ts";
import { root, run } from "./run.ts";

const project = inject("project");

/** What the examples of a document take for granted. */
const givens: Readonly<Record<string, string>> = {
  "docs/exploration.md": `
    declare const horizon: number, states: number, actions: number, threshold: number, start: number;
    declare const rewards: Float64Array, initial: Float64Array, baseline: Float64Array;
    declare function doIt(state: number, action: number): Promise<{ reward: number; next: number }>;
    declare function save(text: string): Promise<void>;`,
  "docs/streamlined.md": "declare const folder: string;",
  "docs/video.md": "declare const model: string, motionAdapter: string, folder: string;",
};

/** Documents whose examples need no model or folder of the user's, no page, and end by themselves. */
const alone = ["README.md", "docs/extending.md", "docs/methods.md"];

const folder = join(project, "snippets");
const nameOf = (document: string) => document.replace(/\W/g, "-");

async function examples(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const path of [...(await documents()), join(root, "examples/README.md")]) {
    const document = relative(root, path);
    const code = (await snippets(document)).filter(({ language, file }) => language === "ts" && file === undefined);
    for (const [i, { code: text }] of code.entries()) {
      found.set(`${nameOf(document)}-${i + 1}.ts`, `${givens[document] ?? ""}\n${text}\nexport {};\n`);
    }
  }
  return found;
}

it("compile", async () => {
  const found = await examples();
  expect(found.size).toBeGreaterThan(5);
  for (const [name, code] of found) await writeIn(folder, name, code);
  const compilerOptions = {
    module: "nodenext",
    target: "es2023",
    lib: ["es2023", "dom", "dom.iterable"],
    strict: true,
    outDir: "run",
    rootDir: ".",
    types: ["node"],
  };
  await writeIn(folder, "tsconfig.json", JSON.stringify({ compilerOptions, files: [...found.keys()] }));
  await run(join(project, "node_modules/.bin/tsc"), ["-p", "."], { cwd: folder });
});

it.each(alone)("run: those of %s", async (document) => {
  const cwd = join(folder, "run");
  const programs = (await readdir(cwd)).filter((name) => name.startsWith(nameOf(document)) && name.endsWith(".js"));
  expect(programs).not.toEqual([]);
  for (const name of programs) await run(process.execPath, [name], { cwd });
  if (document === "README.md") expect(await readdir(cwd)).toContain("cat.png");
});
